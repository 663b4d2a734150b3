"""Utterances leave for the nodes and results for the client in order (session-protocol 4.3, 4.4, 5).

Rules: memory streams and autojump_clock, no threads, no sockets; the peers are real WebSocket clients.
"""

from __future__ import annotations

import pytest
import trio
from harness import Client, Json, Node, daemon_in_memory, plan_a
from trio.testing import MockClock


def outcomes(messages: list[Json]) -> list[tuple[str, int]]:
    """What became of which utterance: `heard`, or the reason why there is nothing."""
    return [(message.get("reason", "heard"), message["utterance_index"]) for message in messages]


async def ask(client: Client, node: Node, count: int) -> list[Json]:
    """Utterances from 0 on and their jobs."""
    for index in range(count):
        await client.utterance(index)
    return [await node.job() for _ in range(count)]


async def told(client: Client) -> list[tuple[str, int]]:
    """What was said of utterances so far."""
    return outcomes(await client.heard("translation_result", "missing_result"))


async def test_missing_result_is_skipped_after_the_gap_and_delivered_late(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        jobs = await ask(client, node, 3)
        await node.answer(jobs[0])
        assert await told(client) == [("heard", 0)]
        await node.answer(jobs[2])
        before = trio.current_time()
        missing = await client.until("missing_result")
        assert trio.current_time() - before == pytest.approx(2.95)
        assert missing["reason"] == "gap_timeout"
        assert missing["utterance_index"] == 1
        assert (await client.result())["utterance_index"] == 2
        await trio.sleep(20)
        await node.answer(jobs[1])
        late = await client.result()
        assert (late["utterance_index"], late["late"]) == (1, True)


async def test_silence_is_told_and_delays_nobody(autojump_clock: MockClock) -> None:
    nothing = {"text_asr": "", "text_translated": "", "tts_audio": ""}
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        jobs = await ask(client, node, 4)
        await node.answer(jobs[3])
        await node.answer(jobs[0], **nothing, extra={"reason": "ASR_EMPTY"})
        await node.answer(jobs[1], **nothing)
        await node.answer(jobs[2], **nothing, extra={"reason": "NO_TEXT_ASSIGNED"}, attempt_id=7)
        assert await told(client) == [
            ("silence_detected", 0),
            ("silence_detected", 1),
            ("merged", 2),
            ("heard", 3),
        ]


async def test_text_without_speech_is_a_result(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        [job] = await ask(client, node, 1)
        await node.answer(job, tts_audio=None, tts_format=None)
        result = await client.result()
        assert (result["tts_audio"], result["tts_format"]) == ("", "pcm16")


async def test_slice_text_is_shown_and_its_number_resolved(autojump_clock: MockClock) -> None:
    """PARTIAL_TURN: the closing slice repeats the whole text (resolutions 20)."""
    async with daemon_in_memory(sessions={"max_duration_ms": 500}) as world:
        node, client = await world.node(), await world.client()
        await client.speak(chunks=2)
        first, second = await node.job(), await node.job()
        await node.answer(first, text_asr="the weather", text_translated="", tts_audio="")
        await node.answer(second, text_asr="the weather is nice")
        partial = await client.until("asr_partial")
        assert (partial["text"], partial["is_final"], partial["utterance_index"]) == ("the weather", True, 0)
        assert await told(client) == [("merged", 0), ("heard", 1)]


async def test_slices_kept_back_are_merged_with_the_end_of_their_turn(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(sessions={"max_duration_ms": 500}) as world:
        node, client = await world.node(), await world.client()
        await client.speak(chunks=5)
        jobs = [await node.job() for _ in range(3)]
        await node.answer(jobs[2], text_asr="all of it")
        assert await told(client) == [("merged", 0), ("merged", 1), ("heard", 2)]


async def test_same_result_twice_is_delivered_once(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        [job] = await ask(client, node, 1)
        for _ in range(3):
            await node.answer(job)
        assert await told(client) == [("heard", 0)]
        await node.answer(job, text_asr="", text_translated="", tts_audio="")
        await node.fail(job)
        assert await told(client) == []


async def test_complete_result_after_an_empty_one_is_delivered(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        [job] = await ask(client, node, 1)
        await node.answer(job, text_asr="", text_translated="", tts_audio="")
        await trio.sleep(20)
        await node.answer(job)
        assert await told(client) == [("silence_detected", 0), ("heard", 0)]


async def test_result_half_a_minute_after_its_job_is_dropped(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        [job] = await ask(client, node, 1)
        await node.answer(job, text_asr="", text_translated="", tts_audio="")
        await trio.sleep(31)
        await node.answer(job)
        assert await told(client) == [("silence_detected", 0)]


async def test_what_is_refused_at_once_comes_after_what_was_decided_before(autojump_clock: MockClock) -> None:
    jobs, nodes = {"max_waiting": 1}, {"max_concurrent_jobs": 2}
    async with daemon_in_memory(jobs=jobs, nodes=nodes) as world:
        node, client, other = await world.node(), await world.client(), await world.client()
        [_, second] = await ask(client, node, 2)
        await other.utterance(0)
        await node.answer(second)
        await node.job()
        await other.utterance(1)
        await client.chunk(plan_a())
        await trio.sleep(3.1)
        assert await told(client) == [("gap_timeout", 0), ("heard", 1), ("node_overloaded", 2)]


async def test_languages_do_not_wait_for_each_other(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await client.utterance(0, tgt_lang="es")
        await client.utterance(1, tgt_lang="zh")
        jobs = [await node.job() for _ in range(2)]
        await node.answer(jobs[1])
        assert await told(client) == [("heard", 1)]


async def test_number_that_never_comes_is_waited_for_only_so_long(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await client.utterance(0)
        await client.utterance(3)
        await client.utterance(2)
        assert (await node.job())["utterance_index"] == 0
        before = trio.current_time()
        assert [(await node.job())["utterance_index"] for _ in range(2)] == [2, 3]
        assert trio.current_time() - before == pytest.approx(0.3)
        await client.utterance(1)
        assert (await node.job())["utterance_index"] == 1


async def test_repeated_utterance_makes_no_second_job(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        [job] = await ask(client, node, 1)
        await client.utterance(0)
        await node.answer(job)
        assert await told(client) == [("heard", 0)]
        await client.utterance(0)
        assert await node.heard("job_assign") == []
        await client.utterance(0, tgt_lang="zh")
        assert (await node.job())["tgt_lang"] == "zh"
        await trio.sleep(301)
        await client.utterance(0)
        await node.job()


async def test_failed_utterance_may_be_sent_again(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        [job] = await ask(client, node, 1)
        await node.fail(job, message="Unsupported audio format: wav")
        assert await told(client) == [("job_failed", 0)]
        await client.utterance(0)
        await node.answer(await node.job())
        assert ("heard", 0) in await told(client)
