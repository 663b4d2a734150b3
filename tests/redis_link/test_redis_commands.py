"""redis-py's commands, scripts and streams over the link."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
from links import PATIENCE_S, linked
from redis_server import RedisServer

from linguad.net.redis.commands import Redis
from linguad.net.redis.errors import RedisAway, RedisRefusal
from linguad.net.redis.link import Link
from linguad.net.redis.scripts import Script
from linguad.net.redis.status import Limits
from linguad.net.redis.streams import Entry, read

COUNT = Script("count", "return redis.call('INCRBY', KEYS[1], ARGV[1])")


@pytest.fixture
async def link(server: RedisServer) -> AsyncIterator[Link]:
    async with linked(server.url) as made:
        yield made


async def test_strings_and_leases(link: Link) -> None:
    redis = Redis(link)
    assert await redis.set("lease", b"a\xff", nx=True, px=60_000) is True
    assert await redis.set("lease", b"b", nx=True) is None
    assert 0 < await redis.pttl("lease") <= 60_000
    assert await redis.getdel("lease") == b"a\xff"
    assert await redis.mget(["lease", "none"]) == [None, None]
    assert await redis.incr("seq") == 1
    assert await redis.expire("seq", 5) is True
    assert await redis.delete("seq", "none") == 1
    seconds, micros = await redis.time()
    assert seconds > 1_700_000_000
    assert 0 <= micros < 1_000_000


async def test_hashes(link: Link) -> None:
    redis = Redis(link)
    assert await redis.hset("rec", mapping={"owner": "a", "load": b"\x00", "epoch": 3, "part": 0.1}) == 4
    assert await redis.hgetall("rec") == {b"owner": b"a", b"load": b"\x00", b"epoch": b"3", b"part": b"0.1"}
    assert await redis.hmget("rec", ["owner", "none"]) == [b"a", None]
    assert await redis.hgetall("none") == {}


async def test_sorted_sets(link: Link) -> None:
    redis = Redis(link)
    now = 1_790_000_000_123.0
    assert await redis.zadd("inst", {"a": now, "b": now + 1}) == 2
    assert await redis.zrange("inst", 0, -1, withscores=True) == [[b"a", now], [b"b", now + 1]]
    assert await redis.zrangebyscore("inst", f"({now}", "+inf") == [b"b"]
    assert await redis.zscore("inst", "a") == now
    assert await redis.zrank("inst", "b") == 1
    assert await redis.zrem("inst", "a", "b") == 2


async def test_everything_redis_py_has_words_of_two_parts_for(link: Link) -> None:
    redis = Redis(link)
    assert await redis.client_getname() == "linguad:test"
    assert await redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert (await redis.info("server"))["redis_version"].startswith("7.")
    assert await redis.object("ENCODING", "none") is None
    assert [key async for key in redis.scan_iter("none*")] == []
    with pytest.raises(ValueError, match="is not for a connection that many tasks share"):
        await redis.blpop("list", timeout=1)


async def test_a_script_is_loaded_once(server: RedisServer, link: Link) -> None:
    def calls(command: str) -> int:
        stats: Any = server.do("INFO", "commandstats")
        found = [line for line in stats.decode().split("\r\n") if line.startswith(f"cmdstat_{command}:")]
        return int(found[0].partition("calls=")[2].partition(",")[0]) if found else 0

    server.do("CONFIG", "RESETSTAT")
    assert [await COUNT(link, ["n"], [5]) for _ in range(3)] == [5, 10, 15]
    assert (calls("evalsha"), calls("eval")) == (3, 1)
    server.do("SCRIPT", "FLUSH")
    assert await COUNT(link, ["n"], [5]) == 20
    assert (calls("evalsha"), calls("eval")) == (4, 2)


async def test_scripts_of_many_tasks_at_once_on_a_server_that_knows_none(
    server: RedisServer, link: Link
) -> None:
    results: list[object] = []

    async def run() -> None:
        results.append(await COUNT(link, ["n"], [1]))

    async with trio.open_nursery() as nursery:
        for _ in range(64):
            nursery.start_soon(run)
    assert sorted(int(str(result)) for result in results) == list(range(1, 65))


async def test_errors_of_scripts_are_told_and_their_codes_kept(link: Link) -> None:
    stale = Script("stale", "return redis.error_reply('STALE epoch is older')")
    with pytest.raises(RedisRefusal, match="STALE") as caught:
        await stale(link, ["{a}:lease"])
    assert caught.value.code == "STALE"
    with pytest.raises(ValueError, match="one hash tag"):
        await stale(link, ["{a}:lease", "{b}:lease"])
    with pytest.raises(ValueError, match="one hash tag"):
        await stale(link, [])


async def test_a_server_that_runs_a_script_for_too_long_is_away(
    make_server: Callable[..., RedisServer],
) -> None:
    server = make_server("busy-reply-threshold 50")
    forever = Script("forever", "while true do end")
    limits = Limits(command_seconds=PATIENCE_S)
    async with linked(server.url, limits) as link, linked(server.url, limits) as other:

        async def spin() -> None:
            with pytest.raises(RedisRefusal):
                await forever(link, ["a"])

        async def ask_for_ever() -> None:
            while True:
                await other.call(("GET", "a"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(spin)
            with pytest.raises(RedisAway, match="BUSY") as caught:
                await ask_for_ever()
            assert not caught.value.sent
            await other.call(("SCRIPT", "KILL"))
        assert await other.call(("GET", "a")) is None


async def test_streams_with_plain_types(link: Link) -> None:
    redis = Redis(link)
    ids = [await redis.xadd("inbox", {"audio": bytes([n, 255]), "n": n}) for n in range(3)]
    entries = await read(link, "inbox", count=2)
    assert entries == [Entry(ids[n], {b"audio": bytes([n, 255]), b"n": b"%d" % n}) for n in range(2)]  # type: ignore[arg-type]
    assert [entry.id for entry in await read(link, "inbox", ids[1], count=2)] == [ids[2]]
    await redis.xdel("inbox", ids[0], ids[1])
    assert [entry.id for entry in await read(link, "inbox", count=2)] == [ids[2]]
    assert await read(link, "inbox", ids[2], count=2) == []
    assert await read(link, "nothing", count=2) == []


async def test_repeatable_commands_survive_a_restart(make_server: Callable[..., RedisServer]) -> None:
    server = make_server(durable=True)
    async with linked(server.url, Limits(command_seconds=PATIENCE_S)) as link:
        redis = Redis(link).repeatable
        await redis.set("key", 1)
        server.kill()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, server.start)
            assert await redis.get("key") == b"1"
