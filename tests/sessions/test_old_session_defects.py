"""Defects of the earlier server's sessions that no other test shows to be gone (docs/defects-sessions.md).

Rules: memory streams and autojump_clock; the peers are real WebSocket clients.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from harness import TWO_WAY, Node, World, daemon_in_memory
from meetings import create, join
from trio.testing import MockClock, wait_all_tasks_blocked


async def translator(world: World, source: str, target: str) -> Node:
    """A node for one direction."""
    only: dict[str, Any] = {
        "asr_languages": [source],
        "tts_languages": [target],
        "semantic_languages": [source, target],
        "semantic_core_ready": True,
    }
    node = await world.unregistered()
    await node.register(f"{source}-{target}", language_capabilities=only)
    await node.heartbeat(language_capabilities=only)
    await wait_all_tasks_blocked()
    return node


async def test_language_of_the_listener_chooses_the_node(autojump_clock: MockClock) -> None:
    """D20: in a room, the pair of a two-way session is not what its listeners want to hear."""
    async with daemon_in_memory() as world:
        own, other = await translator(world, "en", "es"), await translator(world, "en", "zh")
        pair: dict[str, Any] = {"lang_a": "en", "lang_b": "es", "auto_langs": ["en", "es"]}
        speaker = await world.client(src_lang="auto", mode="two_way_auto", **pair)
        listener = await world.client(tgt_lang="zh")
        await join(listener, await create(speaker))
        await speaker.speak()
        await other.answer(await other.job())
        assert (await listener.result())["session_id"] == speaker.session_id
        assert await own.heard("job_assign") == []


async def test_two_way_needs_a_node_for_both_directions(autojump_clock: MockClock) -> None:
    """D20: one that serves one of them is not asked, while there is one for both."""
    async with daemon_in_memory() as world:
        half = await translator(world, "zh", "en")
        both = await world.node()
        for _ in range(10):
            client = await world.client(**TWO_WAY)
            await client.speak()
            await both.answer(await both.job())
            await client.result()
        assert await half.heard("job_assign") == []


async def test_time_of_sending_is_after_the_wait_for_earlier_results(autojump_clock: MockClock) -> None:
    """D33: clients take it for the beginning of the way to them."""
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        for index in range(2):
            await client.utterance(index)
        first, second = await node.job(), await node.job()
        await node.answer(second)
        await trio.sleep(2)
        await node.answer(first)
        results = [await client.result() for _ in range(2)]
        assert results[0]["scheduler_sent_at_ms"] == results[1]["scheduler_sent_at_ms"]
        waited_ms = [result["time_breakdown"]["reorder_ms"] for result in results]
        assert waited_ms == [0, pytest.approx(2000)]
