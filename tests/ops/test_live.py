"""The overview as server-sent events: one a second, the same for all, bounded, over when the daemon stops."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Any

import trio
from core.support import Desk, services
from harness import daemon_in_memory
from looking import HERE, app_of
from trio.testing import MockClock, wait_all_tasks_blocked

from linguad.core.coverage import Served
from linguad.ops.gauges import GAUGES
from linguad.ops.live import MAX_LISTENERS, Live
from linguad.ops.overview import SHOWN, SHOWN_PAIRS, best, waiting, without_work


def data(event: bytes) -> Any:
    """What an event tells."""
    (line,) = (line for line in event.split(b"\n") if line.startswith(b"data: "))
    return json.loads(line[6:])


async def test_each_event_is_made_once_for_all(autojump_clock: MockClock) -> None:
    made: list[int] = []
    live = Live(lambda: made.append(0) or len(made))  # type: ignore[func-returns-value]
    live.tick()
    assert made == [], "nobody listens"
    heard: dict[str, list[int]] = {"a": [], "b": []}

    async def listen(name: str) -> None:
        async for event in live.follow():
            heard[name].append(data(event))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen, "a")
        await wait_all_tasks_blocked()
        assert (live.listeners, heard["a"]) == (1, [1])
        nursery.start_soon(listen, "b")
        await wait_all_tasks_blocked()
        assert heard["b"] == [1], "the newest one at once"
        live.tick()
        await wait_all_tasks_blocked()
        live.tick()
        await wait_all_tasks_blocked()
        assert heard == {"a": [1, 2, 3], "b": [1, 2, 3]}
        live.close()
    assert live.listeners == 0
    assert len(made) == 3


async def test_a_slow_listener_misses_some_and_holds_up_nobody(autojump_clock: MockClock) -> None:
    numbers = iter(range(100))
    live = Live(lambda: next(numbers))
    slow = live.follow()
    assert data(await anext(slow)) == 0
    for _ in range(5):
        live.tick()
    assert data(await anext(slow)) == 5
    await slow.aclose()
    assert live.listeners == 0


async def test_a_bug_in_the_overview_leaves_the_stream_open(autojump_clock: MockClock) -> None:
    broken = False

    def tell() -> int:
        if broken:
            raise ValueError("broken")
        return 1

    live = Live(tell)
    heard: list[int] = []

    async def listen() -> None:
        async for event in live.follow():
            number = data(event)
            heard.append(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await wait_all_tasks_blocked()
        broken = True
        live.tick()
        broken = False
        live.tick()
        await wait_all_tasks_blocked()
        assert heard == [1, 1]
        live.close()


async def test_so_many_may_listen(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client = app_of(world.daemon).test_client()
        live = world.daemon.watch.live
        live.listeners = MAX_LISTENERS
        answer = await client.get("/api/v1/live", scope_base=HERE)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
        live.listeners = 0
        live.close()
        answer = await client.get("/api/v1/live", scope_base=HERE)
        assert (answer.status_code, (await answer.get_json())["error"]["code"]) == (503, "draining")


async def test_what_is_told(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(jobs={"pending_timeout_seconds": 100}) as world:
        client, node = await world.client(), await world.node("node-1")
        await client.speak()
        await node.answer(await node.job())
        await client.result()
        other = await world.client(tgt_lang="zh")
        await node.leave()
        await wait_all_tasks_blocked()
        await other.speak()
        await trio.sleep(2)
        world.daemon.watch.meter.tick()
        async with aclosing(world.daemon.watch.live.follow()) as events:
            told = data(await anext(events))
    assert told["state"] == {"ready": True, "reasons": [], "degraded": []}
    assert set(told["gauges"]) == set(GAUGES)
    assert told["gauges"]["sessions"] == 2
    assert (told["gauges"]["nodes_ready"], told["gauges"]["jobs_waiting"]) == (0, 1)
    (queue,) = told["waiting"]
    assert (queue["src"], queue["tgt"], queue["jobs"], queue["ready_nodes"]) == ("en", "zh", 1, False)
    assert queue["oldest_s"] > 1.9
    assert told["outcomes"]["completed"] == 1
    assert told["gauges"]["results_per_minute"] == 1
    assert told["stages"]["total"]["p95_ms"] > 0
    assert told["failing"][0] | {"heartbeat_age_s": 0} == {
        "node_id": "node-1",
        "status": "offline",
        "reason": "offline",
        "heartbeat_age_s": 0,
    }
    assert told["pairs"] == []
    assert told["instance"] == {"id": None, "others": 0, "drain_seconds": 25.0}


async def test_queues_and_nodes_without_work_are_told_up_to_a_number() -> None:
    desk = Desk(max_waiting=1000, max_waiting_per_tenant=1000)
    desk.node("busy", cap=1)
    desk.submit()
    for number in range(3):
        desk.submit(0, f"s-{number + 2}")
    desk.submit(0, "s-9", tgt="en", src="es")
    for number in range(2 * SHOWN):
        desk.node(f"gone-{number:02}", "en", "fr")
        desk.lose(f"gone-{number:02}")
    desk.node("ill", installed_services=services("asr", status="stopped"))
    desk.now += 1.5
    queues = waiting(desk.dispatch, desk.now)
    assert [(one.src, one.tgt, one.jobs, one.ready_nodes) for one in queues] == [
        ("en", "es", 3, True),
        ("es", "en", 1, True),
    ]
    assert queues[0].oldest_s == 1.5
    failing = without_work(list(desk.fleet.nodes.values()), desk.now)
    assert len(failing) == 2 * SHOWN + 1
    assert {one.reason for one in failing} == {"offline", "no_running_service"}
    assert "busy" not in {one.node_id for one in failing}


def test_pairs_with_the_most_nodes_are_told_in_order() -> None:
    pairs = [Served(f"a{n:03}", "en", n, 1) for n in range(SHOWN_PAIRS + 50)]
    chosen = best(pairs)
    assert len(chosen) == SHOWN_PAIRS
    assert chosen == sorted(chosen, key=lambda pair: pair.src)
    assert min(pair.ready_nodes for pair in chosen) == 50
