"""The front door: one accept loop per address, a look at the request head, and a route to who serves it.

Sockets whose path is known get the untouched stream; every other request goes to the HTTP handler, which
keeps the connection. Until its head is complete a connection is only looked at (MSG_PEEK), costs no more than
one task, and is cut after `head_seconds` (resolutions 1).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import trio

from linguad import log
from linguad.metrics import FRONT_CONNECTIONS
from linguad.net.head import BadHead, parse_head
from linguad.net.peek import Gone, peek
from linguad.net.peer import Peer, TrustedProxies, parse_proxy_header
from linguad.net.stream import TimedStream
from linguad.net.supervise import guarded

SocketHandler = Callable[[trio.SocketStream, Peer], Awaitable[object]]
"""Serves one connection to its end; the front door closes the stream afterwards."""

ACCEPT_PAUSE_SECONDS = 0.1
"""Pause after an accept that failed for want of descriptors or memory, which only time can cure."""

REFUSAL_SECONDS = 1.0
"""How long a connection is kept to hand over the sentence that refuses it."""

KEEPALIVE_IDLE_SECONDS = 60
KEEPALIVE_INTERVAL_SECONDS = 20
KEEPALIVE_PROBES = 3
"""TCP keep-alive finds dead peers of links that must not be pinged, two minutes after their last sign."""

_OVERLOADED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)

logger = log.get(__name__)


@dataclass(frozen=True, slots=True)
class FrontSettings:
    """Limits of the front door; sizes in bytes, times in seconds."""

    proxies: TrustedProxies = field(default_factory=TrustedProxies)
    head_bytes: int = 16 * 1024
    head_seconds: float = 10.0
    max_heads: int = 2048
    """Connections without a complete head; the oldest is cut for a new one: idlers keep nobody out."""


class Front:
    """One port: who asks for one of the paths of `sockets` by an upgrade goes there, all others to `http`."""

    def __init__(
        self,
        name: str,
        sockets: Mapping[str, SocketHandler],
        http: SocketHandler,
        settings: FrontSettings | None = None,
    ) -> None:
        self._name = name
        self._sockets = sockets
        self._http = http
        self._settings = settings or FrontSettings()
        self._looking: dict[trio.CancelScope, None] = {}

    async def serve(
        self,
        listeners: Sequence[trio.SocketListener],
        connections: trio.Nursery,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept until cancelled; then the listeners are closed and heads that are incomplete are cut.

        Connections live on in the nursery `connections`.
        """
        try:
            async with trio.open_nursery() as nursery:
                for listener in listeners:
                    nursery.start_soon(self._accept, listener, connections)
                task_status.started()
        finally:
            for listener in listeners:
                listener.socket.close()
            for scope in tuple(self._looking):
                scope.cancel()

    async def _accept(self, listener: trio.SocketListener, connections: trio.Nursery) -> None:
        overloaded = False
        # Accepted sockets inherit it, which spares each of them four calls.
        _keep_alive(listener.socket)
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in _OVERLOADED:
                    raise
                if not overloaded:
                    logger.warning("accept_overloaded", port=self._name, reason=error.strerror)
                overloaded = True
                await trio.sleep(ACCEPT_PAUSE_SECONDS)
            else:
                overloaded = False
                connections.start_soon(guarded, "front", self._serve, stream)

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            chosen = await self._choose(stream)
            if chosen is not None:
                handler, peer = chosen
                await handler(stream, peer)
        finally:
            await trio.aclose_forcefully(stream)

    async def _choose(self, stream: trio.SocketStream) -> tuple[SocketHandler, Peer] | None:
        """Look at the head and choose; None if there is nothing to serve."""
        route, chosen = "slow", None
        if len(self._looking) >= self._settings.max_heads:
            next(iter(self._looking)).cancel()
        scope = trio.CancelScope(deadline=trio.current_time() + self._settings.head_seconds)
        self._looking[scope] = None
        with scope:
            try:
                route, chosen = await self._look(stream)
            except BadHead as error:
                route = error.route
                await _refuse(stream, error)
            except (Gone, OSError):
                route = "gone"
        if scope.cancelled_caught and trio.current_time() < scope.deadline:
            route = "cut"
        del self._looking[scope]
        FRONT_CONNECTIONS.labels(self._name, route).inc()
        return chosen

    async def _look(self, stream: trio.SocketStream) -> tuple[str, tuple[SocketHandler, Peer]]:
        sock = stream.socket
        address, port = sock.getpeername()[:2]
        peer = self._settings.proxies.peer(address, port)
        if peer.trusted:
            peer = await self._take_proxy_header(stream, peer)
        head = await peek(sock, parse_head, self._settings.head_bytes)
        handler = self._sockets.get(head.path) if head.wants_websocket else None
        if handler is None:
            return "http", (self._http, peer)
        return head.path, (handler, self._settings.proxies.behind(peer, head.headers))

    async def _take_proxy_header(self, stream: trio.SocketStream, peer: Peer) -> Peer:
        try:
            header = await peek(stream.socket, parse_proxy_header, self._settings.head_bytes)
        except BadHead:
            raise
        except ValueError as error:
            raise BadHead("bad_proxy", "400 Bad Request", "The PROXY header is malformed.") from error
        left = header.length
        while left:
            left -= len(await stream.socket.recv(left)) or left
        return header.apply(peer, self._settings.proxies)


def _keep_alive(sock: trio.socket.SocketType) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


async def _refuse(stream: trio.SocketStream, error: BadHead) -> None:
    text = f"{error}\n"
    answer = (
        f"HTTP/1.1 {error.status}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}"
    )
    timed = TimedStream(stream, REFUSAL_SECONDS)
    try:
        await timed.send_all(answer.encode())
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return
    await timed.drain(REFUSAL_SECONDS)
