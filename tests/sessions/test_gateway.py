"""The earlier API gateway as a client: a connection for the session, another for each utterance (1.11)."""

from __future__ import annotations

import pytest
import trio
from harness import Client, Json, World, base64, daemon_in_memory, plan_a
from trio.testing import MockClock, wait_all_tasks_blocked


async def session_of(world: World) -> str:
    """Open a session as the gateway does, and drop the connection."""
    first = await world.stranger()
    ack = await first.open(platform="api-gateway", client_version="1.0.0", features=None, tenant_id="shop")
    await first.drop()
    session_id: str = ack["session_id"]
    return session_id


async def call(world: World, session_id: str, index: int, sound: bytes | None = None) -> Client:
    """A connection that sends one utterance of the session."""
    client = await world.stranger()
    client.session_id = session_id
    await client.utterance(index, sound, manual_cut=False)
    return client


async def test_each_utterance_has_a_connection_and_its_result_comes_there(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.working_node()
        session_id = await session_of(world)
        for index in range(3):
            client = await call(world, session_id, index)
            result = await client.result()
            assert (result["utterance_index"], result["session_id"]) == (index, session_id)
            assert result["text_translated"] == f"oído {index}"
            assert result["processing_time_ms"] == 120
            await client.drop()


async def test_the_newest_connection_owns_the_session(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.working_node()
        session_id = await session_of(world)
        old = await call(world, session_id, 0)
        await old.result()
        new = await call(world, session_id, 1)
        assert (await new.result())["utterance_index"] == 1
        assert await old.heard("translation_result") == []
        await old.drop()
        third = await call(world, session_id, 2)
        assert (await third.result())["utterance_index"] == 2


async def test_what_an_older_connection_says_late_is_refused(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.working_node()
        session_id = await session_of(world)
        old = await world.stranger()
        await trio.sleep(1.0)
        new = await call(world, session_id, 0)
        old.session_id = session_id
        await old.utterance(0, manual_cut=False)
        assert (await old.closed())[0] == 1008
        assert (await new.result())["utterance_index"] == 0


async def test_silence_after_a_call_that_was_broken_off(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        session_id = await session_of(world)
        first = await call(world, session_id, 0)
        job = await node.job()
        await first.drop()
        second = await call(world, session_id, 0, b"")
        assert (await second.result())["text_translated"] == ""
        await node.answer(job)
        assert await second.heard("translation_result") == []


@pytest.mark.parametrize("reason", ["ASR_EMPTY", "NO_TEXT_ASSIGNED"])
async def test_silence_is_an_empty_result(reason: str, autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        session_id = await session_of(world)
        client = await call(world, session_id, 0)
        nothing = {"text_asr": "", "text_translated": "", "tts_audio": "", "extra": {"reason": reason}}
        await node.answer(await node.job(), **nothing)
        result = await client.result()
        assert (result["text_asr"], result["text_translated"], result["tts_audio"]) == ("", "", "")
        assert await client.heard("translation_result", "missing_result") == []


async def test_no_sound_is_an_empty_result(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        session_id = await session_of(world)
        client = await call(world, session_id, 0, b"")
        assert (await client.result())["text_translated"] == ""


async def test_failure_is_an_empty_result_and_the_index_may_come_again(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        session_id = await session_of(world)
        client = await call(world, session_id, 0)
        assert (await client.result())["text_translated"] == ""
        await client.drop()
        await world.working_node()
        again = await call(world, session_id, 0, plan_a(20))
        assert (await again.result())["text_translated"] == "oído 0"


async def test_sessions_of_others_are_not_to_be_had(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        owner = await world.client()
        thief = await world.stranger()
        thief.session_id = owner.session_id
        await thief.utterance(0)
        assert (await thief.hear())["code"] == "INVALID_SESSION"
        assert (await thief.closed())[0] == 1008


async def texts(caller: Client) -> list[tuple[int, str]]:
    """Index and text of each result that came."""
    results = await caller.heard("translation_result")
    return [(result["utterance_index"], result["text_translated"]) for result in results]


async def test_late_answer_is_not_taken_for_that_of_the_next_call(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        session_id = await session_of(world)
        first = await call(world, session_id, 0)
        job = await node.job()
        await node.answer(job, text_asr="", text_translated="", tts_audio="", extra={"reason": "ASR_EMPTY"})
        assert await texts(first) == [(0, "")]
        second = await call(world, session_id, 1)
        await node.answer(job)
        await wait_all_tasks_blocked()
        await node.answer(await node.job())
        assert await texts(second) == [(1, "oído 1")]


async def test_retry_has_one_answer_whichever_job_gives_it(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(jobs={"failover_max_attempts": 1}) as world:
        node = await world.node()
        session_id = await session_of(world)
        first = await call(world, session_id, 0)
        job = await node.job()
        await node.fail(job)
        await node.fail(await node.job())
        assert await texts(first) == [(0, "")]
        second = await call(world, session_id, 0)
        retried = await node.job()
        await node.answer(job)
        assert await texts(second) == [(0, "oído 0")]
        third = await call(world, session_id, 1)
        await node.fail(retried)
        assert await texts(third) == []
        await node.answer(await node.job())
        assert await texts(third) == [(1, "oído 1")]


async def test_call_that_was_broken_off_does_not_answer_another(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        session_id = await session_of(world)
        first = await call(world, session_id, 0, plan_a(20, mark=1))
        old = await node.job()
        await first.drop()
        second = await call(world, session_id, 0, plan_a(20, mark=2))
        new = await node.job()
        assert new["audio"] == base64(plan_a(20, mark=2))
        await node.answer(old, text_translated="old")
        await node.answer(new, text_translated="new")
        assert await texts(second) == [(0, "new")]


@pytest.mark.parametrize("members", [{"sample_rate": 4000}, {"audio_format": "wav"}, {"audio": "no base64"}])
async def test_audio_of_no_use_has_an_empty_answer(members: Json, autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        session_id = await session_of(world)
        caller = await world.stranger()
        caller.session_id = session_id
        await caller.utterance(0, **members)
        assert await texts(caller) == [(0, "")]


async def test_message_of_no_use_closes(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        session_id = await session_of(world)
        caller = await world.stranger()
        await caller.say({"type": "utterance", "session_id": session_id})
        assert await caller.closed() == (1008, "message cannot be used")


async def test_what_was_said_in_the_call_before_is_context(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        session_id = await session_of(world)
        first = await call(world, session_id, 0)
        await node.answer(await node.job())
        await first.result()
        await first.drop()
        await call(world, session_id, 1)
        assert (await node.job())["context_text"] == "User: heard 0\nTarget: oído 0"
