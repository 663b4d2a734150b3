"""Statistics are counted in the background, told at once, and said to be old when they are (7.2)."""

from __future__ import annotations

import json

import trio
from harness import daemon_in_memory
from looking import HERE, app_of
from prometheus_client import REGISTRY
from trio.testing import MockClock

from linguad.core.steps import Steps
from linguad.counters import values
from linguad.metrics import STATS_REQUESTS, STATS_STALE
from linguad.ops.snapshot import STALE_SECONDS, STATS_SECONDS, TRIGGER_SECONDS, Snapshot
from linguad.ops.stats import NodeStats, Stats


class Counting:
    """Counts how often it was asked to count."""

    def __init__(self) -> None:
        self.begun = 0
        self.fails = False

    def __call__(self) -> Steps[Stats]:
        self.begun += 1
        yield
        if self.fails:
            raise ValueError("broken")
        return Stats(nodes=NodeStats(connected_nodes=self.begun))


def told(snapshot: Snapshot) -> int:
    connected: int = json.loads(snapshot.json)["nodes"]["connected_nodes"]
    return connected


async def test_counted_at_once_and_then_every_few_seconds(autojump_clock: MockClock) -> None:
    count = Counting()
    snapshot = Snapshot(count, trio.current_time)
    assert (told(snapshot), snapshot.stale, snapshot.updated_at_ms) == (0, True, 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(snapshot.run)
        await trio.sleep(0.1)
        assert (told(snapshot), snapshot.stale) == (1, False)
        assert snapshot.updated_at_ms > 0
        await trio.sleep(STATS_SECONDS)
        assert told(snapshot) == 2
        for _ in range(10):
            snapshot.ask()
        await trio.sleep(0.1)
        assert count.begun == 2, "readers cause no work once there is something to read"
        nursery.cancel_scope.cancel()


async def test_a_failure_keeps_what_there_is(autojump_clock: MockClock) -> None:
    count = Counting()
    snapshot = Snapshot(count, trio.current_time)
    await snapshot.build()
    count.fails = True
    await trio.sleep(STALE_SECONDS + 1)
    await snapshot.build()
    assert (told(snapshot), snapshot.stale) == (1, True)
    count.fails = False
    await snapshot.build()
    assert (told(snapshot), snapshot.stale) == (3, False)


async def test_one_count_at_a_time(autojump_clock: MockClock) -> None:
    count = Counting()
    snapshot = Snapshot(count, trio.current_time)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(snapshot.build)
    assert count.begun == 1


async def test_before_the_first_count_readers_trigger_one_now_and_then(autojump_clock: MockClock) -> None:
    count = Counting()
    count.fails = True
    snapshot = Snapshot(count, trio.current_time)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(snapshot.run)
        await trio.sleep(0.1)
        assert count.begun == 1
        for _ in range(10):
            snapshot.ask()
            await trio.sleep(0.01)
        assert count.begun == 2
        periodic = int(TRIGGER_SECONDS / STATS_SECONDS)
        await trio.sleep(TRIGGER_SECONDS)
        before = count.begun
        assert before <= 2 + periodic
        snapshot.ask()
        await trio.sleep(0.1)
        assert count.begun == before + 1
        nursery.cancel_scope.cancel()


async def test_the_answer_says_how_old_it_is(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client = app_of(world.daemon).test_client()
        requests, stale = values(STATS_REQUESTS)[()], values(STATS_STALE)[()]
        answer = await client.get("/api/v1/stats", scope_base=HERE)
        assert (answer.headers["X-Snapshot-Stale"], "X-Snapshot-Age-Ms" in answer.headers) == ("true", False)
        assert REGISTRY.get_sample_value("scheduler_dashboard_snapshot_age_seconds") == 0
        await world.daemon.watch.snapshot.build()
        await trio.sleep(2)
        assert (REGISTRY.get_sample_value("scheduler_dashboard_snapshot_age_seconds") or 0) > 0
        answer = await client.get("/api/v1/stats", scope_base=HERE)
        assert answer.headers["X-Snapshot-Stale"] == "false"
        assert 2000 <= int(answer.headers["X-Snapshot-Age-Ms"]) < 3000
        await trio.sleep(STALE_SECONDS)
        answer = await client.get("/api/v1/stats", scope_base=HERE)
        assert answer.headers["X-Snapshot-Stale"] == "true"
        assert (values(STATS_REQUESTS)[()], values(STATS_STALE)[()]) == (requests + 3, stale + 2)
