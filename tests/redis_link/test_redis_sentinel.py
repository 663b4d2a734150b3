"""The master is asked for at real sentinels; after a failover the link goes to the new one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from links import linked, make_link, running, until
from redis_server import RedisServer

from linguad.net.redis.errors import RedisAway
from linguad.net.redis.sentinel import Sentinels

MakeServer = Callable[..., RedisServer]


async def test_the_master_is_found_and_found_again_after_a_failover(make_server: MakeServer) -> None:
    master, other = make_server(port=True), make_server(port=True)
    sentinel = make_server(f"sentinel monitor lingua 127.0.0.1 {master.port} 1", port=True, sentinel=True)
    sentinels = Sentinels(f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/lingua/2")
    async with linked(sentinels) as link:
        assert link.status().server == f"redis://127.0.0.1:{master.port}"
        await link.call(("SET", "key", 1))
        assert master.do("EXISTS", "key") == 0, "database 2 was asked for"
        # what a failover comes to, without the seconds that sentinels take to agree on it
        master.do("REPLICAOF", "127.0.0.1", other.port)
        with pytest.raises(RedisAway, match="READONLY"):
            await link.call(("SET", "key", 2))
        await until(lambda: "it is a replica" in link.status().reason)
        sentinel.do("SENTINEL", "REMOVE", "lingua")
        sentinel.do("SENTINEL", "MONITOR", "lingua", "127.0.0.1", other.port, 1)
        await link.wait_up()
        assert link.status().server == f"redis://127.0.0.1:{other.port}"
        await link.call(("SET", "key", 2))


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
