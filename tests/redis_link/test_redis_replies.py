"""Bytes to replies: however they are cut, torn or broken."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linguad.net.redis.replies import ProtocolBroken, Push, Replies


class Waiting:
    """A command that notes what it gets."""

    def __init__(self, kind: bytes = b"", confirms: int = 0) -> None:
        self.kind = kind
        self.confirms = confirms
        self.got: list[object] = []

    def settle(self, reply: object) -> None:
        self.got.append(reply)


bulk = st.binary(max_size=30).map(lambda data: b"$%d\r\n%b\r\n" % (len(data), data))
plain = st.one_of(
    bulk,
    st.integers(-(2**63), 2**63 - 1).map(lambda n: b":%d\r\n" % n),
    st.sampled_from([b"+OK\r\n", b"_\r\n", b"#t\r\n", b"#f\r\n", b",1.5\r\n", b"-ERR no\r\n", b"*0\r\n"]),
)
reply = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=4).map(lambda items: b"*%d\r\n%b" % (len(items), b"".join(items))),
    max_leaves=6,
)
push = st.lists(bulk, min_size=1, max_size=3).map(lambda items: b">%d\r\n%b" % (len(items), b"".join(items)))


def feed(
    parts: Sequence[bytes], waiting: Sequence[Waiting]
) -> tuple[list[Push], Replies[Waiting], ProtocolBroken | None]:
    pushes: list[Push] = []
    replies: Replies[Waiting] = Replies(pushes.append)
    replies.pending.extend(waiting)
    try:
        for part in parts:
            replies.feed(part)
    except ProtocolBroken as error:
        return pushes, replies, error
    return pushes, replies, None


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def same(one: object, other: object) -> bool:
    """Equal; errors are equal if their texts are."""
    return repr(one) == repr(other)


@given(st.lists(st.one_of(reply, push), max_size=12), st.lists(st.integers(0, 2**16), max_size=12))
def test_where_bytes_are_cut_changes_nothing(messages: list[bytes], places: list[int]) -> None:
    data = b"".join(messages)
    count = sum(not message.startswith(b">") for message in messages)
    whole, parts = ([Waiting() for _ in range(count)] for _ in range(2))
    pushes, replies, error = feed([data], whole)
    assert error is None
    assert not replies.pending
    assert len(pushes) == len(messages) - count
    again, _, _ = feed(cut(data, places), parts)
    assert same(again, pushes)
    assert same([w.got for w in parts], [w.got for w in whole])
    assert all(len(w.got) == 1 for w in whole)


@given(st.lists(reply, min_size=1, max_size=8), st.data())
def test_a_torn_stream_answers_only_what_is_whole(messages: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(messages)
    end = data.draw(st.integers(0, len(stream)))
    waiting = [Waiting() for _ in messages]
    _, replies, error = feed([stream[:end]], waiting)
    assert error is None
    whole, length = 0, 0
    for message in messages:
        length += len(message)
        whole += length <= end
    assert [len(w.got) for w in waiting] == [1] * whole + [0] * (len(messages) - whole)
    assert len(replies.pending) == len(messages) - whole


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_any_bytes_are_replies_or_the_one_error(parts: list[bytes]) -> None:
    feed(parts, [Waiting() for _ in range(100)])


@given(st.lists(reply, min_size=1, max_size=4), st.integers(0, 2**16), st.integers(0, 255))
def test_a_changed_byte_is_replies_or_the_one_error(messages: list[bytes], place: int, value: int) -> None:
    data = bytearray(b"".join(messages))
    data[place % len(data)] = value
    feed([bytes(data)], [Waiting() for _ in range(100)])


def test_a_reply_nobody_asked_for_breaks_the_connection() -> None:
    waiting = Waiting()
    _, _, error = feed([b"+OK\r\n+OK\r\n"], [waiting])
    assert waiting.got == [b"OK"]
    assert str(error) == "a reply came that nobody asked for"


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"%1\r\n*1\r\n:1\r\n:2\r\n", b":abc\r\n", b"*-5\r\n"]
)
def test_what_is_not_resp3(data: bytes) -> None:
    _, _, error = feed([b"+OK\r\n" + data], [Waiting(), Waiting()])
    assert error is not None
    assert "not RESP3" in str(error)


def test_a_subscription_is_confirmed_by_one_push_for_each_channel() -> None:
    subscription, after = Waiting(b"subscribe", 2), Waiting()
    pushes, _, _ = feed(
        [
            b">3\r\n+message\r\n+a\r\n+hint\r\n",
            b">3\r\n+subscribe\r\n+a\r\n:1\r\n>3\r\n+message\r\n+a\r\n+hint\r\n",
            b">3\r\n+subscribe\r\n+b\r\n:2\r\n+PONG\r\n",
        ],
        [subscription, after],
    )
    assert (subscription.got, after.got) == ([None], [b"PONG"])
    assert pushes == [[b"message", b"a", b"hint"]] * 2


def test_a_refused_subscription_does_not_shift_replies() -> None:
    subscription, after = Waiting(b"subscribe", 2), Waiting()
    feed([b"-NOPERM no\r\n+PONG\r\n"], [subscription, after])
    assert isinstance(subscription.got[0], hiredis.ReplyError)
    assert after.got == [b"PONG"]


def test_a_push_nobody_asked_for_answers_nothing() -> None:
    waiting = Waiting()
    pushes, replies, _ = feed([b">3\r\n+unsubscribe\r\n+a\r\n:0\r\n"], [waiting])
    assert len(pushes) == len(replies.pending) == 1
