"""HTTP on accepted connections: one ASGI app behind Hypercorn's connection code, HTTP/1.1 only."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Collection
from typing import Any, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Event
from hypercorn.logging import Logger
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState, ResponseSummary, Scope, WWWScope

from linguad import log
from linguad.metrics import HTTP_REQUESTS
from linguad.net.peer import Peer, TrustedProxies
from linguad.net.stream import TimedStream

PEER = "linguad.peer"
"""Key of the ASGI scope under which an app finds the `Peer` of a request."""

HEAD_BYTES = 16 * 1024
"""Longest request head, as at the front door."""

KEEP_ALIVE_SECONDS = 75
"""How long a connection may be idle; longer than nginx keeps its upstreams (60 s), so that nginx closes."""

READ_SECONDS = 600
"""A client that sends nothing for so long is cut, also while it waits: the longest answer takes 150 s."""

MOST_REQUESTS = 2**31
"""Requests of one connection: proxies keep theirs for ever, and to close one under them fails a request."""

WRITE_SECONDS = 30.0
"""A client that takes nothing for so long is cut; Hypercorn alone would wait for ever (trap T7)."""

LIFESPAN_SECONDS = 10.0
"""Limit of the start-up of an app, and of its shut-down."""

Send = Callable[[Any], Awaitable[None]]
logger = log.get(__name__)


class HttpApp:
    """Serves one ASGI app on connections that the front door hands over."""

    def __init__(
        self,
        name: str,
        app: ASGIFramework,
        proxies: TrustedProxies | None = None,
        socket_paths: Collection[str] = (),
        *,
        keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
        write_seconds: float = WRITE_SECONDS,
    ) -> None:
        self._app = ASGIWrapper(app)
        self._proxies = proxies or TrustedProxies()
        self._socket_paths = frozenset(socket_paths)
        self._write_seconds = write_seconds
        self._config = _Config(name, keep_alive_seconds)
        self._context = WorkerContext(None)
        self._state: dict[str, Any] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start the app, say so, and when cancelled let it shut down. Raises what its start-up raises."""
        lifespan = Lifespan(self._app, self._config, self._state)
        # The app's own task outlives the cancellation, or its shut-down could not run (trap T9).
        shield = trio.CancelScope(shield=True)

        async def live() -> None:
            with shield:
                await lifespan.handle_lifespan()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(live)
            try:
                await lifespan.wait_for_startup()
                # Where the start-up failed, we are cancelled by now.
                await trio.lowlevel.checkpoint()
                task_status.started()
                await trio.sleep_forever()
            finally:
                if not lifespan.shutdown.is_set():
                    with trio.move_on_after(LIFESPAN_SECONDS, shield=True):
                        await lifespan.wait_for_shutdown()
                shield.cancel()

    async def serve(self, stream: trio.SocketStream, peer: Peer) -> None:
        """Serve one connection to its end; a `SocketHandler` of the front door."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_close_when_cancelled, stream)
            server = _Server(
                _Gate(self._app, peer, self._proxies, self._socket_paths),
                self._config,
                self._context,
                ConnectionState(self._state.copy()),
                cast("trio.SSLStream[trio.SocketStream]", TimedStream(stream, self._write_seconds)),
            )
            server.when_gone = nursery.cancel_scope.cancel
            await server.run()
            nursery.cancel_scope.cancel()

    async def drain(self) -> None:
        """Close idle connections now, and the others as soon as their answer is out."""
        await self._context.terminated.set()


async def _close_when_cancelled(stream: trio.SocketStream) -> None:
    # Hypercorn shields its writes; closing the socket under them is what ends them.
    try:
        await trio.sleep_forever()
    finally:
        stream.socket.close()


class _Server(TCPServer):
    """Hypercorn's connection, ended when its client has gone; the original first sits out the idle time."""

    when_gone: Callable[[], object]

    async def protocol_send(self, event: Event) -> None:
        # Quart-Trio cancels a request as soon as its answer is out, while Hypercorn still arms the idle timer
        # or closes the connection; without the shield neither would happen.
        with trio.CancelScope(shield=True):
            await super().protocol_send(event)

    async def _read_data(self) -> None:
        await super()._read_data()
        self.when_gone()


class _Config(Config):
    include_server_header = False
    errorlog = None
    h11_max_incomplete_size = HEAD_BYTES
    keep_alive_max_requests = MOST_REQUESTS
    read_timeout = READ_SECONDS
    startup_timeout = LIFESPAN_SECONDS
    shutdown_timeout = LIFESPAN_SECONDS

    def __init__(self, name: str, keep_alive_seconds: float) -> None:
        self.name = name
        self.keep_alive_timeout = keep_alive_seconds
        self.logger_class = _Log


class _Log(Logger):
    """Turns what Hypercorn says into our events; a request is counted and told on level debug only."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._name = cast(_Config, config).name

    async def access(self, request: WWWScope, response: ResponseSummary | None, request_time: float) -> None:
        status = response["status"] if response else "none"
        HTTP_REQUESTS.labels(self._name, status).inc()
        client = request["client"]
        logger.debug(
            "http_request",
            app=self._name,
            method=request.get("method"),
            path=request["path"],
            status=status,
            address=client[0] if client else None,
            seconds=round(request_time, 4),
        )

    async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:
        logger.error("http_crashed", app=self._name, exc_info=True)

    async def warning(self, message: str, *args: Any, **kwargs: Any) -> None:
        logger.warning("http_warning", app=self._name, reason=message)


class _Gate:
    """Stands before the app on one connection: says who the client is and refuses what only sockets serve."""

    def __init__(
        self, app: ASGIWrapper, peer: Peer, proxies: TrustedProxies, socket_paths: frozenset[str]
    ) -> None:
        self._app = app
        self._peer = peer
        self._proxies = proxies
        self._socket_paths = socket_paths

    async def __call__(
        self,
        scope: Scope,
        receive: Callable[[], Awaitable[Any]],
        send: Send,
        sync_spawn: Callable[..., Any],
        call_soon: Callable[..., Any],
    ) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send, sync_spawn, call_soon)
        elif scope["http_version"] not in ("1.0", "1.1"):
            await _refuse(scope, send, 505, "http_version_not_supported", "Only HTTP/1.1 is spoken here.")
        elif scope["path"] in self._socket_paths or scope["path"].startswith("/ws/"):
            # Too late for an upgrade on this connection: Hypercorn has it, the front door does not see it.
            message = "This is a WebSocket; ask for it as the first request of a connection."
            upgrade = [(b"upgrade", b"websocket"), (b"connection", b"close")]
            await _refuse(scope, send, 426, "upgrade_required", message, upgrade)
        elif scope["type"] == "websocket":
            await _refuse(
                scope, send, 404, "not_found", "There is no WebSocket here.", [(b"connection", b"close")]
            )
        else:
            # On one connection of a proxy each request may come from another client.
            peer = self._proxies.behind(self._peer, scope["headers"])
            seen = {**scope, "client": (peer.address, peer.port), "scheme": peer.scheme, PEER: peer}
            await self._app(cast(Scope, seen), receive, send, sync_spawn, call_soon)


async def _refuse(
    scope: Scope,
    send: Send,
    status: int,
    code: str,
    message: str,
    headers: Collection[tuple[bytes, bytes]] = (),
) -> None:
    request_id = str(uuid.uuid4())
    error = {
        "code": code,
        "message": message,
        "status": status,
        "request_id": request_id,
        "retryable": False,
    }
    body = json.dumps({"error": error}).encode()
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    own = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
    ]
    await send({"type": f"{kind}.start", "status": status, "headers": [*own, *headers]})
    await send({"type": f"{kind}.body", "body": body})
