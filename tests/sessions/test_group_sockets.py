"""Groups, context and trace ids as clients and nodes see them (session-protocol 4.7, 4.8)."""

from __future__ import annotations

import re

import trio
from harness import daemon_in_memory
from trio.testing import MockClock


async def test_next_job_knows_what_was_said(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        client = await world.client()
        await client.speak()
        job = await node.job()
        assert "context_text" not in job
        await node.answer(job)
        first = await client.result()
        assert re.fullmatch(rf"group_{client.session_id}_\d+", first["group_id"])
        assert first["part_index"] == 0
        await client.speak()
        job = await node.job()
        assert job["context_text"] == "User: heard 0\nTarget: oído 0"
        assert (job["group_id"], job["part_index"]) == (first["group_id"], 1)
        await node.answer(job)
        second = await client.result()
        assert (second["group_id"], second["part_index"]) == (first["group_id"], 1)


async def test_playback_keeps_the_group_and_silence_ends_it(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.working_node()
        client = await world.client()
        await client.speak()
        first = await client.result()
        names = {"session_id": client.session_id, "trace_id": "t", "group_id": first["group_id"]}
        await client.say({"type": "tts_started", **names, "ts_start_ms": 1})
        await trio.sleep(10)
        await client.say({"type": "tts_play_ended", **names, "ts_end_ms": 2})
        await trio.sleep(1)
        await client.speak()
        second = await client.result()
        assert second["group_id"] == first["group_id"]
        await trio.sleep(10)
        await client.speak()
        assert (await client.result())["group_id"] != first["group_id"]


async def test_spread_jobs_carry_no_context(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(jobs={"affinity": "spread"}) as world:
        node = await world.node()
        client = await world.client()
        for _ in range(2):
            await client.speak()
            job = await node.job()
            assert "context_text" not in job
            await node.answer(job)
            assert (await client.result())["group_id"]


async def test_every_utterance_has_a_trace_of_its_own(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.working_node()
        client = await world.client()
        traces = []
        for _ in range(2):
            await client.speak()
            result = await client.result()
            traces.append(result["utterance_trace_id"])
            assert result["trace_id"] != traces[-1]
        assert len(set(traces)) == 2
        (job,) = world.daemon.view.explain(traces[1])
        assert job["utterance_index"] == 1
        assert re.fullmatch(r"[0-9a-f]{32}", traces[0])
