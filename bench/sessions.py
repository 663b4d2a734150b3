"""What talking sessions cost the daemon, how many it bears, and what a lost sentence does to the next.

Sessions speak as web clients do, 256 ms chunks in real time (bench/parts/talkers.py), and nodes answer at
once. Daemon, nodes and load are processes of their own, so CPU and memory are the daemon's alone.

- `dispatch`: at 100 sentences/s, beside the relay; no grace after a final, so that nothing waits by design.
- `ladder`: ever more sessions, each number with a daemon of its own, until the daemon has no CPU left; then
  once half way between the `knee`, the last number at which the way of a sentence to its node was short
  enough at p99, and the next.
- `lost`: a share of the sentences is never answered by any node.

`way` is the time from a final's send to its job, with all its sound, being read by the node, less the grace
that the server waits for a late chunk. `queue` is the server's word: from the cut until the job is handed to
the node's outbox. `cpu_wait` is how much of the time the daemon was ready to run and had no CPU: if it is not
near 0, the machine was busy with other things and the times say little.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any

from bench import report
from bench.parts import processes
from bench.parts.echo_node import is_lost
from bench.parts.processes import Daemon
from bench.parts.talkers import SENTENCE_CHUNKS, Answer, Breakdown, Record, Talkers

NODES = 4
SETTINGS = {
    "LOG__LEVEL": "info",
    "SERVER__DRAIN_SECONDS": "0",
    "SESSIONS__MAX_SESSIONS_PER_ADDRESS": "0",
}
GRACE_MS = 40.0  # sessions.final_reorder_grace_ms by default
NO_GRACE = {"SESSIONS__FINAL_REORDER_GRACE_MS": "0"}
WAY_MS = 10.0  # more at p99 is beyond the knee
FULL_CORE = 0.92  # so busy a loop is always behind
ANSWERS_S = 0.5  # after a measurement, for the answers to what was said in it
Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    seconds: float
    lost_seconds: float
    ladder: Sequence[int]
    warm_s: float = 2.0
    talking: int = 400
    """In all measurements but the ladder's; 100 sentences/s."""
    sentence: tuple[int, int] = SENTENCE_CHUNKS
    halvings: int = 1
    lose: float = 0.01
    gap_s: float = 3.0
    """`sessions.gap_timeout_ms` in `lost`; the default."""


QUICK = Plan(
    seconds=0.5,
    lost_seconds=1.5,
    ladder=(50,),
    warm_s=0.3,
    talking=50,
    sentence=(2, 4),
    halvings=0,
    lose=0.2,
    gap_s=0.5,
)


@dataclass(frozen=True)
class Server:
    """A server with its nodes and sessions."""

    pid: int
    talkers: Talkers


@contextmanager
def _linguad(settings: dict[str, str], lose: float = 0.0) -> Iterator[Server]:
    with processes.daemon({**SETTINGS, **settings}) as daemon, _served("linguad", daemon, lose) as server:
        yield server


@contextmanager
def _relay() -> Iterator[Server]:
    with processes.child(["bench.parts.relay"]) as relay:
        daemon = Daemon(f"ws://127.0.0.1:{processes.line(relay)}", relay.pid)
        with _served("relay", daemon) as server:
            yield server


@contextmanager
def _served(impl: str, daemon: Daemon, lose: float = 0.0) -> Iterator[Server]:
    words = [str(NODES), f"--{impl}", f"{daemon.url}/ws/node", "--lose", str(lose)]
    with processes.child(["bench.parts.echo_node", *words]) as nodes, ExitStack() as stack:
        processes.line(nodes)
        talkers = Talkers(f"{daemon.url}/ws/session", init=impl == "linguad")
        stack.callback(talkers.close)
        yield Server(daemon.pid, talkers)


def _dispatch(plan: Plan) -> Iterator[Row]:
    for impl, running in (("linguad", _linguad(NO_GRACE)), ("relay", _relay())):
        with running as server:
            yield {"impl": impl, "kind": "dispatch", **_talk(server, plan, plan.talking, 0.0)}


def _ladder(plan: Plan) -> Iterator[Row]:
    rungs: dict[int, Row] = {}
    good, bad = 0, None

    def climb(count: int) -> Row:
        nonlocal good, bad
        with _linguad({}) as server:
            row = _talk(server, plan, count, GRACE_MS)
        rungs[count] = row = {"impl": "linguad", "kind": "ladder", **row, "over": _problem(row)}
        good = max((count for count, row in rungs.items() if row["over"] is None), default=0)
        bad = min((count for count, row in rungs.items() if row["over"] and count > good), default=None)
        return row

    for count in plan.ladder:
        yield (row := climb(count))
        if row["cpu_cores"] >= FULL_CORE:
            break
    for _ in range(plan.halvings if bad else 0):
        yield climb((good + (bad or 0)) // 2)
    beyond = rungs[bad] if bad else {}
    yield {
        "impl": "linguad",
        "kind": "knee",
        "sessions": good,
        "next": bad,
        "next_over": beyond.get("over"),
        "next_cpu_cores": beyond.get("cpu_cores"),
    }


def _problem(row: Row) -> str | None:
    """Which limits of the knee are passed."""
    way, cpu = row.get("way_p99_ms", inf), row["cpu_cores"]
    passed = [name for name, over in (("way p99", way > WAY_MS), ("cpu", cpu >= FULL_CORE)) if over]
    return ", ".join(passed) or None


def _talk(server: Server, plan: Plan, count: int, grace_ms: float) -> Row:
    """Let so many sessions talk; the numbers of the time after the first seconds."""
    talkers, pid = server.talkers, server.pid
    talkers.open(count)
    talkers.talk(count, plan.sentence)
    talkers.run(plan.warm_s)
    with talkers.recording() as record:
        began, cpu_s, waited_s = time.monotonic(), processes.cpu_s(pid), processes.waited_s(pid)
        talkers.run(plan.seconds)
        cpu_s, waited_s = processes.cpu_s(pid) - cpu_s, processes.waited_s(pid) - waited_s
        took = time.monotonic() - began
        resident_mib = processes.resident_kib(pid) / 1024
    talkers.run(ANSWERS_S)
    return {
        "sessions": count,
        "sentences_per_s": round(record.sentences / took, 1),
        "unanswered": record.sentences - len(record.answers),
        "problems": _problems(record),
        "cpu_cores": round(cpu_s / took, 3),
        "cpu_wait_cores": round(waited_s / took, 3),
        "cpu_us_per_session_s": round(cpu_s / took / count * 1e6, 1),
        "resident_mib": round(resident_mib, 1),
        **report.percentiles("way", [_way_ms(answer) - grace_ms for answer in record.answers]),
        **report.percentiles("queue", [breakdown.queue_ms for breakdown in _breakdowns(record.answers)]),
        "sent_late_p99_ms": round(report.percentile(sorted(record.late_ns), 99) / 1e6, 3),
    }


def _lost(plan: Plan) -> Iterator[Row]:
    settings = {"SESSIONS__GAP_TIMEOUT_MS": str(round(plan.gap_s * 1000))}
    with _linguad(settings, plan.lose) as server:
        talkers = server.talkers
        talkers.open(plan.talking)
        talkers.talk(plan.talking, plan.sentence)
        talkers.run(plan.warm_s)
        with talkers.recording() as record:
            talkers.run(plan.lost_seconds)
        talkers.run(plan.gap_s + ANSWERS_S)
    after: list[Answer] = []
    others: list[Answer] = []
    for answer in record.answers:
        before = answer.index - 1
        lost_before = before >= 0 and is_lost(answer.session_id, before, plan.lose)
        (after if lost_before else others).append(answer)
    usual_ms = report.percentile(sorted(map(_back_ms, others)), 50)
    yield {
        "impl": "linguad",
        "kind": "lost",
        "gap_s": plan.gap_s,
        "sessions": plan.talking,
        "sentences": record.sentences,
        "unanswered": record.sentences - len(record.answers),
        "problems": _problems(record),
        "next": len(after),
        **report.percentiles("added", [_back_ms(answer) - usual_ms for answer in after], most=True),
        **report.percentiles(
            "reorder", [breakdown.reorder_ms for breakdown in _breakdowns(after)], most=True
        ),
        **report.percentiles("others_reorder", [breakdown.reorder_ms for breakdown in _breakdowns(others)]),
    }


def _way_ms(answer: Answer) -> float:
    """From the client to the node."""
    return (answer.node_at - answer.final_at) / 1e6


def _back_ms(answer: Answer) -> float:
    """From the node to the client."""
    return (answer.heard_at - answer.node_at) / 1e6


def _breakdowns(answers: Sequence[Answer]) -> list[Breakdown]:
    return [answer.breakdown for answer in answers if answer.breakdown is not None]


def _problems(record: Record) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(record.others.items()))


PARTS = {"dispatch": _dispatch, "ladder": _ladder, "lost": _lost}


def _plan(arguments: argparse.Namespace) -> Plan:
    if arguments.quick:
        return QUICK
    return Plan(arguments.seconds, arguments.lost_seconds, arguments.sessions)


def main() -> None:
    """Measure and print."""
    processes.end_with_children()
    parser = report.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of every measurement but `lost` (3)")
    parser.add_argument("--lost-seconds", type=float, default=12.0, help="of `lost` (12)")
    parser.add_argument(
        "--sessions",
        type=int,
        nargs="+",
        default=[50, 100, 200, 400, 800],
        help="the ladder (50 100 200 400 800)",
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="measure only this")
    arguments = parser.parse_args()
    plan = _plan(arguments)
    rows = [row for name in arguments.only for row in PARTS[name](plan)]
    report.show("sessions", rows, as_json=arguments.json)


if __name__ == "__main__":
    main()
