"""Whose id it is when two machines name it (node-protocol 3.3, resolution 32).

Rules: memory streams and autojump_clock; an owner that hangs keeps its connection and answers nothing.
"""

from __future__ import annotations

import pytest
import trio
from harness import Node, World, daemon_in_memory, registration
from trio.testing import MockClock, wait_all_tasks_blocked

ID = "node-7F3A91C2"
OTHER_MACHINE = {"hardware": {"cpu_cores": 2, "memory_gb": 4}}


async def asking(world: World, **members: object) -> Node:
    """A newcomer that has just asked for the id."""
    node = await world.unregistered()
    await node.say(registration(ID, **members))
    node.id = ID
    return node


async def refused(node: Node) -> None:
    """Wait until a newcomer is told that the id is taken, and closed."""
    error = await node.hear()
    assert (error["type"], error["code"]) == ("error", "NODE_ID_CONFLICT")
    assert await node.closed() == (1008, error["message"][:100])


@pytest.mark.parametrize(
    "difference", [OTHER_MACHINE, {"platform": "windows"}, {"hardware": None}, {"platform": None}]
)
async def test_impostor_is_refused_while_the_owner_answers(
    difference: dict[str, object], autojump_clock: MockClock
) -> None:
    async with daemon_in_memory() as world:
        owner, client = await world.node(ID), await world.client()
        await client.utterance(0)
        job = await owner.job()
        impostor = await asking(world, **difference)
        asked_at = trio.current_time()
        await refused(impostor)
        assert trio.current_time() - asked_at < 0.1
        assert owner.connected
        await owner.answer(job)
        assert (await client.result())["utterance_index"] == 0
        await client.utterance(1)
        await owner.job()


async def test_hung_owner_loses_the_id_after_two_seconds(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        owner, client = await world.node(ID), await world.client()
        await client.utterance(0)
        job = await owner.job()
        owner.hang()
        asked_at = trio.current_time()
        newcomer = await asking(world, **OTHER_MACHINE)
        await newcomer.until("node_register_ack", node_id=ID)
        assert trio.current_time() - asked_at == pytest.approx(2)
        assert (await owner.closed())[0] == 4001
        await newcomer.heartbeat()
        await newcomer.answer(job)
        await client.result()
        assert world.daemon.view.facts()["nodes"] == 1


async def test_what_the_newcomer_says_meanwhile_is_heard_afterwards_in_order(
    autojump_clock: MockClock,
) -> None:
    async with daemon_in_memory() as world:
        owner = await world.node(ID)
        owner.hang()
        newcomer = await asking(world, advanced_features=["heartbeat_ack"], **OTHER_MACHINE)
        await newcomer.heartbeat(installed_services=[])
        await newcomer.heartbeat()
        heard = [await newcomer.hear() for _ in range(3)]
        assert [message["type"] for message in heard] == ["node_register_ack", *["heartbeat_ack"] * 2]
        assert [message["status"] for message in heard] == ["registering", "registering", "ready"]


async def test_nobody_else_waits(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        owner = await world.node(ID)
        owner.hang()
        newcomer = await asking(world, **OTHER_MACHINE)
        asked_at = trio.current_time()
        await world.working_node()
        client = await world.client()
        for index in range(5):
            await client.utterance(index)
        await world.node()
        assert await newcomer.heard() == []
        assert trio.current_time() - asked_at < 1
        await newcomer.until("node_register_ack")


async def test_id_is_free_as_soon_as_its_owner_is_gone(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        owner = await world.node(ID)
        owner.hang()
        newcomer = await asking(world, **OTHER_MACHINE)
        asked_at = trio.current_time()
        await trio.sleep(1)
        assert await newcomer.heard() == []
        await owner.drop()
        await newcomer.until("node_register_ack", node_id=ID)
        assert trio.current_time() - asked_at < 1.1


async def test_same_machine_gets_its_id_at_once(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        owner = await world.node(ID)
        owner.hang()
        asked_at = trio.current_time()
        newcomer = await asking(world)
        await newcomer.until("node_register_ack", node_id=ID)
        assert trio.current_time() == asked_at
        assert (await owner.closed())[0] == 4001


async def test_two_impostors_at_once_are_both_refused(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        owner = await world.node(ID)
        impostors = [await asking(world, **OTHER_MACHINE), await asking(world, platform="windows")]
        for impostor in impostors:
            await refused(impostor)
        assert owner.connected
        assert world.daemon.view.facts()["nodes"] == 1


async def test_of_two_machines_that_want_the_id_of_a_hung_one_the_second_is_refused(
    autojump_clock: MockClock,
) -> None:
    async with daemon_in_memory() as world:
        owner = await world.node(ID)
        owner.hang()
        newcomers = [await asking(world, **OTHER_MACHINE), await asking(world, platform="windows")]
        answers = [await newcomer.hear() for newcomer in newcomers]
        assert sorted(answer["type"] for answer in answers) == ["error", "node_register_ack"]
        [taken_over] = [
            newcomer
            for newcomer, answer in zip(newcomers, answers, strict=True)
            if answer["type"] == "node_register_ack"
        ]
        await taken_over.heartbeat()
        await wait_all_tasks_blocked()
        assert world.daemon.fleet.nodes[ID].status.value == "ready"
        assert world.daemon.view.facts()["nodes"] == 1
        assert (await owner.closed())[0] == 4001


async def test_owner_that_comes_back_meanwhile_keeps_its_id(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        owner = await world.node(ID)
        owner.hang()
        impostor = await asking(world, **OTHER_MACHINE)
        await trio.sleep(1)
        back = await world.node(ID)
        await refused(impostor)
        assert back.connected
        assert world.daemon.fleet.nodes[ID].status.value == "ready"


async def test_newcomer_that_does_not_wait_leaves_the_owner_alone(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        owner = await world.node(ID)
        owner.hang()
        newcomer = await asking(world, **OTHER_MACHINE)
        await trio.sleep(1)
        await newcomer.drop()
        await trio.sleep(5)
        assert owner.connected
        assert world.daemon.fleet.nodes[ID].status.value == "ready"


async def test_owner_may_change_its_hardware_itself(autojump_clock: MockClock) -> None:
    """Real nodes find their GPU only if its driver answers within 3 s (node-protocol 2.12)."""
    async with daemon_in_memory() as world:
        owner = await world.node(ID)
        await owner.register(ID, **OTHER_MACHINE)
        again = await asking(world, **OTHER_MACHINE)
        await again.until("node_register_ack", node_id=ID)
        assert (await owner.closed())[0] == 4001
