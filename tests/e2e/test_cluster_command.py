"""`linguad cluster` and two real instances on a real Redis."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Annotated, Any

import msgspec
import pytest
import trio
from conftest import Start
from harness import SERVICES
from msgspec import Meta, Struct
from patience import PATIENCE_S
from processes import DaemonProcess, linguad, write_config
from redis_server import RedisServer

APART: dict[str, Any] = {"gateway": {"enabled": False}, "hub": {"enabled": False}}


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A server of the test's own."""
    server = RedisServer().start()
    yield server
    server.clear_away()


async def run(*words: str) -> CompletedProcess[str]:
    return await trio.to_thread.run_sync(partial(linguad, *words))


async def answer(
    daemon: DaemonProcess, path: str, fits: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """What the daemon says there, once it is as wanted."""
    with trio.fail_after(PATIENCE_S):
        while True:
            said = dict(json.loads((await daemon.get(path))[1]))
            if fits(said):
                return said
            await trio.sleep(0.1)


async def page(daemon: DaemonProcess, *, online: int) -> dict[str, Any]:
    """What the daemon says of its cluster, once so many instances live."""
    return await answer(daemon, "/api/v1/cluster", lambda said: said.get("online_instances") == online)


async def test_two_instances(start: Start, redis: RedisServer) -> None:
    def instance(name: str) -> DaemonProcess:
        cluster = {"redis_url": redis.url, "instance_id": name, "heartbeat_seconds": 5}
        return start(cluster=cluster, **APART)

    a, b = instance("first"), instance("second")
    async with a.node(node_id="node-1"):
        seen = await page(b, online=2)
        assert [one["instance_id"] for one in seen["instances"]] == ["first", "second"]
        server = ("--server", f"http://127.0.0.1:{await a.port()}")
        done = await run("cluster", *server)
        assert (done.returncode, done.stderr) == (0, "")
        assert "first (asked)" in done.stdout
        assert "2 of 2 instances live" in done.stdout
        own = await page(a, online=2)
        assert [(node["node_id"], node["online"]) for node in own["nodes"]] == [("node-1", True)]
    ready = json.loads((await a.get("/ready"))[1])
    assert (ready["ready"], ready["degraded"]) == (True, [])

    redis.do("XADD", "lingua:v2:{i:second}:inbox", "*", "rubbish", "1")
    (letter,) = (await answer(a, "/api/v1/cluster/dlq", lambda said: said["letters"]))["letters"]
    done = await run("cluster", "dlq", "list", *server)
    assert "unreadable" in done.stdout
    listed = await run("cluster", *server, "dlq", "list", "--json")
    assert json.loads(listed.stdout)["letters"] == [letter]
    shown = await run("cluster", *server, "dlq", "show", letter["id"])
    assert "no envelope" in shown.stdout
    refused = await run("cluster", *server, "dlq", "replay", letter["id"])
    assert refused.returncode == 1
    assert "only the head is kept" in refused.stderr
    dropped = await run("cluster", *server, "dlq", "drop", letter["id"])
    assert dropped.returncode == 0
    again = await run("cluster", *server, "dlq", "drop", letter["id"])
    assert (again.returncode, "no such dead letter" in again.stderr) == (1, True)
    assert "No dead letters" in (await run("cluster", *server, "dlq", "list")).stdout
    assert "reg:inst" in (await run("cluster", *server, "keys")).stdout

    b.stop()
    await answer(a, "/api/v1/cluster", lambda said: said["total_instances"] == 1)
    redis.stop()
    await answer(a, "/ready", lambda said: said["degraded"] == ["redis"])
    assert (await a.get("/ready"))[0] == 200
    away = await answer(a, "/api/v1/cluster", lambda said: "error" in said)
    assert away["error"]["code"] == "redis_away"
    failed = await run("cluster", *server)
    assert (failed.returncode, "local work goes on" in failed.stderr) == (1, True)
    a.stop()


async def test_wiping(start: Start, redis: RedisServer, tmp_path: Path) -> None:
    cluster = {"redis_url": redis.url, "instance_id": "only", "heartbeat_seconds": 5}
    daemon = start(cluster=cluster, **APART)
    await page(daemon, online=1)
    config = ("--config", str(write_config(tmp_path / "wipe.toml", cluster=cluster, **APART)))
    for words, says in (
        (("--prefix", "lingua"), "say --yes"),
        (("--prefix", "other", "--yes"), "cluster.key_prefix"),
        (("--prefix", "lingua", "--yes"), "--force: only"),
    ):
        done = await run("cluster", "wipe", *words, *config)
        assert (done.returncode, says in done.stderr) == (1, True)
    daemon.stop()
    done = await run("cluster", "wipe", "--prefix", "lingua", "--yes", *config)
    assert done.returncode == 0
    assert redis.do("DBSIZE") == 0


async def test_a_name_is_for_one_instance(start: Start, redis: RedisServer) -> None:
    cluster = {"redis_url": redis.url, "instance_id": "${NAME_OF_POD}", "heartbeat_seconds": 3}
    daemon = start(env={"NAME_OF_POD": "pod-1"}, cluster=cluster, **APART)
    seen = await page(daemon, online=1)
    assert seen["instance_id"] == "pod-1"
    other = start(env={"NAME_OF_POD": "pod-1"}, cluster=cluster, **APART)
    assert await other.ended() == 1
    assert any("the instance id pod-1 belongs to process" in line for line in other.complaints)
    await page(daemon, online=1)
    daemon.stop()


async def test_an_instance_alone(start: Start) -> None:
    daemon = start(**APART)
    status, body = await daemon.get("/api/v1/cluster")
    assert (status, json.loads(body)["error"]["code"]) == (503, "cluster_not_enabled")
    done = await run("cluster", "--server", f"http://127.0.0.1:{await daemon.port()}")
    assert (done.returncode, "set cluster.redis_url" in done.stderr) == (1, True)
    daemon.stop()


async def test_without_redis_own_nodes_serve_own_sessions(start: Start, redis: RedisServer) -> None:
    redis.stop()
    daemon = start(cluster={"redis_url": redis.url, "heartbeat_seconds": 1}, **APART)
    said = await answer(daemon, "/ready", lambda said: said["ready"])
    assert said["degraded"] == ["redis"]
    async with daemon.working_node(), daemon.client() as client:
        await client.speak()
        assert (await client.result())["utterance_index"] == 0
        redis.start()
        await page(daemon, online=1)
        await client.speak()
        assert (await client.result())["utterance_index"] == 1
        redis.freeze()
        await client.speak()
        assert (await client.result())["utterance_index"] == 2
        await answer(daemon, "/ready", lambda said: said["degraded"] == ["redis"])
        redis.thaw()
        await answer(daemon, "/ready", lambda said: said["degraded"] == [])
    daemon.stop()


Count = Annotated[int, Meta(ge=0)]


class OldInstance(Struct):
    """An instance, as the table of the earlier server has it (pools-and-cluster 7.4)."""

    instance_id: str
    hostname: str
    version: str
    pid: Count
    started_at_ms: Count
    uptime_seconds: Count
    is_online: bool
    inbox_length: Count
    inbox_pending: Count
    dlq_length: Count
    nodes_owned: Count
    sessions_owned: Count


class OldService(Struct, forbid_unknown_fields=True):
    service_id: str
    service_type: str
    status: str


class OldCapability(Struct, forbid_unknown_fields=True):
    service_type: str
    ready: bool
    reason: str | None
    ready_impl_ids: list[str]


class OldNode(Struct, forbid_unknown_fields=True):
    node_id: str
    platform: str
    status: str
    online: bool
    cpu_usage: float
    memory_usage: float
    gpu_usage: float | None
    current_jobs: Count
    max_concurrent_jobs: Count
    last_heartbeat: Annotated[int, Meta(ge=1_700_000_000_000)]
    services: list[OldService]
    capabilities: list[OldCapability]


class OldCluster(Struct):
    instances: list[OldInstance]
    total_instances: Count
    online_instances: Count
    total_nodes: Count
    online_nodes: Count
    ready_nodes: Count
    total_sessions: Count
    total_pending: Count
    total_dlq: Count
    redis_key_prefix: str
    nodes: list[OldNode]


async def test_the_page_has_what_the_earlier_server_told(start: Start, redis: RedisServer) -> None:
    daemon = start(cluster={"redis_url": redis.url, "heartbeat_seconds": 1}, **APART)
    await page(daemon, online=1)
    stopped = {"service_id": "other-tts", "type": "tts", "device": "gpu", "status": "stopped"}
    services = [*SERVICES, stopped]
    async with daemon.unregistered() as node, daemon.client(), trio.open_nursery() as nursery:
        await node.register(node_id="node-1", installed_services=services)
        nursery.start_soon(node.beat, {"installed_services": services})
        path = "/api/v1/cluster"
        told = await answer(daemon, path, lambda said: said["ready_nodes"] and said["total_sessions"])
        nursery.cancel_scope.cancel()
    found = msgspec.convert(told, OldCluster)
    assert (found.total_instances, found.total_nodes, found.online_nodes) == (1, 1, 1)
    (one,) = found.nodes
    assert [(service.service_id, service.status) for service in one.services] == [
        ("test-asr", "running"),
        ("test-nmt", "running"),
        ("test-tts", "running"),
        ("other-tts", "stopped"),
    ]
    capabilities = {one.service_type: one for one in one.capabilities}
    assert list(capabilities) == ["asr", "nmt", "tts", "tone", "semantic"]
    assert (capabilities["tts"].ready, capabilities["tts"].ready_impl_ids) == (True, ["test-tts"])
    assert (capabilities["tone"].reason, capabilities["tone"].ready_impl_ids) == ("no_impl", [])
    ready = json.loads((await daemon.get("/ready"))[1])
    assert (ready["redis"], ready["draining"]) == (True, False)
    assert isinstance(ready["directory_age_ms"], int)
    series = (await daemon.get("/metrics"))[1]
    assert re.search(r"^scheduler_phase2_presence_heartbeat_total [1-9]", series, re.MULTILINE)
    assert re.search(r"^linguad_directory_age_seconds \d", series, re.MULTILINE)
    daemon.stop()
