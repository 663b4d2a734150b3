"""A byte stream whose writes cannot last for ever and which knows how long the peer has been silent."""

from __future__ import annotations

import os
from collections.abc import Callable

import trio

SLICE_BYTES = 64 * 1024
"""The write limit holds for so much at a time: a large message may take long on a slow but living line."""


class TimedStream(trio.abc.HalfCloseableStream):
    """Wraps a stream: a peer that takes nothing for `write_seconds` ends the connection for good.

    A write that was given up leaves half a frame behind, so the stream is closed and never used again; the
    writer gets BrokenResourceError. The limit also holds inside a shielded scope.
    """

    __slots__ = (
        *("_held", "_listening_since", "_on_close", "_stream", "_write_seconds"),
        *("last_received", "holder", "stalled"),
    )

    def __init__(self, stream: trio.abc.HalfCloseableStream, write_seconds: float) -> None:
        self._stream = stream
        self._write_seconds = write_seconds
        self._on_close: Callable[[], object] | None = None
        self._listening_since: float | None = None
        self._held = bytearray()
        self.last_received = trio.current_time()
        self.holder: trio.lowlevel.Task | None = None
        """A task that will certainly send again at once: what it sends waits for that, both are one write."""
        self.stalled = False

    @property
    def socket(self) -> trio.socket.SocketType:
        """The socket below; Hypercorn asks for it."""
        assert isinstance(self._stream, trio.SocketStream)
        return self._stream.socket

    @property
    def heard_at(self) -> float:
        """Since when we have listened without getting a byte (trio clock); now, while nobody listens."""
        return trio.current_time() if self._listening_since is None else self._listening_since

    def when_closed(self, call: Callable[[], object] | None) -> None:
        """Have `call()` run when the stream is closed from this side."""
        self._on_close = call

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, raising BrokenResourceError if the peer does not read.

        What the socket takes at once goes without a checkpoint; all callers pass one in taking a send lock.
        """
        if self._held or self.holder is not None:
            self._held += data
            if self.holder is trio.lowlevel.current_task():
                return
            data, self._held = self._held, bytearray()
        rest = memoryview(data)[self._send_now(data) :]
        while rest:
            part, rest = rest[:SLICE_BYTES], rest[SLICE_BYTES:]
            with trio.move_on_after(self._write_seconds) as limit:
                await self._stream.send_all(part)
            if limit.cancelled_caught:
                self.stalled = True
                await trio.aclose_forcefully(self)
                raise trio.BrokenResourceError("the peer does not read")

    def _send_now(self, data: bytes | bytearray | memoryview) -> int:
        """Bytes that the socket takes without waiting; spares nearly every send a timer and a task switch."""
        if not isinstance(self._stream, trio.SocketStream):
            return 0
        descriptor = self._stream.socket.fileno()
        if descriptor < 0:
            raise trio.ClosedResourceError("the connection is closed")
        try:
            return os.write(descriptor, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError("the connection is lost") from error

    async def wait_send_all_might_not_block(self) -> None:
        """As the stream below."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """As the stream below."""
        self._listening_since = trio.current_time()
        data = await self._stream.receive_some(max_bytes)
        self._listening_since = None
        self.last_received = trio.current_time()
        return data

    async def send_eof(self) -> None:
        """As the stream below."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the stream below."""
        if self._on_close is not None:
            self._on_close()
        await self._stream.aclose()

    async def drain(self, seconds: float) -> None:
        """End our direction and throw away what still comes, for at most `seconds`.

        Closing with unread bytes resets the connection, and the peer would lose what we said last.
        """
        with trio.move_on_after(seconds):
            try:
                await self._stream.send_eof()
                while await self._stream.receive_some(SLICE_BYTES):
                    pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
