"""Files straight from the disk to the socket, and lists straight from memory (resolution 46).

A connection stays here as long as it asks for what `wants` likes, in requests without a body or anything
unusual; its first other request goes, unread, to the HTTP app, which keeps the connection. So nothing but
plain heads has to be understood here, and a thousand nodes that ask for the list cost little.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable
from http import HTTPStatus

import trio

from linguad import log
from linguad.hub.answers import Answer, Answerer, Lines, Request, Span, refusal
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

_SPECIAL = (b"transfer-encoding", b"expect", b"upgrade")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_STATUS_LINES = {
    int(status): b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in HTTPStatus
}

logger = log.get(__name__)


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
            if not self._wants(head) or not _plain(head):
                await self._http(stream, peer)
                return
            try:
                if not await self._one(timed, head, peer):
                    if not _says_close(head):
                        await timed.drain(GOODBYE_SECONDS)
                    return
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                return

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

    async def _one(self, stream: TimedStream, head: Head, peer: Peer) -> bool:
        """Answer one request; whether the connection may have another."""
        # It is there, because it has been looked at.
        os.read(stream.socket.fileno(), head.length)
        request = _request(head, self._proxies.behind(peer, head.headers))
        request_id = str(uuid.uuid4())
        extra = [*self._extra(request), (b"x-request-id", request_id.encode())]
        started_at = trio.current_time()
        try:
            answer = await self._answer(request)
            answer.headers += extra
        except Problem as problem:
            answer = refusal(problem, request_id, extra)
        goes_on = not self._draining and head.minor > 0 and not _says_close(head)
        if not goes_on:
            answer.headers.append((b"connection", b"close"))
        sent, whole = 0, False
        try:
            sent, whole = await self._send(stream, answer, head_only=request.method == "HEAD")
        finally:
            answer.finish(sent)
            HTTP_REQUESTS.labels("hub", answer.status).inc()
            logger.debug(
                "hub_request",
                method=request.method,
                path=request.path,
                status=answer.status,
                range=request.headers.get("range"),
                bytes=sent,
                address=request.peer.address,
                seconds=round(trio.current_time() - started_at, 4),
                request_id=request_id,
            )
        return goes_on and whole and not self._draining

    async def _send(self, stream: TimedStream, answer: Answer, *, head_only: bool) -> tuple[int, bool]:
        """Send an answer; how many bytes of its body are out, and whether those are all.

        Raises what sockets raise.
        """
        lines = [b"%s: %s\r\n" % line for line in answer.headers]
        first = b"".join((_STATUS_LINES[answer.status], *lines, b"\r\n"))
        body = answer.body
        if head_only or answer.status in (204, 304):
            await stream.send_all(first)
            return 0, True
        if isinstance(body, Span):
            await stream.send_all(first)
            sent = await self._send_file(stream, body)
            return sent, sent == body.length
        if len(body) < WINDOW_BYTES:
            await stream.send_all(first + body)
        else:
            await stream.send_all(first)
            await stream.send_all(body)
        return len(body), True

    async def _send_file(self, stream: TimedStream, span: Span) -> int:
        """Send a part of a file; how many bytes are out before the client or the file ended."""
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
        return span.length


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


def _plain(head: Head) -> bool:
    """Whether a request ends with its head, is well formed and asks for nothing special."""
    hosts = 0
    for name, value in head.headers:
        if name in _SPECIAL or (name == b"content-length" and value != b"0") or not _TOKEN.fullmatch(name):
            return False
        hosts += name == b"host"
    return hosts == 1 or (hosts == 0 and head.minor == 0)


def _says_close(head: Head) -> bool:
    """Whether the client promises to ask for nothing more."""
    return any(name == b"connection" and b"close" in value.lower() for name, value in head.headers)


def _request(head: Head, peer: Peer) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in head.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Request(head.method, head.path, head.query, headers, peer)
