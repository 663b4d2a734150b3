"""From chunks on a client's socket to `job_assign` on a node's (session-protocol 3, 4; node-protocol 2.5).

Rules: memory streams and autojump_clock, no threads, no sockets; the peers are real WebSocket clients.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import pytest
import trio
from harness import Client, Json, base64, daemon_in_memory, plan_a
from trio.testing import MockClock

from linguad.wire import opus

FLAGS = ("is_manual_cut", "is_timeout_triggered", "is_max_duration_triggered", "is_pause_triggered")


def flags(job: Json) -> list[str]:
    """The slice flags that are set."""
    return [flag for flag in FLAGS if job.get(flag)]


async def stream(client: Client, chunks: int, first: int = 0) -> None:
    """Speech at its own pace, every chunk with its own mark."""
    for number in range(first, first + chunks):
        await client.chunk(plan_a(mark=number % 250))
        await trio.sleep(0.256)


async def test_final_cuts_after_the_grace(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await client.speak(chunks=3)
        before = trio.current_time()
        job = await node.job()
        assert trio.current_time() - before == pytest.approx(0.04)
        turn_id, job_id = job.pop("turn_id"), job.pop("job_id")
        assert job_id.startswith("job-")
        assert len(turn_id) == 36
        assert job == {
            "type": "job_assign",
            "attempt_id": 1,
            "session_id": client.session_id,
            "utterance_index": 0,
            "src_lang": "en",
            "tgt_lang": "es",
            "features": {},
            "pipeline": {
                "use_asr": True,
                "use_nmt": True,
                "use_tts": True,
                "use_semantic": False,
                "use_tone": False,
                "use_phonetic": False,
                "use_lexicon": False,
            },
            "audio": base64(plan_a() * 3),
            "audio_format": "opus",
            "sample_rate": 16000,
            "mode": "one_way",
            "enable_streaming_asr": True,
            "partial_update_interval_ms": 1000,
            "trace_id": "5b0cf3a2-6a4f-4a44-9d63-0a2f6f6d1f01",
            "padding_ms": 280,
            "is_manual_cut": True,
        }


async def test_chunk_after_the_grace_is_the_next_utterance(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await client.speak(mark=1)
        await trio.sleep(0.2)
        await client.speak(mark=2)
        jobs = [await node.job() for _ in range(2)]
        assert [job["utterance_index"] for job in jobs] == [0, 1]
        assert [job["audio"] for job in jobs] == [base64(plan_a(mark=1) * 3), base64(plan_a(mark=2) * 3)]
        assert jobs[0]["turn_id"] != jobs[1]["turn_id"]


async def test_final_with_audio_cuts_at_once(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        before = trio.current_time()
        await client.chunk(plan_a(packets=20), final=True)
        await node.job()
        assert trio.current_time() == before


async def test_pause_cuts(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await stream(client, 4)
        last = trio.current_time() - 0.256
        job = await node.job()
        assert trio.current_time() - last == pytest.approx(3.0)
        assert flags(job) == ["is_timeout_triggered"]
        assert job["padding_ms"] == 220


async def test_pause_is_reckoned_from_the_last_chunk(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        for _ in range(3):
            await client.chunk(plan_a())
            await trio.sleep(2.9)
        assert await node.heard("job_assign") == []
        assert (await node.job())["audio"] == base64(plan_a() * 3)


async def test_nothing_is_cut_where_nothing_was_said(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        for _ in range(5):
            await client.chunk(final=True)
            await client.chunk()
            await trio.sleep(4)
        await client.drop()
        await trio.sleep(40)
        assert await node.heard("job_assign") == []


async def test_one_huge_chunk_is_cut_as_well(autojump_clock: MockClock) -> None:
    """A paused web client sends minutes in one message (session-protocol 1.9)."""
    async with daemon_in_memory(nodes={"max_concurrent_jobs": 64}) as world:
        node, client = await world.node(), await world.client()
        await client.chunk(plan_a(packets=6001))
        await client.chunk(final=True)
        jobs = [await node.job() for _ in range(13)]
        packets = [opus.walk(b64decode(job["audio"])).packets for job in jobs]
        assert packets == [500] * 12 + [1]


async def test_silence_that_is_ended_again_and_again_is_no_job(autojump_clock: MockClock) -> None:
    """Web clients whose microphone stays open do so for ever (session-protocol 1.9)."""
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        for _ in range(200):
            await client.chunk(plan_a(size=9))
            await client.chunk(final=True)
            await trio.sleep(0.256)
        await client.speak(mark=7)
        job = await node.job()
        assert job["utterance_index"] == 0
        assert job["audio"] == base64(plan_a(size=9) * 7 + plan_a(mark=7) * 3)
        await trio.sleep(10)
        assert len(await node.heard("job_assign")) == 0
        assert world.daemon.view.facts()["open_jobs"] == 1


async def test_short_word_is_a_job_soon(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await client.speak(chunks=1)
        before = trio.current_time()
        job = await node.job()
        assert trio.current_time() - before == pytest.approx(0.3)
        assert (job["audio"], flags(job), job["padding_ms"]) == (base64(plan_a()), ["is_manual_cut"], 280)


async def test_playback_ends_what_was_said(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await stream(client, 2)
        ids = {"session_id": client.session_id, "trace_id": "t", "group_id": "never seen"}
        await client.say({"type": "tts_started", **ids, "ts_start_ms": 1})
        before = trio.current_time()
        assert flags(await node.job()) == ["is_timeout_triggered"]
        assert trio.current_time() == before
        await client.say({"type": "tts_play_ended", **ids, "ts_end_ms": 2})
        await client.speak()
        assert flags(await node.job()) == ["is_manual_cut"]


async def test_final_right_at_a_limit_closes_the_turn(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await client.chunk(plan_a(packets=1000))
        await client.chunk(final=True)
        jobs = [await node.job() for _ in range(2)]
        assert [flags(job) for job in jobs] == [["is_max_duration_triggered"], ["is_manual_cut"]]
        assert jobs[0]["turn_id"] == jobs[1]["turn_id"]


async def test_more_finals_than_the_guard_lets_through_are_merged(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(sessions={"burst_cuts": 2, "cuts_per_second": 0.5}) as world:
        node, client = await world.node(), await world.client()
        for mark in range(1, 6):
            await client.chunk(plan_a(packets=20, mark=mark), final=True)
        before = trio.current_time()
        jobs = [await node.job() for _ in range(3)]
        assert trio.current_time() - before == pytest.approx(2.0)
        pieces = [plan_a(packets=20, mark=mark) for mark in range(1, 6)]
        assert [job["audio"] for job in jobs] == [
            base64(p) for p in (pieces[0], pieces[1], b"".join(pieces[2:]))
        ]
        assert [job["utterance_index"] for job in jobs] == [0, 1, 2]


async def test_too_many_bytes_are_cut(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(sessions={"max_utterance_bytes": 4000, "max_duration_ms": 0}) as world:
        node, client = await world.node(), await world.client()
        for _ in range(5):
            await client.chunk(plan_a(packets=20, size=60))
        job = await node.job()
        assert flags(job) == ["is_max_duration_triggered"]
        assert "padding_ms" in job
        assert opus.walk(b64decode(job["audio"])).packets == 65
        await client.chunk(final=True)
        assert opus.walk(b64decode((await node.job())["audio"])).packets == 35


async def test_lost_socket_cuts(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await client.chunk(plan_a())
        await client.drop()
        job = await node.job()
        assert flags(job) == ["is_manual_cut"]
        assert job["audio"] == base64(plan_a())


async def test_closed_session_leaves_no_job(autojump_clock: MockClock) -> None:
    """Nobody would hear the result (resolutions 16)."""
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await client.chunk(plan_a())
        await client.say({"type": "session_close", "session_id": client.session_id, "reason": "bye"})
        await client.until("session_close_ack")
        await trio.sleep(40)
        assert await node.heard("job_assign") == []


async def test_broken_record_costs_only_what_follows_it(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await client.chunk(plan_a(mark=1))
        await client.chunk(plan_a(packets=2, mark=2) + b"\x40\x00cut short")
        await client.speak(chunks=1, mark=3)
        assert (await node.job())["audio"] == base64(
            plan_a(mark=1) + plan_a(packets=2, mark=2) + plan_a(mark=3)
        )
        assert await client.heard("error") == []


async def test_pcm16_is_told_by_its_first_payload(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        sound = bytes(range(2, 202)) * 82
        await client.chunk(sound[:8192])
        await client.chunk(sound[8192:])
        await client.chunk(final=True)
        job = await node.job()
        assert (job["audio_format"], job["sample_rate"], job["audio"]) == ("pcm16", 16000, base64(sound))


async def test_utterance_message_overrides_its_session(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await client.utterance(
            4,
            bytes(3200),
            src_lang="zh",
            tgt_lang="en",
            audio_format="pcm16",
            trace_id="t-9",
            manual_cut=False,
            pipeline={"use_tts": False},
            features={"emotion_detection": True},
        )
        job = await node.job()
        assert flags(job) == ["is_manual_cut"]
        assert (job["src_lang"], job["tgt_lang"], job["trace_id"]) == ("zh", "en", "t-9")
        assert (job["audio_format"], job["audio"]) == ("pcm16", base64(bytes(3200)))
        assert job["pipeline"]["use_tts"] is False
        assert job["pipeline"]["use_asr"] is True
        assert job["features"] == {"emotion_detection": True}
        assert "padding_ms" not in job


async def test_streamed_speech_continues_the_numbers_of_utterance_messages(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await client.utterance(17)
        await client.speak()
        assert [(await node.job())["utterance_index"] for _ in range(2)] == [17, 18]


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"audio_format": "wav"}, "audio_format"),
        ({"audio": "%%%"}, "audio"),
        ({"sample_rate": 1}, "sample_rate"),
        ({"utterance_index": -1}, "utterance_index"),
    ],
)
async def test_utterance_that_cannot_be_used(
    members: dict[str, Any], named: str, autojump_clock: MockClock
) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await client.utterance(0, **members)
        error = await client.hear()
        assert error["code"] == "INVALID_MESSAGE"
        assert f"member {named}" in error["message"]
        await client.utterance(0)
        assert (await node.job())["utterance_index"] == 0


async def test_empty_utterance_is_answered_without_a_node(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client = await world.client()
        await client.utterance(3, b"")
        missing = await client.hear()
        assert (missing["type"], missing["utterance_index"]) == ("missing_result", 3)
        assert missing["reason"] == "silence_detected"


async def test_silent_tails_behind_their_finals_are_no_utterances(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        client = await world.client()
        for _ in range(7):
            await client.chunk(final=True)
            await client.chunk(plan_a(size=3))
            await trio.sleep(0.256)
        await trio.sleep(10)
        assert await node.heard("job_assign") == []
