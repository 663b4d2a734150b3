"""Rooms over the wire: the transcript and the acceptance lines of session-protocol 11."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from harness import Client, Json, Node, World, daemon_in_memory, plan_a
from trio.testing import MockClock

NAMES = ("job_id", "attempt_id", "session_id", "utterance_index", "trace_id")
"""What a node repeats of a job."""


async def polyglot(world: World) -> Node:
    """A node with room for all that is said here; the test answers for it."""
    return await world.node("p", max_concurrent_jobs=20)


async def create(client: Client, lang: str | None = None) -> str:
    """A room; returns the code. The acknowledgement is the next frame, the members follow."""
    await client.say({"type": "room_create", "client_ts": 0, "preferred_lang": lang})
    ack, listing = await client.hear(), await client.hear()
    assert (ack["type"], listing["type"]) == ("room_create_ack", "room_members")
    code: str = ack["room_code"]
    assert listing["room_code"] == code
    return code


async def join(client: Client, code: str, lang: str | None = None) -> list[str]:
    """Enter a room; returns the ids of its members."""
    await client.say({"type": "room_join", "room_code": code, "preferred_lang": lang})
    ack, listing = await client.hear(), await client.hear()
    assert (ack["type"], listing["type"]) == ("room_create_ack", "room_members")
    assert ack["room_code"] == code
    return members(listing)


def members(listing: Json) -> list[str]:
    return [member["session_id"] for member in listing["members"]]


async def meeting(world: World, *langs: str, **init: Any) -> tuple[str, list[Client]]:
    """Clients in one room, each with a language, and its code; the lists of members have been read."""
    first, *others = [await world.client(src_lang=lang, **init) for lang in langs]
    code = await create(first, langs[0])
    for client, lang in zip(others, langs[1:], strict=True):
        await join(client, code, lang)
    clients = [first, *others]
    for client in clients:
        await client.heard()
    return code, clients


async def jobs(node: Node, count: int) -> dict[str, Json]:
    """So many jobs, by target language."""
    found = [await node.job() for _ in range(count)]
    return {job["tgt_lang"]: job for job in found}


async def test_acknowledgements_come_first_although_the_room_follows_at_once(
    autojump_clock: MockClock,
) -> None:
    async with daemon_in_memory() as world:
        client = await world.stranger()
        await client.say(
            {
                "type": "session_init",
                "client_version": "1",
                "platform": "web",
                "src_lang": "en",
                "tgt_lang": "es",
            }
        )
        await client.say({"type": "room_create", "client_ts": 0})
        kinds = [(await client.hear())["type"] for _ in range(3)]
        assert kinds == ["session_init_ack", "room_create_ack", "room_members"]


async def test_transcript(autojump_clock: MockClock) -> None:
    """11.2: creating, joining, signalling, and one speaks while the other hears."""
    async with daemon_in_memory() as world:
        node = await polyglot(world)
        a, b = await world.client(), await world.client()
        code = await create(a)
        both = [a.session_id, b.session_id]
        assert await join(b, code) == both
        assert members(await a.until("room_members")) == both
        offer = {"type": "webrtc_offer", "room_code": code, "sdp": {"type": "offer", "sdp": "v=0"}}
        await a.say({**offer, "to": b.session_id})
        assert await b.until("webrtc_offer") == {**offer, "to": a.session_id}
        await a.say({"type": "remote_speaking_start", "room_code": code, "ts_ms": 5})
        assert (await b.until("remote_speaking_start"))["from"] == a.session_id
        await a.speak()
        await node.answer(await node.job())
        heard, echo = await b.result(), await a.result()
        assert (heard["session_id"], heard["utterance_index"]) == (a.session_id, 0)
        assert heard["tts_audio"]
        assert (echo["text_asr"], echo["tts_audio"]) == (heard["text_asr"], "")


async def test_three_languages_each_gets_its_own_and_none_waits_for_another(
    autojump_clock: MockClock,
) -> None:
    async with daemon_in_memory() as world:
        node = await polyglot(world)
        _, [a, b, c] = await meeting(world, "en", "es", "zh")
        for _ in range(2):
            await a.speak()
        first, second = await jobs(node, 2), await jobs(node, 2)
        assert first["es"]["session_id"] != first["zh"]["session_id"]
        for job in (first["zh"], second["zh"]):
            await node.answer(job, text_translated=f"zh {job['utterance_index']}")
        assert [(await c.result())["text_translated"] for _ in range(2)] == ["zh 0", "zh 1"]
        assert await b.heard("translation_result") == []
        await node.answer(second["es"], text_translated="es 1")
        await node.answer(first["es"], text_translated="es 0")
        assert [(await b.result())["text_translated"] for _ in range(2)] == ["es 0", "es 1"]
        assert await c.heard("translation_result", "missing_result", "ui_event", "asr_partial") == []
        told = await a.heard("translation_result")
        assert [result["text_translated"] for result in told] == ["es 0", "es 1"]


async def test_two_speakers_with_equal_indexes_reach_a_listener_under_different_ones(
    autojump_clock: MockClock,
) -> None:
    async with daemon_in_memory() as world:
        await world.working_node()
        _, [a, b, c] = await meeting(world, "en", "en", "es")
        for speaker in (a, b, a, b):
            await speaker.speak()
            await speaker.result()
        heard = await c.heard("translation_result")
        assert [result["utterance_index"] for result in heard] == [0, 1, 2, 3]
        assert [result["session_id"] for result in heard] == [a.session_id, b.session_id] * 2


async def test_who_joins_between_cut_and_result_hears_it(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await polyglot(world)
        code, [a, b] = await meeting(world, "en", "es")
        await a.speak()
        job = await node.job()
        late, other = await world.client(), await world.client()
        await join(late, code, "es")
        await join(other, code, "zh")
        await node.answer(job)
        assert (await b.result())["job_id"] == (await late.result())["job_id"]
        assert await other.heard("translation_result") == []


async def test_socket_dropped_in_speech_leaves_the_room_and_is_still_heard(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await polyglot(world)
        _, [a, b] = await meeting(world, "en", "es")
        await a.chunk(plan_a(50))
        await a.heard()
        await a.drop()
        assert members(await b.until("room_members")) == [b.session_id]
        await node.answer(await node.job())
        assert (await b.result())["session_id"] == a.session_id


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
