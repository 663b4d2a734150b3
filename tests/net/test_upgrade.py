"""Upgrade requests that somebody looks at first, and peers that go while nobody reads, on real sockets.

Rules: port 0 on loopback, every wait under `fail_after`, nothing asserted about durations.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from doors import close_code, living, read_all, until, upgrade
from patience import PATIENCE_S
from prometheus_client import REGISTRY
from trio.testing import wait_all_tasks_blocked
from trio_websocket import wrap_client_stream

from linguad.net.links import Links
from linguad.net.listen import listen, port_of
from linguad.net.peer import Peer
from linguad.net.upgrade import Refusal, UpgradeRequest, Welcome
from linguad.net.websocket import Link, LinkSettings

BODY = json.dumps({"error": {"code": "unauthorized"}}).encode()


def closes(reason: str) -> float:
    labels = {"kind": "door", "reason": reason}
    return REGISTRY.get_sample_value("linguad_link_closes_total", labels) or 0.0


@dataclass
class House:
    """Links with a doorman on a free port."""

    port: int = 0
    seen: list[UpgradeRequest] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)


@asynccontextmanager
async def house(
    doorman: Callable[[UpgradeRequest], Welcome | Refusal] | None,
    handler: Callable[[Link], object],
    settings: LinkSettings | None = None,
) -> AsyncIterator[House]:
    made = House()

    async def look(request: UpgradeRequest) -> Welcome | Refusal:
        made.seen.append(request)
        assert doorman is not None
        return doorman(request)

    async def serve(link: Link) -> None:
        made.links.append(link)
        await handler(link)  # type: ignore[misc]

    kept = Links("door", settings or LinkSettings(), serve, doorman=look if doorman else None)

    async def welcome(stream: trio.SocketStream) -> None:
        await kept.serve(stream, Peer("127.0.0.1", 1))

    listeners = await listen("127.0.0.1", 0)
    made.port = port_of(listeners)
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, welcome, listeners)
        with trio.fail_after(PATIENCE_S):
            yield made
        nursery.cancel_scope.cancel()


async def echo(link: Link) -> None:
    async for message in link:
        link.send(message)


async def busy(_link: Link) -> None:
    await trio.sleep_forever()


def refuse(_request: UpgradeRequest) -> Refusal:
    headers = (("Content-Type", "application/json"), ("WWW-Authenticate", 'Bearer realm="lingua"'))
    return Refusal(401, BODY, headers)


async def test_the_doorman_sees_what_was_asked_and_leaves_a_visitor() -> None:
    def admit(request: UpgradeRequest) -> Welcome:
        return Welcome(["guest"], "lingua.v1", (("RateLimit-Limit", "100"),))

    async with house(admit, echo) as it, await it.connect() as stream, trio.open_nursery() as nursery:
        ws = await wrap_client_stream(
            nursery,
            stream,
            "localhost",
            "/v1/stream?ticket=a%20b&empty=",
            subprotocols=["lingua.v1", "bearer.abc"],
            extra_headers=[(b"Authorization", b"Bearer  x"), (b"Origin", b"https://example.test")],
        )
        await ws.send_message("hello")
        assert await ws.get_message() == "hello"
        assert ws.subprotocol == "lingua.v1"
        assert (b"ratelimit-limit", b"100") in ws.handshake_headers
        assert it.links[0].visitor == ["guest"]
        (request,) = it.seen
        assert (request.path, request.query) == ("/v1/stream", "ticket=a%20b&empty=")
        assert request.argument("ticket") == ["a b"]
        assert request.argument("empty") == [""]
        assert request.argument("none") == []
        assert request.header("Authorization") == ["Bearer  x"]
        assert request.header("host") == ["localhost"]
        assert request.header("sec-websocket-protocol") == ["lingua.v1, bearer.abc"]
        assert request.header("origin") == ["https://example.test"]
        assert request.subprotocols == ("lingua.v1", "bearer.abc")
        assert request.peer.address == "127.0.0.1"
        nursery.cancel_scope.cancel()


async def test_without_a_doorman_there_is_no_visitor() -> None:
    async with house(None, echo) as it, await it.connect() as stream, trio.open_nursery() as nursery:
        ws = await wrap_client_stream(nursery, stream, "localhost", "/")
        await ws.send_message("hello")
        assert await ws.get_message() == "hello"
        assert it.links[0].visitor is None
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("behind", [b"", b"\x81\x85", b"x" * 100_000])
async def test_a_refusal_is_a_whole_http_answer(behind: bytes) -> None:
    """Also for a client that did not wait for it."""
    before = closes("refused")
    async with house(refuse, echo) as it, await it.connect() as stream:
        await stream.send_all(upgrade("/v1/stream") + behind)
        head, _, body = (await read_all(stream)).partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        assert lines[0].startswith(b"http/1.1 401")
        assert b"content-type: application/json" in lines
        assert b'www-authenticate: bearer realm="lingua"' in lines
        assert b"connection: close" in lines
        assert b"content-length: %d" % len(BODY) in lines
        assert body == BODY
        await stream.aclose()
        await until(lambda: closes("refused") == before + 1)
        assert not it.links


async def test_refusals_leave_nothing_behind() -> None:
    async with house(refuse, echo) as it:
        await wait_all_tasks_blocked()
        before = living()
        for _ in range(50):
            async with await it.connect() as stream:
                await stream.send_all(upgrade("/v1/stream"))
                assert await read_all(stream)
        await until(lambda: living() == before)


async def test_bad_upgrades_do_not_reach_the_doorman() -> None:
    async with house(refuse, echo) as it, await it.connect() as stream:
        await stream.send_all(b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n")
        assert (await read_all(stream)).startswith(b"HTTP/1.1 4")
        assert not it.seen


def reset(stream: trio.SocketStream) -> None:
    """Have the system send a reset when the socket is closed."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


@pytest.mark.parametrize("how", ["shutdown", "close", "reset"])
@pytest.mark.parametrize("unread", [0, 1000, 20_000_000])
async def test_a_peer_that_goes_is_noticed_although_nobody_reads(how: str, unread: int) -> None:
    """Also if more is on its way than fits into the buffers, so that its farewell does not arrive."""
    noticed: list[bool] = []

    async def wait(link: Link) -> None:
        link.send("ready")
        await link.hung_up()
        noticed.append(True)

    async with house(None, wait) as it, await it.connect() as stream:
        await stream.send_all(upgrade("/"))
        got = b""
        while b"ready" not in got:
            got += await stream.receive_some()
        with trio.move_on_after(0.2):
            await stream.send_all(bytes(unread))
        assert not noticed
        if how == "shutdown" and unread < 20_000_000:
            await stream.send_eof()
        elif how != "reset":
            await stream.aclose()
        else:
            reset(stream)
        await until(lambda: bool(noticed))


async def test_a_peer_that_stays_is_not_taken_for_gone() -> None:
    gone: list[bool] = []

    async def wait(link: Link) -> None:
        with trio.move_on_after(0.2):
            await link.hung_up()
            gone.append(True)
        await echo(link)

    async with house(None, wait) as it, await it.connect() as stream, trio.open_nursery() as nursery:
        before = living()[1]
        ws = await wrap_client_stream(nursery, stream, "localhost", "/")
        for text in ("one", "two"):
            await ws.send_message(text)
        assert [await ws.get_message() for _ in range(2)] == ["one", "two"]
        assert not gone
        assert living()[1] <= before + 1, "the descriptor is given back"
        nursery.cancel_scope.cancel()


async def test_messages_can_be_limited_further() -> None:
    async def small(link: Link) -> None:
        link.limit_messages(1000)
        async for message in link:
            link.send(message)
            if message == "more":
                link.limit_messages(5000)

    async with house(None, small) as it:
        for size in (1001, 100_000):
            async with await it.connect() as stream, trio.open_nursery() as nursery:
                ws = await wrap_client_stream(nursery, stream, "localhost", "/")
                await ws.send_message("x" * 1000)
                assert len(await ws.get_message()) == 1000
                await ws.send_message("x" * size)
                assert (await close_code(ws))[0] == 1009
                nursery.cancel_scope.cancel()
        async with await it.connect() as stream, trio.open_nursery() as nursery:
            ws = await wrap_client_stream(nursery, stream, "localhost", "/")
            await ws.send_message("more")
            await ws.get_message()
            await ws.send_message("x" * 5000)
            assert len(await ws.get_message()) == 5000
            nursery.cancel_scope.cancel()
