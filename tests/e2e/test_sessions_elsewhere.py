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
from counting import Echo
from harness import plan_a
from processes import PATIENCE_S, DaemonProcess, linguad
from redis_server import RedisServer
from talkers import PATIENT, joined, talk

APART: dict[str, Any] = {"gateway": {"enabled": False}, "hub": {"enabled": False}}
HEARTBEAT_S = 3.0
"""A kill is noticed soon, and nobody is taken for dead because the machine is busy, s."""


DRAINS = {"drain_seconds": 3}
"""People who go on talking stay to the end of it."""


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
        cluster = {"redis_url": redis.url, "heartbeat_seconds": HEARTBEAT_S}
        return [start(cluster=cluster | {"instance_id": name}, **APART, **tables) for name in names]

    return begin


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
            assert redone["session_id"] != job["session_id"], "a node may have had it before"
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


async def test_two_instances_race_for_a_session(instances: Instances, redis: RedisServer) -> None:
    a, b, c = instances("a", "b", "c")
    await joined(a, b, c)
    with trio.fail_after(2 * PATIENCE_S):
        async with a.stranger() as client, b.stranger() as one, c.stranger() as other:
            ack = await client.open(resume={})
            resume = {"session_id": ack["session_id"], "resume_token": ack["resume_token"], "delivery": 0}
            await until_written(redis, ack["session_id"], b"es")
            async with trio.open_nursery() as nursery:
                for racer in (one, other):
                    nursery.start_soon(lambda racer=racer: racer.open(resume=resume))
            owner = redis.do("HGET", f"lingua:v2:{{s:{ack['session_id']}}}:lease", "instance")
            winner, loser = (one, other) if owner == b"b" else (other, one)
            assert (await loser.closed())[0] == (await client.closed())[0] == 4001
            assert winner.session_id == ack["session_id"]
            await winner.heartbeat()


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
async def test_no_word_is_lost_when_an_instance_goes(instances: Instances, number: int) -> None:
    daemons = instances("a", "b", server=DRAINS, **PATIENT)
    await joined(*daemons)
    balancer = Balancer(*daemons)
    with trio.fail_after(4 * PATIENCE_S):
        async with trio.open_nursery() as nursery, balancer.listening() as url:
            for daemon in daemons:
                await nursery.start(Echo(await daemon.port()).run)
            enough = trio.Event()

            async def kill() -> None:
                owner = await balancer.chosen()
                await trio.sleep(1.0)
                owner.signal(number)
                await owner.ended()
                await trio.sleep(1.0)
                enough.set()

            nursery.start_soon(kill)
            assert await talk(url, 0.1, enough) == 1
            nursery.cancel_scope.cancel()


async def test_an_upgrade_of_all_instances_is_not_felt(instances: Instances) -> None:
    """One after the other is drained and replaced, while people talk."""
    daemons = instances("a", "b", "c", server=DRAINS, **PATIENT)
    await joined(*daemons)
    balancer, lost, talkers = Balancer(*daemons), [], 6
    with trio.fail_after(6 * PATIENCE_S):
        async with trio.open_nursery() as nursery, balancer.listening() as url:
            for daemon in daemons:
                await nursery.start(Echo(await daemon.port()).run)
            async with trio.open_nursery() as people:
                enough = trio.Event()

                async def person() -> None:
                    lost.append(await talk(url, 0.15, enough))

                for _ in range(talkers):
                    people.start_soon(person)
                for daemon, name in zip(daemons, "def", strict=True):
                    await trio.sleep(1.0)
                    answer = await drained(daemon)
                    assert answer["draining"]
                    assert await daemon.ended() == 0
                    (new,) = instances(name, server=DRAINS, **PATIENT)
                    await nursery.start(Echo(await new.port()).run)
                    balancer.instances.append(new)
                enough.set()
            nursery.cancel_scope.cancel()
    assert len(lost) == talkers
    assert sum(lost) >= talkers, "they did move"


async def drained(daemon: DaemonProcess) -> dict[str, Any]:
    """What `linguad drain` is told."""
    words = ("drain", "--json", "--server", f"http://127.0.0.1:{await daemon.port()}")
    done = await trio.to_thread.run_sync(lambda: linguad(*words))
    assert done.returncode == 0, done
    said: dict[str, Any] = json.loads(done.stdout)
    return said


async def test_a_pairing_code_is_good_at_another_instance(instances: Instances, redis: RedisServer) -> None:
    a, b = instances("a", "b")
    await joined(a, b)
    with trio.fail_after(2 * PATIENCE_S):
        async with a.node(node_id="mine", accept_public_jobs=False) as node, b.stranger() as client:
            while "mine" not in (await b.get("/api/v1/nodes"))[1]:  # noqa: ASYNC110
                await trio.sleep(0.05)
            await node.say({"type": "request_pairing_code"})
            code = (await node.until("pairing_code"))["code"]
            while not redis.do("EXISTS", f"lingua:v2:{{pair:{code}}}"):  # noqa: ASYNC110
                await trio.sleep(0.02)
            ack = await client.open(pairing_code=code)
            assert ack["assigned_node_id"] == "mine"
            await client.utterance(0)
            await node.answer(await node.job())
            assert (await client.result())["text_asr"] == "heard 0"
            async with a.client(pairing_code=code) as second:
                assert (await second.until("error"))["code"] == "INVALID_PAIRING_CODE"
