"""A byte stream whose writes cannot last for ever and which knows how long the peer has been silent."""

from __future__ import annotations

import os
import select
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
        *("_listening_since", "_lock", "_on_close", "_stream", "_write_seconds"),
        *("last_received", "stalled"),
    )

    def __init__(self, stream: trio.abc.HalfCloseableStream, write_seconds: float) -> None:
        self._stream = stream
        self._write_seconds = write_seconds
        self._on_close: Callable[[], object] | None = None
        self._listening_since: float | None = None
        self._lock: trio.Lock | None = None
        """Held by whoever has sent a part of something; made when it is first needed."""
        self.last_received = trio.current_time()
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
        """Send, raising BrokenResourceError if the peer does not read; may be called by several tasks.

        What the socket takes at once goes without a checkpoint.
        """
        rest = self.send_now(data)
        if not rest:
            return
        lock = self._lock = self._lock or trio.Lock()
        if lock.locked():
            await lock.acquire()
        else:
            lock.acquire_nowait()
        try:
            while rest:
                part, rest = rest[:SLICE_BYTES], rest[SLICE_BYTES:]
                with trio.move_on_after(self._write_seconds) as limit:
                    await self._stream.send_all(part)
                if limit.cancelled_caught:
                    self.stalled = True
                    await trio.aclose_forcefully(self)
                    raise trio.BrokenResourceError("the peer does not read")
        finally:
            lock.release()

    def send_now(self, data: bytes | bytearray | memoryview) -> memoryview:
        """Send what the socket takes without waiting and return the rest, which is to be sent next.

        Spares nearly every send a timer and a task switch.
        """
        rest = memoryview(data)
        if self._lock is not None and self._lock.locked():
            return rest
        if not isinstance(self._stream, trio.SocketStream):
            return rest
        descriptor = self._stream.socket.fileno()
        if descriptor < 0:
            raise trio.ClosedResourceError("the connection is closed")
        try:
            return rest[os.write(descriptor, data) :]
        except BlockingIOError:
            return rest
        except OSError as error:
            raise trio.BrokenResourceError("the connection is lost") from error

    async def wait_send_all_might_not_block(self) -> None:
        """As the stream below."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """As the stream below."""
        self._listening_since = trio.current_time()
        data = await self._receive(max_bytes)
        self._listening_since = None
        self.last_received = trio.current_time()
        return data

    async def _receive(self, max_bytes: int | None) -> bytes | bytearray:
        """Straight from a socket: the way through trio's layers costs twice as much."""
        if max_bytes is None or not isinstance(self._stream, trio.SocketStream):
            return await self._stream.receive_some(max_bytes)
        sock = self._stream.socket
        while True:
            if sock.fileno() < 0:
                raise trio.ClosedResourceError("the connection is closed")
            await trio.lowlevel.wait_readable(sock)
            try:
                return os.read(sock.fileno(), max_bytes)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError("the connection is lost") from error

    async def hung_up(self) -> None:
        """Wait until the peer has ended its direction or the connection is lost, whatever is left to read.

        For ever on other streams than sockets, and where the system cannot tell.
        """
        if not isinstance(self._stream, trio.SocketStream) or not hasattr(select, "epoll"):
            await trio.sleep_forever()
        if self.socket.fileno() < 0:
            return
        # trio waits for readable or writable only, and unread data makes a socket readable all the time
        with select.epoll() as poll:
            poll.register(self.socket.fileno(), select.EPOLLRDHUP)
            await trio.lowlevel.wait_readable(poll.fileno())

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
