"""What one client, or many of one address, cannot do to the daemon (docs/abuse.md).

Rules: memory streams and autojump_clock, no threads, no sockets; the peers are real WebSocket clients.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
import trio
from harness import Client, base64, daemon_in_memory, plan_a, session_init
from prometheus_client import REGISTRY
from trio.testing import MockClock, wait_all_tasks_blocked

from linguad.core.outputs import Output
from linguad.net.peer import TrustedProxies
from linguad.sessions.limit import SessionLimit

TOO_MANY = (1013, "too many sessions")


def swallowed() -> float:
    """Errors that clients were not told, so far."""
    return REGISTRY.get_sample_value("linguad_errors_swallowed_total", {"code": "INVALID_MESSAGE"}) or 0.0


async def test_client_that_ends_hundreds_of_utterances_is_told_of_each(autojump_clock: MockClock) -> None:
    every_piece = {"short_merge_threshold_ms": 0, "burst_cuts": 0}
    async with daemon_in_memory(sessions=every_piece) as world:
        client = await world.client()
        for _ in range(500):
            await client.chunk(plan_a(1), final=True)
        await wait_all_tasks_blocked()
        assert world.daemon.view.facts()["open_jobs"] == 64
        refused = await client.heard("missing_result")
        assert [told["utterance_index"] for told in refused] == list(range(64, 500))
        assert {told["reason"] for told in refused} == {"node_overloaded"}
        await trio.sleep(10.1)
        expired = await client.heard("missing_result")
        assert [told["utterance_index"] for told in expired] == list(range(64))
        assert client.connected


async def test_what_waited_behind_slow_ones_leaves_at_once_and_fits(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(nodes={"max_concurrent_jobs": 64}) as world:
        _, client = await world.node(), await world.client()
        for index in range(264):
            await client.utterance(index, plan_a(1) if index < 64 else b"")
        await trio.sleep(3.1)
        told = await client.heard("missing_result")
        assert [message["utterance_index"] for message in told] == list(range(264))
        assert client.connected


async def test_densest_message_there_is(autojump_clock: MockClock) -> None:
    """16 MiB of records of one byte: 22 hours of audio by their number."""
    async with daemon_in_memory(nodes={"max_concurrent_jobs": 64}) as world:
        node, client = await world.node(), await world.client()
        await client.chunk(payload=b64encode(b"\x01\x00\x01" * 4_000_000).decode())
        await client.chunk(final=True)
        jobs = [await node.job() for _ in range(60)]
        assert jobs[-1]["utterance_index"] == 59
        [error] = await client.heard("error", "missing_result")
        assert (error["code"], "payload" in error["message"]) == ("INVALID_MESSAGE", True)


async def test_utterance_that_cannot_be_used_is_told_every_time(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client, before = await world.client(), swallowed()
        for index in range(10):
            await client.utterance(index, audio="%%%")
        heard = await client.heard()
        assert [message["type"] for message in heard] == ["error"] + ["missing_result"] * 10
        assert {message["reason"] for message in heard[1:]} == {"job_failed"}
        assert swallowed() - before == 9
        await client.utterance(10, audio_format="wav")
        assert [message["type"] for message in await client.heard()] == ["error", "missing_result"]


async def test_number_of_streamed_speech_is_taken(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await client.chunk(plan_a(), final=True)
        job = await node.job()
        await client.utterance(0)
        [error] = await client.heard("error", "missing_result")
        assert (error["code"], "utterance_index" in error["message"]) == ("INVALID_MESSAGE", True)
        await node.answer(job)
        assert (await client.result())["utterance_index"] == 0
        assert await node.heard("job_assign") == []


@pytest.mark.parametrize("limit", ["max_sessions", "max_sessions_per_address"])
async def test_so_many_sessions(limit: str, autojump_clock: MockClock) -> None:
    async with daemon_in_memory(sessions={limit: 2}) as world:
        clients = [await world.client() for _ in range(2)]
        await clients[0].drop()
        stranger = await world.stranger()
        await stranger.say(session_init())
        error = await stranger.hear()
        assert (error["type"], error["code"]) == ("error", "NODE_OVERLOADED")
        assert f"sessions.{limit}" in error["message"]
        assert await stranger.closed() == TOO_MANY
        await clients[1].open()
        await trio.sleep(30.1)
        await world.client()


async def test_session_init_longer_than_any_is_refused(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client = await world.stranger()
        await client.say(session_init(dialect="x" * 20_000))
        assert (await client.hear())["code"] == "INVALID_MESSAGE"
        await client.open()


async def paused(client: Client, **members: Any) -> list[dict[str, Any]]:
    """What a client is told of pauses when it sends audio."""
    await client.chunk(plan_a(), **members)
    return await client.heard("backpressure")


async def test_clients_that_send_audio_are_paused_while_memory_is_short(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(server={"max_buffered_bytes": 1}, sessions={"pause_ms": 0}) as world:
        client, gateway = await world.client(), await world.client(platform="api-gateway")
        assert await paused(client) == [], "memory is short only now"
        [pause] = await paused(client)
        assert (pause["action"], pause["resume_after_ms"]) == ("PAUSE", 2000)
        assert await paused(client) == []
        await client.heartbeat()
        await trio.sleep(2)
        assert len(await paused(client)) == 1
        assert await paused(gateway) == []
        await client.chunk(final=True)
        told = await client.until("missing_result")
        assert told["reason"] == "node_overloaded"


async def test_audio_of_a_session_is_counted_until_it_has_a_job_or_is_gone(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(sessions={"pause_ms": 0}) as world:
        client = await world.client()
        held = world.daemon.budget
        await client.chunk(plan_a())
        await client.utterance(0)
        await client.utterance(2)
        await trio.sleep(0.1)
        await client.heard()
        job = len(base64(plan_a()))
        assert held.used == len(plan_a()) + 2 * job
        await trio.sleep(0.3)
        await client.heard()
        assert held.used == len(plan_a()) + 2 * job
        await client.say({"type": "session_close", "session_id": client.session_id, "reason": "bye"})
        await client.until("session_close_ack")
        await wait_all_tasks_blocked()
        assert held.used == 0


class TestSessionLimit:
    def test_each_address_has_its_own(self) -> None:
        limit = SessionLimit(0, 1)
        limit.add("192.0.2.1")
        assert "max_sessions_per_address" in limit.refusal("192.0.2.1")
        assert limit.refusal("192.0.2.2") == ""
        limit.remove("192.0.2.1")
        assert limit.refusal("192.0.2.1") == ""

    def test_network_of_one_customer_is_one_address(self) -> None:
        limit = SessionLimit(0, 1)
        limit.add("2001:db8:0:1::5")
        assert limit.refusal("2001:db8:0:1:ffff::6")
        assert limit.refusal("2001:db8:0:2::5") == ""

    def test_gateways_of_our_own_speak_for_many(self) -> None:
        limit = SessionLimit(3, 1, TrustedProxies(["10.0.0.0/8"]))
        for _ in range(3):
            assert limit.refusal("10.0.0.1") == ""
            limit.add("10.0.0.1")
        assert "sessions.max_sessions" in limit.refusal("10.0.0.1")

    def test_zero_is_no_limit(self) -> None:
        limit = SessionLimit()
        for _ in range(100):
            limit.add("192.0.2.1")
        assert limit.refusal("192.0.2.1") == ""


async def test_a_bug_in_one_session_ends_that_session_alone(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.working_node()
        broken, sound = await world.client(), await world.client()

        def tick(_now: float) -> list[Output]:
            raise ValueError("a bug")

        world.daemon.sessions._sessions[broken.session_id].session.tick = tick  # type: ignore[method-assign]
        await broken.chunk(plan_a(3))
        assert (await broken.closed())[0] == 1011
        await sound.speak()
        assert (await sound.result())["utterance_index"] == 0
        assert world.daemon.view.facts()["sessions"] == 1
