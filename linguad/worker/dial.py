"""Dialling in to a scheduler."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import trio
from trio_websocket import WebSocketConnection, wrap_client_stream

from linguad.errors import LinguadError
from linguad.net.stream import TimedStream
from linguad.net.websocket import MESSAGE_QUEUE_SIZE, RECEIVE_BUFFER_BYTES

MAX_MESSAGE_BYTES = 100 << 20
"""Receive limit of real nodes (node-protocol 1)."""

WRITE_SECONDS = 10.0
"""A scheduler that takes not one byte for so long is gone."""

Dial = Callable[[trio.Nursery], Awaitable[WebSocketConnection]]
"""Opens a connection that lives in the nursery given. Raises OSError, HandshakeError, BrokenResourceError."""


def dial(url: str) -> Dial:
    """How to reach a scheduler at a `ws://` or `wss://` address. Raises LinguadError if it is none."""
    try:
        parts = urlsplit(url)
        tls = {"ws": False, "wss": True}[parts.scheme]
        host, port = parts.hostname, parts.port or (443 if tls else 80)
    except (KeyError, ValueError):
        host = None
    if not host:
        raise LinguadError(f"{url} is not an address like ws://127.0.0.1:5010/ws/node")
    server, resource = host, (parts.path or "/") + (parts.query and f"?{parts.query}")

    async def connect(nursery: trio.Nursery) -> WebSocketConnection:
        stream: trio.abc.Stream = TimedStream(await trio.open_tcp_stream(server, port), WRITE_SECONDS)
        nursery.start_soon(_close_at_end, stream)
        if tls:
            stream = await _secure(stream, server)
        return await wrap_client_stream(
            nursery,
            stream,  # type: ignore[arg-type] # any stream will do
            parts.netloc.rpartition("@")[2],
            resource,
            message_queue_size=MESSAGE_QUEUE_SIZE,
            max_message_size=MAX_MESSAGE_BYTES,
            receive_buffer_size=RECEIVE_BUFFER_BYTES,
        )

    return connect


async def _secure(stream: trio.abc.Stream, host: str) -> trio.abc.Stream:
    context = ssl.create_default_context()
    secured = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    await secured.do_handshake()
    return secured


async def _close_at_end(stream: trio.abc.Stream) -> None:
    """Close the stream when its nursery is cancelled, however far the connection came."""
    try:
        await trio.sleep_forever()
    finally:
        await trio.aclose_forcefully(stream)
