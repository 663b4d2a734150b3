"""What the heartbeats of nodes cost: a fleet that beats every 15 s, and one heartbeat of each kind.

- `fleet`: nodes without work, each with a heartbeat every 15 s and answers to the server's pings: CPU of the
  daemon, its memory in RAM, and heartbeats it did not read (`lost_beats`).
- `one`: heartbeats without a pause, CPU of the daemon for each: `unchanged` says what was known, in `load`
  the resource usage differs from that before, in `languages` the language pairs do, so that the node has to
  move in the index of pools.

Each number is the median of rounds, with the lowest and the highest. Daemon and nodes are processes of their
own; all nodes are on one thread (bench/parts/bare_nodes.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from bench import report
from bench.parts import processes
from bench.parts.bare import Loop
from bench.parts.bare_nodes import PAIRS, Manner, Node, Nodes
from bench.parts.processes import Daemon

SETTINGS = {"LOG__LEVEL": "info", "SERVER__DRAIN_SECONDS": "0"}
READ = 'linguad_messages_total{link="node",type="node_heartbeat"}'
STATES: dict[str, Callable[[Node], Sequence[str]]] = {
    "unchanged": attrgetter("beats"),
    "load": attrgetter("moved"),
    "languages": attrgetter("changed"),
}
QUIET_S, QUIET_CPU_S = 0.1, 0.02  # so little CPU in so long: all is read
AT_ONCE = 100  # connections opened before the others have their turn
PATIENCE_S = 60.0  # for heartbeats to be read


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    nodes: int = 1000
    rounds: int = 3
    seconds: float = 7.5
    warm_s: float = 2.0
    each: int = 2
    """Heartbeats of a node in one burst; even, so that a changed node changes back."""


QUICK = Plan(nodes=200, rounds=2, seconds=2.0, warm_s=1.0)
SMALLEST = Plan(nodes=10, rounds=1, seconds=0.5, warm_s=0.2)


def _fleet(daemon: Daemon, nodes: Nodes, plan: Plan) -> report.Row:
    cores = []
    for _ in range(plan.rounds):
        began, cpu_s = time.monotonic(), processes.cpu_s(daemon.pid)
        nodes.loop.run(plan.seconds)
        cores.append((processes.cpu_s(daemon.pid) - cpu_s) / (time.monotonic() - began))
    return {
        "impl": "linguad",
        "kind": "fleet",
        "nodes": plan.nodes,
        "pairs_per_node": PAIRS,
        "beats_per_s": round(plan.nodes / 15, 1),
        **report.middle("cpu", "percent", [share * 100 for share in cores], 2),
        "resident_mib": round(processes.resident_kib(daemon.pid) / 1024, 1),
    }


def _one(daemon: Daemon, nodes: Nodes, plan: Plan) -> Iterator[report.Row]:
    measured: dict[str, list[float]] = {state: [] for state in STATES}
    for number in range(plan.rounds + 1):
        for state, variants in STATES.items():
            cpu_s = processes.cpu_s(daemon.pid)
            beats = nodes.burst(plan.each, variants)
            _until_quiet(daemon, nodes.loop)
            if number:  # the first round is to warm up
                measured[state].append((processes.cpu_s(daemon.pid) - cpu_s) / beats * 1e6)
    for state, cpu_us in measured.items():
        yield {
            "impl": "linguad",
            "kind": "one",
            "state": state,
            "nodes": plan.nodes,
            "pairs_per_node": PAIRS,
            **report.middle("cpu", "us", cpu_us, 1),
        }


def _until_quiet(daemon: Daemon, loop: Loop) -> None:
    """Wait until the daemon has done what was asked of it."""
    before = -1.0
    while (now := processes.cpu_s(daemon.pid)) - before > QUIET_CPU_S:
        before = now
        loop.run(QUIET_S)


def _lost_beats(daemon: Daemon, nodes: Nodes) -> int:
    """Heartbeats so far that are not read, however long it takes."""
    sent, patience = nodes.beats, time.monotonic() + PATIENCE_S
    while True:
        lost = max(0, sent - round(processes.metric(daemon, READ)))
        if not lost or time.monotonic() > patience:
            return lost
        nodes.loop.run(QUIET_S)


def measure(plan: Plan) -> Iterator[report.Row]:
    """All rows, of one daemon."""
    with processes.daemon(SETTINGS) as daemon:
        nodes = Nodes(f"{daemon.url}/ws/node", Loop(), Manner(acks=False))
        for begun in range(0, plan.nodes, AT_ONCE):
            nodes.open(min(AT_ONCE, plan.nodes - begun))
            nodes.loop.run(0.001)
        nodes.loop.run(plan.warm_s)
        fleet = _fleet(daemon, nodes, plan)
        ones = list(_one(daemon, nodes, plan))
        yield {**fleet, "lost_beats": _lost_beats(daemon, nodes)}
        yield from ones
        nodes.close()


def verdicts(rows: Sequence[report.Row]) -> Iterator[str]:
    """No heartbeat may be lost; the design has no budget for their cost."""
    fleet = report.pick(rows, kind="fleet") or {}
    yield report.verdict("heartbeats not read", 0, "heartbeats", report.number(fleet, "lost_beats"))


def main() -> None:
    """Measure and print."""
    processes.end_with_children()
    arguments = report.parser(__doc__, smallest=True).parse_args()
    plan = SMALLEST if arguments.smallest else QUICK if arguments.quick else Plan()
    rows = list(measure(plan))
    report.show("heartbeat", rows, as_json=arguments.json, verdicts=verdicts(rows))


if __name__ == "__main__":
    main()
