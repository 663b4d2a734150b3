"""An HTTP/1.1 client: one request on one connection, with a limit on everything a server could drag out.

No redirect is followed, no proxy is asked and no connection is kept: who calls for somebody else (webhooks)
must go exactly where the guard has looked, and who downloads decides himself what a redirect is worth.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache
from math import inf
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import h11
import trio

from linguad import __version__
from linguad.errors import LinguadError
from linguad.net.guard import Guard, resolve
from linguad.net.stream import TimedStream

HEAD_BYTES = 64 * 1024
"""Longest head of an answer."""

READ_BYTES = 64 * 1024
"""Most bytes taken from the connection at a time."""

Kind = Literal["url", "connect", "tls", "timeout", "protocol", "too_big"]
Stream = TimedStream | trio.SSLStream[TimedStream]

_PLAIN = re.compile(r"[!-~]+")


class HttpError(LinguadError):
    """A request came to no usable answer; `kind` says at which step. The text names no path and no query."""

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Url(NamedTuple):
    """What an http:// or https:// URL stands for."""

    tls: bool
    host: str
    """In ASCII, without brackets."""
    port: int
    authority: str
    """The value of the Host header."""
    resource: str
    """Path and query."""

    @property
    def site(self) -> str:
        """The URL without path and query, which may hold keys, for messages."""
        return f"{'https' if self.tls else 'http'}://{self.authority}"


class Limits(NamedTuple):
    """What one request may take at most."""

    connect_seconds: float = 10.0
    """Name, TCP and TLS together."""
    headers_seconds: float = 30.0
    """From the end of the request to the head of the answer."""
    idle_seconds: float = 30.0
    """A server that takes or sends nothing for so long has failed."""
    whole_seconds: float = inf
    """From the start to the last byte that is read."""
    body_bytes: float = 16 * 2**20
    """Length of the answer's body."""


LIMITS = Limits()
"""What suits most requests."""


class Response:
    """The answer to a request; its body comes in parts, as fast as it is asked for (`async for`)."""

    def __init__(self, wire: _Wire, head: h11.Response, body_bytes: float) -> None:
        self._wire = wire
        self._most = body_bytes
        self._count = 0
        self._site = wire.site
        self.status: int = head.status_code
        self.headers: dict[str, str] = {}
        """By names in lower case; what came several times is joined by commas."""
        for name, value in head.headers:
            key, text = name.decode("ascii"), value.decode("latin-1")
            self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def __aiter__(self) -> Response:
        """The parts of the body, once."""
        return self

    async def __anext__(self) -> bytes:
        """The next part. Raises HttpError if the body is cut, too slow or too long."""
        part = await self._wire.part()
        if not part:
            raise StopAsyncIteration
        self._count += len(part)
        if self._count > self._most:
            raise HttpError("too_big", f"{self._site} sent more than the {self._most:g} bytes it may send")
        return part

    async def read(self) -> bytes:
        """The whole body. Raises HttpError as the parts do."""
        return b"".join([part async for part in self])

    async def start(self, most: int) -> bytes:
        """The first `most` bytes of the body, or all; the rest is not waited for. Raises HttpError."""
        begun = bytearray()
        while len(begun) < most and (part := await self._wire.part()):
            begun += part
        return bytes(begun[:most])


@asynccontextmanager
async def request(
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | AsyncIterable[bytes] = b"",
    body_bytes: int | None = None,
    guard: Guard | None = None,
    tls: ssl.SSLContext | None = None,
    limits: Limits = LIMITS,
) -> AsyncGenerator[Response]:
    """Send a request and give its answer; the connection is closed at the end of the block.

    A `body` in parts goes out chunked unless its length `body_bytes` is told. With a `guard` only addresses
    it allows are called. `tls` replaces the system's certificate authorities. Any status is an answer, also
    a redirect or an error. Raises HttpError, and AddressRefused for a host that must not be or cannot be
    found.
    """
    target = parse(url)
    deadline = trio.current_time() + limits.whole_seconds
    stream = await _connect(
        target, guard, tls, min(deadline, trio.current_time() + limits.connect_seconds), limits
    )
    try:
        wire = _Wire(stream, target.site, limits, deadline)
        await wire.send(_head(method, target, headers or {}, body, body_bytes), body)
        yield Response(wire, await wire.head(), limits.body_bytes)
    finally:
        await trio.aclose_forcefully(stream)


def parse(url: str) -> Url:
    """The parts of a URL. Raises HttpError of kind `url`."""
    try:
        parts = urlsplit(url)
        tls = {"http": False, "https": True}[parts.scheme]
        host, port = parts.hostname, parts.port or (443 if tls else 80)
    except (KeyError, ValueError) as error:
        raise HttpError("url", "the URL is not one like https://host/path") from error
    # urlsplit silently takes line ends away, with which headers could be made.
    if not _PLAIN.fullmatch(url):
        raise HttpError("url", "the URL has spaces or characters that are not ASCII; percent-encode them")
    if not host:
        raise HttpError("url", "the URL names no host; it is to be one like https://host/path")
    if "@" in parts.netloc:
        raise HttpError("url", "the URL holds a user or password; send them in a header instead")
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Url(tls, host, port, parts.netloc, resource)


@lru_cache(maxsize=1)
def system_tls() -> ssl.SSLContext:
    """Trust in the system's certificate authorities; made once, because that reads all of them."""
    return ssl.create_default_context()


class _Wire:
    """One request and its answer on a connection; mutable state: how far both have come."""

    def __init__(self, stream: Stream, site: str, limits: Limits, deadline: float) -> None:
        self.site = site
        self._stream = stream
        self._limits = limits
        self._deadline = deadline
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)

    async def send(self, head: h11.Request, body: bytes | AsyncIterable[bytes]) -> None:
        """Send the request; a server that stops listening may already have answered, so that is no error."""
        try:
            with self._within(inf, "take the request"):
                if isinstance(body, bytes):
                    await self._stream.send_all(
                        self._framed(head) + self._framed(h11.Data(data=body)) + self._end()
                    )
                    return
                await self._stream.send_all(self._framed(head))
                async for part in body:
                    await self._stream.send_all(self._framed(h11.Data(data=part)))
                await self._stream.send_all(self._end())
        except h11.LocalProtocolError as error:
            raise HttpError("protocol", f"the request to {self.site} cannot be sent: {error}") from error
        except trio.BrokenResourceError as error:
            timed = (
                self._stream.transport_stream if isinstance(self._stream, trio.SSLStream) else self._stream
            )
            if timed.stalled:
                raise HttpError(
                    "timeout", f"{self.site} took nothing for {self._limits.idle_seconds:g} s"
                ) from error

    async def head(self) -> h11.Response:
        """The head of the final answer."""
        with self._within(self._limits.headers_seconds, "answer"):
            while True:
                event = await self._next_event()
                # What may come before it (103 Early Hints) says nothing that we need.
                if isinstance(event, h11.Response):
                    return event

    async def part(self) -> bytes:
        """The next bytes of the body, none at its end."""
        with self._within(self._limits.idle_seconds, "send the rest of its answer"):
            event = await self._next_event()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def _next_event(self) -> object:
        try:
            while True:
                event = self._http.next_event()
                if event is not h11.NEED_DATA:
                    return event
                data = await self._stream.receive_some(READ_BYTES)
                if not data and self._http.their_state is h11.SEND_RESPONSE:
                    raise HttpError("protocol", f"{self.site} closed the connection without an answer")
                self._http.receive_data(bytes(data))
        except h11.RemoteProtocolError as error:
            raise HttpError("protocol", f"{self.site} does not speak HTTP as it should: {error}") from error
        except trio.BrokenResourceError as error:
            raise HttpError("protocol", f"{self.site} broke the connection off") from error

    def _framed(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> bytes:
        return self._http.send(event) or b""

    def _end(self) -> bytes:
        return self._framed(h11.EndOfMessage())

    @contextmanager
    def _within(self, seconds: float, to_do: str) -> Iterator[None]:
        """A step that may last so long, and no longer than the whole request."""
        with trio.move_on_at(min(trio.current_time() + seconds, self._deadline)) as scope:
            yield
        if scope.cancelled_caught:
            whole = trio.current_time() >= self._deadline
            limit = self._limits.whole_seconds if whole else seconds
            raise HttpError("timeout", f"{self.site} did not {to_do} within {limit:g} s")


def _head(
    method: str, target: Url, headers: Mapping[str, str], body: object, body_bytes: int | None
) -> h11.Request:
    fields = {"host": target.authority, "user-agent": f"linguad/{__version__}", "accept-encoding": "identity"}
    fields |= {name.lower(): value for name, value in headers.items()}
    fields["connection"] = "close"
    if isinstance(body, bytes):
        if body or method in ("POST", "PUT", "PATCH"):
            fields["content-length"] = str(len(body))
    elif body_bytes is not None:
        fields["content-length"] = str(body_bytes)
    else:
        fields["transfer-encoding"] = "chunked"
    try:
        return h11.Request(method=method, target=target.resource, headers=list(fields.items()))
    except (h11.LocalProtocolError, UnicodeError) as error:
        raise HttpError("protocol", f"the request to {target.site} cannot be sent: {error}") from error


async def _connect(
    target: Url, guard: Guard | None, tls: ssl.SSLContext | None, deadline: float, limits: Limits
) -> Stream:
    """A connection to the first address that answers, with TLS where the URL asks for it."""
    with trio.move_on_at(deadline) as scope:
        find = resolve if guard is None else guard.resolve
        addresses = await find(target.host, target.port)
        timed = TimedStream(await _dial(target, addresses, deadline), limits.idle_seconds)
        return timed if not target.tls else await _secure(target, timed, tls or system_tls())
    assert scope.cancelled_caught
    seconds = min(limits.connect_seconds, limits.whole_seconds)
    raise HttpError("timeout", f"{target.site} could not be connected within {seconds:g} s")


async def _dial(target: Url, addresses: list[str], deadline: float) -> trio.SocketStream:
    """Try one address after the other; each may use its part of the time that is left."""
    reason = "no answer"
    for tried, address in enumerate(addresses):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = trio.socket.socket(family, socket.SOCK_STREAM)
        left = deadline - trio.current_time()
        try:
            with trio.move_on_after(left / (len(addresses) - tried)):
                await sock.connect((address, target.port))
                return trio.SocketStream(sock)
            reason = "no answer in time"
        except OSError as error:
            reason = error.strerror or str(error)
        except BaseException:
            sock.close()
            raise
        sock.close()
    raise HttpError("connect", f"cannot connect to {target.site} ({', '.join(addresses)}): {reason}")


async def _secure(target: Url, timed: TimedStream, context: ssl.SSLContext) -> trio.SSLStream[TimedStream]:
    """TLS on a connection; the certificate must be one for the name in the URL."""
    secured = trio.SSLStream(timed, context, server_hostname=target.host, https_compatible=True)
    try:
        await secured.do_handshake()
    except trio.BrokenResourceError as error:
        await trio.aclose_forcefully(timed)
        cause = error.__cause__
        if isinstance(cause, ssl.SSLCertVerificationError):
            text = f"the certificate of {target.site} is not accepted: {cause.verify_message}"
        else:
            reason = getattr(cause, "reason", None) or "the connection was closed"
            text = f"no TLS with {target.site}: {reason}"
        raise HttpError("tls", text) from error
    except BaseException:
        await trio.aclose_forcefully(timed)
        raise
    return secured
