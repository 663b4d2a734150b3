"""The handshake of a WebSocket, and who is let in: decided before 101 (gateway 3.2, 6.1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, wrap_server_stream

from linguad.net.lane import Lane
from linguad.net.peer import Peer
from linguad.net.stream import TimedStream

RECEIVE_BUFFER_BYTES = 64 * 1024
"""Bytes per read; the library's 4 KiB made a 400 KB message 1.7 times as dear (design 5.2)."""

MESSAGE_QUEUE_SIZE = 2
"""Messages the library may have read ahead of the handler; each may have the full size (resolutions 7)."""

BAD_HANDSHAKE, REFUSED = "bad_handshake", "refused"
"""Why there is no connection, for metrics."""


@dataclass(frozen=True, slots=True)
class UpgradeRequest:
    """What a client asks for and says of itself; everything in it may be a lie."""

    path: str
    """Without the query."""
    query: str
    headers: tuple[tuple[bytes, bytes], ...]
    """Names in lower case; those of the handshake that say nothing of the client are left out."""
    subprotocols: tuple[str, ...]
    peer: Peer

    def header(self, name: str) -> list[str]:
        """All values of a header, in order."""
        wanted = name.lower().encode()
        return [value.decode("latin-1").strip() for known, value in self.headers if known == wanted]

    def argument(self, name: str) -> list[str]:
        """All values of an argument in the query, empty ones as well."""
        try:
            arguments = parse_qs(self.query, keep_blank_values=True, max_num_fields=100)
        except ValueError:
            return []
        return arguments.get(name, [])


@dataclass(frozen=True, slots=True)
class Welcome:
    """Let it in. `visitor` is what its handler is to know, and becomes `Link.visitor`."""

    visitor: object = None
    subprotocol: str | None = None
    """The one of those offered that is spoken."""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Answer with an HTTP error instead."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = field(default=(("Content-Type", "application/json"),))


Doorman = Callable[[UpgradeRequest], Awaitable[Welcome | Refusal]]
"""Decides about an upgrade request, soon."""


async def shake_hands(
    nursery: trio.Nursery,
    stream: TimedStream,
    lane: Lane,
    peer: Peer,
    doorman: Doorman | None,
    max_message_bytes: int,
    seconds: float,
) -> tuple[WebSocketConnection, object] | str:
    """The accepted connection and its visitor, else why there is none; it may take so many `seconds`.

    `lane` is how the library sees `stream`. Without a doorman everybody is let in. On a bad upgrade the
    library neither returns nor raises.
    """
    with trio.move_on_after(seconds) as patience:
        # The library closes the stream of a bad upgrade itself; there is no need to wait any longer then.
        stream.when_closed(patience.cancel)
        try:
            request = await wrap_server_stream(
                nursery,
                lane,
                message_queue_size=MESSAGE_QUEUE_SIZE,
                max_message_size=max_message_bytes,
                receive_buffer_size=RECEIVE_BUFFER_BYTES,
            )
            if doorman is None:
                return await request.accept(), None
            return await _answer(request, peer, doorman)
        except ConnectionClosed:
            return BAD_HANDSHAKE
    return BAD_HANDSHAKE


async def _answer(
    request: WebSocketRequest, peer: Peer, doorman: Doorman
) -> tuple[WebSocketConnection, object] | str:
    path, _, query = request.path.partition("?")
    # the library takes these two out of the headers, and shows only one of them
    offered = request.proposed_subprotocols
    headers = (*request.headers, (b"host", request._event.host.encode("latin-1", "replace")))
    if offered:
        headers = (*headers, (b"sec-websocket-protocol", ", ".join(offered).encode("latin-1", "replace")))
    decision = await doorman(UpgradeRequest(path, query, headers, offered, peer))
    if isinstance(decision, Welcome):
        connection = await request.accept(
            subprotocol=decision.subprotocol, extra_headers=_raw(decision.headers)
        )
        return connection, decision.visitor
    closing = (*decision.headers, ("Connection", "close"))
    await request.reject(decision.status, extra_headers=_raw(closing), body=decision.body)
    return REFUSED


def _raw(headers: tuple[tuple[str, str], ...]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
