"""What `linguad plan` says, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from linguad.planning.cost import Instances
from linguad.planning.figures import Figures
from linguad.planning.plan import WARM_UP, Answer


def show(found: Answer, needed: Instances, target_wait_ms: float | None, seed: int) -> None:
    """The plan as text."""
    console = Console(highlight=False, soft_wrap=True)
    scenario, figures = found.scenario, found.figures
    fleet, load, rules = scenario.fleet, scenario.load, scenario.rules
    nodes, sessions = many(fleet.nodes, "node"), many(load.sessions, "session")
    if target_wait_ms is not None:
        reached, target = duration(figures.wait_p99_ms), duration(target_wait_ms)
        console.print(
            f"[bold]{nodes}[/] will do, give or take 1 %: 99 of 100 jobs wait {reached} or less; "
            f"{target} were asked for."
        )
        if rules.keeps and rules.policy == "expected_finish" and target_wait_ms < rules.keep_margin_s * 1000:
            console.print(
                f"That many because a session may wait {rules.keep_margin_s:g} s longer to stay on its node "
                "(pools.keep_margin_seconds, keep_ratio); --keep-margin-s 0 --keep-ratio 1 tells what it "
                "takes without that."
            )
        console.print()
    console.print(
        f"{nodes} ({many(fleet.slots, 'slot')}, {fleet.speed:g} audio seconds per second) for {sessions} "
        f"({load.talking:.0%} talking):\n{rate(load.jobs_per_s)} jobs of {load.utterance_s:g} s per second, "
        f"{scenario.offered:.0%} of what they can do."
    )
    if scenario.offered >= 1:
        least = many(ceil(fleet.nodes * scenario.offered), "node")
        console.print(
            f"[bold]That is too much:[/] waits grow until jobs are given up. The work alone needs {least}; "
            "--target-wait-ms finds how many keep waits short."
        )
    console.print(_times(figures))
    console.print(_parts(figures, rules.pending_timeout_s))
    console.print(_instances(needed))
    console.print(f"\n{_how(found, seed)}\nWhat is assumed: docs/planning.md")


def told(
    found: Answer, needed: Instances, tried: Sequence[Answer], more: Sequence[Answer], seed: int
) -> dict[str, Any]:
    """The plan as one JSON object."""
    plain = msgspec.to_builtins
    small = found.simulated
    return {
        "fleet": plain(found.scenario.fleet),
        "load": plain(found.scenario.load),
        "rules": plain(found.scenario.rules),
        "offered_load": found.scenario.offered,
        "jobs_per_s": found.scenario.load.jobs_per_s,
        "simulated": {
            "nodes": small.fleet.nodes,
            "sessions": small.load.sessions,
            "seconds": found.run.end_s - found.run.start_s,
            "seed": seed,
        },
        "figures": plain(found.figures),
        "instances": plain(needed),
        "tried": [
            {"nodes": one.scenario.fleet.nodes, "wait_p99_ms": one.figures.wait_p99_ms} for one in tried
        ],
        "sweep": [{"sessions": one.scenario.load.sessions, **plain(one.figures)} for one in more],
    }


def many(number: int, noun: str) -> str:
    """`1 node`, `2,000 nodes`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(ms: float) -> str:
    """Milliseconds for people."""
    if ms < 0.5:
        return "0 ms"
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def rate(per_s: float) -> str:
    """A number per second."""
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.3g}"


def part(of_one: float) -> str:
    """A part in percent, with digits where it is small."""
    return f"{of_one:.0%}" if of_one >= 0.1 or of_one == 0 else f"{of_one:.1%}"


def _times(figures: Figures) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for name in ("p50", "p90", "p99"):
        table.add_column(name, justify="right")
    waits = figures.wait_p50_ms, figures.wait_p90_ms, figures.wait_p99_ms
    totals = figures.total_p50_ms, figures.total_p90_ms, figures.total_p99_ms
    table.add_row("wait until a node begins", *map(duration, waits))
    table.add_row("end of speech to result", *map(duration, totals))
    return table


def _parts(figures: Figures, timeout_s: float) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 1))
    table.add_row(
        "nodes at work",
        part(figures.utilisation),
        f"of the time; the busiest 1 % {figures.imbalance:.2f} times as much",
    )
    table.add_row("no free slot", part(figures.queued), "of the jobs, when they came")
    table.add_row("given up", part(figures.given_up), f"of the jobs, after {timeout_s:g} s")
    if figures.failed:
        table.add_row("failed", part(figures.failed), "of the jobs, at all their nodes")
    table.add_row("moved", part(figures.moved), "of the jobs left the node of their session")
    return table


def _instances(needed: Instances) -> Table:
    table = Table(box=None, show_header=False, padding=(1, 2, 0, 1))
    why = (
        f"{needed.cores:.1f} cores at {needed.job_ms:.1f} ms a job, {needed.memory_gib:.1f} GiB for sessions"
        if needed.by_cpu >= needed.by_sessions
        else "by the most sessions each may have (sessions.max_sessions)"
    )
    table.add_row("instances", f"{needed.count:,}", why)
    return table


def _how(found: Answer, seed: int) -> str:
    small, all_ = found.simulated, found.scenario
    sample = "" if small == all_ else f", a sample of 1 in {all_.fleet.nodes / small.fleet.nodes:.3g}"
    seconds = found.run.end_s - found.run.start_s
    warm_up_s = seconds * WARM_UP / (1 - WARM_UP)
    nodes, sessions = many(small.fleet.nodes, "node"), many(small.load.sessions, "session")
    return (
        f"Simulated: {nodes} and {sessions}{sample}, for {seconds:,.0f} s after "
        f"{warm_up_s:,.0f} s of warm-up, {found.figures.jobs:,} jobs, "
        f"policy {small.rules.policy}, seed {seed}."
    )
