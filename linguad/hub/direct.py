"""Files straight from the disk to the socket: h11 for the heads, sendfile for the bodies (resolution 46).

A connection stays here as long as it asks for what `wants` likes; its first other request goes, unread, to
the HTTP app, which keeps the connection.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, cast

import h11
import trio

from linguad import log
from linguad.hub.answers import Answer, Lines, Request, Span, refusal
from linguad.metrics import HTTP_REQUESTS
from linguad.net.front import SocketHandler
from linguad.net.head import BadHead, Head, parse_head
from linguad.net.http import HEAD_BYTES, KEEP_ALIVE_SECONDS
from linguad.net.peek import Gone, peek
from linguad.net.peer import Peer, TrustedProxies
from linguad.net.stream import TimedStream
from linguad.web.problems import Problem

WINDOW_BYTES = 1024 * 1024
"""Sent before others have their turn, and read ahead at once where the disk has to be asked."""

WRITE_SECONDS = 60.0
"""A client that takes nothing for so long is cut (model-hub 8.2)."""

GOODBYE_SECONDS = 1.0
"""How long the last answer of a connection may take to be taken."""

DISK_READERS = 8
"""Threads that wait for the disk, so that sendfile need not."""

NOWAIT = getattr(os, "RWF_NOWAIT", 0)
"""Tells what is in memory; where there is no such flag every part is read ahead in a thread."""

logger = log.get(__name__)
Answerer = Callable[[Request], Awaitable[Answer]]


class Direct:
    """Serves one port; `answer` gives what is asked for, `wants` says which heads are meant for it."""

    def __init__(
        self,
        answer: Answerer,
        wants: Callable[[Head], bool],
        http: SocketHandler,
        proxies: TrustedProxies,
        extra: Callable[[Request], Lines],
        *,
        keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
        write_seconds: float = WRITE_SECONDS,
    ) -> None:
        """`extra` are headers that every answer gets."""
        self._answer = answer
        self._wants = wants
        self._http = http
        self._proxies = proxies
        self._extra = extra
        self._keep_alive_seconds = keep_alive_seconds
        self._write_seconds = write_seconds
        self._idle: set[trio.CancelScope] = set()
        self._draining = False
        self._disk = trio.CapacityLimiter(DISK_READERS)

    async def serve(self, stream: trio.SocketStream, peer: Peer) -> None:
        """Serve one connection to its end; a `SocketHandler` of the front door."""
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        timed = TimedStream(stream, self._write_seconds)
        while True:
            try:
                head = await self._next(stream)
            except BadHead:
                # Hypercorn has the words for it
                await self._http(stream, peer)
                return
            except (Gone, OSError):
                return
            if head is None:
                return
            if not self._wants(head) or not _bare(head):
                await self._http(stream, peer)
                return
            try:
                if not await self._one(connection, timed, head, peer):
                    await timed.drain(GOODBYE_SECONDS)
                    return
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                return
            connection.start_next_cycle()

    def drain(self) -> None:
        """Close idle connections now, and the others as soon as their answer is out."""
        self._draining = True
        for scope in tuple(self._idle):
            scope.cancel()

    async def _next(self, stream: trio.SocketStream) -> Head | None:
        """The next head, still unread; None if none came in time."""
        if self._draining:
            return None
        with trio.move_on_after(self._keep_alive_seconds) as scope:
            self._idle.add(scope)
            try:
                return await peek(stream.socket, parse_head, HEAD_BYTES)
            finally:
                self._idle.discard(scope)
        return None

    async def _one(self, connection: h11.Connection, stream: TimedStream, head: Head, peer: Peer) -> bool:
        """Answer one request; whether the connection may have another."""
        left = head.length
        while left:
            data = await stream.socket.recv(left)
            connection.receive_data(data)
            left -= len(data) or left
        try:
            event = connection.next_event()
            connection.next_event()
        except h11.RemoteProtocolError as error:
            answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            logger.debug("hub_bad_request", reason=str(error))
            await stream.send_all(answer)
            return False
        request = _request(cast(h11.Request, event), self._proxies, peer)
        request_id = str(uuid.uuid4())
        extra = [*self._extra(request), (b"x-request-id", request_id.encode())]
        started_at = trio.current_time()
        try:
            answer_ = await self._answer(request)
            answer_.headers += extra
        except Problem as problem:
            answer_ = refusal(problem, request_id, extra)
        sent = 0
        try:
            sent = await self._send(connection, stream, answer_, head_only=request.method == "HEAD")
        finally:
            answer_.finish(sent)
            HTTP_REQUESTS.labels("hub", answer_.status).inc()
            logger.debug(
                "hub_request",
                method=request.method,
                path=request.path,
                status=answer_.status,
                range=request.headers.get("range"),
                bytes=sent,
                address=request.peer.address,
                seconds=round(trio.current_time() - started_at, 4),
                request_id=request_id,
            )
        return connection.our_state is h11.DONE and not self._draining

    async def _send(
        self, connection: h11.Connection, stream: TimedStream, answer: Answer, *, head_only: bool
    ) -> int:
        """Send an answer; how many bytes of its body are out. Raises what sockets raise."""
        headers = answer.headers
        if self._draining:
            headers = [*headers, (b"connection", b"close")]
        response = h11.Response(status_code=answer.status, headers=headers)
        first = connection.send(response) or b""
        body = answer.body
        sent = 0
        if head_only or answer.status in (204, 304):
            await stream.send_all(first)
        elif isinstance(body, Span):
            # h11 only counts; the bytes themselves never come to Python
            if body.length:
                connection.send_with_data_passthrough(h11.Data(data=cast(Any, _Counted(body.length))))
            await stream.send_all(first)
            return await self._send_file(connection, stream, body)
        else:
            connection.send_with_data_passthrough(h11.Data(data=body))
            await stream.send_all(first + body if len(body) < WINDOW_BYTES else first)
            if len(body) >= WINDOW_BYTES:
                await stream.send_all(body)
            sent = len(body)
        connection.send(h11.EndOfMessage())
        return sent

    async def _send_file(self, connection: h11.Connection, stream: TimedStream, span: Span) -> int:
        sock = stream.socket
        offset, end = span.start, span.start + span.length
        try:
            while offset < end:
                count = min(end - offset, WINDOW_BYTES)
                if not _in_memory(span.descriptor, offset, count):
                    await trio.to_thread.run_sync(
                        _read_ahead, span.descriptor, offset, count, limiter=self._disk
                    )
                stop = offset + count
                while offset < stop:
                    try:
                        sent = os.sendfile(sock.fileno(), span.descriptor, offset, stop - offset)
                    except BlockingIOError:
                        with trio.move_on_after(self._write_seconds) as limit:
                            await trio.lowlevel.wait_writable(sock)
                        if limit.cancelled_caught:
                            return offset - span.start
                        continue
                    if sent == 0:
                        # the file was cut; the client sees an answer that is too short
                        return offset - span.start
                    offset += sent
                await trio.lowlevel.checkpoint()
        except OSError:
            return offset - span.start
        connection.send(h11.EndOfMessage())
        return span.length


class _Counted:
    """Stands for bytes that h11 is to count."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length


def _in_memory(descriptor: int, offset: int, count: int) -> bool:
    """Whether the first and the last byte of a part can be had without waiting for the disk."""
    if not NOWAIT:
        return False
    byte = bytearray(1)
    try:
        for place in (offset, offset + count - 1):
            os.preadv(descriptor, [byte], place, NOWAIT)
    except OSError:
        # it is not there yet, or this file system cannot tell
        return False
    return True


def _read_ahead(descriptor: int, offset: int, count: int) -> None:
    os.pread(descriptor, count, offset)


def _bare(head: Head) -> bool:
    """Whether a request has nothing after its head, and asks for nothing special."""
    return not any(
        name in (b"transfer-encoding", b"expect", b"upgrade") or (name == b"content-length" and value != b"0")
        for name, value in head.headers
    )


def _request(event: h11.Request, proxies: TrustedProxies, peer: Peer) -> Request:
    path, _, query = event.target.decode("ascii").partition("?")
    headers: dict[str, str] = {}
    for raw_name, raw_value in event.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Request(
        event.method.decode("ascii"), path, query, headers, proxies.behind(peer, list(event.headers))
    )
