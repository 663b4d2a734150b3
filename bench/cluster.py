"""What it costs that several instances are one fleet, and how soon they know of each other.

- `latency`: utterances of 20 KB to a node of the same instance and of another one, in turns within one run.
- `commands`: commands of Redis for each of these jobs, those in scripts too, less what the idle fleet needs.
- `rate`: as many sessions at one instance, and spread over two that both have nodes.
- `failover`: the owner of a node is killed in the middle of a job; time until another node has the audio.
- `directory`: many nodes at one instance; how long after the last has registered another knows all of them,
  how long one that comes later needs, what the idle fleet costs, and when all are gone with their owner.

Daemons, nodes and Redis are processes of their own; Redis is on the same machine, over a Unix socket.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from statistics import median

import trio
from trio_websocket import ConnectionClosed

from bench import report
from bench.parts import processes, redis_server
from bench.parts.bare import Loop
from bench.parts.bare_nodes import Manner, Nodes
from bench.parts.echo_node import REGISTER, beat
from bench.parts.processes import Daemon
from bench.parts.redis_server import RedisServer
from bench.roundtrip import Case, Client, Taken, _clients, _round
from linguad.net import dial
from linguad.wire import codec
from linguad.wire.node import JobAssign, NodeRegisterAck

NODES = 4
AUDIO_BYTES = 20_000
SETTINGS = {"LOG__LEVEL": "error", "SERVER__DRAIN_SECONDS": "0"}
CHANCE = 0.1
"""Calls for a job that may be due to the idle fleet: it calls several times at once, every few seconds."""

READY = 'linguad_nodes{status="ready"}'
PATIENCE_S = 120.0
OUR_OWN = ("hello", "info", "client|setinfo")
"""What counting calls."""

IN_SCRIPTS = frozenset(("get", "hget", "hincrby", "pexpire", "time", "xadd", "xdel", "xlen"))
"""Commands of the scripts that carry letters; all others are sent."""

FEWEST = 0.005
"""A command that is called less often for a job is not shown."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int = 5
    seconds: float = 2.0
    sessions: tuple[int, ...] = (1, 8)
    kills: int = 5
    heartbeats_s: tuple[float, ...] = (1.0, 5.0)
    nodes: int = 10_000
    idle_s: float = 10.0
    warm_s: float = 16.0
    """Until each node has sent two heartbeats."""


QUICK = Plan(rounds=2, seconds=0.5, kills=2, heartbeats_s=(1.0,), nodes=1000, idle_s=4.0)
SMALLEST = Plan(
    rounds=1, seconds=0.2, sessions=(1,), kills=1, heartbeats_s=(1.0,), nodes=20, idle_s=1.0, warm_s=0.1
)


def _instance(stack: ExitStack, redis: RedisServer, name: str, heartbeat_s: float = 5.0) -> Daemon:
    settings = {
        "CLUSTER__REDIS_URL": redis.url,
        "CLUSTER__INSTANCE_ID": name,
        "CLUSTER__HEARTBEAT_SECONDS": str(heartbeat_s),
    }
    return stack.enter_context(processes.daemon(SETTINGS | settings))


def _nodes(stack: ExitStack, at: Daemon, count: int) -> None:
    words = ["bench.parts.echo_node", str(count), "--linguad", f"{at.url}/ws/node"]
    processes.line(stack.enter_context(processes.child(words)))


def _until(what: str, done: Callable[[], bool], *, pause_s: float = 0.02) -> float:
    """How long it takes until something is so, s."""
    began = time.monotonic()
    while not done():
        if time.monotonic() - began > PATIENCE_S:
            raise SystemExit(f"{what} does not come about")
        time.sleep(pause_s)
    return time.monotonic() - began


def _knows(daemon: Daemon, count: int) -> bool:
    return processes.metric(daemon, READY) == count


# Latency, commands, rate


@dataclass
class Turn:
    """What the jobs of one kind took in all rounds."""

    latencies: list[float]
    rates: list[float]
    asker_us: list[float]
    owner_us: list[float]
    calls: Counter[str]
    seconds: float = 0.0

    def row(self, plan: Plan) -> dict[str, float]:
        """The numbers of a row."""
        return {
            "jobs": len(self.latencies),
            **_percentiles(self.latencies),
            **report.middle("jobs", "per_s", self.rates, 1),
            **report.middle("asker_cpu", "us_per_job", self.asker_us, 0),
            **report.middle("owner_cpu", "us_per_job", self.owner_us, 0),
        }


def _percentiles(times: Sequence[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {f"p{percent}_ms": report.percentile(ordered, percent) for percent in (50, 99)}


async def _latency(
    redis: RedisServer, owner: Daemon, asker: Daemon, plan: Plan, idle: dict[str, float]
) -> list[report.Row]:
    rows: list[report.Row] = []
    instances = {"local": owner, "remote": asker}
    async with AsyncExitStack() as stack:
        most = max(plan.sessions)
        clients = {
            where: await _clients(stack, "linguad", f"{one.url}/ws/session", most)
            for where, one in instances.items()
        }
        for sessions in plan.sessions:
            turns = {where: Turn([], [], [], [], Counter()) for where in instances}
            for where in instances:
                await _ask(clients[where][:sessions], plan.seconds / 4)
            for where in ("local", "remote") * plan.rounds:
                await _take(turns[where], clients[where][:sessions], redis, instances[where], owner, plan)
            for where, turn in turns.items():
                rows.append({"kind": "latency", "impl": where, "sessions": sessions, **turn.row(plan)})
            local, remote = (_percentiles(turns[where].latencies) for where in instances)
            added = {name: round(remote[name] - local[name], 3) for name in local}
            rows.append({"kind": "latency", "impl": "added", "sessions": sessions, **added})
            rows += _commands(turns, sessions, idle)
    return sorted(rows, key=lambda row: str(row["kind"]), reverse=True)


async def _take(
    turn: Turn, clients: list[Client], redis: RedisServer, asker: Daemon, owner: Daemon, plan: Plan
) -> None:
    calls, asker_s, owner_s = redis.calls(), processes.cpu_s(asker.pid), processes.cpu_s(owner.pid)
    taken = await _ask(clients, plan.seconds)
    jobs = len(taken.latencies)
    turn.latencies += taken.latencies
    turn.rates.append(jobs / taken.seconds)
    turn.asker_us.append((processes.cpu_s(asker.pid) - asker_s) / jobs * 1e6)
    turn.owner_us.append((processes.cpu_s(owner.pid) - owner_s) / jobs * 1e6)
    turn.calls += redis.calls() - calls
    turn.seconds += taken.seconds


async def _ask(clients: list[Client], seconds: float) -> Taken:
    taken = Taken()
    await _round(clients, Case("utterance", AUDIO_BYTES, len(clients)), seconds, taken)
    return taken


def _commands(turns: dict[str, Turn], sessions: int, idle: dict[str, float]) -> Iterator[report.Row]:
    """For each command that jobs need how often they do, and all of them together."""
    for where, turn in turns.items():
        jobs = len(turn.latencies)
        each = {
            name: max(0.0, count - idle.get(name, 0.0) * turn.seconds) / jobs
            for name, count in turn.calls.items()
            if name not in OUR_OWN
        }
        shown = {name: count for name, count in each.items() if count >= FEWEST}
        names = ", ".join(f"{name} {shown[name]:.2f}" for name in sorted(shown, key=shown.__getitem__)[::-1])
        yield {
            "kind": "commands",
            "impl": where,
            "sessions": sessions,
            "jobs": jobs,
            "sent_per_job": round(sum(shown[name] for name in shown.keys() - IN_SCRIPTS), 2),
            "calls_per_job": round(sum(shown.values()), 2),
            "calls": names or "none",
        }


def _idle(redis: RedisServer, seconds: float) -> dict[str, float]:
    """Calls of each command in a second while nobody works."""
    before = redis.calls()
    time.sleep(seconds)
    return {name: count / seconds for name, count in (redis.calls() - before).items()}


async def _rate(one: Daemon, other: Daemon, sessions: int, plan: Plan) -> list[report.Row]:
    """All sessions at one instance, then half of them at each, in turns."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    cpu: dict[int, list[float]] = {1: [], 2: []}
    async with AsyncExitStack() as stack:
        at = {
            daemon.url: await _clients(stack, "linguad", f"{daemon.url}/ws/session", sessions)
            for daemon in (one, other)
        }
        half = sessions // 2
        spread = {1: at[one.url], 2: at[one.url][:half] + at[other.url][:half]}
        for instances in (1, 2) * plan.rounds:
            before = [processes.cpu_s(daemon.pid) for daemon in (one, other)]
            taken = await _ask(spread[instances], plan.seconds)
            after = [processes.cpu_s(daemon.pid) for daemon in (one, other)]
            jobs = len(taken.latencies)
            rates[instances].append(jobs / taken.seconds)
            cpu[instances].append((sum(after) - sum(before)) / jobs * 1e6)
    return [
        {
            "kind": "rate",
            "impl": "linguad",
            "instances": instances,
            "sessions": sessions,
            **report.middle("jobs", "per_s", rates[instances], 1),
            **report.middle("cpu", "us_per_job", cpu[instances], 0),
        }
        for instances in (1, 2)
    ]


def _work(plan: Plan) -> Iterator[report.Row]:
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server.server())
        owner, asker = (_instance(stack, redis, name) for name in ("a", "b"))
        _nodes(stack, owner, NODES)
        _until("the directory", lambda: _knows(asker, NODES))
        idle = _idle(redis, plan.idle_s)
        yield from trio.run(_latency, redis, owner, asker, plan, idle)
        _nodes(stack, asker, NODES)
        _until("the directory", lambda: _knows(owner, 2 * NODES))
        yield from trio.run(_rate, owner, asker, 2 * max(plan.sessions), plan)


# Failover


async def _hold(url: str, name: str, got: trio.MemorySendChannel[tuple[str, float]]) -> None:
    """A node that answers nothing; tells when it got a job."""
    async with dial.websocket(f"{url}/ws/node") as ws, trio.open_nursery() as nursery:
        await ws.send_message(codec.encode(REGISTER))
        ack = codec.scheduler_messages.decode(await ws.get_message())
        assert isinstance(ack, NodeRegisterAck), ack
        nursery.start_soon(beat, ws, ack.node_id)
        try:
            while True:
                if isinstance(codec.scheduler_messages.decode(await ws.get_message()), JobAssign):
                    await got.send((name, time.monotonic()))
        except ConnectionClosed:
            nursery.cancel_scope.cancel()


async def _kill_one(client: Daemon, owners: dict[str, Daemon]) -> float:
    """Kill the owner of a node that works; ms until the other owner's node has the job."""
    send, receive = trio.open_memory_channel[tuple[str, float]](10)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
            for name, daemon in owners.items():
                nursery.start_soon(_hold, daemon.url, name, send)
            await trio.to_thread.run_sync(_until, "the directory", lambda: _knows(client, len(owners)))
            (asking,) = await _clients(stack, "linguad", f"{client.url}/ws/session", 1)
            nursery.start_soon(asking.ask, Case("utterance", AUDIO_BYTES, 1))
            name, _ = await receive.receive()
            await trio.sleep(0.1)
            os.kill(owners[name].pid, signal.SIGKILL)
            killed_at = time.monotonic()
            other, got_at = await receive.receive()
            assert other != name
            nursery.cancel_scope.cancel()
    return (got_at - killed_at) * 1000


def _failover(plan: Plan) -> Iterator[report.Row]:
    for heartbeat_s in plan.heartbeats_s:
        times = []
        for _ in range(plan.kills):
            with ExitStack() as stack:
                redis = stack.enter_context(redis_server.server())
                client, *owners = (_instance(stack, redis, name, heartbeat_s) for name in "abc")
                times.append(trio.run(_kill_one, client, dict(zip("bc", owners, strict=True))))
        yield {
            "kind": "failover",
            "impl": "linguad",
            "heartbeat_s": heartbeat_s,
            "sign_of_life_s": 2 * heartbeat_s,
            "kills": plan.kills,
            "median_ms": round(median(times)),
            "longest_ms": round(max(times)),
        }


# Directory


def _directory(plan: Plan) -> Iterator[report.Row]:
    count = processes.allow_sockets(plan.nodes)
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server.server())
        owner, other = (_instance(stack, redis, name) for name in ("a", "b"))
        nodes = Nodes(f"{owner.url}/ws/node", Loop(), Manner(acks=False))
        began = time.monotonic()
        for opened in range(0, count, 100):
            nodes.open(min(100, count - opened))
            nodes.loop.run(0.001)
        took_s = time.monotonic() - began
        yield _seen("the last one comes", count, _seconds_until(nodes, other, count), register_s=took_s)
        began = time.monotonic()
        late = _instance(stack, redis, "c")
        ready_s = time.monotonic() - began
        yield _seen("an instance comes", count, ready_s + _seconds_until(nodes, late, count), ready_s=ready_s)
        nodes.loop.run(plan.warm_s)
        before = [processes.cpu_s(one.pid) for one in (owner, other)]
        calls, began = redis.calls(), time.monotonic()
        nodes.loop.run(plan.idle_s)
        seconds = time.monotonic() - began
        owner_s, other_s = (
            processes.cpu_s(one.pid) - so_far for one, so_far in zip((owner, other), before, strict=True)
        )
        idle: report.Row = {
            "kind": "idle",
            "impl": "linguad",
            "nodes": count,
            "instances": 3,
            "calls_per_s": round(sum((redis.calls() - calls).values()) / seconds, 1),
            "owner_cpu_percent": round(owner_s / seconds * 100, 2),
            "other_cpu_percent": round(other_s / seconds * 100, 2),
            "other_resident_mib": round(processes.resident_kib(other.pid) / 1024, 1),
        }
        os.kill(owner.pid, signal.SIGKILL)
        yield _seen("their owner is killed", count, _until("their end", lambda: _knows(other, 0)))
        yield idle
        nodes.close()


def _seconds_until(nodes: Nodes, daemon: Daemon, count: int) -> float:
    """How long it takes until a daemon knows all nodes, which go on meanwhile; s."""
    began = time.monotonic()

    def known() -> bool:
        nodes.loop.run(0.0)
        return _knows(daemon, count)

    _until("the directory", known)
    return time.monotonic() - began


def _seen(what: str, nodes: int, seconds: float, **more: float) -> report.Row:
    return {
        "kind": "directory",
        "impl": "linguad",
        "nodes": nodes,
        "case": what,
        "all_know_s": round(seconds, 2),
        **{name: round(value, 2) for name, value in more.items()},
    }


def verdicts(rows: Sequence[report.Row]) -> Iterator[str]:
    """What design 7 promises: local jobs ask nobody."""
    local = [row for row in rows if row.get("kind") == "commands" and row.get("impl") == "local"]
    most = max((report.number(row, "calls_per_job") or 0.0 for row in local), default=None)
    yield report.verdict("commands for a local job, but for chance", CHANCE, "calls", most)


def measure(plan: Plan) -> Iterator[report.Row]:
    """All rows."""
    yield from _work(plan)
    yield from _failover(plan)
    yield from _directory(plan)


def main() -> None:
    """Measure and print."""
    processes.end_with_children()
    arguments = report.parser(__doc__, smallest=True).parse_args()
    plan = SMALLEST if arguments.smallest else QUICK if arguments.quick else Plan()
    rows = list(measure(plan))
    report.show("cluster", rows, as_json=arguments.json, verdicts=verdicts(rows))


if __name__ == "__main__":
    main()
