"""The way of what a client sends: plain messages to the handler of its link at once, the rest to the library.

trio-websocket reads in a task of its own and hands each message over in a channel: two more task switches
and some forty calls. Here the task of the handler reads by itself. The library gets the upgrade request,
pings and pongs. The first frame that is something else, the end of the stream or that of the handler leaves
it all that follows, so that opening, closing and mistakes are its business as ever.
"""

from __future__ import annotations

import re

import trio

from linguad.net.bell import Bell
from linguad.net.frames import Other, take, take_control
from linguad.net.stream import TimedStream

_END_OF_HEAD = re.compile(rb"\n\r?\n")
"""As h11 sees it, which reads the request for the library."""


class Lane(trio.abc.HalfCloseableStream):
    """The stream as the library sees it; mutable: what was read and nobody has taken yet."""

    __slots__ = (
        "_buffer",
        "_closed",
        "_direct",
        "_handed",
        "_head",
        "_read_bytes",
        "_stream",
        "_woken",
        "longest",
    )

    def __init__(self, stream: TimedStream, longest: int, read_bytes: int) -> None:
        """`read_bytes` is the size of one read."""
        self._stream = stream
        self.longest = longest
        """Bytes of the longest plain message; longer ones go to the library, which refuses them."""
        self._read_bytes = read_bytes
        self._buffer = bytearray()
        self._handed = b""
        """What the library is to get before anything else."""
        self._head: bytes | None = b""
        """The last bytes of the upgrade request so far; None when it is over."""
        self._direct = False
        """Messages go to the handler."""
        self._closed = False
        self._woken = Bell()

    async def message(self) -> str | bytes | None:
        """The next message; None when the library has it and all after it."""
        if self._buffer:
            # a client that sends much at once is not to keep the others waiting
            await trio.lowlevel.checkpoint()
        while self._direct:
            found = take(self._buffer, self.longest)
            if not isinstance(found, Other):
                return found
            if found is Other.PART:
                await self._read()
            elif found is Other.CONTROL:
                self._hand(take_control(self._buffer))
            else:
                self.leave()
        self.leave()
        return None

    def leave(self) -> None:
        """Let the library read from now on."""
        self._direct, self._head = False, None
        self._hand(bytes(self._buffer))
        self._buffer.clear()

    async def _read(self) -> None:
        try:
            data = await self._stream.receive_some(self._read_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        if data:
            self._buffer += data
        else:
            self.leave()

    def _hand(self, data: bytes) -> None:
        self._handed += data
        self._woken.ring()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """For the library: what is not for the handler."""
        while self._direct and not self._handed and not self._closed:
            await self._woken.wait()
        if self._closed:
            raise trio.ClosedResourceError("the connection is closed")
        if self._handed:
            handed, self._handed = self._handed, b""
            return handed
        data = await self._stream.receive_some(max_bytes)
        return data if self._head is None else self._request(self._head, bytes(data))

    def _request(self, before: bytes, data: bytes) -> bytes:
        """The part of `data` that belongs to the upgrade request; what follows is for the handler."""
        end = _END_OF_HEAD.search(before + data)
        if end is None:
            self._head = (before + data)[-2:]
            return data
        length = end.end() - len(before)
        self._head, self._direct = None, True
        self._buffer += data[length:]
        return data[:length]

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As the stream below."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """As the stream below."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """As the stream below."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the stream below; nothing is read any more."""
        self._closed = True
        self._hand(b"")
        await self._stream.aclose()
