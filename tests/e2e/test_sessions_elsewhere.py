"""A session goes on at another instance when its own is killed, or stops: real daemons, a real Redis."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio
from balancer import Balancer
from conftest import Start
from counting import PACKETS, Echo, chunks, until_heard
from harness import plan_a
from processes import PATIENCE_S, DaemonProcess
from redis_server import RedisServer

from linguad.client import Reconnected, open_session
from linguad.wire.session import MissingResult, TranslationResult

APART: dict[str, Any] = {"gateway": {"enabled": False}, "hub": {"enabled": False}}


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A server of the test's own."""
    server = RedisServer().start()
    yield server
    server.clear_away()


Instances = Callable[..., list[DaemonProcess]]


@pytest.fixture
def instances(start: Start, redis: RedisServer) -> Instances:
    """Starts instances with these names."""

    def begin(*names: str, **tables: Any) -> list[DaemonProcess]:
        cluster = {"redis_url": redis.url, "heartbeat_seconds": 1}
        return [start(cluster=cluster | {"instance_id": name}, **APART, **tables) for name in names]

    return begin


async def joined(*daemons: DaemonProcess) -> None:
    """Wait until all know each other."""
    with trio.fail_after(PATIENCE_S):
        for daemon in daemons:
            while True:
                page = json.loads((await daemon.get("/api/v1/cluster"))[1])
                if page.get("online_instances") == len(daemons):
                    break
                await trio.sleep(0.05)


async def test_a_session_goes_on_when_its_instance_is_killed(
    instances: Instances, redis: RedisServer
) -> None:
    a, b = instances("a", "b")
    await joined(a, b)
    with trio.fail_after(2 * PATIENCE_S):
        async with a.node() as first, b.node() as second, b.stranger() as again:
            async with a.stranger() as client:
                ack = await client.open(resume={}, src_lang="en", tgt_lang="es")
                await client.speak(mark=1)
                await first.answer(await first.job())
                result = await client.result()
                await client.say({"type": "result_ack", "session_id": client.session_id, "delivery": 1})
                await client.until("audio_ack")
                await client.say(
                    {"type": "session_update", "session_id": client.session_id, "tgt_lang": "zh"}
                )
                await client.until("session_update_ack")
                client.seq += 1
                await client.speak(mark=2)
                job = await first.job()
                await until_written(redis, client.session_id, b"zh")
                a.signal(signal.SIGKILL)
                await a.ended()
            resume = {
                "session_id": ack["session_id"],
                "resume_token": ack["resume_token"],
                "delivery": result["delivery"],
            }
            back = await again.open(resume=resume)
            assert (back["recovered"], back["session_id"]) == (True, ack["session_id"])
            assert (back["delivery"], back["audio_seq"]) == (1, 3)
            again.seq = back["audio_seq"] + 2
            await again.speak(mark=2)
            redone = await second.job()
            assert redone["audio"] == job["audio"]
            assert (redone["utterance_index"], redone["tgt_lang"]) == (1, "zh")
            await second.answer(redone)
            result = await again.result()
            assert (result["utterance_index"], result["delivery"]) == (1, 2)
            await again.utterance(7, plan_a())
            assert (await second.job())["utterance_index"] == 7


async def until_written(redis: RedisServer, session_id: str, what: bytes) -> None:
    """Wait until Redis knows this of a session."""
    key = f"lingua:v2:{{s:{session_id}}}:resume"
    with trio.fail_after(PATIENCE_S):
        while what not in (redis.do("HGET", key, "record") or b""):  # type: ignore[operator]  # noqa: ASYNC110
            await trio.sleep(0.02)


async def test_a_token_that_is_wrong_opens_nothing(instances: Instances, redis: RedisServer) -> None:
    a, b = instances("a", "b")
    await joined(a, b)
    with trio.fail_after(2 * PATIENCE_S):
        async with a.stranger() as client, b.stranger() as thief:
            ack = await client.open(resume={})
            await until_written(redis, ack["session_id"], b"es")
            stolen = await thief.open(resume={"session_id": ack["session_id"], "resume_token": "guess"})
            assert (stolen["recovered"], stolen["session_id"] != ack["session_id"]) == (False, True)
            await client.heartbeat()


async def test_the_old_copy_of_a_session_that_moved_ends(instances: Instances, redis: RedisServer) -> None:
    a, b = instances("a", "b")
    await joined(a, b)
    with trio.fail_after(2 * PATIENCE_S):
        async with a.stranger() as client, b.stranger() as again, a.stranger() as third:
            ack = await client.open(resume={})
            resume = {"session_id": ack["session_id"], "resume_token": ack["resume_token"], "delivery": 0}
            await until_written(redis, ack["session_id"], b"es")
            assert (await again.open(resume=resume))["recovered"]
            assert (await client.closed())[0] == 4001
            assert (await third.open(resume=resume))["recovered"], "and back again"
            assert (await again.closed())[0] == 4001
            await third.heartbeat()
            await third.say({"type": "session_close", "session_id": ack["session_id"], "reason": "end"})
            await third.until("session_close_ack")
            with trio.fail_after(PATIENCE_S):
                while redis.do("EXISTS", f"lingua:v2:{{s:{ack['session_id']}}}:resume"):  # noqa: ASYNC110
                    await trio.sleep(0.02)


async def test_without_redis_a_session_goes_on_where_it_is(instances: Instances, redis: RedisServer) -> None:
    a, b = instances("a", "b")
    await joined(a, b)
    with trio.fail_after(2 * PATIENCE_S):
        async with a.working_node(), a.stranger() as client, a.stranger() as again, b.stranger() as other:
            ack = await client.open(resume={})
            redis.stop()
            await a.event("cluster_left")
            await client.speak()
            assert (await client.result())["delivery"] == 1
            await client.say({"type": "result_ack", "session_id": client.session_id, "delivery": 1})
            await client.until("audio_ack")
            resume = {"session_id": ack["session_id"], "resume_token": ack["resume_token"], "delivery": 1}
            assert (await again.open(resume=resume))["recovered"]
            assert not (await other.open(resume=resume))["recovered"]
            redis.start()
            await until_written(redis, ack["session_id"], b"es")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_no_word_is_lost_behind_a_balancer(instances: Instances, number: int) -> None:
    daemons = instances("a", "b", server={"drain_seconds": 10})
    await joined(*daemons)
    balancer, said = Balancer(*daemons), chunks(40)
    with trio.fail_after(4 * PATIENCE_S):
        async with trio.open_nursery() as nursery, balancer.listening() as url:
            nodes = [Echo(await daemon.port()) for daemon in daemons]
            for node in nodes:
                await nursery.start(node.run)
            async with open_session(url, "en", "es") as session:
                session_id = session.session_id

                async def speak() -> None:
                    for count, payload in enumerate(said, start=1):
                        await session.send_audio(payload, "opus")
                        await trio.sleep(0.05)
                        if count % 4 == 0:
                            await session.finish_utterance()
                        if count == 18:
                            (owner,) = (
                                daemon
                                for daemon in daemons
                                if any(event.get("session") == session_id for event in daemon.events)
                            )
                            owner.signal(number)

                nursery.start_soon(speak)
                events, heard = await until_heard(session, 40 * PACKETS - 1)
            nursery.cancel_scope.cancel()
    size = 4 * PACKETS
    assert heard == [list(range(at, at + size)) for at in range(0, 10 * size, size)]
    results = [event for event in events if isinstance(event, TranslationResult)]
    assert [result.utterance_index for result in results] == list(range(10))
    assert [event for event in events if isinstance(event, MissingResult)] == []
    (news,) = [event for event in events if isinstance(event, Reconnected)]
    assert (news.recovered, news.session_id) == (True, session_id)
