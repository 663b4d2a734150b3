"""HTTP behind the front door on real sockets: kept connections, refusals, bad clients, the end.

Rules: port 0 on loopback, every wait under `fail_after`, nothing asserted about durations.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from doors import BIG, LOCAL_PROXIES, asgi, front_door, get, living, read_all, read_answer, until, upgrade
from hypercorn.utils import LifespanFailureError
from patience import PATIENCE_S
from prometheus_client import REGISTRY
from quart_trio import QuartTrio
from trio.testing import MockClock, wait_all_tasks_blocked

from linguad.net.http import HttpApp


async def test_a_connection_serves_as_many_requests_as_come() -> None:
    """A proxy would lose a request on one that is closed after so many."""
    async with front_door() as door, await door.connect() as stream:
        for _ in range(1100):
            await stream.send_all(get("/x"))
            assert (await read_answer(stream))[0] == 200


async def test_connection_is_kept_and_requests_may_be_pipelined() -> None:
    async with front_door() as door, await door.connect() as stream:
        for number in range(3):
            await stream.send_all(get(f"/{number}"))
            status, body = await read_answer(stream)
            assert (status, json.loads(body)["path"]) == (200, f"/{number}")
        await stream.send_all(get("/a") + get("/b") + get("/c"))
        rest = bytearray()
        for path in ("/a", "/b", "/c"):
            status, body = await read_answer(stream, rest)
            assert (status, json.loads(body)["path"]) == (200, path)


async def test_server_does_not_say_what_it_is() -> None:
    async with front_door() as door:
        head = (await door.ask(get("/x", "Connection: close"))).partition(b"\r\n\r\n")[0].lower()
        assert b"\r\nserver:" not in head
        assert b"hypercorn" not in head


async def test_each_request_of_a_proxied_connection_has_its_own_client() -> None:
    async with front_door(proxies=LOCAL_PROXIES) as door, await door.connect() as stream:
        for address in ("198.51.100.1", "198.51.100.2"):
            await stream.send_all(get("/x", f"X-Forwarded-For: {address}"))
            assert json.loads((await read_answer(stream))[1])["address"] == address
        await stream.send_all(get("/x"))
        assert json.loads((await read_answer(stream))[1])["address"] == "127.0.0.1"


async def test_upgrade_on_a_kept_connection_is_refused_and_closed() -> None:
    async with front_door() as door, await door.connect() as stream:
        await stream.send_all(get("/x"))
        await read_answer(stream)
        await stream.send_all(upgrade("/ws/echo"))
        answer = await read_all(stream)
        assert answer.startswith(b"HTTP/1.1 426 ")
        assert b"connection: close" in answer.lower()
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "upgrade_required"


async def test_http2_on_a_kept_connection_is_refused() -> None:
    async with front_door() as door, await door.connect() as stream:
        await stream.send_all(
            get(
                "/x",
                "Connection: Upgrade, HTTP2-Settings",
                "Upgrade: h2c",
                "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
            )
            + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
        )
        got = b""
        with trio.fail_after(PATIENCE_S):
            while b"spoken" not in got:
                got += await stream.receive_some()
        assert b"HTTP/1.1 101" in got
        assert b"Only HTTP/1.1 is spoken here." in got


async def test_crash_of_the_app_is_500_and_the_door_stays_open() -> None:
    async with front_door() as door:
        assert (await door.ask(get("/crash"))).startswith(b"HTTP/1.1 500 ")
        assert (await door.ask(get("/x", "Connection: close"))).startswith(b"HTTP/1.1 200 ")


async def test_bad_second_request_is_400() -> None:
    async with front_door() as door, await door.connect() as stream:
        await stream.send_all(get("/x"))
        await read_answer(stream)
        await stream.send_all(b"\x00\x01\r\n\r\n")
        assert (await read_all(stream)).startswith(b"HTTP/1.1 400 ")


async def test_head_of_a_later_request_is_limited_as_well() -> None:
    async with front_door() as door, await door.connect() as stream:
        await stream.send_all(get("/x"))
        await read_answer(stream)
        await stream.send_all(b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 20_000)
        assert (await read_all(stream)).startswith(b"HTTP/1.1 431 ")


def quart() -> QuartTrio:
    app = QuartTrio("test")

    @app.get("/x")
    async def x() -> str:
        return "x"

    return app


@pytest.mark.parametrize("app", [asgi, quart()], ids=["asgi", "quart"])
async def test_idle_connection_is_closed(app: Any, mock_clock: MockClock) -> None:
    """Quart-Trio cancels the task in which Hypercorn arms the idle timer."""
    async with front_door(app=app, keep_alive_seconds=75) as door, await door.connect() as stream:
        for _ in range(3):
            await stream.send_all(get("/x"))
            assert (await read_answer(stream))[0] == 200
            await wait_all_tasks_blocked(0.05)
            mock_clock.jump(74)
        mock_clock.rate = 1.0
        assert await read_all(stream) == b""
        await until(lambda: not door.connections.child_tasks)


@pytest.mark.parametrize("app", [asgi, quart()], ids=["asgi", "quart"])
async def test_connection_is_closed_on_request(app: Any) -> None:
    async with front_door(app=app) as door:
        assert (await door.ask(get("/x", "Connection: close"))).startswith(b"HTTP/1.1 200")
        assert (await door.ask(b"GET /x HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200")
        await until(lambda: not door.connections.child_tasks)


@pytest.mark.parametrize("app", [asgi, quart()], ids=["asgi", "quart"])
async def test_drain_closes_idle_connections(app: Any) -> None:
    async with front_door(app=app) as door, await door.connect() as stream:
        await stream.send_all(get("/x"))
        await read_answer(stream)
        await door.http.drain()
        assert await read_all(stream) == b""
        await until(lambda: not door.connections.child_tasks)


async def test_client_that_leaves_an_idle_connection_leaves_nothing_behind() -> None:
    async with front_door() as door:
        before = living()
        for _ in range(20):
            async with await door.connect() as stream:
                await stream.send_all(get("/x"))
                await read_answer(stream)
        await until(lambda: living() == before)


async def test_client_that_leaves_in_the_middle_leaves_nothing_behind() -> None:
    async with front_door() as door:
        before = living()
        for request in (
            get("/stuck"),
            get("/big"),
            b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab",
        ):
            async with await door.connect() as stream:
                await stream.send_all(request)
                await trio.sleep(0.05)
        await until(lambda: living() == before)


async def test_large_answer_arrives_whole() -> None:
    async with front_door() as door:
        answer = await door.ask(get("/big", "Connection: close"))
        assert len(answer.partition(b"\r\n\r\n")[2]) == BIG


async def test_client_that_never_reads_is_cut() -> None:
    async with front_door(write_seconds=0.3) as door:
        tasks = trio.lowlevel.current_statistics().tasks_living
        stream = await door.connect()
        await stream.send_all(get("/big"))
        await until(lambda: trio.lowlevel.current_statistics().tasks_living > tasks)
        await until(lambda: trio.lowlevel.current_statistics().tasks_living == tasks)
        assert len(await read_all(stream)) < BIG
        await stream.aclose()


async def test_client_that_never_reads_does_not_hold_up_the_end() -> None:
    """Trap T7: Hypercorn's shielded write would outlive the cancellation."""
    with trio.fail_after(PATIENCE_S):
        async with front_door(write_seconds=1000) as door:
            stream = await door.connect()
            await stream.send_all(get("/big"))
            await stream.receive_some(1)
            await trio.sleep(0.1)
    await stream.aclose()


async def test_drain_lets_answers_out() -> None:
    async with front_door() as door:
        busy = await door.connect()
        await busy.send_all(b"POST /late HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        await wait_all_tasks_blocked(0.05)
        await door.http.drain()
        await busy.send_all(b"cd")
        answer = await read_all(busy)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b'"abcd"' in answer
        await busy.aclose()


async def test_requests_are_counted() -> None:
    def count() -> float:
        labels = {"app": "test", "status": "200"}
        return REGISTRY.get_sample_value("linguad_http_requests_total", labels) or 0.0

    before = count()
    async with front_door() as door:
        await door.ask(get("/x", "Connection: close"))
        await until(lambda: count() == before + 1)


async def test_lifespan_runs_to_its_end_when_cancelled() -> None:
    seen: list[str] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        for _ in range(2):
            kind = (await receive())["type"]
            await trio.sleep(0.01)
            seen.append(kind)
            await send({"type": f"{kind}.complete"})

    async with trio.open_nursery() as nursery:
        await nursery.start(HttpApp("test", app).run)
        assert seen == ["lifespan.startup"]
        nursery.cancel_scope.cancel()
    assert seen == ["lifespan.startup", "lifespan.shutdown"]


async def test_failing_start_up_is_an_error() -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.RaisesGroup(
        pytest.RaisesExc(LifespanFailureError, match="no database"), flatten_subgroups=True
    ):
        async with trio.open_nursery() as nursery:
            await nursery.start(HttpApp("test", app).run)
