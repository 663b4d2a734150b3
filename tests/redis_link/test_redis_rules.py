"""Addresses, the circuit, slots and what a shared connection takes: without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linguad.net.redis.address import Address, parse
from linguad.net.redis.circuit import FIRST_S, LONGEST_S, Circuit, State
from linguad.net.redis.errors import RedisAddressError, RedisRefusal
from linguad.net.redis.manners import check
from linguad.net.redis.sentinel import Sentinels
from linguad.net.redis.slots import SLOTS, masters, named, slot_of, slot_of_key


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://host", Address("host")),
        ("redis://host:7000/3", Address("host", 7000, db=3)),
        ("redis://:p%40ss@[::1]:7000", Address("::1", 7000, password="p@ss")),
        ("rediss://me:word@host?db=2", Address("host", db=2, user="me", password="word", tls=True)),
        ("unix:///run/redis.sock?db=1", Address("", 0, path="/run/redis.sock", db=1)),
        (
            "unix://me:word@/run/redis.sock",
            Address("", 0, path="/run/redis.sock", user="me", password="word"),
        ),
        ("rediss://h?ssl_ca_certs=/ca.pem", Address("h", tls=True, ca_file="/ca.pem")),
    ],
)
def test_addresses(url: str, address: Address) -> None:
    assert parse(url) == address
    assert "word" not in f"{parse(url)!r} {parse(url).shown}"


@pytest.mark.parametrize(
    "url",
    [
        "the-secret",
        "http://:the-secret@host",
        "redis://:the-secret@",
        "redis://:the-secret@host:port",
        "redis://:the-secret@host/name",
        "redis://:the-secret@[host",
        "redis://:x@host?password=the-secret",
        "redis://the-secret@host",
        "unix://",
    ],
)
def test_what_is_no_address_is_told_without_repeating_it(url: str) -> None:
    with pytest.raises(RedisAddressError, match="an address is like") as caught:
        parse(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "url", ["redis://host/name", "redis+sentinel://:the-secret@host", "redis+sentinel:///x"]
)
def test_what_names_no_sentinels(url: str) -> None:
    with pytest.raises(RedisAddressError, match="are given like") as caught:
        Sentinels(url)
    assert "secret" not in str(caught.value)


def test_pauses_grow_to_a_limit_and_start_anew_after_a_connection_that_held() -> None:
    circuit = Circuit(chance=lambda: 0.0)
    pauses = []
    for _ in range(8):
        circuit.attempt()
        pauses.append(circuit.lost(0.0))
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert circuit.failures == 8
    circuit.attempt()
    assert circuit.state is State.HALF_OPEN
    circuit.connected(100.0)
    assert circuit.state is State.CLOSED
    assert circuit.lost(101.0) == LONGEST_S, "a connection that breaks at once did not hold"
    circuit.attempt()
    circuit.connected(200.0)
    assert circuit.lost(200.0 + LONGEST_S) == FIRST_S
    assert circuit.failures == 1


@given(st.floats(0, 1), st.integers(1, 20))
def test_pauses_are_jittered_within_bounds(chance: float, attempts: int) -> None:
    circuit = Circuit(chance=lambda: chance)
    for _ in range(attempts):
        circuit.attempt()
        assert FIRST_S / 2 <= circuit.lost(0.0) <= LONGEST_S


def test_how_long_a_read_blocks() -> None:
    words = ("XREADGROUP", "GROUP", "g", "c", "COUNT", 1, b"BLOCK", 1500, "STREAMS", "s", ">")
    assert check("XREADGROUP", words, listening=True) == 1.5
    with pytest.raises(ValueError, match="for the listener"):
        check("XREADGROUP", words, listening=False)
    with pytest.raises(ValueError, match="for ever"):
        check("XREAD", ("XREAD", "BLOCK", 0, "STREAMS", "s", "0"), listening=True)
    stream_called_block = ("XREAD", "STREAMS", "block", "0")
    assert check("XREAD", stream_called_block, listening=False) == 0.0


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("GET", "k"), "k"),
        (("HSET", b"k", "f", 1), "k"),
        (("XGROUP", "CREATE", "k", "g", "$"), "k"),
        (("EVALSHA", "abc", 2, "{k}:a", "{k}:b", "arg"), "k"),
        (("XREADGROUP", "GROUP", "g", "c", "COUNT", 5, b"STREAMS", "k", ">"), "k"),
        (("XREAD", "STREAMS", "{k}a", "{k}b", "0", "0"), "k"),
        (("DEL", "{k}a", "{k}b"), "k"),
        (("OBJECT", "ENCODING", "k"), "k"),
    ],
)
def test_slots_of_commands(words: tuple[str | bytes | int, ...], key: str) -> None:
    assert slot_of(words) == slot_of_key(key)


def test_commands_without_keys_and_with_too_many() -> None:
    assert slot_of(("PUBLISH", "channel", "message")) is None
    for words in (("DEL", "a", "b"), ("EVALSHA", "abc", 2, "a", "b"), ("EVALSHA", "abc", 0)):
        with pytest.raises(ValueError, match="hash tag"):
            slot_of(words)


def test_slots_of_keys_are_those_of_redis() -> None:
    # from the specification of Redis Cluster
    assert slot_of_key("123456789") == 0x31C3
    assert slot_of_key("{user1000}.following") == slot_of_key("{user1000}.followers")
    assert 0 <= slot_of_key("") < SLOTS


def test_servers_that_do_not_know_their_own_name() -> None:
    asked = Address("seed", 7000, password="word")
    reply = [[0, 5, [b"", 7001, b"id"], [b"10.0.0.1", 7009, b"id"]], [6, 9, [b"10.0.0.2", 7002, b"id", []]]]
    found = {address: slots for slots, address in masters(reply, asked)}
    assert found == {asked.at("seed", 7001): range(6), asked.at("10.0.0.2", 7002): range(6, 10)}
    assert all(address.password == "word" for address in found)
    assert named(RedisRefusal("GET", "MOVED 3999 10.0.0.3:7003"), asked) == asked.at("10.0.0.3", 7003)
    assert named(RedisRefusal("GET", "MOVED 3999 :7003"), asked) == asked.at("seed", 7003)
    assert named(RedisRefusal("GET", "ASK 1 fe80::1:7003"), asked) == asked.at("fe80::1", 7003)
