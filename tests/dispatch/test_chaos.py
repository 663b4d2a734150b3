"""Nodes that fail, fall silent, die and come back at random: every utterance still has exactly one end.

Rules: memory streams and autojump_clock; the seed decides what everybody does, trio the order of tasks.
"""

from __future__ import annotations

from collections import defaultdict
from random import Random

import pytest
import trio
from harness import Client, Json, Node, World, daemon_in_memory
from prometheus_client import REGISTRY
from trio.testing import MockClock
from trio_websocket import ConnectionClosed

CLIENTS, NODES, UTTERANCES = 6, 4, 20
EMPTY = {"text_asr": "", "text_translated": "", "tts_audio": ""}


class Weather:
    """Nodes of all tempers, until `calm` is set: from then on they work."""

    def __init__(self, world: World, random: Random) -> None:
        self.calm = False
        self._world = world
        self._random = random

    async def node(self, node_id: str) -> None:
        """A node that is started again whenever it has died."""
        while True:
            node = await self._world.node(node_id)
            try:
                while True:
                    self._world.nursery.start_soon(self._job, node, await node.job())
            except ConnectionClosed:
                await trio.sleep(self._random.uniform(0, 8))

    async def _job(self, node: Node, job: Json) -> None:
        await trio.sleep(self._random.expovariate(1))
        mood = 1.0 if self.calm else self._random.random()
        try:
            if mood < 0.05:
                await node.drop()
            elif mood < 0.15:
                await node.fail(
                    job, self._random.choice(["NMT_TIMEOUT", "PROCESSING_ERROR", "NODE_OVERLOADED"])
                )
            elif mood < 0.2:
                await node.answer(job, **EMPTY, extra={"reason": "ASR_EMPTY"})
            elif mood > 0.25:
                for _ in range(1 + (mood < 0.35)):
                    await node.answer(job)
        except (ConnectionClosed, trio.ClosedResourceError):
            # It died of another job meanwhile.
            return


async def speak(client: Client, random: Random) -> None:
    """Utterances in both forms, at a pace that the nodes can keep up with."""
    for _ in range(UTTERANCES):
        await client.speak(chunks=random.randint(2, 5))
        await trio.sleep(0.1 + random.expovariate(0.5))


def check(messages: list[Json]) -> None:
    """One end for each utterance: a result, or a reason that is not followed by any but its late result."""
    ends: dict[int, list[str]] = defaultdict(list)
    in_order = []
    for message in messages:
        if message["type"] in ("translation_result", "missing_result"):
            end = message.get("reason") or ("late" if message.get("late") else "heard")
            ends[message["utterance_index"]].append(end)
            if end != "late" and ends[message["utterance_index"]] == [end]:
                in_order.append(message["utterance_index"])
    assert sorted(ends) == list(range(UTTERANCES))
    assert in_order == list(range(UTTERANCES))
    final = {"heard", "silence_detected", "job_failed", "job_timeout", "no_available_node", "node_lost"}
    final |= {"node_overloaded"}
    for end in ends.values():
        assert end[0] in final | {"gap_timeout"}
        if len(end) > 1:
            assert end[0] != "heard"
            assert end[1:] == ["late"]
    assert sum("heard" in end or "late" in end for end in ends.values()) > UTTERANCES / 2


@pytest.mark.parametrize("seed", range(4))
async def test_every_utterance_has_one_end(seed: int, autojump_clock: MockClock) -> None:
    random = Random(seed)
    times = {"timeout_base_seconds": 10, "timeout_min_seconds": 5}
    async with daemon_in_memory(jobs=times) as world:
        weather = Weather(world, random)
        for number in range(NODES):
            world.nursery.start_soon(weather.node, f"node-0000000{number}")
        clients = [await world.client() for _ in range(CLIENTS)]
        async with trio.open_nursery() as speaking:
            for client in clients:
                speaking.start_soon(speak, client, random)
        weather.calm = True
        await trio.sleep(200)
        for client in clients:
            check(await client.heard())
        assert world.daemon.view.facts()["open_jobs"] == 0
        assert {slots for _, slots in world.daemon.view.nodes()} == {0}
        assert REGISTRY.get_sample_value("linguad_buffered_bytes") == 0
