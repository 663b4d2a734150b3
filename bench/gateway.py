"""What the public API costs beside the core that it stands before.

- `translate`: a recording of one second to `POST /v1/speech/translate`, and the same recording as one message
  of an open session on `/ws/session`. That is how an app would reach the core without the gateway: a socket
  and a process of its own, so that both pay for a way into the daemon; within the daemon's process the load
  would take the CPU that it measures. Each HTTP request opens a session of the core, and gives it up.
- `stream utterance`, `stream pieces`: the same second on `/v1/stream` and on `/ws/session`, whole, and in
  four pieces that the server joins.
- `door`: `/health`, which asks nobody, `/v1/me` with a good key, and with a key that is none.
- `admission`: parts of the door alone, without HTTP, among 1 000 tenants.
- `idle`: open sockets of `/v1/stream` with a session, and sessions of `/ws/session`, that say nothing: growth
  of the daemon's memory in RAM (Rss) for each, and the daemon's CPU beside a daemon without them.

Each client asks again when it has its answer. Twins are measured in turns; `ratio` is gateway : native, of
`door` to `/health`. Nodes give back what they get. Load, nodes and daemon are processes of their own. Each
number is the median of rounds, with the lowest and the highest.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from timeit import Timer

import trio

from bench import report
from bench.parts import processes
from bench.parts.askers import (
    PIECES,
    SPEECH,
    SRC,
    TGT,
    Asker,
    HttpAsker,
    NativeAsker,
    Silent,
    StreamAsker,
    Taken,
    play,
)
from bench.parts.bare import Loop
from bench.parts.bare_http import request, upload
from bench.parts.public import UNLIMITED, Public, public
from bench.parts.talkers import Talkers
from linguad.config.gateway import Gateway
from linguad.core.accounts import Actor, KeyWish
from linguad.errors import LinguadError
from linguad.gateway.access.admission import Admission
from linguad.net.peer import Peer
from linguad.store.database import Database
from linguad.store.pepper import load_pepper
from linguad.store.registry import Registry
from linguad.web.problems import Problem

SETTINGS = {
    "LOG__LEVEL": "info",
    "SESSIONS__FINAL_REORDER_GRACE_MS": "0",
    "SESSIONS__BURST_CUTS": "0",
    "GATEWAY__STREAM_MAX_MESSAGES_PER_SECOND": "100000",
    "GATEWAY__STREAM_BURST_MESSAGES": "100000",
}
NODES = 4
NOBODY = "lk_live_aaaaaaaaaaaa_" + "x" * 43
FIRST = 10  # idle sockets that are there before: what they bring along belongs to none

Twins = Mapping[str, Callable[[], Asker]]
"""How to make a client of each; the last is what the others are compared with."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    clients: Sequence[int] = (1, 8, 32)
    rounds: int = 3
    seconds: float = 1.0
    tenants: int = 1000
    calls: int = 5000
    idle: int = 1000
    idle_s: float = 8.0
    settle_s: float = 1.0
    idle_rounds: int = 2


QUICK = Plan((1, 8), 2, 0.5, 100, 1000, 300, 3.0, 0.5, 1)
SMALLEST = Plan((1, 2), 1, 0.2, 3, 50, 10, 0.3, 0.1, 1)


@contextmanager
def _nodes(server: Public) -> Iterator[None]:
    words = ["bench.parts.echo_node", str(NODES), "--linguad", f"{server.daemon.url}/ws/node"]
    with processes.child(words) as nodes:
        processes.line(nodes)
        yield


def _asked(plan: Plan) -> Iterator[report.Row]:
    """All kinds in which clients ask."""
    with public(SETTINGS) as server, _nodes(server):
        key = server.tenant("bench", UNLIMITED)
        url, port = server.daemon.url, server.port
        kinds: dict[str, Twins] = {
            "translate": {
                "gateway": lambda: HttpAsker(port, upload(key, SPEECH, src_lang=SRC, tgt_lang=TGT)),
                "native": lambda: NativeAsker(url),
            },
            "stream utterance": {
                "gateway": lambda: StreamAsker(port, key),
                "native": lambda: NativeAsker(url),
            },
            "stream pieces": {
                "gateway": lambda: StreamAsker(port, key, pieces=True),
                "native": lambda: NativeAsker(url, pieces=True),
            },
            "door": {
                "/v1/me": lambda: HttpAsker(port, request("GET", "/v1/me", key)),
                "wrong key": lambda: HttpAsker(port, request("GET", "/v1/me", NOBODY), 401),
                "/health": lambda: HttpAsker(port, request("GET", "/health")),
            },
        }
        for kind, twins in kinds.items():
            loop = Loop()
            clients = {impl: [make() for _ in range(max(plan.clients))] for impl, make in twins.items()}
            for ours in clients.values():
                for client in ours:
                    loop.add(client)
            for count in plan.clients:
                yield from _case(
                    kind, {impl: ours[:count] for impl, ours in clients.items()}, loop, plan, server
                )
            for ours in clients.values():
                for client in ours:
                    client.close()
            loop.close()


def _case(
    kind: str, clients: Mapping[str, Sequence[Asker]], loop: Loop, plan: Plan, server: Public
) -> Iterator[report.Row]:
    """The rows of so many clients of each twin."""
    taken: dict[str, list[Taken]] = {impl: [] for impl in clients}
    for ours in clients.values():
        play(loop, ours, plan.seconds / 4, server.daemon.pid)
    for _ in range(plan.rounds):
        for impl, ours in clients.items():
            taken[impl].append(play(loop, ours, plan.seconds, server.daemon.pid))
    rounds = {impl: [one.numbers() for one in all_] for impl, all_ in taken.items()}
    *others, base = clients
    for impl in clients:
        answers = sum(len(one.latencies) for one in taken[impl])
        shared: dict[str, report.Cell] = {
            "impl": impl,
            "kind": kind,
            "clients": len(clients[impl]),
            "answers": answers,
        }
        numbers = _middles(rounds[impl])
        if kind == "stream pieces":
            shared["messages_per_s"] = round(numbers["per_s"] * PIECES)
        yield {**shared, **numbers}
    for impl in others:
        ratios = [
            {
                "latency_ratio": one["p50_ms"] / other["p50_ms"],
                "throughput_ratio": one["per_s"] / other["per_s"],
                "cpu_ratio": one["cpu_us"] / other["cpu_us"],
            }
            for one, other in zip(rounds[impl], rounds[base], strict=True)
        ]
        name = "ratio" if len(others) == 1 else f"ratio of {impl}"
        yield {"impl": name, "kind": kind, "clients": len(clients[impl]), **_middles(ratios)}


def _middles(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each number the median of the rounds, the lowest and the highest."""
    middles: dict[str, float] = {}
    for name in rounds[0]:
        stem, _, unit = name.rpartition("_")
        middles |= report.middle(stem, unit, [one[name] for one in rounds])
    return middles


async def _admission(plan: Plan) -> list[report.Row]:
    """The parts of the door, called one after another in this process."""
    with tempfile.TemporaryDirectory() as state:
        place = Path(state)
        database = Database(f"sqlite:///{place / 'bench.db'}")
        await database.open()
        try:
            registry = Registry(database, load_pepper("", place))
            await registry.load()
            key = await _keys(registry, plan.tenants)
        finally:
            await database.close()
    admission = Admission(registry, Gateway(failed_auth_limit=0))
    peer = Peer("192.0.2.1", 1)
    who = admission.identify(key, peer)

    def refused() -> None:
        try:
            admission.identify(NOBODY, peer)
        except Problem:
            return
        raise LinguadError("a wrong key was let in")

    async def admit() -> None:
        await admission.admit(who)

    async def session() -> None:
        (await admission.session(who)).release()

    steps: dict[str, Callable[[], object]] = {
        "lookup": lambda: registry.lookup(key),
        "identify": lambda: admission.identify(key, peer),
        "wrong key": refused,
    }
    took = {step: Timer(do).repeat(5, plan.calls) for step, do in steps.items()}
    for step, wait in (("admit", admit), ("session", session)):
        took[step] = [await _awaited(wait, plan.calls) for _ in range(5)]
    return [
        {
            "impl": "gateway",
            "kind": "admission",
            "step": step,
            "tenants": plan.tenants,
            **report.middle("", "us", [each_s * 1e6 / plan.calls for each_s in seconds]),
        }
        for step, seconds in took.items()
    ]


async def _awaited(wait: Callable[[], Awaitable[None]], calls: int) -> float:
    """How long so many take, s."""
    began = time.perf_counter()
    for _ in range(calls):
        await wait()
    return time.perf_counter() - began


async def _keys(registry: Registry, tenants: int) -> str:
    """Make so many tenants with a key each; the key of one in the middle."""
    middle, members = "", dict[str, object](UNLIMITED)
    for number in range(tenants):
        _, issued = await registry.create_tenant(
            Actor(type="operator", id="bench"), f"tenant {number}", members, key=KeyWish(label="bench")
        )
        assert issued is not None
        if number == tenants // 2:
            middle = issued.text
    return middle


def _idle(plan: Plan) -> Iterator[report.Row]:
    """Memory and CPU of sockets that say nothing."""
    count = processes.allow_sockets(plan.idle + FIRST) - FIRST
    for impl in ("gateway", "native"):
        each_kib, percents = [], []
        for _ in range(plan.idle_rounds):
            with public(SETTINGS) as server, _nodes(server):
                kib, percent = _grown(impl, server, count, plan)
                each_kib.append(kib / count)
                percents.append(percent)
        about: report.Row = {"impl": impl, "kind": "idle", "count": count}
        yield {
            **about,
            **report.middle("each", "kib", each_kib, 1),
            **report.middle("cpu", "percent", percents, 2),
        }


def _grown(impl: str, server: Public, count: int, plan: Plan) -> tuple[int, float]:
    """By how much the daemon grows with so many sockets, KiB, and the CPU they cost it, % of a core."""
    loop, pid = Loop(), server.daemon.pid
    open_ = _streams(loop, server) if impl == "gateway" else Talkers(_session_url(server), loop=loop).open
    open_(FIRST)
    loop.run(plan.settle_s)
    alone = _cpu_percent(loop, plan, pid)
    before = processes.resident_kib(pid)
    open_(count)
    loop.run(plan.settle_s)
    grown = processes.resident_kib(pid) - before
    return grown, _cpu_percent(loop, plan, pid) - alone


def _streams(loop: Loop, server: Public) -> Callable[[int], None]:
    """What opens so many streams more."""
    key = server.tenant("bench", UNLIMITED)

    def open_(count: int) -> None:
        for _ in range(count):
            loop.add(Silent(server.port, key))

    return open_


def _session_url(server: Public) -> str:
    return f"{server.daemon.url}/ws/session"


def _cpu_percent(loop: Loop, plan: Plan, pid: int) -> float:
    """CPU of the daemon while nothing is asked, % of a core."""
    before, began = processes.cpu_s(pid), time.monotonic()
    loop.run(plan.idle_s)
    return (processes.cpu_s(pid) - before) / (time.monotonic() - began) * 100


def main() -> None:
    """Measure and print."""
    processes.end_with_children()
    arguments = report.parser(__doc__, smallest=True).parse_args()
    plan = SMALLEST if arguments.smallest else QUICK if arguments.quick else Plan()
    rows = [*_asked(plan), *trio.run(_admission, plan), *_idle(plan)]
    report.show("gateway", rows, as_json=arguments.json)


if __name__ == "__main__":
    main()
