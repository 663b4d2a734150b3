"""Sessions of the public API in process: what is said, what comes back, and how they end (gateway 8)."""

from __future__ import annotations

from base64 import b64decode
from contextlib import suppress

import pytest
import trio
from harness import World, daemon_in_memory
from trio.testing import MockClock, wait_all_tasks_blocked

from linguad.core.tenant import DEFAULT_SCOPES, Caller, Tenant
from linguad.errors import CloseReason
from linguad.gateway.speech.talk import Talk, TalkEnded, Talks, TalkSpec
from linguad.sessions.inside import Inside
from linguad.wire.session import AudioAck, MissingResult, ServerMessage, TranslationResult

SECOND = bytes(range(1, 251)) * 128
"""A second of sound that is not silence, PCM16 at 16 kHz."""

SHOP = Caller(
    tenant=Tenant(id="shop", name="Shop", created_at=0, updated_at=0), key_id="k1", scopes=DEFAULT_SCOPES
)
EN_ES = TalkSpec(src_lang="en", tgt_lang="es")


def talks(world: World) -> Talks:
    return Talks(Inside(world.daemon.sessions, trio.current_time))


def open_talk(world: World, spec: TalkSpec = EN_ES) -> Talk:
    return talks(world).open(SHOP, spec, "198.51.100.7")


async def answers(talk: Talk) -> list[ServerMessage]:
    """What comes until nothing more will, without progress."""
    heard = []
    with trio.fail_after(600):
        while True:
            try:
                message = await talk.receive()
            except TalkEnded:
                return heard
            if isinstance(message, TranslationResult | MissingResult):
                heard.append(message)


async def last_word(talk: Talk) -> None:
    """Listen until the talk ends."""
    with trio.fail_after(600):
        while True:
            await talk.receive()


async def test_whole_utterances_are_answered_in_order(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.working_node()
        with open_talk(world) as talk:
            assert [talk.utterance(SECOND) for _ in range(3)] == [0, 1, 2]
            talk.hang_up()
            results = await answers(talk)
        texts = [result.text_translated for result in results if isinstance(result, TranslationResult)]
        assert texts == ["oído 0", "oído 1", "oído 2"]
        assert world.daemon.view.facts()["sessions"] == 0


async def test_streamed_speech_is_cut_by_the_core(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(sessions={"max_duration_ms": 2000}) as world:
        node = await world.node()
        with open_talk(world) as talk:
            for _ in range(5):
                talk.chunk(SECOND)
            talk.hang_up()
            jobs = [await node.job() for _ in range(3)]
            for job in jobs:
                await node.answer(job)
            results = await answers(talk)
        assert [job["audio_format"] for job in jobs] == ["pcm16"] * 3
        assert b"".join(b64decode(job["audio"]) for job in jobs) == SECOND * 5
        assert [type(result) for result in results] == [TranslationResult] * 3


async def test_what_the_session_is_for_reaches_the_node(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        spec = TalkSpec(
            src_lang="auto", tgt_lang="en", mode="two_way_auto", lang_a="zh", lang_b="en", tts=False
        )
        with open_talk(world, spec) as talk:
            talk.chunk(SECOND, final=True)
            job = await node.job()
            assert (job["lang_a"], job["lang_b"], job["mode"]) == ("zh", "en", "two_way_auto")
            assert job["pipeline"]["use_tts"] is False
            (record,) = world.daemon.dispatch.explain(talk.session_id + ":0", trio.current_time()) or [{}]
            assert record


async def test_which_audio_is_answered(autojump_clock: MockClock) -> None:
    """What was not may be sent again in another session."""
    async with daemon_in_memory() as world:
        await world.working_node()
        acked = []
        with open_talk(world, TalkSpec(src_lang="en", tgt_lang="es", acks=True)) as talk:
            for final in (False, True, False, True):
                talk.chunk(SECOND, final=final)
            talk.hang_up()
            with suppress(TalkEnded):
                while True:
                    message = await talk.receive()
                    if isinstance(message, AudioAck):
                        acked.append(message.seq)
        assert acked[-1] == 3
        assert set(acked) <= {1, 3}


async def test_leaving_ends_the_session_and_cancels_its_jobs(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        with open_talk(world) as talk:
            talk.utterance(SECOND)
            job = await node.job()
        assert world.daemon.view.facts()["sessions"] == 0
        assert (await node.until("job_cancel"))["job_id"] == job["job_id"]


async def test_a_deadline_leaves_time_for_another_node(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.node("node-SILENT01")
        start = trio.current_time()
        with open_talk(world, TalkSpec(src_lang="en", tgt_lang="es", answer_by=start + 20)) as talk:
            talk.utterance(SECOND)
            await wait_all_tasks_blocked()
            await world.working_node()
            talk.hang_up()
            (result,) = await answers(talk)
        assert isinstance(result, TranslationResult)
        assert trio.current_time() - start == pytest.approx(10, abs=0.1)


async def test_a_server_that_is_full_opens_none(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(sessions={"max_sessions": 1}) as world:
        with open_talk(world):
            with pytest.raises(TalkEnded) as caught:
                open_talk(world)
            assert caught.value.reason is CloseReason.TOO_MANY_SESSIONS
        with open_talk(world):
            pass


async def test_a_bug_in_the_session_ends_the_talk(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with daemon_in_memory() as world:
        with open_talk(world) as talk:
            session = next(iter(world.daemon.sessions._sessions)).session
            monkeypatch.setattr(session, "tick", lambda now: 1 / 0)
            talk.chunk(SECOND)
            with pytest.raises(TalkEnded) as caught:
                await last_word(talk)
            assert caught.value.reason is CloseReason.INTERNAL_ERROR
        assert world.daemon.view.facts()["sessions"] == 0
