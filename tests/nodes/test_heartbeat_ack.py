"""Nodes that ask how they stand are told after every heartbeat; others never hear of it."""

from __future__ import annotations

from typing import Any

import trio
from harness import LANGUAGES, SERVICES, Json, Node, World, daemon_in_memory
from trio.testing import MockClock


async def curious(world: World, **members: Any) -> Node:
    """A registered node that wants to be told, and has sent no heartbeat yet."""
    node = await world.unregistered()
    await node.register("node-1", advanced_features=["batched_inference", "heartbeat_ack"], **members)
    return node


async def told(node: Node, **members: Any) -> Json:
    """The answer to a heartbeat."""
    await node.heartbeat(**members)
    return await node.hear()


async def test_ready_node_is_told_so(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await curious(world)
        assert await told(node) == {"type": "heartbeat_ack", "node_id": "node-1", "status": "ready"}


async def test_reason_follows_what_the_node_reports(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await curious(world, installed_services=[], language_capabilities={})
        reports: list[tuple[dict[str, Any], tuple[str, str | None]]] = [
            ({"installed_services": []}, ("registering", "no_running_service")),
            (
                {"language_capabilities": LANGUAGES | {"tts_languages": []}},
                ("registering", "no_language_pair"),
            ),
            ({}, ("ready", None)),
            ({"installed_services": [SERVICES[0] | {"status": "error"}]}, ("ready", "no_running_service")),
        ]
        for members, expected in reports:
            ack = await told(node, **members)
            assert (ack["status"], ack.get("reason")) == expected
            assert ("message" in ack) == ("reason" in ack)


async def test_node_hears_why_jobs_passed_it_over(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await curious(world)
        only_chinese = {"asr_languages": ["zh", "en"], "tts_languages": ["zh"]}
        await told(node, language_capabilities=LANGUAGES | only_chinese)
        client = await world.client()
        for index in range(3):
            await client.utterance(index)
            await client.until("missing_result", utterance_index=index)
            ack = await told(node, language_capabilities=LANGUAGES | only_chinese)
            assert ack["no_work"] == {"lang_pair_unsupported": index + 1}
        assert (ack["status"], "reason" in ack) == ("ready", False)


async def test_real_nodes_are_told_nothing(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node(advanced_features=["batched_inference"])
        await trio.sleep(100)
        await node.heartbeat(installed_services=[])
        assert await node.heard() == []


async def test_node_that_no_longer_asks_is_no_longer_told(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await curious(world)
        await told(node)
        await node.register("node-1")
        await node.heartbeat()
        assert await node.heard() == []
