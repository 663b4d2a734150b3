"""Three instances behind one address, while people talk: real processes, a real Redis, a real nginx."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from conftest import Start
from counting import Echo
from nginx import Nginx
from patience import PATIENCE_S
from processes import DaemonProcess
from redis_cluster import RedisCluster
from redis_server import RedisServer
from talkers import PATIENT, talk
from watching import watched

APART: dict[str, Any] = {"gateway": {"enabled": False}, "hub": {"enabled": False}}
TALKERS = 6
WORK_S = 0.2
"""So long a node has a job, so that there is always one under way."""


class Redis:
    """One server, or a cluster of three masters."""

    def __init__(self, kind: str) -> None:
        self._masters = RedisCluster() if kind == "masters" else None
        self.servers = self._masters.servers if self._masters else [RedisServer().start()]

    @property
    def settings(self) -> dict[str, Any]:
        """Of `[cluster]`."""
        if self._masters:
            return {"redis_urls": self._masters.urls}
        return {"redis_url": self.servers[0].url}

    def clear_away(self) -> None:
        """End all of it."""
        for server in self.servers:
            server.clear_away()


@pytest.fixture
def redis(request: pytest.FixtureRequest) -> Iterator[Redis]:
    """A Redis of the test's own; nobody may look for keys in it."""
    one = Redis(request.param)
    try:
        with ExitStack() as stack:
            for server in one.servers:
                stack.enter_context(watched(server))
            yield one
    finally:
        one.clear_away()


class House:
    """Three instances, by name, and how people and nodes reach any of them."""

    def __init__(self, url: str, ports: list[int], daemons: dict[str, DaemonProcess]) -> None:
        self.url = url
        self.ports = ports
        self.daemons = daemons

    async def sizes(self) -> dict[str, tuple[int, int]]:
        """Sessions and nodes of each instance, as one of them knows them."""
        daemon = next(daemon for daemon in self.daemons.values() if daemon.running)
        page = json.loads((await daemon.get("/api/v1/cluster"))[1])
        return {
            one["instance_id"]: (one["sessions_owned"], one["nodes_owned"])
            for one in page.get("instances", [])
        }

    async def fullest(self) -> str:
        """The instance with most sessions, once each has nodes and all people are there."""
        with trio.fail_after(PATIENCE_S):
            while True:
                sizes = await self.sizes()
                if len(sizes) == 3 and sum(sessions for sessions, _ in sizes.values()) >= TALKERS:
                    return max(sizes, key=lambda name: sizes[name])
                await trio.sleep(0.2)


@asynccontextmanager
async def house(kind: str, start: Start, redis: Redis, tmp_path: Path) -> AsyncIterator[House]:
    """Three instances on one `port`, or on three behind `nginx`."""
    shared = kind == "port"
    daemons: dict[str, DaemonProcess] = {}
    ports: list[int] = []
    for name in "abc":
        cluster = redis.settings | {"instance_id": name, "heartbeat_seconds": 2}
        server = {"reuse_port": True, "port": ports[0] if ports else 0} if shared else {}
        server |= {"trusted_proxies": ["127.0.0.1"]} if kind == "nginx" else {}
        daemons[name] = start(cluster=cluster, server=server, **APART, **PATIENT)
        ports.append(await daemons[name].port())
    if shared:
        assert len(set(ports)) == 1
        yield House(f"ws://127.0.0.1:{ports[0]}/ws/session", ports[:1], daemons)
        return
    folder = tmp_path / "nginx"
    folder.mkdir()
    folder.chmod(0o755)
    doors = {"scheduler": ports, "gateway": [1], "hub": [1]}
    nginx = await trio.to_thread.run_sync(Nginx, folder, doors)
    try:
        yield House(f"wss://localhost:{nginx.port}/ws/session", ports, daemons)
    finally:
        await trio.to_thread.run_sync(nginx.stop)


@pytest.mark.parametrize(
    ("kind", "redis"),
    [("port", "one"), ("nginx", "one"), ("port", "masters")],
    indirect=["redis"],
)
async def test_an_instance_is_killed_while_people_talk(
    kind: str, redis: Redis, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every word is heard once, in order: of those whose instance lives, and of those who go on elsewhere."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nginx" / "certificate.pem"))
    lost: list[int] = []
    with trio.fail_after(6 * PATIENCE_S):
        async with house(kind, start, redis, tmp_path) as home, trio.open_nursery() as nursery:
            for number in range(6):
                await nursery.start(Echo(home.ports[number % len(home.ports)], WORK_S).run)
            enough = trio.Event()

            async def person() -> None:
                lost.append(await talk(home.url, 0.1, enough))

            async with trio.open_nursery() as people:
                for _ in range(TALKERS):
                    people.start_soon(person)
                victim = await home.fullest()
                await trio.sleep(2.0)
                daemon = home.daemons[victim]
                daemon.signal(signal.SIGKILL)
                await daemon.ended()
                await trio.sleep(4.0)
                enough.set()
            nursery.cancel_scope.cancel()
    assert len(lost) == TALKERS
    assert sum(lost) >= 1, "some had to go on elsewhere"
