"""What every implementation must pass: session-protocol 11.1, and the lines of 11.3 on one session, in order.

Rooms, the gateway and pairing are in test_conformance_rooms.py. Rules: memory streams and autojump_clock, no
threads, no sockets; the peers are real WebSocket clients.
"""

from __future__ import annotations

from base64 import b64decode
from itertools import permutations

import pytest
import trio
from harness import (
    CHUNK_PACKETS,
    TWO_WAY,
    Client,
    Json,
    Node,
    base64,
    daemon_in_memory,
    plan_a,
    session_init,
)
from trio.testing import MockClock, wait_all_tasks_blocked

from linguad.wire import opus

NOTHING = {"text_asr": "", "text_translated": "", "tts_audio": ""}
"""An answer without text."""

SILENCE = plan_a(size=9)
"""A chunk in which nobody speaks."""


def story(messages: list[Json]) -> list[str]:
    """What was told, in a word each."""
    return [message.get("event", message["type"]) for message in messages]


async def told(client: Client) -> list[tuple[str, int]]:
    """What became of which utterance: `heard`, or the reason why there is nothing."""
    messages = await client.heard("translation_result", "missing_result")
    return [(message.get("reason", "heard"), message["utterance_index"]) for message in messages]


async def three_jobs(client: Client, node: Node) -> list[Json]:
    """Those of utterances 0, 1 and 2."""
    for index in range(3):
        await client.utterance(index)
    return [await node.job() for _ in range(3)]


async def test_transcript_11_1(autojump_clock: MockClock) -> None:
    """The unmodified web client in two-way mode, message by message."""
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.stranger()
        # 2: the acknowledgement is the first frame
        ack = await client.open(**TWO_WAY)
        assert 0 < len(ack["session_id"].encode()) <= 255
        assert (ack["trace_id"], ack["use_binary_frame"]) == (session_init()["trace_id"], False)
        # 3: numbers go on from an earlier connection
        client.seq = 41
        for mark in range(4):
            await client.chunk(plan_a(mark=mark))
            await trio.sleep(0.256)
        assert story(await client.heard()) == ["INPUT_STARTED"]
        # 4: the final is empty
        await client.chunk(final=True)
        job = await node.job()
        assert job["audio"] == base64(b"".join(plan_a(mark=mark) for mark in range(4)))
        assert {name: job[name] for name in TWO_WAY} == TWO_WAY
        assert (job["audio_format"], job["is_manual_cut"], job["padding_ms"]) == ("opus", True, 280)
        ids = {"session_id": client.session_id, "job_id": job["job_id"], "utterance_index": 0}
        await node.say({"type": "job_ack", "node_id": node.id, **ids, "attempt_id": 1, "trace_id": "t"})
        ended, dispatched, accepted = await client.heard()
        assert story([ended, accepted]) == ["INPUT_ENDED", "NODE_ACCEPTED"]
        event = {"type": "ui_event", "trace_id": ack["trace_id"], **ids, "event": "DISPATCHED"}
        assert dispatched == {**event, "status": "ok", "elapsed_ms": 0}
        words = {"text": "the wea", "is_final": False}
        await node.say({"type": "asr_partial", "node_id": node.id, **ids, **words, "trace_id": "t"})
        partial, shown = await client.heard()
        assert partial == {"type": "asr_partial", **ids, **words, "trace_id": ack["trace_id"]}
        assert story([shown]) == ["ASR_PARTIAL"]
        # 5: the result has its group, and the node's packets untouched
        await trio.sleep(1)
        await node.answer(job, tts_format="opus")
        *events, result = await client.heard()
        assert story(events) == ["ASR_FINAL", "NMT_DONE"]
        expected = {"type": "translation_result", **ids, "trace_id": ack["trace_id"], "part_index": 0}
        texts = {"text_asr": "heard 0", "text_translated": "oído 0"}
        speech = {"tts_audio": base64(plan_a(5)), "tts_format": "opus", "processing_time_ms": 120}
        assert expected | texts | speech | result == result
        assert result["service_timings"] == {"total_ms": 120}
        assert result["time_breakdown"]["send_ms"] == pytest.approx(880, abs=5)
        assert "late" not in result
        # 6: it is played, and speech goes on half a second later
        names = ("session_id", "trace_id", "group_id")
        playing = {name: result[name] for name in names}
        await client.say({"type": "tts_started", **playing, "ts_start_ms": 1769900000000})
        await trio.sleep(6)
        await client.say({"type": "tts_play_ended", **playing, "ts_end_ms": 1769900006000})
        await trio.sleep(0.6)
        assert story(await client.heard()) == ["TTS_PLAY_STARTED", "TTS_PLAY_ENDED"]
        await client.speak(mark=9)
        job = await node.job()
        assert (job["utterance_index"], job["audio"]) == (1, base64(plan_a(mark=9) * 3))
        assert (job["group_id"], job["context_text"]) == (
            result["group_id"],
            "User: heard 0\nTarget: oído 0",
        )
        await node.answer(job)
        again = await client.result()
        assert (again["group_id"], again["part_index"]) == (result["group_id"], 1)
        # 7: every 30 s
        for _ in range(3):
            await trio.sleep(30)
            await client.heartbeat()
        assert await client.heard() == []
        # 8: the page is closed while somebody speaks
        await client.chunk(plan_a(mark=5))
        await client.drop()
        job = await node.job()
        assert (job["utterance_index"], job["audio"]) == (2, base64(plan_a(mark=5)))
        assert world.daemon.view.facts()["sessions"] == 1
        assert await node.until("job_cancel") == {
            "type": "job_cancel",
            "job_id": job["job_id"],
            "trace_id": ack["trace_id"],
            "reason": "session_closed",
        }
        assert world.daemon.view.facts()["sessions"] == 0
        assert world.daemon.view.facts()["open_jobs"] == 0


async def test_silence_of_65_s_and_of_10_min_then_speech(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.working_node()
        client = await world.client()
        for index, pause_s in enumerate((65, 600, 3600)):
            await trio.sleep(pause_s)
            await client.speak()
            assert (await client.result())["utterance_index"] == index


async def test_no_nodes_for_5_s_then_one_appears(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client = await world.client()
        await client.speak(mark=1)
        await trio.sleep(1)
        await client.speak(mark=2)
        await trio.sleep(4)
        await world.working_node()
        assert [(await client.result())["utterance_index"] for _ in range(2)] == [0, 1]
        await client.speak(mark=3)
        assert (await client.result())["utterance_index"] == 2


async def test_no_nodes_at_all(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client = await world.client()
        await client.speak()
        before = trio.current_time()
        event = await client.until("ui_event", event="ERROR")
        assert (event["error_code"], event["utterance_index"]) == ("NO_AVAILABLE_NODE", 0)
        assert trio.current_time() - before <= 10.1
        assert await told(client) == [("no_available_node", 0)]
        assert await client.heard("error") == []
        await world.working_node()
        await client.speak()
        assert (await client.result())["utterance_index"] == 1


async def test_final_before_its_tail(autojump_clock: MockClock) -> None:
    """Numbers n and n + 1 within 5 ms; the next chunk, 256 ms later, is the next utterance."""
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await client.speak(chunks=2, mark=1)
        await trio.sleep(0.005)
        await client.chunk(plan_a(mark=2))
        assert (await node.job())["audio"] == base64(plan_a(mark=1) * 2 + plan_a(mark=2))
        await trio.sleep(0.256)
        await client.speak(mark=3)
        job = await node.job()
        assert (job["audio"], job["utterance_index"]) == (base64(plan_a(mark=3) * 3), 1)


@pytest.mark.parametrize("final_first", [False, True])
async def test_seven_times_a_silent_chunk_and_its_final(final_first: bool, autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await client.speak()
        await node.answer(await node.job())
        for _ in range(7):
            for final in (final_first, not final_first):
                await client.chunk(b"" if final else SILENCE, final=final)
            await trio.sleep(0.256)
        await trio.sleep(60)
        assert await node.heard("job_assign") == []
        assert await told(client) == [("heard", 0)]
        await client.speak(mark=2)
        job = await node.job()
        assert (job["utterance_index"], job["audio"]) == (1, base64(plan_a(mark=2) * 3))


async def test_35_s_of_speech_without_a_pause(autojump_clock: MockClock) -> None:
    """Three slices and the rest, all on one node, no byte lost or twice."""
    async with daemon_in_memory() as world:
        nodes = [await world.node() for _ in range(3)]
        client = await world.client()
        chunks = 135
        for number in range(chunks):
            await client.chunk(plan_a(mark=number))
            await trio.sleep(0.256)
        await client.chunk(final=True)
        await trio.sleep(1)
        by_node = [await node.heard("job_assign") for node in nodes]
        [jobs] = [jobs for jobs in by_node if jobs]
        assert [job["utterance_index"] for job in jobs] == [0, 1, 2, 3]
        assert [job.get("is_max_duration_triggered") for job in jobs] == [True, True, True, None]
        assert [job.get("is_manual_cut") for job in jobs] == [None, None, None, True]
        assert [job["padding_ms"] for job in jobs] == [220, 220, 220, 280]
        assert len({job["turn_id"] for job in jobs}) == 1
        heard = [b64decode(job["audio"]) for job in jobs]
        assert [opus.walk(audio).packets for audio in heard] == [500, 500, 500, chunks * CHUNK_PACKETS - 1500]
        assert b"".join(heard) == b"".join(plan_a(mark=number) for number in range(chunks))


async def test_results_2_0_1(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        jobs = await three_jobs(client, node)
        await node.answer(jobs[2])
        assert await told(client) == []
        await node.answer(jobs[0])
        assert await told(client) == [("heard", 0)]
        await node.answer(jobs[1])
        assert await told(client) == [("heard", 1), ("heard", 2)]


async def test_results_2_0_and_1_is_lost(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        jobs = await three_jobs(client, node)
        await node.answer(jobs[2])
        before = trio.current_time()
        await node.answer(jobs[0])
        assert await told(client) == [("heard", 0)]
        missing = await client.until("missing_result")
        assert (missing["reason"], missing["utterance_index"]) == ("gap_timeout", 1)
        assert trio.current_time() - before == pytest.approx(2.95, abs=0.01)
        assert await told(client) == [("heard", 2)]


async def test_empty_acknowledgement_for_1(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        jobs = await three_jobs(client, node)
        await node.answer(jobs[2])
        await node.answer(jobs[0])
        await node.answer(jobs[1], **NOTHING, extra={"reason": "ASR_EMPTY"})
        assert await told(client) == [("heard", 0), ("silence_detected", 1), ("heard", 2)]


@pytest.mark.parametrize(
    "order", list(permutations(["stale empty", "stale", "empty", "complete"])), ids=" ".join
)
async def test_duplicate_result_stale_attempt_and_empty_then_complete(
    order: tuple[str, ...], autojump_clock: MockClock
) -> None:
    """Whoever answers what: one complete delivery, of the first complete result."""
    async with daemon_in_memory() as world:
        first, client = await world.node(), await world.client()
        await client.utterance(0)
        stale = await first.job()
        second = await world.node()
        await first.until("job_cancel", reason="job_timeout")
        job = await second.job()
        assert job["attempt_id"] == 2
        for step in (step for step in order for _ in range(2)):
            node, asked = (first, stale) if step.startswith("stale") else (second, job)
            if step.endswith("empty"):
                await node.answer(asked, **NOTHING, extra={"reason": "ASR_EMPTY"})
            else:
                await node.answer(asked, text_translated=step)
            await wait_all_tasks_blocked()
        heard = await client.heard("translation_result")
        complete = [step for step in order if not step.endswith("empty")]
        assert [result["text_translated"] for result in heard] == complete[:1]
        await client.utterance(1)
        await second.answer(await second.job())
        assert await told(client) == [("heard", 1)]


@pytest.mark.parametrize(
    "bad",
    [
        '{"type":"audio_chunk","session_id":',
        {"type": "no such type"},
        {"type": "audio_chunk", "seq": 5, "is_final": False, "payload": ""},
        {"type": "utterance", "utterance_index": 5, "audio": "", "audio_format": "opus"},
    ],
    ids=["no JSON", "unknown type", "missing session_id", "missing member"],
)
async def test_message_that_is_none(bad: Json | str, autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.working_node()
        client = await world.client()
        for _ in range(20):
            await client.say(bad)
        assert [error["code"] for error in await client.heard()] == ["INVALID_MESSAGE"]
        await client.speak()
        assert (await client.result())["utterance_index"] == 0


async def test_bad_base64(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await client.chunk(plan_a())
        for _ in range(20):
            await client.chunk(payload="/w==/w")
        assert [error["code"] for error in await client.heard("error")] == ["INVALID_MESSAGE"]
        await client.speak(mark=2)
        assert (await node.job())["audio"] == base64(plan_a() + plan_a(mark=2) * 3)


async def test_message_of_20_mib(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.working_node()
        client, other = await world.client(), await world.client()
        await client.chunk(payload="A" * 20 * 2**20)
        assert (await client.closed())[0] == 1009
        await other.speak()
        await other.result()


async def test_orphaned_socket_idle_for_an_hour(autojump_clock: MockClock) -> None:
    """Real web clients open a second socket and forget the first (session-protocol 1.5)."""
    async with daemon_in_memory() as world:
        strangers = [await world.stranger(), await world.client(), await world.client(platform="api-gateway")]
        await trio.sleep(3600)
        assert [peer.connected for peer in strangers] == [True] * 3


async def test_utterances_0_2_1(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await client.utterance(0)
        await client.utterance(2)
        await trio.sleep(0.2)
        await client.utterance(1)
        assert [(await node.job())["utterance_index"] for _ in range(3)] == [0, 1, 2]


async def test_first_utterance_is_17(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        before = trio.current_time()
        await client.utterance(17)
        assert (await node.job())["utterance_index"] == 17
        assert trio.current_time() == before


async def test_unicode_context_of_more_than_800_characters(autojump_clock: MockClock) -> None:
    """It would begin with a vowel sign, whose letter is cut off; and no byte of the rest is lost."""
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await client.speak()
        said = "की😀" * 300
        await node.answer(await node.job(), text_asr="语" * 600, text_translated=said)
        await client.result()
        await client.speak()
        job = await node.job()
        assert len(job["context_text"]) == 799
        assert said.endswith(job["context_text"])
        assert job["context_text"].startswith("😀")
