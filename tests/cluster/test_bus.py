"""Letters between instances over a real Redis, alone and of three masters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from instances import Instance, Note, members
from links import until
from redis_cluster import RedisCluster
from redis_server import RedisServer


async def test_letters_come_in_order_with_their_audio(server: RedisServer) -> None:
    a, b = Instance("a", server.url), Instance("b", server.url)
    async with members(a, b):
        for number in range(500):
            assert a.send(b, str(number), audio=bytes(number))
        await until(lambda: len(b.got) == 500)
        assert b.got == [("a", str(number), bytes(number)) for number in range(500)]
        await until(lambda: not server.do("XLEN", a.cluster.place.key("inbox", "b")), "acknowledged")
        assert not a.got


async def test_a_cluster_of_masters_carries_letters_both_ways(masters: RedisCluster) -> None:
    a, b, c = (Instance(name, urls=tuple(masters.urls)) for name in "abc")
    async with members(a, b, c):
        for number in range(200):
            for one, other in ((a, b), (b, c), (c, a)):
                assert one.send(other, str(number))
        for one, sender in ((b, "a"), (c, "b"), (a, "c")):
            await until(lambda one=one: len(one.got) == 200)
            assert one.got == [(sender, str(number), b"") for number in range(200)]


async def test_a_letter_to_ourselves_is_handled_at_once(server: RedisServer) -> None:
    a = Instance("a", server.url)
    assert a.cluster.bus.send("a", Note("hello"), lane="x", expires_s=1, audio=b"12")
    assert a.got == [("a", "hello", b"12")]
