"""Whether a tenant far beyond its share makes another one wait: latency of one beside a flood of the other.

Two tenants send recordings of one second to `POST /v1/speech/translate`, at random moments whatever was
answered. Nodes work for 0.8 s, half more or less, so that the fleet does a known number of jobs a second; a
tenant's share is half of it. `modest` always asks for half its share, `greedy` for ten times its own.

Kinds of rows are slices in turns, with what `modest` saw:

- `calm`: alone.
- `flood, default limits`: `greedy` has the limits of every new tenant, so most of what it sends is refused.
- `flood, no limits`: all of it reaches the queue, as from many sessions of a large customer.

`ratio` is p99 of a flood to that of the calm slices. The goal is 2 at most. `inside` is what the daemon says
it took from a recording that was read to its answer (`duration_ms`): what queue and nodes make of it. Load
and nodes are one process, the daemon is another. If `cpu_wait_cores` is not near 0, the machine was busy with
other things, and only `inside` says something.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

import msgspec

from bench import report
from bench.parts import processes
from bench.parts.askers import SPEECH, SRC, TGT
from bench.parts.bare import Loop
from bench.parts.bare_http import HttpClient, upload
from bench.parts.bare_nodes import Manner, Nodes
from bench.parts.public import UNLIMITED, public

SETTINGS = {"LOG__LEVEL": "info", "JOBS__PENDING_TIMEOUT_SECONDS": "3"}
TENANTS = 2
GREED, MODESTY = 10.0, 0.5
"""What the tenants ask for, of their shares."""
GOAL = 2.0
CALM = "calm"
PATIENCE_S = 60.0
MANNER = Manner(slots=4, work_s=0.8, spread=0.5)


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int = 2
    seconds: float = 24.0
    nodes: int = 2
    manner: Manner = MANNER

    @property
    def share_per_s(self) -> float:
        """Jobs a second that are a tenant's part of what the nodes can do."""
        return self.nodes * self.manner.slots / self.manner.work_s / TENANTS


QUICK = Plan(rounds=1, seconds=16.0)
SMALLEST = Plan(rounds=1, seconds=1.0, nodes=1, manner=Manner(slots=2, work_s=0.2, spread=0.5))


class Told(msgspec.Struct):
    """What is read of an answer."""

    duration_ms: float


_decoder = msgspec.json.Decoder(Told)


@dataclass
class Seen:
    """What a tenant had of a slice: latencies of its answers, outside and inside (ms), and their statuses."""

    latencies: list[float] = field(default_factory=list)
    inside: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)


class Customer:
    """A tenant that sends requests at random moments, each on a connection that is free."""

    def __init__(self, loop: Loop, port: int, key: str, per_s: float) -> None:
        self.seen = Seen()
        self.open = 0
        self._loop = loop
        self._port = port
        self._request = upload(key, SPEECH, src_lang=SRC, tgt_lang=TGT)
        self._per_s = per_s
        self._chance = Random(4)
        self._free: list[HttpClient] = []
        self._all: list[HttpClient] = []

    def begin(self, seconds: float) -> Seen:
        """Send for so long from now on; what comes of it."""
        now = time.monotonic_ns()
        until = now + round(seconds * 1e9)
        self.seen = Seen()

        def send(due: int) -> int | None:
            if due > until:
                return None
            client = self._free.pop() if self._free else self._connect()
            self.open += 1
            client.send(self._request, due)
            return self._next(due)

        self._loop.at(self._next(now), send)
        return self.seen

    def close(self) -> None:
        """Drop all connections."""
        for client in self._all:
            client.close()

    def _next(self, now: int) -> int:
        return now + round(self._chance.expovariate(self._per_s) * 1e9)

    def _connect(self) -> HttpClient:
        def answered(status: int, sent_at: int, body: bytes) -> None:
            self.open -= 1
            self.seen.statuses[status] += 1
            if status == 200:
                self.seen.latencies.append((time.monotonic_ns() - sent_at) / 1e6)
                self.seen.inside.append(_decoder.decode(body).duration_ms)
            self._free.append(client)

        client = HttpClient(self._port, answered)
        self._all.append(client)
        self._loop.add(client)
        return client


@dataclass
class Slices:
    """All rounds of one kind."""

    modest: list[Seen] = field(default_factory=list)
    greedy: list[Seen] = field(default_factory=list)
    waited_s: float = 0.0
    cpu_s: float = 0.0
    seconds: float = 0.0


def _measure(plan: Plan) -> Iterator[report.Row]:
    with public(SETTINGS) as server:
        loop, share = Loop(), plan.share_per_s
        nodes = Nodes(f"{server.daemon.url}/ws/node", loop, plan.manner)
        nodes.open(plan.nodes)
        modest = Customer(loop, server.port, server.tenant("modest", UNLIMITED), share * MODESTY)
        greedy = {
            name: Customer(loop, server.port, server.tenant(name, members), share * GREED)
            for name, members in (("flood, default limits", {}), ("flood, no limits", UNLIMITED))
        }
        kinds: dict[str, Customer | None] = {CALM: None, **greedy}
        taken = {kind: Slices() for kind in kinds}
        _slice(plan, loop, server.daemon.pid, modest, None, Slices(), seconds=1.0)
        for _ in range(plan.rounds):
            for kind, other in kinds.items():
                _slice(plan, loop, server.daemon.pid, modest, other, taken[kind], plan.seconds)
        for customer in (modest, *greedy.values()):
            customer.close()
        nodes.close()
        loop.close()
    calm = _p99s(taken[CALM])
    for kind, slices in taken.items():
        yield _row(kind, slices, plan, calm)


def _slice(
    plan: Plan, loop: Loop, pid: int, modest: Customer, greedy: Customer | None, into: Slices, seconds: float
) -> None:
    """One slice, which ends when all is answered; a flood is there before `modest` begins."""
    waited, cpu, began = processes.waited_s(pid), processes.cpu_s(pid), time.monotonic()
    if greedy is not None:
        ahead_s = plan.manner.work_s * 2
        into.greedy.append(greedy.begin(seconds + ahead_s))
        loop.run(ahead_s)
    into.modest.append(modest.begin(seconds))
    loop.run(seconds)
    into.waited_s += processes.waited_s(pid) - waited
    into.cpu_s += processes.cpu_s(pid) - cpu
    into.seconds += time.monotonic() - began
    until = time.monotonic() + PATIENCE_S
    while modest.open or (greedy is not None and greedy.open):
        loop.run(0.02)
        if time.monotonic() > until:
            raise SystemExit("an answer did not come")


def _all(slices: Slices) -> tuple[list[float], list[float]]:
    """Latencies of `modest`, outside and inside, ms."""
    outside = [ms for seen in slices.modest for ms in seen.latencies]
    return outside, [ms for seen in slices.modest for ms in seen.inside]


def _p99s(slices: Slices) -> tuple[float, float]:
    outside, inside = (report.percentile(sorted(latencies), 99) for latencies in _all(slices))
    return outside, inside


def _row(kind: str, slices: Slices, plan: Plan, calm: tuple[float, float]) -> report.Row:
    """`calm` are the values that ratios are made with."""
    outside, inside = _all(slices)
    ratio, inside_ratio = (p99 / base for p99, base in zip(_p99s(slices), calm, strict=True))
    statuses = sum((seen.statuses for seen in slices.modest), Counter[int]())
    others = sum((seen.statuses for seen in slices.greedy), Counter[int]())
    answered, greedy = statuses[200], others.total()
    row: dict[str, report.Cell] = {
        "impl": "linguad",
        "kind": kind,
        "slots": plan.nodes * plan.manner.slots,
        "work_ms": round(plan.manner.work_s * 1000),
        "modest_per_s": round(statuses.total() / plan.seconds / plan.rounds, 1),
        "answered": answered,
        "failed": statuses.total() - answered,
        **report.percentiles("", outside),
        "ratio": round(ratio, 3),
        **report.percentiles("inside", inside),
        "inside_ratio": round(inside_ratio, 3),
        "greedy_per_s": round(greedy / plan.seconds / plan.rounds, 1),
        "greedy_answered": others[200],
        "greedy_429": others[429],
        "greedy_failed": greedy - others[200] - others[429],
        "cpu_cores": round(slices.cpu_s / slices.seconds, 3),
        "cpu_wait_cores": round(slices.waited_s / slices.seconds, 3),
    }
    return {name.lstrip("_"): value for name, value in row.items()}


def verdicts(rows: Sequence[report.Row]) -> Iterator[str]:
    """The goal of issue 6."""
    for row in rows:
        if row["kind"] != CALM:
            what = f"p99 of a tenant beside a {row['kind']}, against its calm value"
            where = f"inside the daemon {row['inside_ratio']:.3g} times"
            yield report.verdict(what, GOAL, "times", report.number(row, "ratio"), where)


def main() -> None:
    """Measure and print."""
    processes.end_with_children()
    arguments = report.parser(__doc__, smallest=True).parse_args()
    processes.allow_sockets(10_000)
    plan = SMALLEST if arguments.smallest else QUICK if arguments.quick else Plan()
    rows = list(_measure(plan))
    report.show("fairness", rows, as_json=arguments.json, verdicts=verdicts(rows))


if __name__ == "__main__":
    main()
