"""Nodes' sockets: registration, heartbeats, takeovers and their ends (node-protocol 1 to 4, checklist 11).

Rules: memory streams and autojump_clock, no threads, no sockets; the peers are real WebSocket clients.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from harness import LANGUAGES, SERVICES, World, daemon_in_memory, registration
from trio.testing import MockClock, wait_all_tasks_blocked


async def status(world: World, node_id: str) -> str:
    """What the daemon thinks of a node by now."""
    await wait_all_tasks_blocked()
    return world.daemon.fleet.nodes[node_id].status.value


async def test_given_id_is_kept(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.unregistered()
        assert (await node.register("node-7F3A91C2"))["node_id"] == "node-7F3A91C2"


@pytest.mark.parametrize("node_id", ["", "  ", "x" * 129, "node\n1", 7, ["node-1"]])
async def test_unusable_id_is_replaced(node_id: Any, autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.unregistered()
        await node.register(node_id)
        assert len(node.id) == 13


async def test_bare_and_odd_registrations_are_taken(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        bare, odd = await world.unregistered(), await world.unregistered()
        await bare.say({"type": "node_register"})
        assert (await bare.hear())["type"] == "node_register_ack"
        await odd.register(
            hardware="unknown",
            platform=None,
            installed_services=[
                *SERVICES,
                {"service_id": "p", "type": "punctuation", "device": "auto", "status": "starting"},
                {"type": "asr"},
                "rust",
            ],
            colour="blue",
        )
        await odd.heartbeat()
        assert await status(world, odd.id) == "ready"


async def test_repeated_registration_is_acknowledged_with_the_same_id(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        first = node.id
        assert (await node.register(first))["node_id"] == first
        await node.heartbeat()
        assert await status(world, first) == "ready"
        assert world.daemon.view.facts()["nodes"] == 1


async def test_socket_that_registers_anew_keeps_its_id(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        first = node.id
        await node.register()
        assert node.id == first
        assert world.daemon.view.facts()["nodes"] == 1


async def test_socket_that_registers_another_node_is_refused(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        first = node.id
        await node.say({"type": "node_register", "node_id": "node-another"})
        assert (await node.until("error"))["code"] == "NODE_ID_CONFLICT"
        assert (await node.closed())[0] == 1008
        assert await status(world, first) == "offline"
        assert len(world.daemon.fleet.nodes) == 1


async def test_node_that_never_registers_is_closed_after_a_minute(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        silent, beating, asking = [await world.unregistered() for _ in range(3)]
        before = trio.current_time()
        beating.id = "node-00000001"
        world.nursery.start_soon(beating.beat)
        await asking.say({"type": "request_pairing_code"})
        for node in (silent, beating, asking):
            assert await node.closed() == (1008, "no registration in time")
        assert trio.current_time() - before == pytest.approx(60, abs=0.1)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("hello", "INVALID_MESSAGE"),
        ("[]", "INVALID_MESSAGE"),
        ({"type": "node_registration"}, "INVALID_MESSAGE"),
        (registration(capability_schema_version="3.0"), "INVALID_CAPABILITY_SCHEMA"),
    ],
)
async def test_registration_that_cannot_be_taken_is_told_and_closed(
    frame: Any, code: str, autojump_clock: MockClock
) -> None:
    async with daemon_in_memory() as world:
        node = await world.unregistered()
        await node.say(frame)
        error = await node.hear()
        assert (error["type"], error["code"]) == ("error", code)
        assert error["message"]
        assert await node.closed() == (1008, error["message"])
        assert world.daemon.view.facts()["nodes"] == 0


async def test_node_without_gpu_where_one_is_demanded(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(nodes={"require_gpu": "always"}) as world:
        node = await world.unregistered()
        await node.say(registration(hardware={"cpu_cores": 4, "memory_gb": 8}))
        assert (await node.hear())["code"] == "NO_GPU_AVAILABLE"
        assert (await node.closed())[0] == 1008


async def test_newer_connection_with_the_same_id_wins(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        first = await world.node("node-7F3A91C2")
        client = await world.client()
        await client.utterance(0)
        job = await first.job()
        second = await world.node("node-7F3A91C2")
        assert await first.closed() == (4001, "superseded by a newer connection with the same id")
        await trio.sleep(1)
        assert await status(world, "node-7F3A91C2") == "ready"
        assert world.daemon.view.facts()["nodes"] == 1
        await second.answer(job)
        assert (await client.result())["utterance_index"] == 0
        await client.utterance(1)
        assert (await second.job())["utterance_index"] == 1


async def test_registering_in_turns_ends_with_one_connection(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        nodes = [await world.node("node-7F3A91C2") for _ in range(5)]
        await trio.sleep(20)
        assert [node.connected for node in nodes] == [False] * 4 + [True]
        assert await status(world, "node-7F3A91C2") == "ready"


async def test_node_with_slow_heartbeats_is_kept(autojump_clock: MockClock) -> None:
    """Real nodes take up to 28 s from one to the next (node-protocol 4)."""
    async with daemon_in_memory() as world:
        node = await world.unregistered()
        await node.register()
        for _ in range(20):
            await node.heartbeat()
            await trio.sleep(28)
        assert await status(world, node.id) == "ready"


async def test_heartbeat_with_the_id_of_another_is_ignored(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, other = await world.node(), await world.unregistered()
        await other.register()
        other.id = node.id
        await other.heartbeat(installed_services=[])
        assert await status(world, node.id) == "ready"
        assert other.connected


async def test_garbage_from_a_registered_node_is_ignored(autojump_clock: MockClock) -> None:
    frames: list[Any] = [
        b"",
        b"\x00\xff\xfe",
        bytes(50_000),
        "",
        "rubbish",
        "{}",
        {"type": "node_status"},
        {"type": "job_result", "success": True},
        {"type": "job_result", "job_id": "job-1", "node_id": "n", "success": "rather"},
        {"type": "job_result", "job_id": "job-1", "node_id": "n", "success": True},
        {"type": "job_ack", "job_id": "job-1"},
        {"type": "asr_partial", "job_id": "job-1", "node_id": "n", "text": "x", "is_final": False},
        {"type": "node_error", "node_id": "n", "code": "X", "message": "trouble"},
    ]
    async with daemon_in_memory() as world:
        node = await world.node()
        for frame in frames:
            await node.say(frame)
        assert await node.heard() == []
        client = await world.client()
        await client.speak()
        await node.answer(await node.job())
        await client.result()


async def test_result_of_a_node_that_has_not_registered_again_counts(autojump_clock: MockClock) -> None:
    """The id in the message must be that of the attempt (node-protocol 1.1)."""
    async with daemon_in_memory() as world:
        node, client = await world.node("node-00000001"), await world.client()
        await client.utterance(0)
        job = await node.job()
        await node.drop()
        again, stranger = await world.unregistered(), await world.unregistered()
        stranger.id, again.id = "node-00000002", "node-00000001"
        await stranger.answer(job, text_asr="made up")
        await again.answer(job)
        assert (await client.result())["text_asr"] == "heard 0"


async def test_result_of_a_node_that_never_had_the_job_is_dropped(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        nodes, client = [await world.node(), await world.node()], await world.client()
        await client.utterance(0)
        await trio.sleep(0.1)
        [(node, job)] = [(node, job) for node in nodes for job in await node.heard("job_assign")]
        [other] = [peer for peer in nodes if peer is not node]
        await other.answer(job, text_asr="made up")
        await node.answer(job)
        assert (await client.result())["text_asr"] == "heard 0"
        assert await client.heard("translation_result") == []


async def test_message_beyond_the_limit_closes_with_1009(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(nodes={"max_message_bytes": 65536}) as world:
        node, other = await world.node(), await world.node()
        await node.say({"type": "node_error", "message": "x" * 70_000})
        assert (await node.closed())[0] == 1009
        assert await status(world, node.id) == "offline"
        assert await status(world, other.id) == "ready"


async def test_nodes_are_pinged_from_the_start_and_live_while_they_answer(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.unregistered()
        await trio.sleep(21)
        [link] = world.daemon.node_links
        assert link.round_trip is not None
        node = await world.node()
        await trio.sleep(3600)
        assert await status(world, node.id) == "ready"


async def test_languages_that_change_change_the_work(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.unregistered(), await world.client()
        await node.register()
        await node.heartbeat(language_capabilities=LANGUAGES | {"tts_languages": ["zh"]})
        await client.utterance(0)
        await trio.sleep(1)
        assert await node.heard("job_assign") == []
        await node.heartbeat()
        await node.job()


async def test_node_is_forgotten_some_time_after_its_loss(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        await node.drop()
        await trio.sleep(290)
        assert await status(world, node.id) == "offline"
        await trio.sleep(20)
        assert world.daemon.fleet.nodes == {}
