"""A whole front door on a free port, for tests with real sockets."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import trio
from patience import PATIENCE_S
from prometheus_client import REGISTRY
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from linguad.net.front import Front, FrontSettings
from linguad.net.http import PEER, HttpApp
from linguad.net.links import Links
from linguad.net.listen import listen, port_of
from linguad.net.peer import TrustedProxies
from linguad.net.websocket import Handler, Link, LinkSettings

LOCAL_PROXIES = ("127.0.0.0/8", "::1")
BIG = 64 * 1024 * 1024


async def echo(link: Link) -> None:
    """Say who the peer is, then repeat everything."""
    link.send(json.dumps({"address": link.peer.address, "scheme": link.peer.scheme}))
    async for message in link:
        if message == "crash":
            raise RuntimeError("bug")
        link.send(message)


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it knows of the request; `/big` is long, `/stuck` never answers, `/crash` raises."""
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    if scope["path"] == "/crash":
        raise RuntimeError("bug")
    if scope["path"] == "/stuck":
        await trio.sleep_forever()
    body = b""
    while True:
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    peer = scope[PEER]
    known = {"path": scope["path"], "address": scope["client"][0], "scheme": scope["scheme"]}
    answer = json.dumps({**known, "forwarded": peer.forwarded, "body": body.decode()}).encode()
    if scope["path"] == "/big":
        answer = bytes(BIG)
    headers = [(b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


@dataclass
class Door:
    """A running front door."""

    port: int
    links: Links
    http: HttpApp
    accepting: trio.CancelScope
    connections: trio.Nursery

    async def connect(self, host: str = "127.0.0.1") -> trio.SocketStream:
        return await trio.open_tcp_stream(host, self.port)

    @asynccontextmanager
    async def dial(
        self, path: str = "/ws/echo", host: str = "127.0.0.1"
    ) -> AsyncIterator[WebSocketConnection]:
        """A WebSocket client; unlike `open_websocket` it also closes its socket when we closed first."""
        async with await self.connect(host) as stream, trio.open_nursery() as nursery:
            with trio.fail_after(PATIENCE_S):
                client = await wrap_client_stream(nursery, stream, "localhost", path)
                yield client
                await client.aclose()
            nursery.cancel_scope.cancel()

    async def ask(self, *parts: bytes, eof: bool = False) -> bytes:
        """Send and read to the end."""
        stream = await self.connect()
        async with stream:
            for part in parts:
                await stream.send_all(part)
            if eof:
                await stream.send_eof()
            return await read_all(stream)


async def close_code(client: WebSocketConnection) -> tuple[int, str | None]:
    """Read to the end and tell how it ended."""
    with trio.fail_after(PATIENCE_S), suppress(ConnectionClosed):
        while True:
            await client.get_message()
    assert client.closed is not None
    return client.closed.code, client.closed.reason


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    got = bytearray()
    with trio.fail_after(PATIENCE_S):
        try:
            async for chunk in stream:
                got += chunk
        except trio.BrokenResourceError:
            pass
    return bytes(got)


async def read_answer(stream: trio.abc.ReceiveStream, rest: bytearray | None = None) -> tuple[int, bytes]:
    """One HTTP answer with Content-Length from a connection that stays open; `rest` keeps what follows."""
    got = bytearray() if rest is None else rest
    with trio.fail_after(PATIENCE_S):
        while b"\r\n\r\n" not in got:
            got += await receive(stream)
        head, _, _ = bytes(got).partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        end = len(head) + 4 + length
        while len(got) < end:
            got += await receive(stream)
    body = bytes(got[len(head) + 4 : end])
    del got[:end]
    return int(head.split()[1]), body


async def receive(stream: trio.abc.ReceiveStream) -> bytes:
    chunk = await stream.receive_some()
    assert chunk, "the connection ended"
    return bytes(chunk)


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def upgrade(path: str, *headers: str) -> bytes:
    key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
    return get(path, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", key, *headers)


def routed(route: str) -> float:
    value = REGISTRY.get_sample_value("linguad_front_connections_total", {"port": "test", "route": route})
    return value or 0.0


def living() -> tuple[int, int]:
    """Tasks and descriptors of this process."""
    return trio.lowlevel.current_statistics().tasks_living, len(os.listdir("/proc/self/fd"))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what has no event of its own, such as a counter."""
    with trio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.005)


async def until_routed(route: str, count: float) -> None:
    """Wait until the front door has counted that many connections, which it does at their end."""
    await until(lambda: routed(route) >= count)
    assert routed(route) == count


@asynccontextmanager
async def front_door(
    *,
    handler: Handler = echo,
    app: Any = asgi,
    proxies: Sequence[str] = (),
    head_seconds: float = PATIENCE_S,
    max_heads: int = 2048,
    links: LinkSettings | None = None,
    keep_alive_seconds: float = 75.0,
    write_seconds: float = 30.0,
) -> AsyncIterator[Door]:
    """Links at /ws/echo, everything else to `app`; ends by cancellation."""
    trusted = TrustedProxies(proxies)
    made = Links("test", links or LinkSettings(), handler)
    http = HttpApp(
        "test",
        app,
        trusted,
        {"/ws/echo"},
        keep_alive_seconds=keep_alive_seconds,
        write_seconds=write_seconds,
    )
    settings = FrontSettings(trusted, head_seconds=head_seconds, max_heads=max_heads)
    front = Front("test", {"/ws/echo": made.serve}, http.serve, settings)
    listeners = await listen("localhost", 0)
    accepting = trio.CancelScope()
    async with trio.open_nursery() as services:
        await services.start(http.run)
        async with trio.open_nursery() as connections:

            async def accept(task_status: trio.TaskStatus[None]) -> None:
                with accepting:
                    await front.serve(listeners, connections, task_status=task_status)

            await services.start(accept)
            yield Door(port_of(listeners), made, http, accepting, connections)
            accepting.cancel()
            connections.cancel_scope.cancel()
        services.cancel_scope.cancel()
