"""Nodes that ask a hub for its list, for benches.

Arguments: port, requests/s, seconds, and `fresh` (a connection for each request, as old nodes do) or `kept`.
Prints how many were answered.
"""

from __future__ import annotations

import sys
import time

import trio

REQUEST = (
    b"GET /api/models HTTP/1.1\r\nAccept: application/json, text/plain, */*\r\nUser-Agent: axios/1.13.2\r\n"
    b"Accept-Encoding: gzip, compress, deflate, br\r\nHost: 127.0.0.1\r\nConnection: %s\r\n\r\n"
)
ASKERS = 32
"""Tasks that share the rate; each waits for its answer before it asks again."""


async def main(port: int, rate: float, seconds: float, way: str) -> int:
    """Ask; how many answers came."""
    answers = 0
    begun = time.monotonic()

    async def ask(number: int) -> None:
        nonlocal answers
        at = begun + number / rate
        stream = await trio.open_tcp_stream("127.0.0.1", port) if way == "kept" else None
        while at < begun + seconds:
            await trio.sleep(max(0.0, at - time.monotonic()))
            if stream is not None:
                await stream.send_all(REQUEST % b"keep-alive")
                await _take(stream)
            else:
                async with await trio.open_tcp_stream("127.0.0.1", port) as one:
                    await one.send_all(REQUEST % b"close")
                    await _take(one)
            answers += 1
            at += ASKERS / rate
        if stream is not None:
            await stream.aclose()

    async with trio.open_nursery() as nursery:
        for number in range(ASKERS):
            nursery.start_soon(ask, number)
    return answers


async def _take(stream: trio.SocketStream) -> None:
    """Read one answer."""
    got = b""
    while b"\r\n\r\n" not in got:
        data = await stream.receive_some(65536)
        if not data:
            raise SystemExit("the hub closed a connection before its answer")
        got += data
    head, _, rest = got.partition(b"\r\n\r\n")
    names = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    left = int(names[b"content-length"]) - len(rest)
    while left > 0:
        data = await stream.receive_some(min(left, 1 << 20))
        if not data:
            raise SystemExit("the hub closed a connection within its answer")
        left -= len(data)


if __name__ == "__main__":
    print(trio.run(main, int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]))
