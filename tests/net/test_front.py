"""The front door on real sockets: what it routes, what it refuses, and what bad clients cost.

Rules: port 0 on loopback, every wait under `fail_after`, nothing asserted about durations.
"""

from __future__ import annotations

import json
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
from doors import (
    LOCAL_PROXIES,
    Door,
    front_door,
    get,
    living,
    read_all,
    read_answer,
    routed,
    until,
    until_routed,
    upgrade,
)
from patience import PATIENCE_S
from prometheus_client import REGISTRY
from trio_websocket import ConnectionClosed

from linguad.net.peer import V2_SIGNATURE


class Steps(trio.abc.Instrument):
    """Counts how often any task runs."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, _task: trio.lowlevel.Task) -> None:
        self.count += 1


@contextmanager
def steps() -> Iterator[Steps]:
    counter = Steps()
    trio.lowlevel.add_instrument(counter)
    yield counter
    trio.lowlevel.remove_instrument(counter)


async def hello(door: Door) -> None:
    """The daemon is alive and well."""
    with trio.fail_after(PATIENCE_S):
        async with door.dial() as ws:
            await ws.get_message()
            await ws.send_message("hello")
            assert await ws.get_message() == "hello"
        assert (await door.ask(get("/x", "Connection: close"))).startswith(b"HTTP/1.1 200")


async def test_websocket_and_http_on_one_port_over_both_loopbacks() -> None:
    async with front_door() as door:
        await hello(door)
        for host in ("127.0.0.1", "::1"):
            async with door.dial("/ws/echo?token=x", host) as ws:
                assert json.loads(await ws.get_message())["address"] == host
            stream = await door.connect(host)
            await stream.send_all(get("/x"))
            status, body = await read_answer(stream)
            assert (status, json.loads(body)["address"]) == (200, host)
            await stream.aclose()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02\x03",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello there\r\n\r\n",
        b"GET / HTTP/one\r\n\r\n",
        b"GET /\r\n\r\n",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        V2_SIGNATURE + bytes(4),
    ],
)
async def test_garbage_gets_400_and_costs_nothing_else(garbage: bytes) -> None:
    async with front_door() as door:
        before = routed("garbage")
        answer = await door.ask(garbage)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"Connection: close" in answer
        await until_routed("garbage", before + 1)
        await hello(door)


async def test_http2_is_refused() -> None:
    async with front_door() as door:
        before = routed("http2")
        answer = await door.ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 505 ")
        await until_routed("http2", before + 1)


async def test_head_may_come_byte_by_byte() -> None:
    async with front_door() as door:
        head = get("/slowly", "Connection: close")
        answer = await door.ask(*(head[i : i + 1] for i in range(len(head))))
        assert answer.startswith(b"HTTP/1.1 200")
        stream = await door.connect()
        head = upgrade("/ws/echo")
        for start in range(0, len(head), 7):
            await stream.send_all(head[start : start + 7])
            await trio.sleep(0.001)
        assert (await stream.receive_some(12)).startswith(b"HTTP/1.1 101")
        await stream.aclose()


@pytest.mark.parametrize("sent", [b"GE", b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"P", b"PROXY TCP4"])
async def test_slow_head_is_cut_without_spinning(sent: bytes) -> None:
    async with front_door(head_seconds=0.5, proxies=LOCAL_PROXIES) as door:
        before = routed("slow")
        stream = await door.connect()
        await stream.send_all(sent)
        await trio.sleep(0.1)
        with steps() as counter:
            await trio.sleep(0.2)
        assert counter.count < 100, "it would be thousands; the cut may come meanwhile"
        assert await read_all(stream) == b""
        await until_routed("slow", before + 1)
        await stream.aclose()


async def test_half_a_request_and_end() -> None:
    async with front_door() as door:
        before = routed("gone")
        for sent in (b"", b"GE", b"GET / HTTP/1.1\r\nHost: x\r\n"):
            assert await door.ask(sent, eof=True) == b""
        await until_routed("gone", before + 3)


@pytest.mark.parametrize("size", [16 * 1024, 100 * 1024])
async def test_head_that_is_too_big(size: int) -> None:
    async with front_door() as door:
        before = routed("too_big")
        answer = await door.ask(b"GET / HTTP/1.1\r\nX-Long: " + b"x" * size)
        assert answer.startswith(b"HTTP/1.1 431 ")
        await until_routed("too_big", before + 1)


async def test_head_just_below_the_limit_passes() -> None:
    async with front_door() as door:
        empty = get("/x", "Connection: close", "X-Long: ")
        head = get("/x", "Connection: close", "X-Long: " + "x" * (16 * 1024 - len(empty)))
        assert len(head) == 16 * 1024
        assert (await door.ask(head)).startswith(b"HTTP/1.1 200")


async def test_idlers_cannot_keep_others_out() -> None:
    async with front_door(max_heads=4) as door:
        before = routed("cut")
        idlers = [await door.connect() for _ in range(12)]
        await hello(door)
        await until(lambda: routed("cut") >= before + 8)
        for idler in idlers:
            await idler.aclose()


async def test_thousand_bad_upgrades_leave_nothing_behind() -> None:
    head = get("/ws/echo", "Upgrade: websocket", "Connection: Upgrade")
    async with front_door() as door:
        await hello(door)
        await trio.testing.wait_all_tasks_blocked(0.05)
        before = living()

        async def hit() -> None:
            for _ in range(50):
                assert (await door.ask(head)).startswith(b"HTTP/1.1 4")

        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(hit)
        await until(lambda: living() == before)
        await hello(door)


async def test_upgrade_on_a_wrong_path() -> None:
    async with front_door() as door:
        answer = await door.ask(upgrade("/ws/other"))
        assert answer.startswith(b"HTTP/1.1 426 ")
        answer = await door.ask(upgrade("/elsewhere"))
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"connection: close" in answer.lower()
        # A socket path without an upgrade is told what to do.
        assert (await door.ask(get("/ws/echo", "Connection: close"))).startswith(b"HTTP/1.1 426 ")
        await hello(door)


async def test_bug_in_a_handler_ends_one_connection_only() -> None:
    async with front_door() as door:
        async with door.dial() as ws:
            await ws.get_message()
            await ws.send_message("crash")
            with pytest.raises(ConnectionClosed) as closed:
                await ws.get_message()
            assert closed.value.reason is not None
            assert closed.value.reason.code == 1011
        await hello(door)


async def test_forwarding_headers_count_only_from_trusted_proxies() -> None:
    said = ("X-Forwarded-For: 9.9.9.9, 198.51.100.7", "X-Forwarded-Proto: https")
    for proxies, address, scheme in (
        ((), "127.0.0.1", "http"),
        (("10.0.0.0/8",), "127.0.0.1", "http"),
        (LOCAL_PROXIES, "198.51.100.7", "https"),
    ):
        async with front_door(proxies=proxies) as door:
            body = json.loads(
                (await door.ask(get("/x", "Connection: close", *said))).partition(b"\r\n\r\n")[2]
            )
            assert (body["address"], body["scheme"], body["forwarded"]) == (address, scheme, True)
            assert await greeting(door, upgrade("/ws/echo", *said)) == {"address": address, "scheme": scheme}


async def greeting(door: Door, head: bytes) -> object:
    """What the echo link says first."""
    stream = await door.connect()
    got = b""
    with trio.fail_after(PATIENCE_S):
        await stream.send_all(head)
        while not got.endswith(b"}"):
            chunk = await stream.receive_some()
            assert chunk, got
            got += chunk
    await stream.aclose()
    return json.loads(got[got.index(b"{") :])


V1 = b"PROXY TCP4 203.0.113.9 10.0.0.1 5555 80\r\n"
V2 = (
    V2_SIGNATURE
    + b"\x21\x11"
    + (12 + 8).to_bytes(2)
    + bytes([203, 0, 113, 9, 10, 0, 0, 1, 0x15, 0xB3, 0, 80])
    + b"\x20\x00\x05\x01\x00\x00\x00\x00"
)


@pytest.mark.parametrize(("header", "scheme"), [(V1, "http"), (V2, "https")])
async def test_proxy_protocol_from_a_trusted_proxy(header: bytes, scheme: str) -> None:
    async with front_door(proxies=LOCAL_PROXIES) as door:
        for pieces in (
            [header + get("/x", "Connection: close")],
            [*header.partition(b"\n"), get("/x", "Connection: close")],
        ):
            body = json.loads((await door.ask(*pieces)).partition(b"\r\n\r\n")[2])
            assert (body["address"], body["scheme"]) == ("203.0.113.9", scheme)
        assert await greeting(door, header + upgrade("/ws/echo")) == {
            "address": "203.0.113.9",
            "scheme": scheme,
        }
        await hello(door)


async def test_malformed_proxy_header_is_refused() -> None:
    async with front_door(proxies=LOCAL_PROXIES) as door:
        before = routed("bad_proxy")
        for bad in (
            b"PROXY nonsense\r\n",
            b"PROXY " + b"x" * 200,
            V2_SIGNATURE + b"\xff\x11\x00\x0c" + bytes(12),
        ):
            assert (await door.ask(bad)).startswith(b"HTTP/1.1 400 ")
        await until_routed("bad_proxy", before + 3)
        await hello(door)


async def test_accept_goes_on_after_running_out_of_descriptors() -> None:
    async with front_door() as door:
        await hello(door)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        client = trio.socket.socket()
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            await client.connect(("127.0.0.1", door.port))
            await client.send(get("/x", "Connection: close"))
            await trio.sleep(0.3)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert (await read_all(trio.SocketStream(client))).startswith(b"HTTP/1.1 200")
        client.close()
        await hello(door)


async def test_end_of_accepting_closes_the_port_and_cuts_incomplete_heads() -> None:
    async with front_door() as door:
        idler = await door.connect()
        await idler.send_all(b"GET / HT")
        async with door.dial() as ws:
            await ws.get_message()
            door.accepting.cancel()
            assert await read_all(idler) == b""
            with pytest.raises(OSError, match="failed"):
                await door.connect()
            await ws.send_message("still here")
            assert await ws.get_message() == "still here"
        await idler.aclose()


async def test_nothing_crashed() -> None:
    """Whatever the tests of this file did, the machinery of the front door had no bug of its own."""
    crashes = REGISTRY.get_sample_value("linguad_link_crashes_total", {"kind": "front"})
    assert not crashes


async def test_reset_before_the_head() -> None:
    async with front_door() as door:
        for sent in (b"", b"GET"):
            stream = await door.connect()
            await stream.send_all(sent)
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            await stream.aclose()
        await hello(door)
