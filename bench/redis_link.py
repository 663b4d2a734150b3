"""How many commands do 64 tasks get through one link to Redis, beside redis-py on asyncio?

- `get`: GET of 100 bytes. `xadd`: XADD of 20 KB, an utterance for the inbox of another instance.
- `link` is the bare link, `commands` redis-py's command layer on it, as linguad uses it; `redis.asyncio` is
  redis-py with a connection for each task.

Each is a process of its own; Redis is another one on the same machine, over a Unix socket. The twins take
turns, so read the ratios and the CPU of the client for each command. Times are from the call to the reply,
with all 64 tasks at once.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import trio

from bench import report
from bench.parts import processes, redis_server
from linguad.net.redis.address import Address, parse
from linguad.net.redis.commands import Redis
from linguad.net.redis.link import Link
from linguad.net.redis.status import Limits

TASKS = 64
KINDS = ("get", "xadd")
TWINS = ("link", "commands", "redis.asyncio")
LEAST_RATIO = 2.0  # a link that all share is worth its code only if it is much faster
AUDIO = bytes(20_000)


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int = 5
    seconds: float = 2.0


QUICK = Plan(rounds=2, seconds=0.5)
SMALLEST = Plan(rounds=1, seconds=0.1)


async def measure(path: str, twin: str, kind: str, seconds: float) -> dict[str, object]:
    """Times of all commands in s, and how long all took."""
    address = parse(f"unix://{path}")

    async def resolve() -> Address:
        return address

    link = Link(resolve, Limits(), name="bench", client_name="bench")
    redis = Redis(link)
    times: list[float] = []
    until = 0.0

    def command(task: int) -> Callable[[], Awaitable[object]]:
        if twin == "commands":
            if kind == "get":
                return lambda: redis.get("bench")
            return lambda: redis.xadd(f"bench:{task}", {"audio": AUDIO}, maxlen=10)
        if kind == "get":
            return lambda: link.call(("GET", "bench"))
        return lambda: link.call(("XADD", f"bench:{task}", "MAXLEN", "~", 10, "*", "audio", AUDIO))

    async def work(task: int) -> None:
        call = command(task)
        now = time.perf_counter()
        while now < until:
            await call()
            before, now = now, time.perf_counter()
            times.append(now - before)

    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        await link.wait_up()
        began, cpu_s = time.perf_counter(), time.process_time()
        until = began + seconds
        async with trio.open_nursery() as tasks:
            for task in range(TASKS):
                tasks.start_soon(work, task)
        took, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
        nursery.cancel_scope.cancel()
    return {"seconds": took, "cpu_s": cpu_s, "times": times}


def _round(path: str, twin: str, kind: str, plan: Plan) -> tuple[float, float, list[float]]:
    """Commands per second, CPU of the client for each in µs, and their times in ms."""
    if twin == "redis.asyncio":
        words = ["-m", "bench.parts.redis_asyncio", path, kind, str(TASKS), str(plan.seconds)]
    else:
        words = ["-m", "bench.redis_link", "--child", path, twin, kind, str(plan.seconds)]
    done = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout)
    count = len(result["times"])
    cpu_us = result["cpu_s"] / count * 1e6
    return count / result["seconds"], cpu_us, [s * 1000 for s in result["times"]]


def rows(plan: Plan) -> Iterator[report.Row]:
    """All rows."""
    with redis_server.server() as server:
        path = server.path
        subprocess.run(
            [sys.executable, "-m", "bench.redis_link", "--child", path, "fill", "get", "0"], check=True
        )
        for kind in KINDS:
            rates: dict[str, list[float]] = {twin: [] for twin in TWINS}
            cpu: dict[str, list[float]] = {twin: [] for twin in TWINS}
            times: dict[str, list[float]] = {twin: [] for twin in TWINS}
            for _ in range(plan.rounds):
                for twin in TWINS:
                    rate, cpu_us, each = _round(path, twin, kind, plan)
                    rates[twin].append(rate)
                    cpu[twin].append(cpu_us)
                    times[twin] += each
            base = median(rates["redis.asyncio"])
            for twin in TWINS:
                yield {
                    "impl": twin,
                    "kind": kind,
                    "tasks": TASKS,
                    **report.middle("ops", "per_s", rates[twin], 0),
                    "ratio": round(median(rates[twin]) / base, 2),
                    **report.middle("cpu", "us", cpu[twin], 1),
                    **report.percentiles("reply", times[twin]),
                }


def verdicts(measured: Sequence[report.Row]) -> Iterator[str]:
    """The design has no budget for it; what is wanted is to be much faster than what there was."""
    row = report.pick(measured, impl="commands", kind="get") or {}
    ratio = report.number(row, "ratio")
    yield report.verdict("commands against redis.asyncio", LEAST_RATIO, "times", ratio, least=True)


async def _fill(path: str) -> None:
    address = parse(f"unix://{path}")

    async def resolve() -> Address:
        return address

    link = Link(resolve, Limits(), name="bench", client_name="bench")
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        await link.wait_up()
        await link.call(("SET", "bench", bytes(100)))
        nursery.cancel_scope.cancel()


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--child"]:
        path, twin, kind, seconds = sys.argv[2:]
        if twin == "fill":
            trio.run(_fill, path)
        else:
            print(json.dumps(trio.run(measure, path, twin, kind, float(seconds))))
        return
    processes.end_with_children()
    arguments = report.parser(__doc__, smallest=True).parse_args()
    plan = SMALLEST if arguments.smallest else QUICK if arguments.quick else Plan()
    measured = list(rows(plan))
    report.show("redis_link", measured, as_json=arguments.json, verdicts=verdicts(measured))


if __name__ == "__main__":
    main()
