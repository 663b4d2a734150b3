"""Dialling over real sockets: TLS, servers that are none, and servers that stall."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from patience import PATIENCE_S
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    WebSocketRequest,
    serve_websocket,
    wrap_server_stream,
)
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Request

from linguad.net.dial import AddressError, DialError, parse, websocket


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Certificate and key of "localhost" in one file, which this process trusts."""
    path = tmp_path / "localhost.pem"
    subprocess.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=DNS:localhost -keyout {path} -out {path}.crt".split(),
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return path


@asynccontextmanager
async def echo_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server that sends back what it gets on `/ws/node?a=1`, and refuses other paths."""

    async def serve(request: WebSocketRequest) -> None:
        if request.path != "/ws/node?a=1":
            await request.reject(404)
            return
        ws = await request.accept()
        await ws.send_message(await ws.get_message())
        await trio.sleep_forever()

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(serve_websocket, serve, "127.0.0.1", 0, tls))
            yield server.port
            nursery.cancel_scope.cancel()


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    """What a server that is "localhost" needs."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


@asynccontextmanager
async def dumb_server(handle: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    """The port of a server of plain TCP."""
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
            yield listener.socket.getsockname()[1]
            nursery.cancel_scope.cancel()


async def never_answers(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def stops_reading(stream: trio.SocketStream) -> None:
    async with trio.open_nursery() as reading:
        await (await wrap_server_stream(reading, stream)).accept()
        reading.cancel_scope.cancel()
    await trio.sleep_forever()


async def test_messages_larger_than_any_buffer_pass() -> None:
    async with echo_server() as port, websocket(f"ws://127.0.0.1:{port}/ws/node?a=1") as ws:
        message = "x" * 700_000
        await ws.send_message(message)
        assert await ws.get_message() == message


async def test_tls(tls: ssl.SSLContext) -> None:
    async with echo_server(tls) as port, websocket(f"wss://localhost:{port}/ws/node?a=1") as ws:
        await ws.send_message("x" * 200_000)
        assert len(await ws.get_message()) == 200_000


async def test_a_certificate_for_another_name_is_refused(tls: ssl.SSLContext) -> None:
    async with echo_server(tls) as port:
        url = f"wss://127.0.0.1:{port}/ws/node"
        with pytest.raises(DialError, match=f"^cannot connect to {url}: .*certificate") as caught:
            async with websocket(url):
                pass
    assert isinstance(caught.value.__cause__, trio.BrokenResourceError)


async def test_a_wrong_path_is_told() -> None:
    async with echo_server() as port:
        with pytest.raises(DialError, match=r"HTTP status 404, not with a WebSocket$") as caught:
            async with websocket(f"ws://127.0.0.1:{port}/"):
                pass
    cause = caught.value.__cause__
    assert isinstance(cause, ConnectionRejected)
    assert cause.status_code == 404


async def test_a_port_where_nobody_listens_is_told() -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port: Any = listener.socket.getsockname()[1]
    await listener.aclose()
    url = f"ws://127.0.0.1:{port}/ws/node"
    with pytest.raises(DialError, match=f"^cannot connect to {url}: Connection refused$") as caught:
        async with websocket(url):
            pass
    cause = caught.value.__cause__
    assert isinstance(cause, OSError)
    assert "failed" in str(cause)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_server_that_does_not_answer_is_given_up(scheme: str) -> None:
    async with dumb_server(never_answers) as port:
        with pytest.raises(DialError, match=r"did not answer as a WebSocket within 0\.1 s$"):
            async with websocket(f"{scheme}://127.0.0.1:{port}/", connect_seconds=0.1):
                pass


async def test_a_server_that_stops_reading_is_given_up() -> None:
    async with (
        dumb_server(stops_reading) as port,
        websocket(f"ws://127.0.0.1:{port}/", write_seconds=0.1) as ws,
    ):
        # More than the buffers of the two sockets ever hold.
        with pytest.raises(ConnectionClosed):
            await ws.send_message(bytes(64 << 20))


async def test_what_the_block_raises_comes_out_as_it_is() -> None:
    async with echo_server() as port:
        with pytest.raises(KeyError, match="mine"):
            async with websocket(f"ws://127.0.0.1:{port}/ws/node?a=1"):
                raise KeyError("mine")


@pytest.mark.parametrize("url", ["", "localhost:5010", "http://127.0.0.1:5010", "ws://", "ws://h:port/"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(AddressError, match=r"address (is )?like ws://host:5010/path"):
        parse(url)


@asynccontextmanager
async def late_pinger() -> AsyncIterator[str]:
    """The address of a server that pings when it was told that the connection is over."""

    async def serve(stream: trio.SocketStream) -> None:
        protocol = WSConnection(ConnectionType.SERVER)
        while True:
            protocol.receive_data(await stream.receive_some())
            for event in protocol.events():
                if isinstance(event, Request):
                    await stream.send_all(protocol.send(AcceptConnection()))
                elif isinstance(event, CloseConnection):
                    await stream.send_all(bytes([0x89, 0]) + protocol.send(event.response()))
                    return

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
            yield f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
            nursery.cancel_scope.cancel()


async def closed_within(url: str) -> None:
    """Close a connection within its block."""
    async with websocket(url) as ws:
        await ws.aclose()
        await trio.sleep_forever()


async def test_a_ping_that_crosses_our_close_is_no_bug() -> None:
    async with late_pinger() as url:
        async with websocket(url):
            pass
        with pytest.raises(DialError, match="is closed"):
            await closed_within(url)
