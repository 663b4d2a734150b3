"""Large request bodies, read by their view and at its pace (resolution 45).

Quart reads a body as fast as it comes and keeps all of it until the view asks, so on some paths it is given
an empty one. The view reads the real one by `body_of`, a message of the server at a time: what it does not
read stays in the socket, and the client waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import trio
from hypercorn.typing import ASGIFramework

from linguad.net.outbox import Budget
from linguad.web.problems import Problem

_BODY = "linguad.body"
"""Key of the ASGI scope under which the body is found."""

LINGER_SECONDS = 5.0
"""How long a client that is still sending gets to read an answer that came early. Closing at once would reset
the connection, and the client would never see why it was refused."""

LINGER_BYTES = 64 * 1024 * 1024
"""How much of its body is thrown away meanwhile."""

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Body:
    """The body of one request; to be read once, by one task. Mutable: how far it was read.

    What its reader got counts against the memory of all connections until the request ends.
    """

    def __init__(self, receive: Receive, budget: Budget) -> None:
        self._receive = receive
        self._budget = budget
        self._held_bytes = 0
        self._left = False
        self._ended = trio.Event()

    @property
    def complete(self) -> bool:
        """Whether nothing is left to read: the end has come, or the client has gone."""
        return self._ended.is_set()

    def __aiter__(self) -> Body:
        """The pieces as they come."""
        return self

    async def __anext__(self) -> bytes:
        """The next piece. Raises Problem 499 if the client goes away before the end, 503 without memory."""
        while not self.complete:
            if self._budget.over:
                message = "The server is short of memory; try again in a moment."
                raise Problem(503, "no_capacity", message, headers={"Retry-After": "5"})
            if piece := await self.read():
                self._held_bytes += len(piece)
                self._budget.take(len(piece))
                return piece
        if self._left:
            raise Problem(499, "client_closed_request", "The client has closed the connection.")
        raise StopAsyncIteration

    async def read(self) -> bytes:
        """The next piece, which may be empty; the last one makes the body complete."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._left = True
            self._ended.set()
            return b""
        if not message.get("more_body", False):
            self._ended.set()
        return bytes(message.get("body", b""))

    def release(self) -> None:
        """The request has ended, and nothing is held of it."""
        self._budget.give(self._held_bytes)
        self._held_bytes = 0

    async def wait_gone(self) -> None:
        """Return when the client has gone, as far as that is told: not before the body is complete."""
        await self._ended.wait()
        while not self._left:
            self._left = (await self._receive())["type"] == "http.disconnect"


class LargeBodies:
    """Stands in front of a Quart app; requests for `paths` keep their bodies to themselves."""

    def __init__(
        self,
        app: ASGIFramework,
        paths: Collection[str],
        budget: Budget,
        *,
        linger_seconds: float = LINGER_SECONDS,
    ) -> None:
        """What is read counts against `budget`."""
        self._app = app
        self._budget = budget
        self._paths = frozenset(paths)
        self._linger_seconds = linger_seconds

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] != "http" or (scope["path"].rstrip("/") or "/") not in self._paths:
            await self._app(scope, receive, send)
            return
        body = Body(receive, self._budget)
        told = False

        async def receive_nothing() -> Any:
            nonlocal told
            if not told:
                told = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await body.wait_gone()
            return {"type": "http.disconnect"}

        async def send_and_linger(message: Any) -> None:
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if not last or body.complete:
                await send(message)
                return
            # The connection is closed by the end of the answer, so that is held back while the client sends.
            if message.get("body"):
                await send({**message, "more_body": True})
            with trio.move_on_after(self._linger_seconds):
                await _drop(body)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        seen: Any = {**scope, _BODY: body}
        try:
            await self._app(seen, receive_nothing, send_and_linger)
        finally:
            body.release()


def body_of(scope: Mapping[str, Any]) -> Body:
    """The body of a request by its ASGI scope (Quart: `request.scope`). Raises KeyError on other paths."""
    body: Body = scope[_BODY]
    return body


async def _drop(body: Body) -> None:
    dropped = 0
    while not body.complete and dropped < LINGER_BYTES:
        dropped += len(await body.read())
