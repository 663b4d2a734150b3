"""The earlier API gateway as a client: a connection for the session, another for each utterance (1.11)."""

from __future__ import annotations

import pytest
from harness import Client, World, daemon_in_memory, plan_a
from trio.testing import MockClock


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
