"""The master is asked for at real sentinels; after a failover the link goes to the new one."""

from __future__ import annotations

from collections.abc import Callable

import hiredis
import pytest
import trio
from links import PATIENCE_S, linked, make_link, running, until
from redis_server import RedisServer

from linguad.net.redis.errors import RedisAway
from linguad.net.redis.sentinel import Sentinels

MakeServer = Callable[..., RedisServer]


async def test_the_master_is_found_and_found_again_after_a_failover(make_server: MakeServer) -> None:
    master = make_server("repl-diskless-sync-delay 0", port=True)
    replica = make_server(f"replicaof 127.0.0.1 {master.port}", port=True)
    sentinel = make_server(
        f"sentinel monitor lingua 127.0.0.1 {master.port} 1",
        "sentinel down-after-milliseconds lingua 60000",
        "sentinel failover-timeout lingua 5000",
        port=True,
        sentinel=True,
    )
    # it would look for replicas every 10 s only
    for period in ("INFO-PERIOD", "PING-PERIOD", "PUBLISH-PERIOD"):
        sentinel.do("SENTINEL", "DEBUG", period, 50)
    dead = "127.0.0.1:1"
    sentinels = Sentinels(f"redis+sentinel://{dead},127.0.0.1:{sentinel.port}/lingua/2")
    await until(lambda: b"state=online" in _info(master, "replication"), "the replica")
    await until(lambda: b"slaves=1" in _info(sentinel, "sentinel"), "the sentinel's view")
    async with linked(sentinels) as link:
        assert link.status().server == f"redis://127.0.0.1:{master.port}"
        await link.call(("SET", "key", 1))
        assert master.do("EXISTS", "key") == 0, "database 2 was asked for"
        gone = await link.wait_up()
        await until(lambda: _replicated(master), "replication")
        await until(lambda: _begin_failover(sentinel), "failover")
        with trio.fail_after(PATIENCE_S):
            while not gone.is_set():
                try:
                    await link.call(("SET", "key", 2))
                except RedisAway:
                    break
                await trio.sleep(0.05)
            await until(lambda: link.up and link.status().server.endswith(f":{replica.port}"), "failover")
        assert await link.call(("GET", "key")) in (b"1", b"2")


async def test_sentinels_that_know_nothing_or_want_a_password(make_server: MakeServer) -> None:
    sentinel = make_server("requirepass word", port=True, sentinel=True)
    url = f"redis+sentinel://127.0.0.1:{sentinel.port}/lingua"
    for sentinels, reason in (
        (Sentinels(url), "none of them answers"),
        (Sentinels(url, password="word"), "they know no master lingua"),
    ):
        link = make_link(sentinels)
        async with running(link):
            await until(lambda link=link: link.status().failures)
            assert reason in link.status().reason


async def test_a_sentinel_is_not_taken_for_a_server(make_server: MakeServer) -> None:
    sentinel = make_server(port=True, sentinel=True)
    link = make_link(sentinel.tcp_url)
    async with running(link):
        await until(lambda: link.status().failures)
        assert "it is a sentinel" in link.status().reason


@pytest.mark.parametrize("seeds", ["127.0.0.1:1", "127.0.0.1:1,127.0.0.1:2"])
async def test_no_sentinel_lives(seeds: str) -> None:
    with pytest.raises(RedisAway, match="none of them answers"):
        await Sentinels(f"redis+sentinel://{seeds}/lingua")()


def _begin_failover(sentinel: RedisServer) -> bool:
    """Whether the sentinel knows its replica well enough by now."""
    try:
        sentinel.do("SENTINEL", "FAILOVER", "lingua")
    except hiredis.ReplyError:
        return False
    return True


def _info(server: RedisServer, section: str) -> bytes:
    info = server.do("INFO", section)
    assert isinstance(info, bytes)
    return info


def _replicated(master: RedisServer) -> bool:
    lines = _info(master, "replication").decode().splitlines()
    offset = next(line.partition(":")[2] for line in lines if line.startswith("master_repl_offset:"))
    return any(line.startswith("slave0:") and f"offset={offset}," in line for line in lines)
