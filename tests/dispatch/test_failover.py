"""What becomes of jobs when nodes are missing, busy, broken, silent or gone (node-protocol 6).

Rules: memory streams and autojump_clock, no threads, no sockets; the peers are real WebSocket clients.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from harness import Client, Json, Node, base64, daemon_in_memory, plan_a, session_init
from prometheus_client import REGISTRY
from trio.testing import MockClock, wait_all_tasks_blocked


async def first_job(nodes: list[Node]) -> tuple[Node, Json]:
    """The one job that one of the nodes has got."""
    await wait_all_tasks_blocked()
    [found] = [(node, job) for node in nodes for job in await node.heard("job_assign")]
    return found


def other_than(node: Node, nodes: list[Node]) -> Node:
    """The other one of two nodes."""
    [other] = [peer for peer in nodes if peer is not node]
    return other


async def the_end(client: Client) -> tuple[str, str]:
    """Error code and reason of an utterance that failed."""
    event = await client.until("ui_event", event="ERROR", status="error")
    missing = await client.until("missing_result")
    assert event["utterance_index"] == missing["utterance_index"]
    assert event["trace_id"] == missing["trace_id"]
    assert event["hint"] == event["hint_en"]
    assert event["hint_zh"]
    return event["error_code"], missing["reason"]


async def test_without_nodes_the_client_is_told_and_may_go_on(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client = await world.client()
        await client.utterance(0)
        before = trio.current_time()
        assert await the_end(client) == ("NO_AVAILABLE_NODE", "no_available_node")
        assert trio.current_time() - before == pytest.approx(10)
        assert await client.heard("error") == []
        await world.working_node()
        await client.utterance(0)
        assert (await client.result())["utterance_index"] == 0
        await client.speak()
        assert (await client.result())["utterance_index"] == 1


async def test_nodes_of_other_languages_are_no_help(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.working_node()
        client = await world.stranger()
        await client.open(tgt_lang="fr")
        await client.speak()
        event = await client.until("ui_event", event="ERROR")
        assert event["error_code"] == "NO_AVAILABLE_NODE"
        assert event["details"] == {"src": "en", "tgt": "fr", "reason": "lang_pair_unsupported"}
        refused = REGISTRY.get_sample_value(
            "scheduler_no_available_node_total", {"selector": "types", "reason": "lang_pair_unsupported"}
        )
        assert refused
        await client.utterance(1)
        assert (await client.result())["utterance_index"] == 1


async def test_only_node_that_dies_is_told_after_the_wait(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await client.speak()
        await node.job()
        await node.drop()
        before = trio.current_time()
        assert await the_end(client) == ("NODE_UNAVAILABLE", "node_lost")
        assert trio.current_time() - before == pytest.approx(10)
        await world.working_node()
        await client.speak()
        assert (await client.result())["utterance_index"] == 1


async def test_only_node_that_comes_back_gets_its_job_again(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node("node-00000001"), await world.client()
        await client.speak()
        job = await node.job()
        await node.drop()
        await trio.sleep(5)
        again = await world.node("node-00000001")
        second = await again.job()
        assert second["job_id"] == f"{job['job_id']}~r2"
        await again.answer(second)
        await client.result()


async def test_silent_node_is_given_up_after_its_time(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        nodes, client = [await world.node(), await world.node()], await world.client()
        await client.utterance(0, bytes(32000 * 4), audio_format="pcm16")
        before = trio.current_time()
        node, job = await first_job(nodes)
        assert await node.until("job_cancel") == {
            "type": "job_cancel",
            "job_id": job["job_id"],
            "trace_id": job["trace_id"],
            "reason": "job_timeout",
        }
        assert trio.current_time() - before == pytest.approx(62)
        other = other_than(node, nodes)
        second = await other.job()
        assert second["attempt_id"] == 2
        await node.answer(job, text_asr="", text_translated="", tts_audio="")
        await other.answer(second)
        await client.result()
        assert node.connected


async def test_silence_everywhere_ends_the_job(autojump_clock: MockClock) -> None:
    times = {"timeout_base_seconds": 1, "timeout_factor": 0, "timeout_min_seconds": 0.1}
    async with daemon_in_memory(jobs=times) as world:
        nodes, client = [await world.node() for _ in range(5)], await world.client()
        await client.speak()
        assert await the_end(client) == ("JOB_TIMEOUT", "job_timeout")
        jobs = [job for node in nodes for job in await node.heard("job_assign")]
        assert len({job["job_id"] for job in jobs}) == 4
        assert len(jobs) == 4
        await client.heartbeat()


@pytest.mark.parametrize("code", ["MODEL_NOT_AVAILABLE", "NODE_OVERLOADED", "TTS_TIMEOUT", "BRAND_NEW"])
async def test_failure_that_another_node_may_cure(code: str, autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        nodes, client = [await world.node(), await world.node()], await world.client()
        await client.utterance(0)
        node, job = await first_job(nodes)
        await node.fail(job, code)
        other = other_than(node, nodes)
        await other.answer(await other.job())
        assert (await client.result())["time_breakdown"]["attempts"] == 2
        assert await client.heard("error", "missing_result") == []


async def test_failure_that_no_node_can_cure(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        nodes, client = [await world.node(), await world.node()], await world.client()
        await client.utterance(0)
        node, job = await first_job(nodes)
        await node.fail(job, message="Unsupported audio format: mp3")
        assert (await the_end(client))[1] == "job_failed"
        assert [await peer.heard("job_assign") for peer in nodes] == [[], []]


async def test_failure_on_every_node_is_told_once(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client = await world.client()
        nodes = [await world.node() for _ in range(4)]
        await client.utterance(0)
        for _ in range(4):
            node, job = await first_job(nodes)
            await node.fail(job, "NMT_TIMEOUT")
        assert await the_end(client) == ("NMT_TIMEOUT", "job_failed")
        assert await client.heard("missing_result", "error") == []


async def test_too_many_waiting_jobs_are_refused_at_once(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(jobs={"max_waiting": 2}) as world:
        client = await world.client()
        before = trio.current_time()
        for index in range(3):
            await client.utterance(index)
        event = await client.until("ui_event", event="ERROR")
        assert (event["error_code"], event["utterance_index"]) == ("NODE_OVERLOADED", 2)
        assert trio.current_time() == before


async def test_jobs_are_refused_while_too_much_is_held_in_memory(autojump_clock: MockClock) -> None:
    server: dict[str, Any] = {"max_buffered_bytes": 1024 * 1024}
    async with daemon_in_memory(server=server, nodes={"max_concurrent_jobs": 64}) as world:
        node, client = await world.node(), await world.client()
        sound = bytes(480_000)
        for index in range(3):
            await client.utterance(index, sound, audio_format="pcm16")
        event = await client.until("ui_event", event="ERROR")
        assert (event["error_code"], event["utterance_index"]) == ("NODE_OVERLOADED", 2)
        for _ in range(2):
            await node.answer(await node.job())
        await wait_all_tasks_blocked()
        await client.utterance(2, sound, audio_format="pcm16")
        await node.answer(await node.job())
        assert (await client.result(utterance_index=2))["text_asr"] == "heard 2"


async def test_session_stays_with_its_node(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        nodes, client = [await world.node() for _ in range(8)], await world.client()
        chosen = []
        for index in range(6):
            await client.utterance(index)
            node, job = await first_job(nodes)
            await node.answer(job)
            await client.result()
            chosen.append(node.id)
        assert len(set(chosen)) == 1


async def test_open_sessions_share_the_fleet(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(nodes={"max_concurrent_jobs": 2}) as world:
        nodes = [await world.node() for _ in range(4)]
        clients = [await world.client() for _ in range(8)]
        for client in clients:
            await client.speak()
        await trio.sleep(0.1)
        assert [len(await node.heard("job_assign")) for node in nodes] == [2, 2, 2, 2]


async def test_job_whose_audio_was_cut_at_the_end_of_its_socket_ends_with_the_grace(
    autojump_clock: MockClock,
) -> None:
    async with daemon_in_memory() as world:
        node, client = await world.node(), await world.client()
        await client.chunk(plan_a())
        await client.drop()
        job = await node.job()
        assert job["audio"] == base64(plan_a())
        before = trio.current_time()
        assert (await node.until("job_cancel"))["reason"] == "session_closed"
        assert trio.current_time() - before == pytest.approx(30)
        assert world.daemon.view.facts()["open_jobs"] == 0


async def test_everything_is_given_back(autojump_clock: MockClock) -> None:
    """After all kinds of ends no job is open, no slot taken and no memory held."""
    async with daemon_in_memory(nodes={"max_concurrent_jobs": 3}) as world:
        nodes = [await world.node() for _ in range(3)]
        clients = [await world.client() for _ in range(6)]
        for client in clients:
            for index in range(3):
                await client.utterance(index)
        await wait_all_tasks_blocked()
        first, second = (await nodes[0].heard("job_assign"))[:2]
        await nodes[0].answer(first)
        await nodes[0].fail(second)
        await nodes[1].drop()
        await clients[0].drop()
        await clients[1].say(session_init())
        await trio.sleep(400)
        assert world.daemon.view.facts()["open_jobs"] == 0
        assert [slots for _, slots in world.daemon.view.nodes()] == [0, 0]
        assert REGISTRY.get_sample_value("linguad_buffered_bytes") == 0
