"""Every metric an operator is promised moves when what it counts happens, in a whole daemon."""

from __future__ import annotations

import trio
from harness import World, daemon_in_memory, plan_a
from prometheus_client import REGISTRY
from trio.testing import MockClock, wait_all_tasks_blocked

from linguad.metrics import STAGES

RERUNS = {"totalReruns": 4, "successfulReruns": 2, "timeoutReruns": 1, "qualityImprovements": 1}


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


class Watched:
    """How far metrics moved since."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for family in REGISTRY.collect():
            for sample in family.samples:
                self._before[sample.name, tuple(sorted(sample.labels.items()))] = sample.value

    def __call__(self, name: str, **labels: str) -> float:
        return value(name, **labels) - self._before.get((name, tuple(sorted(labels.items()))), 0.0)


async def test_a_conversation(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(sessions={"gap_timeout_ms": 1000}) as world:
        moved = Watched()
        client, node = await world.client(), await world.node("node-1")
        await node.heartbeat(rerun_metrics=RERUNS)
        await client.speak()
        await node.answer(await node.job(), asr_quality_level="good", reason_codes=["short"])
        await client.result()
        for stage in STAGES:
            assert moved("linguad_stage_seconds_count", stage=stage) == 1
        assert moved("scheduler_web_task_finalized_total", reason="send") == 1
        assert value("scheduler_reserve_attempt_total", result="success") == 1
        assert value("scheduler_jobs_total", status="completed") == 1
        assert moved("linguad_jobs_created_total") == 1
        assert value("linguad_jobs_finished_total", outcome="completed") == 1
        assert value("linguad_nodes", status="ready") == 1
        assert value("scheduler_average_finalize_latency_ms") > 0
        assert value("scheduler_nodes_total", status="ready") == 1
        assert value("scheduler_sessions_total") == 1
        assert value("linguad_slots", state="ready") == world.daemon.fleet.nodes["node-1"].slots
        assert value("linguad_reruns_total", what="triggered") == 4
        assert value("linguad_reruns_total", what="timed_out") == 1
        assert moved("linguad_quality_by_pair_total", pair="en>es", level="good") == 1
        assert moved("scheduler_dispatch_latency_seconds_count") == 1
        await client.chunk(plan_a())
        await trio.sleep(4)
        assert moved("scheduler_web_task_finalized_total", reason="timeout") == 1
        assert value("linguad_pool_members", pool="en>es") == 1
        waiting = await node.job()
        assert value("scheduler_session_actor_backlog_size") == value("linguad_jobs_open") == 1
        assert value("linguad_slots", state="used") == 1
        await client.speak()
        await node.answer(await node.job())
        await trio.sleep(2)
        assert moved("scheduler_result_gap_timeout_total") == 1
        await node.answer(waiting)
        await client.result(utterance_index=1)
        await client.chunk(final=True)
        await client.utterance(3)
        await client.utterance(3)
        await node.answer(await node.job())
        await client.result(utterance_index=3)
        await client.say({"type": "session_close", "session_id": client.session_id, "reason": "user_closed"})
        await client.until("session_close_ack")
        await wait_all_tasks_blocked()
        assert moved("scheduler_duplicate_finalize_suppressed_total") == 1
        assert moved("scheduler_duplicate_job_blocked_total") == 1
        assert value("scheduler_sessions_total") == 0


async def test_nobody_can_do_it(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(jobs={"pending_timeout_seconds": 1}) as world:
        client, node = await world.client(), await world.node("node-1", max_concurrent_jobs=1)
        other = await world.client()
        await client.speak()
        await node.job()
        await other.speak()
        await trio.sleep(0.5)
        assert value("linguad_jobs_waiting") == 1
        assert value("scheduler_reserve_attempt_total", result="fail") == 1
        await other.until("ui_event", event="ERROR")
        assert value("scheduler_jobs_total", status="failed") == 1
        assert value("scheduler_node_overload_reject_total", node_id="node-1", reason="full") == 1
        assert rejected(world) == {"capacity_exceeded": 1}


async def test_the_lag_of_the_loop_is_sampled(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        moved = Watched()
        world.nursery.start_soon(world.daemon.watch.run)
        await trio.sleep(5.05)
        assert moved("linguad_loop_lag_seconds_count") == 50
        assert moved("linguad_loop_lag_seconds_bucket", le="0.0005") == 50
        autojump_clock.autojump_threshold = float("inf")
        autojump_clock.jump(3.0)
        await wait_all_tasks_blocked()
        assert moved("linguad_loop_lag_seconds_bucket", le="2.0") == 50
        assert world.daemon.watch.meter.read()["loop_lag_ms"] >= 0
        autojump_clock.autojump_threshold = 0


def rejected(world: World) -> dict[str, int]:
    """Why the only node was passed over."""
    (node,) = world.daemon.fleet.nodes.values()
    return dict(node.no_work)
