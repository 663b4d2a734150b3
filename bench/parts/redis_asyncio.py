"""The twin of bench.redis_link: redis-py as its makers mean it, on asyncio. Run as a process of its own."""

from __future__ import annotations

import asyncio  # noqa: TID251 # this is what linguad is compared with
import json
import sys
import time

import redis.asyncio as redis


async def measure(path: str, kind: str, tasks: int, seconds: float) -> dict[str, object]:
    """As `bench.redis_link.measure`."""
    client = redis.Redis(unix_socket_path=path, protocol=3, max_connections=tasks)
    times: list[float] = []
    audio = bytes(20_000)
    until = time.perf_counter() + seconds

    async def work(task: int) -> None:
        now = time.perf_counter()
        while now < until:
            if kind == "get":
                await client.get("bench")
            else:
                await client.xadd(f"bench:{task}", {"audio": audio}, maxlen=10)
            before, now = now, time.perf_counter()
            times.append(now - before)

    await client.ping()
    began, cpu_s = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work(task) for task in range(tasks)))
    took, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
    await client.aclose()
    return {"seconds": took, "cpu_s": cpu_s, "times": times}


if __name__ == "__main__":
    path, kind, tasks, seconds = sys.argv[1:]
    print(json.dumps(asyncio.run(measure(path, kind, int(tasks), float(seconds)))))
