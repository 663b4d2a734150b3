"""A small HTTPS or HTTP server on a loopback port for tests of clients; each connection serves one request.

Certificates are made on the spot, by an authority that only the client's context of a test trusts.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import h11
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Certificate(NamedTuple):
    """TLS contexts of a server and of a client that trusts it."""

    server: ssl.SSLContext
    client: ssl.SSLContext


def make_certificate(folder: Path, names: Sequence[str] = ("localhost",)) -> Certificate:
    """A self-signed certificate for host names and addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "linguad tests")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "certificate.pem"
    path.write_bytes(secret + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return Certificate(server, ssl.create_default_context(cadata=pem.decode()))


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Seen(NamedTuple):
    """One request as the server got it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Exchange:
    """One request being served; `serve` functions answer through it."""

    def __init__(self, stream: trio.abc.Stream, http: h11.Connection, seen: Seen) -> None:
        self.stream = stream
        self.http = http
        self.seen = seen

    async def send(self, *events: h11.Event) -> None:
        for event in events:
            await self.stream.send_all(self.http.send(event) or b"")

    async def answer(self, status: int, body: bytes = b"", headers: Sequence[tuple[str, str]] = ()) -> None:
        fields = [*headers, ("content-length", str(len(body)))]
        await self.send(
            h11.Response(status_code=status, headers=fields), h11.Data(data=body), h11.EndOfMessage()
        )


Serve = Callable[[Exchange], Awaitable[None]]


@asynccontextmanager
async def web_server(
    serve: Serve, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """The port of a server that lives as long as the block."""

    async def talk(plain: trio.SocketStream) -> None:
        stream: trio.abc.Stream = plain
        if tls is not None:
            stream = trio.SSLStream(plain, tls, server_side=True, https_compatible=True)
        http = h11.Connection(h11.SERVER)
        try:
            async with stream:
                await serve(Exchange(stream, http, await receive(stream, http)))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host=host)
        nursery.start_soon(trio.serve_listeners, talk, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def receive(stream: trio.abc.Stream, http: h11.Connection) -> Seen:
    """Read a whole request."""
    head: h11.Request | None = None
    body = b""
    while True:
        match http.next_event():
            case h11.NEED_DATA:
                data = await stream.receive_some()
                if not data and head is None:
                    raise trio.BrokenResourceError("no request came")
                http.receive_data(bytes(data))
            case h11.Request() as head:
                pass
            case h11.Data(data=data):
                body += data
            case h11.EndOfMessage():
                assert head is not None
                headers = {name.decode(): value.decode() for name, value in head.headers}
                return Seen(head.method.decode(), head.target.decode(), headers, body)
            case h11.ConnectionClosed():
                raise trio.BrokenResourceError("no request came")
