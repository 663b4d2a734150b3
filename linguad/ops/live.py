"""`GET /api/v1/live`: the overview once a second, as server-sent events, made once for all who listen."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

import msgspec
import trio
from quart import Response, request
from quart_trio import QuartTrio

from linguad import log, metrics
from linguad.ops.viewers import Viewers
from linguad.web.app import error_body

MAX_LISTENERS = 64
"""Dashboards and terminals at once; each costs some KB a second."""

RETRY_MS = 2000
"""How soon a browser connects again when the stream ended, which it does after ten minutes at the latest."""

logger = log.get(__name__)


class Live:
    """Mutable state: the last event, and who waits for the next one."""

    def __init__(self, tell: Callable[[], object]) -> None:
        """`tell` makes what is told, which is encoded as JSON."""
        self._tell = tell
        self._next = trio.Event()
        self._event = b""
        self._number = 0
        self.listeners = 0
        self.closed = False
        metrics.LIVE_LISTENERS.set_function(lambda: self.listeners)

    def tick(self) -> None:
        """A second has passed: those who listen get the next event."""
        if self.listeners:
            try:
                self._make()
            except Exception as error:
                logger.error("live_failed", exc_info=error)
                return
            self._wake()

    def close(self) -> None:
        """The daemon stops: every stream ends."""
        self.closed = True
        self._wake()

    async def follow(self) -> AsyncGenerator[bytes, None]:
        """The events from now on, at once the newest one. A slow listener misses some."""
        self.listeners += 1
        try:
            if self.listeners == 1 or not self._event:
                self._make()
            seen = self._number
            yield b"retry: %d\n\n" % RETRY_MS + self._event
            while not self.closed:
                if seen == self._number:
                    await self._next.wait()
                else:
                    seen = self._number
                    yield self._event
        finally:
            self.listeners -= 1

    def _make(self) -> None:
        body = msgspec.json.encode(self._tell())
        self._number += 1
        self._event = b"id: %d\nevent: overview\ndata: %b\n\n" % (self._number, body)

    def _wake(self) -> None:
        awaited, self._next = self._next, trio.Event()
        awaited.set()


def add_live_route(app: QuartTrio, live: Live, viewers: Viewers) -> None:
    """Serve the stream on an app."""

    @app.get("/api/v1/live")
    @viewers.only
    async def follow() -> Response:
        if live.closed:
            return error_body("draining", "This instance is ending; ask another one.", 503)
        if live.listeners >= MAX_LISTENERS:
            answer = error_body("too_many_listeners", f"Only {MAX_LISTENERS} may listen; close another.", 503)
            answer.headers["Retry-After"] = "10"
            return answer
        if request.method == "HEAD":
            return Response(b"", content_type="text/event-stream")
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        response = Response(live.follow(), content_type="text/event-stream", headers=headers)
        response.timeout = None
        return response
