"""Nodes that ask a hub for its list, for benches: each request on a connection of its own, as old nodes do.

Arguments: port, requests/s, seconds. Prints how many were answered.
"""

from __future__ import annotations

import sys
import time

import trio

REQUEST = (
    b"GET /api/models HTTP/1.1\r\nAccept: application/json, text/plain, */*\r\nUser-Agent: axios/1.13.2\r\n"
    b"Accept-Encoding: gzip, compress, deflate, br\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
)
ASKERS = 32
"""Tasks that share the rate; each waits for its answer before it asks again."""


async def main(port: int, rate: float, seconds: float) -> int:
    """Ask; how many answers came."""
    answers = 0
    begun = time.monotonic()

    async def ask(number: int) -> None:
        nonlocal answers
        at = begun + number / rate
        while at < begun + seconds:
            await trio.sleep(max(0.0, at - time.monotonic()))
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(REQUEST)
                taken = 0
                while data := await stream.receive_some(1 << 20):
                    taken += len(data)
            answers += taken > 0
            at += ASKERS / rate

    async with trio.open_nursery() as nursery:
        for number in range(ASKERS):
            nursery.start_soon(ask, number)
    return answers


if __name__ == "__main__":
    print(trio.run(main, int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
