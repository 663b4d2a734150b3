"""What a release must pass, as a list of acceptance points: `make gate`, or `python -m tests.gate`.

Every test runs once; a point is kept if all its tests ran and passed. What follows `--` goes to pytest. Exit
code 0 means that every point is kept.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from rich import box
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
PARALLEL = ("--numprocesses", "auto", "--dist", "loadfile", "--no-loadscope-reorder")
PIPE_WIDTH = 140


class Point(NamedTuple):
    """One thing that must hold, and the files or single tests that prove it."""

    name: str
    tests: tuple[str, ...]


OTHERS = "tests/e2e/test_nodes_of_others.py"
ELSEWHERE = "tests/e2e/test_sessions_elsewhere.py"
POINTS = (
    Point("an utterance is never lost, doubled or leaked, whatever fails (simulation)", ("tests/sim",)),
    Point(
        "clients and nodes of the earlier server are understood",
        (
            "tests/sessions/test_conformance.py",
            "tests/sessions/test_conformance_rooms.py",
            "tests/e2e/test_conformance_sockets.py",
            "tests/nodes/test_interop.py",
        ),
    ),
    Point("a stop finishes open jobs and tells everybody", ("tests/e2e/test_shutdown.py",)),
    Point("what was said and keys are never written", ("tests/e2e/test_secrecy.py",)),
    Point(
        "two instances: node on one, session on the other, every message both ways",
        (f"{OTHERS}::test_every_message_goes_both_ways",),
    ),
    Point(
        "two instances: the owner of a node is killed, its jobs are done once elsewhere",
        (f"{OTHERS}::test_a_killed_owner_loses_nothing",),
    ),
    Point(
        "two instances: a session goes on when its instance is killed",
        (f"{ELSEWHERE}::test_a_session_goes_on_when_its_instance_is_killed",),
    ),
    Point(
        "two instances: the newest registration of a node wins, the old socket changes nothing",
        (f"{OTHERS}::test_the_newest_registration_wins_wherever_it_is",),
    ),
    Point(
        "two instances: a request that both get is done once, limits hold for both together",
        ("tests/e2e/test_gateways_together.py",),
    ),
    Point(
        "an upgrade, one instance after the other, is not felt",
        (f"{ELSEWHERE}::test_an_upgrade_of_all_instances_is_not_felt",),
    ),
    Point(
        "Redis goes away and comes back: local work goes on, then all is as before",
        (
            f"{OTHERS}::test_without_redis_local_work_goes_on",
            f"{ELSEWHERE}::test_without_redis_a_session_goes_on_where_it_is",
        ),
    ),
    Point(
        "letters: in order, never after they expired, dead ones without audio, orphaned ones adopted",
        ("tests/cluster/test_bus.py", "tests/cluster/test_failures.py"),
    ),
    Point(
        "Redis Cluster: jobs and letters over three masters, slots that move, scripts of one tag",
        (
            f"{OTHERS}::test_a_cluster_of_masters_carries_jobs",
            "tests/redis_link/test_redis_cluster.py",
            "tests/cluster/test_operators.py::test_wiping_masters",
        ),
    ),
    Point(
        "Redis is never searched for keys", ("tests/cluster/test_operators.py::test_nothing_looks_for_keys",)
    ),
    Point(
        "the database is brought to its schema, one of a newer version is refused",
        (
            "tests/store/test_database.py::test_the_steps_lead_to_the_declared_tables",
            "tests/store/test_database.py::test_a_database_of_a_newer_version_is_refused",
        ),
    ),
    Point(
        "alerts and dashboard name metrics that exist, each alert has its runbook entry",
        ("tests/test_metrics.py",),
    ),
    Point(
        "Prometheus raises each alert when it should and not before",
        ("tests/ops/test_prometheus.py",),
    ),
    Point(
        "Prometheus reads a daemon: what dashboard and alerts ask for is answered",
        ("tests/e2e/test_prometheus_reads.py",),
    ),
    Point("the metrics that are promised move", ("tests/ops/test_metrics_move.py",)),
    Point(
        "documents: short, links lead somewhere, settings, routes, commands and metrics are there",
        ("tests/test_docs.py", "tests/test_docs_defects.py", "tests/e2e/test_documentation.py"),
    ),
    Point("units, containers and proxies of etc/ fit this version", ("tests/test_etc.py",)),
    Point("a rehearsal: simulated nodes, people who talk", ("tests/e2e/test_rehearsal.py",)),
)


class Case(NamedTuple):
    """A test that ran."""

    file: str
    name: str
    """With its parameters."""
    passed: bool

    def is_of(self, selection: str) -> bool:
        """Whether a folder, a file, or a test of any parameters means it."""
        place, _, test = selection.partition("::")
        here = self.file == place or self.file.startswith(f"{place}/")
        return here and (not test or self.name.partition("[")[0] == test)


class Verdict(NamedTuple):
    """Whether a point is kept."""

    name: str
    ran: int
    failed: list[str]
    """Tests that failed or were skipped, and selections of which none ran."""

    @property
    def kept(self) -> bool:
        """Every test ran and passed."""
        return not self.failed


def verdict(point: Point, cases: Sequence[Case]) -> Verdict:
    """How a point stands after these tests."""
    own = [case for case in cases if any(case.is_of(selection) for selection in point.tests)]
    failed = [f"{case.file}::{case.name}" for case in own if not case.passed]
    failed += [
        f"{selection}: no test ran"
        for selection in point.tests
        if not any(case.is_of(selection) for case in cases)
    ]
    return Verdict(point.name, len(own), failed)


def of_all(cases: Sequence[Case], code: int) -> Verdict:
    """How the whole suite stands, whose run ended with this code."""
    failed = [f"{case.file}::{case.name}" for case in cases if not case.passed]
    if code and not failed:
        failed = [f"pytest ended with {code}"]
    return Verdict("every test of the suite runs and passes", len(cases), failed)


def cases_of(report: Path) -> list[Case]:
    """The tests in a report of pytest; none if it wrote none."""
    if not report.exists():
        return []
    found = []
    for case in ElementTree.parse(report).iter("testcase"):
        passed = not any(case.find(trouble) is not None for trouble in ("failure", "error", "skipped"))
        file = case.get("file") or f"{case.get('classname', '').replace('.', '/')}.py"
        found.append(Case(file, case.get("name", ""), passed))
    return found


def run(words: Sequence[str], root: Path = ROOT) -> tuple[list[Case], int]:
    """Run tests; what came of them, and the exit code of pytest."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        options = ("-q", "-o", "junit_family=xunit1", f"--junitxml={report}")
        done = subprocess.run([sys.executable, "-m", "pytest", *options, *words], cwd=root, check=False)
        return cases_of(report), done.returncode


def show(verdicts: Sequence[Verdict]) -> None:
    """Print the list, and below it what failed."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    table = Table("", "acceptance point", "tests", box=box.SIMPLE_HEAD)
    table.columns[2].justify = "right"
    for one in verdicts:
        table.add_row("[green]pass[/]" if one.kept else "[bold red]FAIL[/]", one.name, str(one.ran))
    console.print(table)
    for one in verdicts:
        for test in one.failed:
            console.print(f"FAIL  {one.name}: {test}", markup=False, soft_wrap=True)
    kept = sum(one.kept for one in verdicts)
    console.print(f"{kept} of {len(verdicts)} acceptance points are kept")


def main(words: Sequence[str] | None = None) -> int:
    """Run the gate; 1 if a point is not kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.gate", description=__doc__)
    parser.add_argument("pytest", nargs="*", help="more for pytest, after --")
    arguments = parser.parse_args(words)
    cases, code = run([*PARALLEL, *arguments.pytest])
    verdicts = [of_all(cases, code), *(verdict(point, cases) for point in POINTS)]
    show(verdicts)
    return 0 if all(one.kept for one in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
