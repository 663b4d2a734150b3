"""Nodes on one instance, sessions on another: two real daemons and a real Redis between them."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from conftest import Start
from harness import Client, Node
from processes import PATIENCE_S, DaemonProcess
from redis_cluster import RedisCluster
from redis_server import RedisServer

HEARTBEAT_S = 3.0
"""A kill is noticed soon, and nobody is taken for dead because the machine is busy, s."""
APART: dict[str, Any] = {"gateway": {"enabled": False}, "hub": {"enabled": False}}


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A server of the test's own."""
    server = RedisServer().start()
    yield server
    server.clear_away()


Two = tuple[DaemonProcess, DaemonProcess]


@pytest.fixture
def two(start: Start, redis: RedisServer) -> Two:
    """Two instances."""

    def instance(name: str) -> DaemonProcess:
        cluster = {"redis_url": redis.url, "instance_id": name, "heartbeat_seconds": HEARTBEAT_S}
        return start(cluster=cluster, **APART)

    return instance("a"), instance("b")


async def standing(daemon: DaemonProcess, node_id: str) -> dict[str, Any]:
    """What a daemon knows of a node; empty if nothing."""
    nodes = json.loads((await daemon.get("/api/v1/nodes"))[1])["nodes"]
    return next((node for node in nodes if node["node_id"] == node_id), {})


async def until(
    daemon: DaemonProcess, node_id: str, fits: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """What a daemon knows of a node, once it is as wanted."""
    with trio.fail_after(PATIENCE_S):
        while True:
            seen = await standing(daemon, node_id)
            if fits(seen):
                return seen
            await trio.sleep(0.05)


def is_ready(seen: dict[str, Any]) -> bool:
    return bool(seen) and seen["status"] == "ready"


@asynccontextmanager
async def pair(two: Two) -> AsyncIterator[tuple[Node, Client]]:
    """A node on the first, which the second knows, and a client on the second."""
    a, b = two
    async with a.node(node_id="node-1") as node:
        await until(b, "node-1", is_ready)
        async with b.client() as client:
            yield node, client


async def test_every_message_goes_both_ways(two: Two) -> None:
    with trio.fail_after(PATIENCE_S * 3):
        async with pair(two) as (node, client):
            await client.utterance(0)
            job = await node.job()
            about = {"job_id": job["job_id"], "node_id": node.id}
            await node.say({"type": "job_ack", **about})
            await client.until("ui_event", event="NODE_ACCEPTED")
            await node.say({"type": "job_started", **about})
            await node.say({"type": "asr_partial", "text": "hea", "is_final": False, **about})
            assert (await client.until("asr_partial"))["text"] == "hea"
            await node.answer(job)
            assert (await client.result(utterance_index=0))["text_translated"] == "oído 0"

            await client.utterance(1)
            await node.fail(await node.job(), message="Unsupported audio format: x")
            missing = await client.until("missing_result")
            assert (missing["utterance_index"], missing["reason"]) == (1, "job_failed")

            await client.utterance(2)
            job = await node.job()
            await client.say({"type": "session_close", "session_id": client.session_id, "reason": "done"})
            cancel = await node.until("job_cancel")
            assert cancel["job_id"] == job["job_id"]
            assert (await standing(two[0], "node-1"))["slots_used"] == 0, "its slot came back"


async def test_a_model_that_is_missing_is_known_to_all(two: Two) -> None:
    with trio.fail_after(PATIENCE_S * 3):
        async with pair(two) as (node, client), two[0].node(node_id="node-2") as other:
            await until(two[1], "node-2", is_ready)
            await client.utterance(0)
            nodes = {"node-1": node, "node-2": other}
            with trio.fail_after(PATIENCE_S):
                first, job = await _first_job(nodes)
            details = {"service_id": "test-nmt"}
            error = {"code": "MODEL_NOT_AVAILABLE", "message": "gone", "details": details}
            await nodes[first].answer(job, success=False, error=error)
            (second,) = {"node-1", "node-2"} - {first}
            await nodes[second].answer(await nodes[second].job())
            assert (await client.result())["text_translated"] == "oído 0"
            seen = await until(two[1], first, lambda seen: "nmt" not in seen["services_running"])
            assert seen["owner"] == "a"
            for index in (1, 2, 3):
                await client.utterance(index)
                await nodes[second].answer(await nodes[second].job())
                await client.result(utterance_index=index)


async def _first_job(nodes: dict[str, Node]) -> tuple[str, dict[str, Any]]:
    """Who gets the next job."""
    found: list[tuple[str, dict[str, Any]]] = []

    async def wait(name: str, node: Node) -> None:
        found.append((name, await node.job()))
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for name, node in nodes.items():
            nursery.start_soon(wait, name, node)
    return found[0]


async def test_the_newest_registration_wins_wherever_it_is(two: Two) -> None:
    a, b = two
    with trio.fail_after(PATIENCE_S * 3):
        async with a.node(node_id="node-1") as old:
            await until(b, "node-1", is_ready)
            async with b.working_node() as idle, b.node(node_id="node-1") as new:
                assert await old.closed() == (4001, "superseded by a newer connection with the same id")
                seen = await until(a, "node-1", lambda seen: is_ready(seen) and seen["owner"] == "b")
                assert seen["slots_used"] == 0
                assert (await standing(b, "node-1"))["owner"] == ""
                assert await until(a, idle.id, lambda seen: is_ready(seen) and seen["owner"] == "b")
                assert new.connected


async def test_what_an_operator_says_anywhere_holds_everywhere(two: Two, redis: RedisServer) -> None:
    a, b = two
    with trio.fail_after(PATIENCE_S * 3):
        async with pair(two) as (node, client):
            page = await b.ask("PATCH", "/api/v1/nodes/node-1", {"drain": True, "note": "loud fan"})
            assert page["owner"] == "a"
            for daemon in two:
                seen = await until(daemon, "node-1", lambda seen: seen["status"] == "draining")
                assert seen["note"] == "loud fan"
            await a.ask("PATCH", "/api/v1/nodes/node-1", {"drain": None})
            await until(b, "node-1", is_ready)
            await client.utterance(0)
            await node.answer(await node.job())
            await client.result(utterance_index=0)
            redis.stop()
            await until(b, "node-1", lambda seen: seen["status"] == "offline")
            async with b.http() as http:
                status, body = await http.ask("PATCH", "/api/v1/nodes/node-1", {"drain": True})
            assert (status, "owner_not_reached" in body) == (503, True)


async def test_a_killed_owner_loses_nothing(two: Two) -> None:
    a, b = two
    with trio.fail_after(PATIENCE_S * 3):
        async with pair(two) as (node, client):
            await client.utterance(0)
            lost = await node.job()
            a.signal(signal.SIGKILL)
            async with b.node(node_id="node-2") as other:
                job = await other.job()
                assert job["audio"] == lost["audio"]
                assert job["job_id"] != lost["job_id"]
                await other.answer(job)
                await client.result(utterance_index=0)
                await client.utterance(1)
                await other.answer(await other.job())
                assert (await client.result())["utterance_index"] == 1, "and not the first one again"
            seen = await until(b, "node-1", lambda seen: not seen or seen["status"] == "offline")
            assert not seen or seen["slots_used"] == 0


async def test_without_redis_local_work_goes_on(two: Two, redis: RedisServer) -> None:
    a, b = two
    with trio.fail_after(PATIENCE_S * 4):
        async with pair(two) as (node, client), a.client() as neighbour:
            redis.stop()
            await until(b, "node-1", lambda seen: seen["status"] == "offline")
            await neighbour.utterance(0)
            await node.answer(await node.job())
            await neighbour.result(utterance_index=0)
            await client.utterance(0)
            event = await client.until("ui_event", event="ERROR")
            assert event["error_code"] == "SCHEDULER_DEPENDENCY_DOWN"
            redis.start()
            await until(b, "node-1", is_ready)
            await client.utterance(1)
            await node.answer(await node.job())
            await client.result(utterance_index=1)


async def test_a_cluster_of_masters_carries_jobs(start: Start) -> None:
    masters = RedisCluster()
    try:

        def instance(name: str) -> DaemonProcess:
            cluster = {"redis_urls": masters.urls, "instance_id": name, "heartbeat_seconds": HEARTBEAT_S}
            return start(cluster=cluster, **APART)

        with trio.fail_after(PATIENCE_S * 3):
            async with pair((instance("a"), instance("b"))) as (node, client), trio.open_nursery() as working:
                # it is asked again where the first letter took too long
                working.start_soon(node.work)
                await client.utterance(0)
                await client.result(utterance_index=0)
                working.cancel_scope.cancel()
    finally:
        masters.clear_away()


async def test_local_jobs_ask_nobody(two: Two) -> None:
    a, b = two
    async with b.node(node_id="node-2"):
        await until(a, "node-2", is_ready)
        async with a.working_node(), a.client() as client:
            for index in range(20):
                await client.utterance(index)
                await client.result(utterance_index=index)
        for daemon in two:
            assert "linguad_remote_jobs_total{" not in (await daemon.get("/metrics"))[1]
