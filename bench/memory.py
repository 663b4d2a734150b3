"""What things cost in memory: sessions, nodes, jobs that wait, and the table of 100 000 nodes.

- `session`: a silent one beside a bare trio-websocket connection of bench/parts/relay.py in the same run, and
  what talking adds to it.
- `node`: a connected one that sends heartbeats, with twelve language pairs.
- `waiting job`: one that finds every slot taken; `kib_each` is without its audio, which is kept as base64.
- `table`: the compiled table alone, with nodes of the same fleet as `same` of bench.select.

All but the last is the growth of the daemon's memory in RAM (Rss), each round with a daemon of its own that
has had some of the kind before: the median of the rounds, with the lowest and the highest. Daemon and load
are processes of their own.
"""

from __future__ import annotations

import os
import random
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench import report
from bench.parts import processes
from bench.parts.bare import Loop
from bench.parts.bare_nodes import Manner, Nodes
from bench.parts.processes import Daemon
from bench.parts.talkers import SENTENCE_CHUNKS, Talkers
from bench.select import CAP, pair_sets
from linguad import _hash
from linguad.wire import opus

SETTINGS = {
    "LOG__LEVEL": "info",
    "SERVER__DRAIN_SECONDS": "0",
    "SESSIONS__MAX_SESSIONS_PER_ADDRESS": "0",
    "SESSIONS__MAX_OPEN_UTTERANCES": "1000",
    "JOBS__PENDING_TIMEOUT_SECONDS": "150",
    "JOBS__MAX_WAITING_PER_TENANT": "10000",
    # What is remembered of ended jobs belongs to no session.
    "JOBS__EXPLAINED_JOBS": "0",
    "JOBS__TERMINAL_RETENTION_SECONDS": "0",
}
FIRST = 10  # of each kind are there before: what they bring along belongs to none
AUDIO = b64encode(opus.join([bytes(60)] * 16)).decode()  # 320 ms
WAITING_SESSIONS = 50
BUDGET_KIB = 32


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int = 3
    sessions: int = 1000
    talking: int = 200
    talk_s: float = 6.0
    nodes: int = 1000
    waiting: int = 2000
    table: int = 100_000
    settle_s: float = 1.0
    sentence: tuple[int, int] = SENTENCE_CHUNKS


QUICK = Plan(rounds=1, sessions=300, talking=50, talk_s=2.0, nodes=200, waiting=400, settle_s=0.5)
SMALLEST = Plan(1, 20, 5, 0.3, 5, 20, 1000, 0.1, (2, 4))


@dataclass(frozen=True)
class Place:
    """A server and the loop of its peers."""

    daemon: Daemon
    loop: Loop
    stack: ExitStack

    def talkers(self, *, init: bool = True) -> Talkers:
        """Sessions that end with the place."""
        talkers = Talkers(f"{self.daemon.url}/ws/session", init=init, loop=self.loop)
        self.stack.callback(talkers.close)
        return talkers

    def nodes(self, manner: Manner) -> Nodes:
        """Nodes that end with the place."""
        nodes = Nodes(f"{self.daemon.url}/ws/node", self.loop, manner)
        self.stack.callback(nodes.close)
        return nodes

    def grown_kib(self, do: Callable[[], object], settle_s: float) -> int:
        """By how much the server grows."""
        self.loop.run(settle_s)
        before = processes.resident_kib(self.daemon.pid)
        do()
        self.loop.run(settle_s)
        return processes.resident_kib(self.daemon.pid) - before


@contextmanager
def _linguad() -> Iterator[Place]:
    with processes.daemon(SETTINGS) as daemon, ExitStack() as stack:
        yield Place(daemon, Loop(), stack)


@contextmanager
def _relay() -> Iterator[Place]:
    with processes.child(["bench.parts.relay"]) as relay:
        daemon = Daemon(f"ws://127.0.0.1:{processes.line(relay)}", relay.pid)
        node = ["bench.parts.echo_node", "1", "--relay", f"{daemon.url}/ws/node"]
        with processes.child(node) as nodes, ExitStack() as stack:
            processes.line(nodes)
            yield Place(daemon, Loop(), stack)


def _sessions(place: Place, plan: Plan) -> dict[str, float]:
    """KiB of a silent session, and added by talking."""
    place.nodes(Manner(slots=64)).open(4)
    talkers = place.talkers()
    talkers.open(FIRST)
    silent = place.grown_kib(lambda: talkers.open(plan.sessions), plan.settle_s) / plan.sessions
    talkers.talk(plan.talking, plan.sentence)
    return {"silent": silent, "talking, added": place.grown_kib(_nothing, plan.talk_s) / plan.talking}


def _connections(place: Place, plan: Plan) -> dict[str, float]:
    """KiB of a silent connection."""
    talkers = place.talkers(init=False)
    talkers.open(FIRST)
    return {"silent": place.grown_kib(lambda: talkers.open(plan.sessions), plan.settle_s) / plan.sessions}


def _nodes(place: Place, plan: Plan) -> dict[str, float]:
    """KiB of a node."""
    nodes = place.nodes(Manner())
    nodes.open(FIRST)
    return {"ready": place.grown_kib(lambda: nodes.open(plan.nodes), plan.settle_s) / plan.nodes}


def _waiting(place: Place, plan: Plan) -> dict[str, float]:
    """KiB of a waiting job, without its audio."""
    place.nodes(Manner(slots=1, answers=False)).open(1)
    talkers = place.talkers()
    talkers.open(WAITING_SESSIONS)
    talkers.say(WAITING_SESSIONS, AUDIO)  # each has had one
    kib = place.grown_kib(lambda: talkers.say(plan.waiting, AUDIO), plan.settle_s) / plan.waiting
    if talkers.record.others or talkers.record.answers:
        raise SystemExit(f"jobs did not wait: {dict(talkers.record.others)}")
    return {"waiting": kib - len(AUDIO) / 1024}


KINDS = (
    ("session", "linguad", "sessions", _linguad, _sessions),
    ("session", "relay", "sessions", _relay, _connections),
    ("node", "linguad", "nodes", _linguad, _nodes),
    ("waiting job", "linguad", "waiting", _linguad, _waiting),
)


def _servers(plan: Plan) -> Iterator[report.Row]:
    measured: dict[tuple[str, str, str, int], list[float]] = {}
    for _ in range(plan.rounds):
        for kind, impl, count, running, measure in KINDS:
            with running() as place:
                for state, kib in measure(place, plan).items():
                    number = plan.talking if state.startswith("talking") else getattr(plan, count)
                    measured.setdefault((kind, impl, state, number), []).append(kib)
    for (kind, impl, state, number), each in measured.items():
        about: dict[str, report.Cell] = {"impl": impl, "kind": kind, "state": state, "count": number}
        yield about | report.middle("each", "kib", each, 1)


def _table(plan: Plan) -> report.Row:
    """Of this process, before there is anything else in it."""
    chance = random.Random(7)
    sets = pair_sets("same", chance)
    table = _hash.NodeTable(rng_seed=1)
    before = processes.resident_kib(os.getpid())
    keys = {pair: table.add_key() for pair in sorted({pair for pairs in sets for pair in pairs})}
    for number in range(plan.table):
        row = table.add_node(f"node-{number:08X}", CAP)
        table.set_ready(row, True)
        for pair in sets[number % len(sets)]:
            table.join(keys[pair], row)
    table.select(keys[sets[0][0]], 1, 2.0)
    kib = processes.resident_kib(os.getpid()) - before
    return {
        "impl": "cython",
        "kind": "table",
        "count": plan.table,
        "pairs_per_node": len(sets[0]),
        "total_mib": round(kib / 1024, 1),
        "each_bytes": round(kib * 1024 / plan.table),
    }


def verdicts(rows: Sequence[report.Row]) -> Iterator[str]:
    """The budget of design 9."""
    kib, bare = (
        report.number(report.pick(rows, kind="session", impl=impl, state="silent") or {}, "each_kib")
        for impl in ("linguad", "relay")
    )
    where = "" if bare is None else f"a bare connection {bare:.1f} KiB"
    yield report.verdict("idle session", BUDGET_KIB, "KiB", kib, where)


def _nothing() -> None:
    """What grows is only looked at."""


def main() -> None:
    """Measure and print."""
    processes.end_with_children()
    arguments = report.parser(__doc__, smallest=True).parse_args()
    plan = SMALLEST if arguments.smallest else QUICK if arguments.quick else Plan()
    table = _table(plan)
    rows = [*_servers(plan), table]
    report.show("memory", rows, as_json=arguments.json, verdicts=verdicts(rows))


if __name__ == "__main__":
    main()
