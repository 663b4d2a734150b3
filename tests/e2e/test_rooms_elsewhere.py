"""People in one room at different instances, and instances that are killed: real daemons, a real Redis."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from conftest import Start
from harness import Client, Json
from processes import PATIENCE_S, DaemonProcess
from redis_server import RedisServer
from test_sessions_elsewhere import APART, HEARTBEAT_S, joined

TEST_S = 3 * PATIENCE_S


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A server of the test's own."""
    server = RedisServer().start()
    yield server
    server.clear_away()


@pytest.fixture
def three(start: Start, redis: RedisServer) -> list[DaemonProcess]:
    """Instances a, b and c."""

    def instance(name: str) -> DaemonProcess:
        cluster = {"redis_url": redis.url, "heartbeat_seconds": HEARTBEAT_S, "instance_id": name}
        return start(cluster=cluster, **APART)

    return [instance(name) for name in "abc"]


async def in_room(client: Client, *members: Client) -> None:
    """Wait until a client is told that these are in its room."""
    names = [member.session_id for member in members]
    while True:
        told = await client.until("room_members")
        if [member["session_id"] for member in told["members"]] == names:
            return


async def create(client: Client, **members: Any) -> str:
    """A room of its own; its code."""
    await client.say({"type": "room_create", "client_ts": 0, **members})
    return str((await client.until("room_create_ack"))["room_code"])


async def join(client: Client, code: str, **members: Any) -> None:
    """Enter a room."""
    await client.say({"type": "room_join", "room_code": code, **members})
    await client.until("room_create_ack", room_code=code)


async def heard(client: Client, speaker: Client) -> Json:
    """The next result of a speaker."""
    return await client.result(session_id=speaker.session_id)


async def served(daemon: DaemonProcess) -> None:
    """Wait until an instance knows a node, wherever that is."""
    with trio.fail_after(PATIENCE_S):
        while not json.loads((await daemon.get("/api/v1/nodes"))[1])["nodes"]:  # noqa: ASYNC110
            await trio.sleep(0.05)


async def test_people_at_three_instances_hear_each_other(three: list[DaemonProcess]) -> None:
    a, b, c = three
    await joined(*three)
    with trio.fail_after(TEST_S):
        async with (
            c.working_node(),
            a.client() as x,
            b.client() as y,
            c.client(tgt_lang="zh") as z,
        ):
            for daemon in three:
                await served(daemon)
            code = await create(x)
            await join(y, code)
            await in_room(x, x, y)
            await join(z, code)
            for client in (x, y, z):
                await in_room(client, x, y, z)
            await x.speak()
            for client in (y, z):
                assert (await heard(client, x))["utterance_index"] == 0
            await y.speak()
            for client in (x, z):
                assert (await heard(client, y))["text_asr"] == "heard 0"
            await z.say({"type": "room_join", "room_code": "123456"})
            assert (await z.until("room_error"))["code"] == "ROOM_NOT_FOUND"
            await z.say({"type": "remote_speaking_start", "room_code": code, "ts_ms": 1, "from": "z"})
            await x.until("remote_speaking_start", **{"from": z.session_id})
            await y.say({"type": "room_leave", "room_code": code})
            for client in (x, z):
                await in_room(client, x, z)


async def test_the_owner_of_a_room_is_killed(three: list[DaemonProcess], redis: RedisServer) -> None:
    a, b, c = three
    await joined(*three)
    with trio.fail_after(TEST_S):
        async with c.working_node(), b.client() as y, c.stranger() as again, c.client() as late:
            for daemon in three:
                await served(daemon)
            async with a.stranger() as x, a.client() as lost:
                ack = await x.open(resume={}, src_lang="en", tgt_lang="es")
                code = await create(x)
                await join(lost, code)
                await join(y, code)
                await in_room(x, x, lost, y)
                key = f"lingua:v2:{{s:{x.session_id}}}:resume"
                while y.session_id.encode() not in (redis.do("HGET", key, "record") or b""):  # type: ignore[operator]  # noqa: ASYNC110
                    await trio.sleep(0.02)
                a.signal(signal.SIGKILL)
                await a.ended()
            resume = {"session_id": ack["session_id"], "resume_token": ack["resume_token"], "delivery": 0}
            assert (await again.open(resume=resume))["recovered"]
            assert (await again.until("room_create_ack"))["room_code"] == code
            await again.speak()
            assert (await heard(y, again))["text_asr"] == "heard 0"
            await in_room(y, again, y)
            await y.speak()
            assert (await heard(again, y))["text_asr"] == "heard 0"
            assert redis.do("HGET", f"lingua:v2:{{room:{code}}}", "owner") in (b"b", b"c")
            await join(late, code)
            await in_room(y, again, y, late)


async def test_redis_is_away_for_a_while(three: list[DaemonProcess], redis: RedisServer) -> None:
    a, b, _ = three
    await joined(*three)
    with trio.fail_after(TEST_S):
        async with a.working_node(), b.working_node(), a.client() as x, a.client() as w, b.client() as y:
            for daemon in (a, b):
                await served(daemon)
            code = await create(x)
            await join(w, code)
            await join(y, code)
            await in_room(w, x, w, y)
            redis.stop()
            for daemon in (a, b):
                await daemon.event("cluster_left")
            await x.speak()
            assert (await heard(w, x))["text_asr"] == "heard 0"
            await w.say({"type": "room_join", "room_code": "123456"})
            assert (await w.until("room_error"))["code"] == "SCHEDULER_DEPENDENCY_DOWN"
            other = await create(w)
            assert other != code
            await in_room(x, x, y)
            redis.start()
            await in_room(y, x, y)
            await x.speak()
            await heard(y, x)
            await y.say({"type": "room_join", "room_code": other})
            while (await y.hear())["type"] not in ("room_create_ack", "room_error"):
                await trio.lowlevel.checkpoint()
