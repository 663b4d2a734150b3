"""The least a trio server can do for who asks for a list, for benches: reads something, sends bytes, closes.

Argument: bytes of the answer. Prints its port, ends with its standard input.
"""

from __future__ import annotations

import sys

import trio

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


async def main(length: int) -> None:
    """Answer until standard input ends."""
    answer = HEAD % length + bytes(length)

    async def serve(stream: trio.SocketStream) -> None:
        try:
            while await stream.receive_some(65536):
                await stream.send_all(answer)
        except trio.BrokenResourceError:
            return

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        print(listeners[0].socket.getsockname()[1], flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
