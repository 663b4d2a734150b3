"""A real cluster: each command at its master, slots that move, masters that die."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import trio
from links import linked, make_link, running, until
from redis_cluster import RedisCluster
from redis_server import RedisServer

from linguad.net.redis.address import parse
from linguad.net.redis.cluster import Cluster
from linguad.net.redis.commands import Redis
from linguad.net.redis.errors import RedisAway, RedisRefusal
from linguad.net.redis.listener import Listener
from linguad.net.redis.scripts import Script
from linguad.net.redis.slots import slot_of_key
from linguad.net.redis.status import Limits
from linguad.net.redis.streams import read

ADD_BOTH = Script("add_both", "return redis.call('INCR', KEYS[1]) + redis.call('INCR', KEYS[2])")


@pytest.fixture(scope="module")
def three_masters() -> Iterator[RedisCluster]:
    cluster = RedisCluster()
    yield cluster
    cluster.clear_away()


def make_cluster(masters: RedisCluster, urls: list[str] | None = None) -> Cluster:
    seeds = [parse(url) for url in urls or masters.urls[:1]]
    return Cluster(seeds, Limits(), name="cluster", client_name="linguad:test")


@pytest.fixture
async def cluster(three_masters: RedisCluster) -> AsyncIterator[Cluster]:
    for server in three_masters.servers:
        server.do("FLUSHALL")
    made = make_cluster(three_masters)
    async with running(made):
        await made.wait_up()
        yield made


def elsewhere(masters: RedisCluster, slot: int) -> RedisServer:
    """A master that does not have the slot."""
    return next(server for server in masters.servers if server is not masters.owner(slot))


async def test_each_command_goes_to_the_master_of_its_key(
    three_masters: RedisCluster, cluster: Cluster
) -> None:
    redis = Redis(cluster)
    for number in range(300):
        await redis.set(f"{{n:{number}}}:rec", number)
    assert [await redis.get(f"{{n:{number}}}:rec") for number in range(300)] == [
        b"%d" % n for n in range(300)
    ]
    sizes = [server.do("DBSIZE") for server in three_masters.servers]
    assert sum(int(str(size)) for size in sizes) == 300
    assert all(sizes)
    assert len(cluster.status()) == 3
    assert cluster.up


async def test_many_tasks_and_rows_of_commands(cluster: Cluster) -> None:
    async def work(task: int) -> None:
        for step in range(20):
            assert await cluster.call(("INCR", f"count:{task}")) == step + 1

    async with trio.open_nursery() as nursery:
        for task in range(64):
            nursery.start_soon(work, task)
    row = [("GET", f"count:{task}") for task in range(64)]
    assert await cluster.call_all(row) == [b"20"] * 64
    answers = await cluster.call_all([("LPUSH", "count:0", 1), ("PING",)])
    assert isinstance(answers[0], RedisRefusal)
    assert answers[1] == b"PONG"


async def test_scripts_have_keys_of_one_tag(cluster: Cluster) -> None:
    for tag in ("a", "b", "c", "d"):
        assert await ADD_BOTH(cluster, [f"{{{tag}}}:x", f"{{{tag}}}:y"]) == 2
    with pytest.raises(ValueError, match="hash tag"):
        await ADD_BOTH(cluster, ["{a}:x", "{b}:x"])
    with pytest.raises(ValueError, match="hash tag"):
        await Redis(cluster).delete("a", "b")
    with pytest.raises(ValueError, match="hash tag"):
        await cluster.call_all([("SET", "a", 1), ("DEL", "a", "b")])
    assert await Redis(cluster).get("a") is None


async def test_a_slot_that_moves_while_it_is_used(three_masters: RedisCluster, cluster: Cluster) -> None:
    slot = slot_of_key("{moving}")
    target = elsewhere(three_masters, slot)
    redis = Redis(cluster)
    await redis.set("{moving}:old", 1)
    three_masters.begin_move(slot, target)
    # still at the source; new keys are made at the target, by way of ASK
    assert await redis.get("{moving}:old") == b"1"
    assert await redis.incr("{moving}:new") == 1
    assert await redis.incr("{moving}:new") == 2
    # Redis cannot tell where keys that do not exist yet are to be looked for
    with pytest.raises(RedisAway, match="a slot is being moved"):
        await cluster.call(("MGET", "{moving}:x", "{moving}:y"), seconds=1.0)
    assert three_masters.move_keys(slot, target) == 1
    assert await redis.get("{moving}:old") == b"1"
    # others go on meanwhile over the same connections
    assert await redis.set("{other}", 1) is True
    three_masters.end_move(slot, target)
    assert await redis.get("{moving}:old") == b"1"
    assert await redis.get("{moving}:new") == b"2"
    assert await ADD_BOTH(cluster, ["{moving}:x", "{moving}:y"]) == 2


async def test_asking_is_for_one_command_of_one_task_only(
    three_masters: RedisCluster, cluster: Cluster
) -> None:
    slot = slot_of_key("{asked}")
    target = elsewhere(three_masters, slot)
    three_masters.begin_move(slot, target)

    async def work(task: int) -> None:
        for step in range(10):
            assert await cluster.call(("INCR", f"{{asked}}:{task}")) == step + 1
            assert await cluster.call(("INCR", f"elsewhere:{task}")) == step + 1

    async with trio.open_nursery() as nursery:
        for task in range(32):
            nursery.start_soon(work, task)
    three_masters.move_keys(slot, target)
    three_masters.end_move(slot, target)


async def test_many_moved_slots_are_asked_for_seldom(three_masters: RedisCluster, cluster: Cluster) -> None:
    source, target, _ = three_masters.servers
    keys = [f"key:{n}" for n in range(60) if three_masters.owner(slot_of_key(f"key:{n}")) is source]
    assert len(keys) > 5
    for key in keys:
        await cluster.call(("SET", key, key))
    for slot in {slot_of_key(key) for key in keys}:
        three_masters.move(slot, target)
    for server in three_masters.servers:
        server.do("CONFIG", "RESETSTAT")
    assert await cluster.call_all([("GET", key) for key in keys]) == [key.encode() for key in keys]
    stats = [str(server.do("INFO", "commandstats")) for server in three_masters.servers]
    asked = sum(int(s.partition("cmdstat_cluster|slots:calls=")[2].partition(",")[0] or 0) for s in stats)
    assert asked <= 2


async def test_a_command_with_several_keys_waits_for_a_slot_that_moves(
    three_masters: RedisCluster, cluster: Cluster
) -> None:
    slot = slot_of_key("{several}")
    target = elsewhere(three_masters, slot)
    redis = Redis(cluster)
    await redis.set("{several}:a", 1)
    three_masters.begin_move(slot, target)
    await redis.set("{several}:b", 2)  # at the target already
    async with trio.open_nursery() as nursery:
        got: list[object] = []

        async def ask() -> None:
            got.append(await redis.mget(["{several}:a", "{several}:b"]))

        nursery.start_soon(ask)
        await trio.to_thread.run_sync(three_masters.move_keys, slot, target)
        await trio.to_thread.run_sync(three_masters.end_move, slot, target)
    assert got == [[b"1", b"2"]]


async def test_blocking_reads_and_channels_in_a_cluster(
    three_masters: RedisCluster, cluster: Cluster
) -> None:
    heard: list[bytes] = []
    resyncs: list[int] = []
    listener = Listener(
        cluster.resolver("{i:me}:inbox"),
        Limits(),
        name="listener",
        client_name="linguad:test:listener",
        on_message=lambda _channel, payload: heard.append(payload),
        on_resync=lambda: resyncs.append(1),
        cluster=True,
    )
    redis = Redis(cluster)
    async with running(listener):
        await listener.wait_up()
        await listener.subscribe("hints")
        await redis.publish("hints", "anywhere")
        await until(lambda: heard == [b"anywhere"])
        first = await redis.xadd("{i:me}:inbox", {"n": 1})
        assert len(await read(listener, "{i:me}:inbox", count=5, block_ms=5000)) == 1
        # the stream goes to another master: the listener follows
        slot = slot_of_key("{i:me}")
        await trio.to_thread.run_sync(three_masters.move, slot, elsewhere(three_masters, slot))
        with pytest.raises((RedisRefusal, RedisAway)):
            await read(listener, "{i:me}:inbox", first, count=5, block_ms=5000)
        await until(lambda: len(resyncs) >= 2)
        await redis.xadd("{i:me}:inbox", {"n": 2})
        found = await _read_until_right(listener, first)
        assert found == 1


async def _read_until_right(listener: Listener, after: bytes) -> int:
    """The first attempts may meet the old master, which sends the listener on again."""
    while True:
        await listener.wait_up()
        try:
            return len(await read(listener, "{i:me}:inbox", after, count=5, block_ms=5000))
        except (RedisAway, RedisRefusal):
            await trio.sleep(0.05)


async def test_any_server_that_lives_tells_of_all(three_masters: RedisCluster) -> None:
    made = make_cluster(three_masters, ["redis://127.0.0.1:1", three_masters.urls[2]])
    with pytest.raises(RedisAway, match="is away"):
        await made.call(("GET", "a"))
    async with running(made):
        await made.wait_up()
        await made.call(("GET", "a"))


async def test_a_cluster_and_a_server_alone_are_told_apart(
    three_masters: RedisCluster, server: RedisServer
) -> None:
    link = make_link(three_masters.urls[0])
    async with running(link):
        await until(lambda: link.status().failures)
        assert "it is part of a Redis Cluster" in link.status().reason
    made = Cluster([parse(server.tcp_url)], Limits(), name="cluster", client_name="linguad:test")
    async with running(made):
        await until(lambda: made.status() and "no part of a Redis Cluster" in made.status()[0].reason)


async def test_a_master_that_dies_and_comes_back(three_masters: RedisCluster) -> None:
    masters = three_masters
    made = make_cluster(masters, masters.urls)
    key = next(f"key:{n}" for n in range(99) if masters.owner(slot_of_key(f"key:{n}")) is masters.servers[1])
    async with running(made):
        await made.wait_up()
        await made.call(("SET", key, 1))
        masters.servers[1].kill()
        await until(lambda: not made.up)
        with pytest.raises(RedisAway):
            await made.call(("GET", key))
        await trio.to_thread.run_sync(masters.servers[1].start)
        await made.wait_up()
        while True:
            try:
                await made.call(("GET", key))
            except RedisAway:
                # the others have not seen it yet: CLUSTERDOWN
                await trio.sleep(0.05)
            else:
                break


async def test_a_link_for_one_server_of_a_cluster(three_masters: RedisCluster) -> None:
    async with linked(three_masters.urls[0], cluster=True) as link:
        assert await link.call(("PING",)) == b"PONG"
