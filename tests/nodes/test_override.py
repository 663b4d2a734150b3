"""What an operator says about a node holds at once, for the jobs that wait and for those to come."""

from __future__ import annotations

from harness import World, daemon_in_memory
from trio.testing import MockClock

from linguad.wire.override import Override


def say(world: World, node_id: str, said: Override) -> None:
    """As PATCH does."""
    world.daemon.view.override(node_id, said)


async def test_drained_node_finishes_and_gets_nothing_more(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node("a")
        client = await world.client()
        await client.utterance(0)
        running = await node.job()
        say(world, "a", Override(drain=True))
        await client.utterance(1)
        await node.answer(running)
        assert (await client.result())["utterance_index"] == 0
        assert await node.heard("job_assign") == []
        assert world.daemon.fleet.nodes["a"].status.value == "draining"
        say(world, "a", Override(drain=False))
        await node.answer(await node.job())
        assert (await client.result())["utterance_index"] == 1
        assert world.daemon.fleet.nodes["a"].status.value == "ready"


async def test_jobs_go_elsewhere_while_a_node_drains(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        first, client = await world.node("a"), await world.client()
        await client.utterance(0)
        await first.answer(await first.job())
        await client.result()
        second = await world.node("b")
        say(world, "a", Override(drain=True))
        await client.utterance(1)
        await second.answer(await second.job())
        assert (await client.result())["utterance_index"] == 1


async def test_drain_survives_a_reconnection(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node("a"), await world.client()
        say(world, "a", Override(drain=True))
        await node.drop()
        back = await world.node("a")
        await client.utterance(0)
        assert await back.heard("job_assign") == []
        say(world, "a", Override())
        assert (await back.job())["utterance_index"] == 0


async def test_larger_cap_sends_all_that_now_have_room(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node("a", max_concurrent_jobs=1)
        clients = [await world.client() for _ in range(5)]
        for client in clients:
            await client.utterance(0)
        assert len(await node.heard("job_assign")) == 1
        say(world, "a", Override(cap=4))
        assert len(await node.heard("job_assign")) == 3


async def test_smaller_cap_lets_running_jobs_finish_first(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node("a", max_concurrent_jobs=3)
        clients = [await world.client() for _ in range(4)]
        for client in clients[:3]:
            await client.utterance(0)
        jobs = await node.heard("job_assign")
        assert len(jobs) == 3
        say(world, "a", Override(cap=1))
        await clients[3].utterance(0)
        for job in jobs[:2]:
            await node.answer(job)
        assert await node.heard("job_assign") == []
        await node.answer(jobs[2])
        assert len(await node.heard("job_assign")) == 1


async def test_cap_returns_to_what_the_node_says(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(nodes={"overrides": {"a": {"cap": 2}}}) as world:
        node = await world.node("a", max_concurrent_jobs=7)
        fleet = world.daemon.fleet
        assert fleet.nodes["a"].cap == 2
        say(world, "a", Override(cap=3))
        assert fleet.nodes["a"].cap == 3
        await node.heartbeat(max_concurrent_jobs=9)
        await node.heard()
        assert fleet.nodes["a"].cap == 3
        say(world, "a", Override())
        assert fleet.nodes["a"].cap == 2
