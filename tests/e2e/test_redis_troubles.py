"""What may befall Redis and the ways to it while people talk at one instance and nodes work at another."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from conftest import Start
from counting import Echo
from cutter import Cutter
from patience import PATIENCE_S
from processes import DaemonProcess
from redis_server import RedisServer
from talkers import PATIENT, joined, talk
from watching import watched

APART: dict[str, Any] = {"gateway": {"enabled": False}, "hub": {"enabled": False}}

TROUBLE_S = 3.0
"""How long a trouble lasts: more than a sign of life."""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own."""
    server = RedisServer("maxmemory-policy noeviction").start()
    yield server
    server.clear_away()


class Pair:
    """An instance with a node and its own people, and one whose people have only that node."""

    def __init__(self, redis: RedisServer, cutter: Cutter, near: DaemonProcess, far: DaemonProcess) -> None:
        self.redis = redis
        self.cutter = cutter
        """Between Redis and the instance without nodes."""
        self.near = near
        self.far = far

    async def whole(self) -> None:
        """Wait until the far instance can ask for the node."""
        with trio.fail_after(PATIENCE_S):
            while True:
                nodes = json.loads((await self.far.get("/api/v1/nodes"))[1])["nodes"]
                if any(node["status"] == "ready" for node in nodes):
                    return
                await trio.sleep(0.05)


@asynccontextmanager
async def pair(
    start: Start, redis: RedisServer, folder: Path, heartbeat_seconds: float = 1
) -> AsyncIterator[Pair]:
    """Both of them, with a node."""
    cutter = Cutter(folder / "cut", redis.socket)
    async with trio.open_nursery() as nursery:
        await nursery.start(cutter.run)

        def begin(name: str, url: str) -> DaemonProcess:
            cluster = {"redis_url": url, "instance_id": name, "heartbeat_seconds": heartbeat_seconds}
            return start(cluster=cluster, **APART, **PATIENT)

        near, far = begin("near", redis.url), begin("far", f"unix://{cutter.path}")
        await joined(near, far)
        await nursery.start(Echo(await near.port(), 0.1).run)
        two = Pair(redis, cutter, near, far)
        await two.whole()
        yield two
        nursery.cancel_scope.cancel()


async def killed(two: Pair) -> None:
    two.redis.kill()
    await trio.sleep(TROUBLE_S)
    two.redis.start()


async def frozen(two: Pair) -> None:
    two.redis.freeze()
    await trio.sleep(TROUBLE_S)
    two.redis.thaw()


async def full(two: Pair) -> None:
    two.redis.do("CONFIG", "SET", "maxmemory", 1)
    await trio.sleep(TROUBLE_S)
    two.redis.do("CONFIG", "SET", "maxmemory", 0)


async def slow(two: Pair) -> None:
    two.cutter.lag_s = 0.3
    await trio.sleep(2 * TROUBLE_S)
    two.cutter.lag_s = 0.0


async def torn(two: Pair) -> None:
    for _ in range(10):
        two.cutter.down = 700
        await trio.sleep(TROUBLE_S / 10)


async def cut(two: Pair) -> None:
    two.cutter.hold = held = trio.Event()
    await trio.sleep(TROUBLE_S)
    two.cutter.hold = None
    held.set()


TROUBLES: list[Callable[[Pair], Awaitable[None]]] = [killed, frozen, full, slow, torn, cut]
PASSING = (slow, torn)
"""Nobody is to be taken for dead in these: that once for each attempt at a sentence would be its end."""


@pytest.mark.parametrize("trouble", TROUBLES, ids=[trouble.__name__ for trouble in TROUBLES])
async def test_every_word_is_heard_once(
    trouble: Callable[[Pair], Awaitable[None]], start: Start, redis: RedisServer, tmp_path: Path
) -> None:
    """Who talks where the node is notices nothing; who talks elsewhere has to wait."""
    moves: list[int] = []
    with trio.fail_after(6 * PATIENCE_S):
        async with pair(start, redis, tmp_path, 10 if trouble in PASSING else 1) as two:
            enough = trio.Event()

            async def person(daemon: DaemonProcess) -> None:
                url = f"ws://127.0.0.1:{await daemon.port()}/ws/session"
                moves.append(await talk(url, 0.1, enough))

            async with trio.open_nursery() as people:
                for daemon in (two.near, two.far):
                    people.start_soon(person, daemon)
                    people.start_soon(person, daemon)
                await trio.sleep(2.0)
                await trouble(two)
                await joined(two.near, two.far)
                await two.whole()
                await trio.sleep(2.0)
                enough.set()
    assert moves == [0] * 4, "no connection was lost"


async def test_who_is_cut_off_is_given_up_and_comes_back(
    start: Start, redis: RedisServer, tmp_path: Path
) -> None:
    """A partition: the job of the one side goes elsewhere, and the other side tells its node to stop."""
    with trio.fail_after(6 * PATIENCE_S), watched(redis):
        async with pair(start, redis, tmp_path) as two:
            near, far = two.near, two.far
            async with far.node(node_id="far-node", max_concurrent_jobs=1) as node, near.client() as client:
                while '"far-node"' not in (await near.get("/api/v1/nodes"))[1]:  # noqa: ASYNC110
                    await trio.sleep(0.05)
                await near.ask("PATCH", "/api/v1/nodes/" + await own_node(near), {"drain": True})
                await client.utterance(0)
                job = await node.job()
                two.cutter.hold = held = trio.Event()
                await near.ask("PATCH", "/api/v1/nodes/" + await own_node(near), {"drain": None})
                await client.result(utterance_index=0)
                assert (await node.until("job_cancel"))["job_id"] == job["job_id"]
                async with far.client() as neighbour:
                    await neighbour.utterance(0)
                    await node.answer(await node.job())
                    await neighbour.result(utterance_index=0)
                two.cutter.hold = None
                held.set()
                await joined(near, far)
                await two.whole()


async def own_node(daemon: DaemonProcess) -> str:
    """The id of the node whose socket an instance has."""
    nodes = json.loads((await daemon.get("/api/v1/nodes"))[1])["nodes"]
    found: str = next(node["node_id"] for node in nodes if not node["owner"])
    return found


async def test_a_node_that_comes_to_two_at_once_is_of_one(
    start: Start, redis: RedisServer, tmp_path: Path
) -> None:
    async def keep(daemon: DaemonProcess, name: str, left: list[str]) -> None:
        async with daemon.node(node_id="twin") as node:
            await node.closed()
            left.append(name)

    with trio.fail_after(6 * PATIENCE_S):
        async with pair(start, redis, tmp_path) as two:
            for _ in range(3):
                left: list[str] = []
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(keep, two.near, "near", left)
                    nursery.start_soon(keep, two.far, "far", left)
                    while not left:  # noqa: ASYNC110 - there is no event for it
                        await trio.sleep(0.05)
                    owners: set[str] = set()
                    while owners != {"near", "far"} - set(left):
                        owners = set()
                        for name, daemon in (("near", two.near), ("far", two.far)):
                            nodes = json.loads((await daemon.get("/api/v1/nodes"))[1])["nodes"]
                            twin = next((node for node in nodes if node["node_id"] == "twin"), None)
                            owners.add("nobody" if twin is None else twin["owner"] or name)
                        await trio.sleep(0.05)
                    assert len(left) == 1
                    nursery.cancel_scope.cancel()


async def test_a_session_that_two_take_at_once_is_of_one(
    start: Start, redis: RedisServer, tmp_path: Path
) -> None:
    with trio.fail_after(6 * PATIENCE_S):
        async with pair(start, redis, tmp_path) as two:
            first = start(
                cluster={"redis_url": redis.url, "instance_id": "first", "heartbeat_seconds": 1}, **APART
            )
            await joined(two.near, two.far, first)
            async with first.stranger() as client:
                ack = await client.open(resume={})
                key = f"lingua:v2:{{s:{ack['session_id']}}}:resume"
                while not redis.do("EXISTS", key):  # noqa: ASYNC110 - Redis tells nobody
                    await trio.sleep(0.02)
                first.signal(signal.SIGKILL)
                await first.ended()
            resume = {"session_id": ack["session_id"], "resume_token": ack["resume_token"], "delivery": 0}
            async with two.near.stranger() as one, two.far.stranger() as other:
                acks: list[dict[str, Any]] = []

                async def come(client: Any) -> None:
                    acks.append(await client.open(resume=resume))

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(come, one)
                    nursery.start_soon(come, other)
                taken = [ack for ack in acks if ack["recovered"]]
                assert taken
                if len(taken) == 2:
                    # the later one has it, and the other is told
                    async with trio.open_nursery() as nursery:
                        for client in (one, other):
                            nursery.start_soon(until_closed, client, nursery.cancel_scope)
                assert sum(client.connected for client in (one, other)) >= 1


async def until_closed(client: Any, scope: trio.CancelScope) -> None:
    assert (await client.closed())[0] == 4001
    scope.cancel()
