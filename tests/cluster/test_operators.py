"""What operators see of a cluster and can do to it."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from instances import SHORT_S, Instance, Legacy, members
from links import until
from prometheus_client import REGISTRY
from redis_cluster import RedisCluster
from redis_server import RedisServer
from watching import watched

from linguad.cluster import wiping
from linguad.cluster.families import sizes
from linguad.cluster.wiping import wiped
from linguad.config.cluster import Cluster as ClusterSettings
from linguad.errors import LinguadError

PAGE = Path(__file__).parent.parent.parent / "docs" / "cluster.md"


async def test_the_page_shows_all_instances(server: RedisServer) -> None:
    a, b = Instance("a", server.url, address="http://10.0.0.5:5010"), Instance("b", server.url)
    async with members(a, b):
        await b.cluster.drain()
        a.cluster.page.add("directory_age_seconds", lambda: 1.5)
        page = await a.cluster.desk.page()
        one, other = page["instances"]
        assert (one["instance_id"], one["address"], one["draining"]) == ("a", "http://10.0.0.5:5010", False)
        assert (other["instance_id"], other["is_online"], other["draining"]) == ("b", True, True)
        assert (other["nodes_owned"], other["sessions_owned"], other["dlq_length"]) == (2, 3, 0)
        assert (page["total_instances"], page["online_instances"], page["total_sessions"]) == (2, 2, 6)
        assert page["redis_key_prefix"] == "lingua"
        assert page["directory_age_seconds"] == 1.5
        assert {link["state"] for link in page["redis"]} == {"closed"}


async def test_dead_letters_are_replayed_if_they_may_be(server: RedisServer) -> None:
    a, b = Instance("a", server.url), Instance("b", server.url)
    before = REGISTRY.get_sample_value("scheduler_phase2_dlq_moved_total") or 0
    async with members(a, b):
        desk = a.cluster.desk
        assert a.send(b, "bug")
        assert a.cluster.bus.send("b", Legacy("bug"), lane="x", expires_s=60)
        assert a.cluster.bus.send("b", Legacy("bug"), lane="x", expires_s=1)
        await until(lambda: server.do("XLEN", a.cluster.place.key("dlq", "b")) == 3)
        assert REGISTRY.get_sample_value("scheduler_phase2_dlq_moved_total") == before + 3
        await until(lambda: REGISTRY.get_sample_value("linguad_instances") == 2)
        late, good, plain = [str(one["id"]).split("/") for one in await desk.dead_letters(10)]
        assert "only the head is kept" in await desk.replay(*plain)
        await until(lambda: a.cluster.place.clock.now_ms() > int(late[1].split("-")[0]) + 1500, "expiry")
        assert "expired" in await desk.replay(*late)
        b.take = lambda *_: None  # type: ignore[method-assign] # not what is registered, which still fails
        assert await desk.replay(*good) == ""
        await until(lambda: server.do("XLEN", a.cluster.place.key("dlq", "b")) == 3, "dead once more")
        assert await desk.dead_letter(*good) is None
        assert await desk.drop(*plain)
        assert not await desk.drop(*plain)
        assert await desk.dead_letter("b", "rubbish") is None
        assert "not alive" in await desk.replay("nobody", "1-1")


async def test_dead_letters_are_bounded(server: RedisServer) -> None:
    a, b = Instance("a", server.url), Instance("b", server.url, dead_letters_kept=10)
    async with members(a, b):
        for _ in range(400):
            a.send(b, "bug")
        a.send(b, "end")
        await until(lambda: b.texts == ["end"])
        await until(lambda: not server.do("XLEN", a.cluster.place.key("inbox", "b")))
        length = server.do("XLEN", a.cluster.place.key("dlq", "b"))
        assert isinstance(length, int)
        assert 10 <= length < 250, "about so many: Redis drops whole nodes of a hundred"


async def test_nothing_looks_for_keys(server: RedisServer) -> None:
    with watched(server) as seen:
        a, b, c = (Instance(name, server.url, heartbeat_seconds=SHORT_S) for name in "abc")
        async with members(a, b, c):
            a.send(b, "hello")
            await until(lambda: b.got)
            await a.cluster.desk.page()
            await a.cluster.desk.key_families()
            await a.cluster.desk.dead_letters(10)
            c.scope.cancel()
            await a.knows(b)
            await until(lambda: not server.do("ZSCORE", a.cluster.keys.instances, "c"), "adoption")
            await wiped(ClusterSettings(redis_url=server.url), force=True)
    assert {"EVALSHA", "XREAD", "XADD", "XDEL"} <= set(seen.names), "it did watch"


async def test_letters_cost_few_commands(server: RedisServer) -> None:
    a, b = Instance("a", server.url, heartbeat_seconds=60), Instance("b", server.url, heartbeat_seconds=60)
    async with members(a, b):
        a.send(b, "first")  # makes the scripts known
        await until(lambda: not server.do("XLEN", a.cluster.place.key("inbox", "b")) and b.got)
        with watched(server) as seen:
            a.send(b, "second")
            await until(lambda: len(b.got) == 2)
            await trio.sleep(0.1)
        sent = [name for name in seen.names if name in ("EVALSHA", "EVAL")]
        assert len(sent) <= 2, "one to send, one to acknowledge"


async def test_keys_are_counted_and_wiped(server: RedisServer) -> None:
    settings = ClusterSettings(redis_url=server.url)
    a, b = (Instance(name, server.url, heartbeat_seconds=SHORT_S) for name in "ab")
    async with members(a, b):
        a.send(b, "bug")
        await until(lambda: server.do("XLEN", a.cluster.place.key("dlq", "b")) == 1)
        found = {size.family: size for size in await sizes(a.cluster.redis.caller, a.cluster.keys)}
        assert found["{i:<instance>}:alive"].keys == 2
        assert found["{i:<instance>}:dlq"].keys == 1
        assert found["reg:inst"].bytes > 0
        with pytest.raises(LinguadError, match=r"stop what runs, or say --force: a, b$"):
            await wiped(settings, force=False)
    server.do("SET", "other:key", "1")
    await until(lambda: not server.do("EXISTS", a.cluster.place.key("alive"), b.cluster.place.key("alive")))
    assert await wiped(settings, force=False) >= 2
    assert server.do("KEYS", "*") == [b"other:key"]


async def test_wiping_a_redis_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiping, "CONNECT_S", 0.5)
    with pytest.raises(LinguadError, match="Redis is away"):
        await wiped(ClusterSettings(redis_url="redis://127.0.0.1:1"), force=True)


async def test_wiping_masters(masters: RedisCluster) -> None:
    a = Instance("a", urls=tuple(masters.urls))
    async with members(a):
        pass
    assert await wiped(ClusterSettings(redis_urls=tuple(masters.urls)), force=True) >= 2
    assert [server.do("DBSIZE") for server in masters.servers] == [0, 0, 0]


async def test_the_documentation_has_every_family(server: RedisServer) -> None:
    a = Instance("a", server.url)
    async with members(a):
        text = PAGE.read_text()
        for size in await sizes(a.cluster.redis.caller, a.cluster.keys):
            assert f"`{size.family}`" in text
