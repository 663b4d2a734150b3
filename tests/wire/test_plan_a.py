"""Walking Plan A, the packet stream of real clients and nodes (session-protocol 1.7.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linguad.wire import opus

packets = st.lists(st.binary(min_size=1, max_size=40), max_size=20)


@given(packets)
def test_whole_records_are_counted_exactly(sent: list[bytes]) -> None:
    payload = opus.join(sent)
    assert opus.walk(payload) == opus.Walk(len(sent), len(payload))
    assert list(opus.packets(payload)) == sent


@given(packets, packets)
def test_payloads_concatenate(first: list[bytes], second: list[bytes]) -> None:
    assert opus.join(first) + opus.join(second) == opus.join(first + second)


@given(st.binary(max_size=300))
def test_of_any_bytes_the_good_prefix_is_whole_records(payload: bytes) -> None:
    walk = opus.walk(payload)
    assert 0 <= walk.good_bytes <= len(payload)
    assert opus.walk(payload[: walk.good_bytes]) == walk
    assert opus.join(list(opus.packets(payload))) == payload[: walk.good_bytes]
    rest = payload[walk.good_bytes :]
    assert opus.walk(rest) == opus.Walk(0, 0)


@given(packets, st.binary(max_size=50))
def test_a_bad_tail_does_not_touch_what_came_before(sent: list[bytes], tail: bytes) -> None:
    walk = opus.walk(opus.join(sent) + tail)
    assert walk.packets >= len(sent)
    assert walk.good_bytes >= len(opus.join(sent))


@given(st.binary(max_size=100))
def test_views_and_arrays_are_walked_alike(payload: bytes) -> None:
    assert opus.walk(payload) == opus.walk(bytearray(payload)) == opus.walk(memoryview(payload))


@pytest.mark.parametrize(
    ("payload", "packets", "good"),
    [
        (b"", 0, 0),
        (b"\x01", 0, 0),
        (b"\x01\x00", 0, 0),
        (b"\x01\x00a", 1, 3),
        (b"\x00\x00", 0, 0),
        (b"\x01\x00a\x00\x00\x01\x00b", 1, 3),
        (b"\x02\x00a", 0, 0),
        (b"\x00\x10" + bytes(4096), 1, 4098),
        (b"\x01\x10" + bytes(4097), 0, 0),
    ],
)
def test_lengths(payload: bytes, packets: int, good: int) -> None:
    assert opus.walk(payload) == opus.Walk(packets, good)


def test_empty_packets_are_left_out() -> None:
    assert opus.join([b"a", b"", b"b"]) == opus.join([b"a", b"b"])


@pytest.mark.parametrize(
    ("payload", "answer"),
    [
        (b"", False),
        (opus.join([b"abc", b"d"]), True),
        (opus.join([b"abc"]) + b"\x01", False),
        (opus.join([bytes(1275)]), True),
        (opus.join([bytes(1276)]), False),
        (bytes(320), False),
    ],
)
def test_sniffing(payload: bytes, answer: bool) -> None:
    assert opus.looks_like_plan_a(payload) is answer
