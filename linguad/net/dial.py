"""Connect to a WebSocket as a client: one address in, an open connection or one clear sentence out."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from math import inf
from typing import NamedTuple
from urllib.parse import urlsplit

import trio
from trio_websocket import ConnectionRejected, WebSocketConnection, wrap_client_stream
from wsproto.utilities import LocalProtocolError

from linguad.errors import LinguadError
from linguad.net.stream import TimedStream
from linguad.net.upgrade import MESSAGE_QUEUE_SIZE, RECEIVE_BUFFER_BYTES

CLOSE_SECONDS = 5.0
"""How long the peer may take to answer our close frame, s."""


class DialError(LinguadError):
    """No WebSocket answers at the address; the text says which address and what the system reports."""


class AddressError(DialError):
    """The text is no address of a WebSocket."""


class Target(NamedTuple):
    """What a ws:// or wss:// URL stands for."""

    host: str
    port: int
    tls: bool
    authority: str
    """The value of the Host header."""
    resource: str
    """Path and query."""


@asynccontextmanager
async def websocket(
    url: str,
    *,
    connect_seconds: float = 10.0,
    write_seconds: float = inf,
    max_message_bytes: int = 16 * 2**20,
) -> AsyncGenerator[WebSocketConnection]:
    """An open connection to a ws:// or wss:// URL, closed with code 1000 at the end of the block.

    `connect_seconds` is the deadline for TCP, TLS and the upgrade together; a peer that takes nothing for
    `write_seconds` breaks the connection. Raises DialError; what the block itself raises comes out as it is.
    """
    target = parse(url)
    attempt = partial(_attempt, url, connect_seconds, trio.current_time() + connect_seconds)
    ws: WebSocketConnection | None = None
    leaving = False
    try:
        with ungrouped():
            with attempt():
                tcp = await trio.open_tcp_stream(target.host, target.port)
            # The WebSocket library would leave the stream open after a refused upgrade.
            async with TimedStream(tcp, write_seconds) as timed, trio.open_nursery() as nursery:
                with attempt():
                    stream = await _secure(timed, target.host) if target.tls else timed
                    ws = await wrap_client_stream(
                        nursery,
                        stream,  # type: ignore[arg-type] # any stream will do
                        target.authority,
                        target.resource,
                        message_queue_size=MESSAGE_QUEUE_SIZE,
                        max_message_size=max_message_bytes,
                        receive_buffer_size=RECEIVE_BUFFER_BYTES,
                    )
                yield ws
                leaving = True
                with trio.move_on_after(CLOSE_SECONDS):
                    await ws.aclose()
                nursery.cancel_scope.cancel()
    except ConnectionRejected as error:
        if ws is not None:
            raise
        raise DialError(
            f"{url} answered with HTTP status {error.status_code}, not with a WebSocket"
        ) from error
    except LocalProtocolError as error:
        # trio-websocket answers a ping although our close frame is already out.
        if not leaving:
            raise DialError(f"the connection to {url} is closed") from error


def parse(url: str) -> Target:
    """The parts of a WebSocket URL. Raises AddressError."""
    try:
        parts = urlsplit(url)
        tls = {"ws": False, "wss": True}[parts.scheme]
        host, port = parts.hostname, parts.port or (443 if tls else 80)
    except (KeyError, ValueError) as error:
        raise AddressError(f"{url!r} is not an address like ws://host:5010/path") from error
    if not host:
        raise AddressError(f"{url!r} names no host; an address is like ws://host:5010/path")
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(host, port, tls, parts.netloc.rpartition("@")[2], resource)


@contextmanager
def ungrouped() -> Iterator[None]:
    """Let a single error out of a nursery as it went in, for callers who never asked for a nursery."""
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        (error,) = group.exceptions
        context = error.__context__
        try:
            raise error
        finally:
            error.__context__ = context


async def _secure(stream: TimedStream, host: str) -> trio.SSLStream[TimedStream]:
    context = ssl.create_default_context()
    secured = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    await secured.do_handshake()
    return secured


@contextmanager
def _attempt(url: str, seconds: float, deadline: float) -> Iterator[None]:
    """One step of the way to the peer, all of which have the same deadline (trio clock)."""
    try:
        with trio.fail_at(deadline):
            yield
    except trio.TooSlowError:
        raise DialError(f"{url} did not answer as a WebSocket within {seconds:g} s") from None
    except (OSError, trio.BrokenResourceError) as error:
        raise DialError(f"cannot connect to {url}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """What the operating system said, which the libraries wrap two or three times."""
    inner: BaseException | None = error
    text = str(error) or "no connection"
    while inner is not None:
        if isinstance(inner, BaseExceptionGroup):
            inner = inner.exceptions[0]
        elif isinstance(inner, ConnectionError) and inner.errno:
            # Its own text names the address once more.
            return os.strerror(inner.errno)
        elif isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        else:
            inner = inner.__cause__
    return text
