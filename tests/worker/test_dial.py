"""Dialling over real sockets: TLS, and servers that are none."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionRejected, WebSocketConnection, WebSocketRequest, serve_websocket

from linguad.worker.dial import dial

PATIENCE_SECONDS = 30


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

    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(serve_websocket, serve, "127.0.0.1", 0, tls))
            yield server.port
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[WebSocketConnection]:
    async with trio.open_nursery() as link:
        yield await dial(url)(link)
        link.cancel_scope.cancel()


async def test_messages_larger_than_any_buffer_pass() -> None:
    async with echo_server() as port, connected(f"ws://127.0.0.1:{port}/ws/node?a=1") as ws:
        message = "x" * 700_000
        await ws.send_message(message)
        assert await ws.get_message() == message


async def test_tls(certificate: Path) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    async with echo_server(tls) as port, connected(f"wss://localhost:{port}/ws/node?a=1") as ws:
        await ws.send_message("x" * 200_000)
        assert len(await ws.get_message()) == 200_000


async def test_a_certificate_for_another_name_is_refused(certificate: Path) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    async with echo_server(tls) as port:
        with pytest.RaisesGroup(trio.BrokenResourceError):
            async with connected(f"wss://127.0.0.1:{port}/ws/node"):
                pass


async def test_a_wrong_path_is_told() -> None:
    async with echo_server() as port:
        told = pytest.RaisesExc(ConnectionRejected, check=lambda error: error.status_code == 404)
        with pytest.RaisesGroup(told):
            async with connected(f"ws://127.0.0.1:{port}/"):
                pass


async def test_a_port_where_nobody_listens_is_told() -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port: Any = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="failed")):
        async with connected(f"ws://127.0.0.1:{port}/ws/node"):
            pass
