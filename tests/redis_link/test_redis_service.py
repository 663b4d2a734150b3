"""Both connections together, and the names of keys."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from links import running, until
from prometheus_client import REGISTRY
from redis_cluster import RedisCluster
from redis_server import RedisServer

from linguad.net.redis.errors import RedisAddressError, RedisAway, RedisError
from linguad.net.redis.keys import Keys
from linguad.net.redis.service import RedisService, RedisSettings
from linguad.net.redis.slots import slot_of_key
from linguad.net.redis.streams import read

INBOX = Keys("lingua").of("i", "me", "inbox")


def make_service(heard: list[bytes], **settings: object) -> RedisService:
    return RedisService(
        RedisSettings(instance_id="me", **settings),  # type: ignore[arg-type]
        inbox=INBOX,
        on_message=lambda _channel, payload: heard.append(payload),
        on_resync=lambda: heard.append(b"resync"),
    )


async def use(service: RedisService, heard: list[bytes]) -> None:
    await service.listener.wait_up()
    await until(lambda: service.up)
    await service.listener.subscribe("hints")
    await service.redis.publish("hints", "now")
    await until(lambda: heard == [b"resync", b"now"])
    await service.redis.xadd(INBOX, {"n": 1})
    (entry,) = await read(service.listener, INBOX, count=5, block_ms=5000)
    assert entry.fields == {b"n": b"1"}


async def test_one_server(server: RedisServer) -> None:
    heard: list[bytes] = []
    service = make_service(heard, url=server.url)
    async with running(service):
        await use(service, heard)
        assert [status.name for status in service.status()] == ["main", "listener"]
        assert {
            REGISTRY.get_sample_value("linguad_redis_circuit", {"link": name})
            for name in ("main", "listener")
        } == {0}
        clients = str(server.do("CLIENT", "LIST"))
        assert "name=linguad:me:listener" in clients


async def test_a_cluster() -> None:
    masters = RedisCluster()
    try:
        heard: list[bytes] = []
        service = make_service(heard, urls=tuple(masters.urls))
        async with running(service):
            await use(service, heard)
            assert len(service.status()) == 4
    finally:
        masters.clear_away()


async def test_redis_is_away_and_comes_back(make_server: Callable[..., RedisServer]) -> None:
    server = make_server()
    server.stop()
    heard: list[bytes] = []
    service = make_service(heard, url=server.url)
    async with running(service):
        with pytest.raises(RedisAway):
            await service.redis.get("key")
        assert not service.up
        assert (REGISTRY.get_sample_value("linguad_redis_circuit", {"link": "main"}) or 0) > 0
        server.start()
        await until(lambda: service.up and heard == [b"resync"], "both connections")
        before = _count("get", "ok")
        await service.redis.get("key")
        assert _count("get", "ok") == before + 1
        assert REGISTRY.get_sample_value("scheduler_redis_op_duration_seconds_count", {"op": "get"})


def _count(op: str, result: str) -> float:
    labels = {"op": op, "result": result}
    return REGISTRY.get_sample_value("scheduler_phase2_redis_op_total", labels) or 0.0


def test_an_address_that_is_none_is_told_at_once() -> None:
    with pytest.raises(RedisAddressError):
        make_service([], url="localhost:6379")


def test_keys_of_one_thing_share_a_slot() -> None:
    keys = Keys("lingua")
    assert keys.of("n", "node-1", "rec") == "lingua:v2:{n:node-1}:rec"
    assert keys.of("room", "123456") == "lingua:v2:{room:123456}"
    assert keys.instances == "lingua:v2:reg:inst"
    assert slot_of_key(keys.of("b", "7", "seq")) == slot_of_key(keys.of("b", "7", "nodes"))


@given(st.text(max_size=200), st.text(max_size=200))
def test_no_name_can_imitate_another(one: str, other: str) -> None:
    keys = Keys("lingua")
    first, second = keys.of("s", one, "lease"), keys.of("s", other, "lease")
    assert (first == second) == (one == other)
    assert first.count("{") == first.count("}") == 1


@pytest.mark.parametrize("prefix", ["", "a{b", "a b", "x" * 65, "ü"])
def test_prefixes_that_cannot_be(prefix: str) -> None:
    with pytest.raises(RedisError, match="cannot begin keys"):
        Keys(prefix)
