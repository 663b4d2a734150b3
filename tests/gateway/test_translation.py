"""A recording through a session: joined, refused, late, cancelled (gateway 5, 8.4)."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from harness import Json, Node, World, daemon_in_memory, plan_a
from test_talk import EN_ES, SECOND, SHOP, talks
from trio.testing import MockClock, wait_all_tasks_blocked

from linguad.gateway.speech.sound import Clip
from linguad.gateway.speech.talk import TalkSpec
from linguad.gateway.speech.translation import Translation, translate
from linguad.web.problems import Problem


def recording(seconds: int) -> Clip:
    return Clip(SECOND * seconds, "pcm16", seconds * 1000)


async def translated(world: World, sound: Clip, spec: TalkSpec = EN_ES, **members: Any) -> Translation:
    """Through a session, in pieces from 5 s on."""
    settings: Json = {
        "address": "198.51.100.7",
        "timeout_s": 60.0,
        "longest_utterance_ms": 5000,
        "charged_ms": len,
    }
    return await translate(talks(world), SHOP, spec, sound, **(settings | members))


async def problem_of(world: World, sound: Clip, **members: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        await translated(world, sound, **members)
    assert world.daemon.view.facts()["sessions"] == 0
    return caught.value


async def test_short_recordings_are_one_utterance(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.working_node()
        translation = await translated(world, recording(3))
    (result,) = translation.results
    assert (result.text_asr, result.text_translated) == ("heard 0", "oído 0")
    assert translation.session_id == result.session_id


@pytest.mark.parametrize("audio_format", ["pcm16", "opus"])
async def test_long_recordings_come_in_parts_that_are_in_order(
    autojump_clock: MockClock, audio_format: str
) -> None:
    async with daemon_in_memory() as world:
        await world.working_node()
        sound = recording(25) if audio_format == "pcm16" else Clip(plan_a(1250), "opus", 25_000)
        translation = await translated(world, sound)
    assert [result.text_translated for result in translation.results] == ["oído 0", "oído 1", "oído 2"]


async def test_nodes_are_not_given_more_than_they_can_take(autojump_clock: MockClock) -> None:
    """A recording of minutes on one slow node: its parts come as it answers, and none waits in vain."""
    async with daemon_in_memory() as world:
        node = await world.node(max_concurrent_jobs=1)

        async def work() -> None:
            while True:
                job = await node.job()
                await trio.sleep(4.0)
                await node.answer(job)

        world.nursery.start_soon(work)
        translation = await translated(world, recording(120), timeout_s=150.0)
    assert len(translation.results) == 12


async def test_silence_is_no_failure(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()

        async def hear_nothing() -> None:
            job = await node.job()
            await node.answer(
                job, text_asr="", text_translated="", tts_audio="", extra={"reason": "ASR_EMPTY"}
            )

        world.nursery.start_soon(hear_nothing)
        assert (await translated(world, recording(2))).results == ()


async def skip_first(node: Node) -> list[Json]:
    """Answer the second job, and let the gap before it time out; returns the others."""
    first, second, third = [await node.job() for _ in range(3)]
    await node.answer(second)
    await trio.sleep(8.0)
    return [first, third]


async def test_a_part_that_comes_late_is_in_its_place(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()

        async def work() -> None:
            for job in await skip_first(node):
                await node.answer(job)

        world.nursery.start_soon(work)
        translation = await translated(world, recording(25))
    assert [result.utterance_index for result in translation.results] == [0, 1, 2]


async def test_a_part_that_is_skipped_and_then_fails(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()

        async def fail() -> None:
            for job in await skip_first(node):
                await node.fail(job)
            while True:
                await node.fail(await node.job())

        world.nursery.start_soon(fail)
        start = trio.current_time()
        problem = await problem_of(world, recording(25))
        assert problem.code == "translation_failed"
        assert trio.current_time() - start < 30


async def test_nobody_who_speaks_the_language(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.working_node()
        spec = TalkSpec(src_lang="en", tgt_lang="fi")
        with pytest.raises(Problem) as caught:
            await translated(world, recording(1), spec)
    problem = caught.value
    assert (problem.status, problem.code, problem.retryable) == (503, "no_capacity", True)
    assert problem.headers == {"Retry-After": "2"}
    assert problem.details is not None


async def test_a_job_that_times_out_ends_the_wait_at_once(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(jobs={"failover_max_attempts": 1, "timeout_min_seconds": 15}) as world:
        await world.node()
        start = trio.current_time()
        problem = await problem_of(world, recording(1), timeout_s=200.0)
        assert (problem.status, problem.code) == (504, "translation_timeout")
        assert trio.current_time() - start < 150


async def test_nobody_waits_longer_than_the_deadline(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.node()
        start = trio.current_time()
        problem = await problem_of(world, recording(1), timeout_s=12.0)
        assert (problem.status, problem.code) == (504, "translation_timeout")
        assert trio.current_time() - start <= 12.0


async def test_a_failed_job_is_a_failure(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()

        async def fail() -> None:
            while True:
                await node.fail(await node.job(), "PROCESSING_ERROR", "secret/path is missing")

        world.nursery.start_soon(fail)
        problem = await problem_of(world, recording(1))
    assert (problem.status, problem.code, problem.retryable) == (502, "translation_failed", True)
    assert "secret" not in problem.message


async def test_a_caller_who_goes_away_frees_the_node(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(translated, world, recording(1))
            job = await node.job()
            nursery.cancel_scope.cancel()
        await wait_all_tasks_blocked()
        assert (await node.until("job_cancel"))["job_id"] == job["job_id"]
        assert world.daemon.view.facts()["sessions"] == 0


async def test_a_full_server_says_so(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(sessions={"max_sessions": 1}) as world:
        with talks(world).open(SHOP, EN_ES, ""):
            with pytest.raises(Problem) as caught:
                await translated(world, recording(1))
            assert caught.value.code == "no_capacity"
