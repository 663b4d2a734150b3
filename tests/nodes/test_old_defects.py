"""Defects of the earlier server that no other test shows to be gone (docs/defects.md).

Rules: memory streams and autojump_clock; the peers are real WebSocket clients.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from harness import base64, daemon_in_memory, plan_a
from trio.testing import MockClock, wait_all_tasks_blocked


async def test_node_that_comes_back_gets_no_frame_of_a_job_that_is_over(autojump_clock: MockClock) -> None:
    """D11: what could not be sent, job or cancel, is forgotten."""
    async with daemon_in_memory() as world:
        node, client = await world.node("node-00000001"), await world.client()
        await client.utterance(0)
        await node.job()
        node.hang()
        await client.utterance(1)
        await node.drop()
        for index in range(2):
            missing = await client.until("missing_result")
            assert (missing["utterance_index"], missing["reason"]) == (index, "node_lost")
        again = await world.node("node-00000001")
        await trio.sleep(300)
        assert await again.heard() == []
        await client.utterance(2)
        assert (await again.job())["utterance_index"] == 2


async def test_empty_answers_of_two_attempts_end_the_job_once(autojump_clock: MockClock) -> None:
    """D16: that of the first attempt counts nothing, that of the second is the end."""
    empty = {"text_asr": "", "text_translated": "", "tts_audio": "", "extra": {"reason": "ASR_EMPTY"}}
    async with daemon_in_memory() as world:
        node, client = await world.node("node-00000001"), await world.client()
        await client.utterance(0)
        job, other = await node.job(), await world.node()
        await node.drop()
        second, again = await other.job(), await world.node("node-00000001")
        await again.answer(job, **empty)
        assert await client.heard("missing_result") == []
        await other.answer(second, **empty)
        assert (await client.until("missing_result"))["reason"] == "silence_detected"
        assert world.daemon.view.facts()["open_jobs"] == 0


@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("alphabet", ["世", "é", "😀", "\u0000"])
async def test_malformed_frame_is_no_crash_wherever_it_is_cut(
    alphabet: str, shift: int, autojump_clock: MockClock
) -> None:
    """D29: the earlier server cut such frames at byte 500 for its log, in the middle of a character."""
    frame = "x" * shift + alphabet * 2000
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        for malformed in (
            frame,
            frame.encode(),
            f'{{"type": "{frame}"}}',
            f'{{"type": "job_result", "{frame}',
        ):
            await node.say(malformed)
            await client.say(malformed)
        await node.say({"type": "job_result", "job_id": [frame], "node_id": frame, "success": frame})
        await client.utterance(0)
        await node.answer(await node.job())
        await client.result()


async def test_nothing_that_is_said_is_logged(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """D30: not from whole frames, not from broken ones, not from failures."""
    caplog.set_level(logging.DEBUG)
    sound = base64(plan_a(mark=77))
    secrets = [sound[20:60], "so it is said", "así se dice"]
    said = {"text_asr": secrets[1], "text_translated": secrets[2], "tts_audio": sound}
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await client.utterance(0, plan_a(mark=77))
        job = await node.job()
        await node.answer(job, **said, success=False, error={"code": "X", "message": secrets[1]})
        job = await node.job()
        await node.say({"type": "job_result", "job_id": 7, "node_id": node.id, "success": True, **said})
        await node.say('{"type": "job_result", "text_asr": "so it is said", "tts_audio": "' + sound)
        await client.say('{"type": "utterance", "audio": "' + sound)
        await client.utterance(1, plan_a(mark=77), sample_rate=sound)
        await node.answer(job, **said)
        await client.result()
        await node.answer(job, **said)
        await wait_all_tasks_blocked()
    assert "node_message_rejected" in caplog.text
    assert [secret for secret in secrets if secret in caplog.text] == []


async def test_job_of_a_half_open_node_moves(autojump_clock: MockClock) -> None:
    """D33: the socket seems open, and nobody is there; pings find out, if nothing else does."""
    patient: dict[str, Any] = {"timeout_base_seconds": 120}
    async with daemon_in_memory(nodes={"heartbeat_timeout_seconds": 600}, jobs=patient) as world:
        node, client = await world.node(), await world.client()
        await client.utterance(0)
        job, other = await node.job(), await world.node()
        before = trio.current_time()
        node.hang()
        assert (await other.job())["job_id"] == f"{job['job_id']}~r2"
        assert trio.current_time() - before < 90


async def test_times_of_a_result_are_those_of_its_attempt(autojump_clock: MockClock) -> None:
    """D31: they are there, and follow from what happened."""
    async with daemon_in_memory() as world:
        client = await world.client()
        await client.utterance(0)
        await trio.sleep(2)
        node = await world.node()
        job = await node.job()
        await trio.sleep(1)
        await node.answer(job, processing_time_ms=400)
        result = await client.result()
        times = result["network_timings"]
        assert times["scheduler_to_node_ms"] == pytest.approx(2000, abs=10)
        assert times["node_to_scheduler_ms"] == pytest.approx(600, abs=10)
        assert (result["processing_time_ms"], result["service_timings"]["total_ms"]) == (400, 400)


async def test_partial_text_comes_from_the_owner_of_the_job_alone_and_names_it(
    autojump_clock: MockClock,
) -> None:
    """D32: real nodes send none yet; one that does must have the job."""
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await client.utterance(0)
        job, other = await node.job(), await world.node()
        partial = {name: job[name] for name in ("job_id", "session_id", "utterance_index", "trace_id")}
        partial |= {"type": "asr_partial", "is_final": False}
        await other.say(partial | {"node_id": node.id, "text": "made up"})
        await node.say(partial | {"node_id": node.id, "text": "heard"})
        message = await client.until("asr_partial")
        assert (message["text"], message["job_id"]) == ("heard", job["job_id"])
        await node.answer(job)
        await client.result()
        await node.say(partial | {"node_id": node.id, "text": "too late"})
        assert await client.heard("asr_partial") == []
