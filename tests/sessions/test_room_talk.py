"""Rooms over the wire, beyond the acceptance lines (see test_conformance_rooms.py; session-protocol 6)."""

from __future__ import annotations

import pytest
import trio
from harness import daemon_in_memory, plan_a, session_init
from meetings import create, jobs, join, meeting, members, polyglot
from trio.testing import MockClock

NAMES = ("job_id", "attempt_id", "session_id", "utterance_index", "trace_id")
"""What a node repeats of a job."""


async def test_who_ends_its_session_is_still_heard_by_the_others(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await polyglot(world)
        _, [a, b] = await meeting(world, "en", "es")
        await a.chunk(plan_a(50))
        await a.say({"type": "session_close", "session_id": a.session_id, "reason": "done"})
        await a.until("session_close_ack", session_id=a.session_id)
        ended = a.session_id
        await a.open()
        assert a.session_id != ended
        assert len(world.daemon.sessions) == 3
        await node.answer(await node.job())
        assert (await b.result())["session_id"] == ended
        await b.heard()
        assert len(world.daemon.sessions) == 2


async def test_who_ends_its_session_alone_costs_no_node_time(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await polyglot(world)
        _, [a] = await meeting(world, "en")
        await a.chunk(plan_a(50))
        await a.say({"type": "session_close", "session_id": a.session_id, "reason": "done"})
        await a.until("session_close_ack")
        assert await node.heard("job_assign", "job_cancel") == []
        assert len(world.daemon.sessions) == 0


async def test_second_session_of_a_socket_leaves_the_room_of_the_first(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        _, [a, b] = await meeting(world, "en", "es")
        await a.open()
        assert members(await b.until("room_members")) == [b.session_id]


async def test_people_of_one_language_read_what_was_said(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await polyglot(world)
        _, [a, b] = await meeting(world, "en", "en")
        await a.speak()
        job = await node.job()
        assert (job["src_lang"], job["tgt_lang"]) == ("en", "en")
        assert job["pipeline"] | {"use_asr": True, "use_nmt": False, "use_tts": False} == job["pipeline"]
        await node.answer(job, text_translated=None, tts_audio=None)
        for reader in (a, b):
            result = await reader.result()
            assert (result["text_asr"], result["text_translated"], result["tts_audio"]) == ("heard 0", "", "")


async def test_two_way_session_is_translated_from_what_was_heard_last(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await polyglot(world)
        pair = {"mode": "two_way_auto", "lang_a": "en", "lang_b": "es", "auto_langs": ["en", "es"]}
        a = await world.client(src_lang="auto", **pair)
        b = await world.client()
        await join(b, await create(a), "zh")
        await a.speak()
        job = await node.job()
        assert (job["src_lang"], job["tgt_lang"], job.get("lang_a")) == ("en", "zh", None)
        await node.answer(job, extra={"language_probabilities": {"en": 0.1, "es": 0.9}})
        await b.result()
        await a.speak()
        job = await node.job()
        assert (job["src_lang"], job["tgt_lang"]) == ("es", "zh")


async def test_numbers_go_on_after_the_room(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await polyglot(world)
        code, [a, b] = await meeting(world, "en", "es", tgt_lang="en")
        for _ in range(3):
            await a.speak()
            await node.answer(await node.job())
            await b.result()
        await b.say({"type": "room_leave", "room_code": code})
        await b.speak()
        await node.answer(await node.job())
        assert (await b.result())["utterance_index"] == 3


async def test_result_that_comes_after_leaving_has_a_number_of_its_own(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await polyglot(world)
        code, [a, b] = await meeting(world, "en", "es", tgt_lang="en")
        for _ in range(2):
            await a.speak()
            await node.answer(await node.job())
            await b.result()
        await b.speak()
        inside = await node.job()
        await b.say({"type": "room_leave", "room_code": code})
        await b.speak()
        outside = await node.job()
        await node.answer(inside)
        await node.answer(outside)
        results = [await b.result() for _ in range(2)]
        assert [result["utterance_index"] for result in results] == [3, 2]
        await b.speak()
        await node.answer(await node.job())
        assert (await b.result())["utterance_index"] == 4


async def test_quiet_room_expires(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        code, [a, b] = await meeting(world, "en", "es")
        await trio.sleep(1700.0)
        assert await a.heard() == []
        for client in (a, b):
            expired = await client.until("room_expired")
            assert expired["room_code"] == code
        await a.say({"type": "room_leave", "room_code": code})
        assert (await a.until("room_error"))["code"] == "ROOM_NOT_FOUND"


@pytest.mark.parametrize("how", ["chunk", "utterance"])
async def test_speech_keeps_a_room(how: str, autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        _, [a, b] = await meeting(world, "en", "es")
        await trio.sleep(1700.0)
        await (a.chunk(plan_a()) if how == "chunk" else a.utterance(0))
        await trio.sleep(1700.0)
        assert await b.heard("room_expired") == []
        # silence is no speech
        await a.chunk()
        await b.until("room_expired")


async def test_progress_is_told_for_one_language_only(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await polyglot(world)
        a, b, c = (await meeting(world, "en", "es", "zh"))[1]
        await a.speak()
        for job in (await jobs(node, 2)).values():
            partial = {"type": "asr_partial", "node_id": node.id, "text": "hel", "is_final": False}
            await node.say({**partial, **{name: job[name] for name in NAMES}})
            await node.answer(job)
        await b.result()
        await c.result()
        told = [message.get("event", message["type"]) for message in await a.heard("ui_event", "asr_partial")]
        assert told.count("asr_partial") == 1
        assert told.count("DISPATCHED") == 1


async def test_gap_of_a_language_the_speaker_does_not_read_is_not_told(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(sessions={"gap_timeout_ms": 1000}) as world:
        node = await polyglot(world)
        a, _, c = (await meeting(world, "en", "es", "zh"))[1]
        made = []
        for _ in range(2):
            await a.speak()
            made.append(await jobs(node, 2))
        for job in (made[0]["es"], made[1]["es"], made[1]["zh"]):
            await node.answer(job)
        await trio.sleep(2.0)
        assert len(await c.heard("translation_result")) == 1
        assert await a.heard("missing_result") == []


async def test_languages_count_as_open_utterances(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(sessions={"max_open_utterances": 3}) as world:
        node = await polyglot(world)
        a = (await meeting(world, "en", "es", "zh"))[1][0]
        await a.speak()
        await a.speak()
        assert (await a.until("missing_result"))["reason"] == "node_overloaded"
        assert len(await node.heard("job_assign")) == 2


async def test_gateways_may_not_join(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        gateway = await world.client(platform="api-gateway")
        await gateway.say({"type": "room_create", "client_ts": 0})
        assert (await gateway.until("room_error"))["code"] == "UNSUPPORTED_FEATURE"


@pytest.mark.parametrize("lost", ["es", "zh"])
async def test_language_that_fails_does_not_keep_the_other_from_its_listener(
    lost: str, autojump_clock: MockClock
) -> None:
    async with daemon_in_memory(jobs={"failover_max_attempts": 1}) as world:
        node = await polyglot(world)
        _, [a, b, c] = await meeting(world, "en", "es", "zh")
        await a.speak()
        made = await jobs(node, 2)
        await node.fail(made.pop(lost))
        await node.fail(await node.job())
        (job,) = made.values()
        await node.answer(job)
        lucky, other = (c, b) if lost == "es" else (b, c)
        assert (await lucky.result())["job_id"]
        assert await other.heard("translation_result") == []
        told = await a.heard("missing_result", "translation_result")
        assert [message["type"] for message in told] == [
            "missing_result" if lost == "es" else "translation_result"
        ]


async def test_second_hello_of_a_speaker_is_still_heard(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await polyglot(world)
        _, [a, b] = await meeting(world, "en", "es")
        await a.chunk(plan_a(40))
        await a.heard()
        await a.say(session_init())
        await node.answer(await node.job())
        assert (await b.result())["text_translated"] == "oído 0"


async def test_who_leaves_hears_that_nobody_serves_its_own_language(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await polyglot(world)
        a = await world.client(tgt_lang="fr")
        code = await create(a, "es")
        a.minds_languages = True
        await a.heard()
        await a.say({"type": "room_leave", "room_code": code})
        assert (await a.until("ui_event"))["details"]["tgt"] == "fr"


async def test_member_that_changes_its_mind_without_end_disturbs_nobody(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        code, [a, b] = await meeting(world, "en", "es")
        await b.heard()
        wish = {"type": "room_raw_voice_preference", "room_code": code, "target_session_id": b.session_id}
        for _ in range(50):
            await a.say(wish | {"receive_raw_voice": True})
        assert len(await b.heard("room_members")) == 1
        for number in range(100):
            await a.say(wish | {"receive_raw_voice": bool(number % 2)})
        assert len(await b.heard("room_members")) < 20
        assert (await a.until("room_error"))["code"] == "NODE_OVERLOADED"
