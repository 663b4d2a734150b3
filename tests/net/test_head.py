"""The request head, at any split."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linguad.net.head import BadHead, parse_head

HEAD = (
    b"GET /ws/session?x=1&y=%20 HTTP/1.1\r\nHost: example.org:5010\r\nUpGrade: WebSocket\r\n"
    b"Connection: keep-alive, Upgrade\r\nX-Forwarded-For:1.2.3.4\r\n\r\n"
)


def test_needs_more_until_the_blank_line() -> None:
    for end in range(1, len(HEAD)):
        assert parse_head(HEAD[:end]) is None
    head = parse_head(HEAD + b"\x81\x85 what follows")
    assert head is not None
    assert (head.method, head.path, head.wants_websocket) == ("GET", "/ws/session", True)
    assert (b"x-forwarded-for", b"1.2.3.4") in head.headers
    assert head.headers[0] == (b"host", b"example.org:5010")


def test_bare_line_feeds_are_line_ends() -> None:
    head = parse_head(HEAD.replace(b"\r\n", b"\n"))
    assert head is not None
    assert head.path == "/ws/session"


def test_head_without_headers() -> None:
    head = parse_head(b"POST / HTTP/1.0\r\n\r\n")
    assert head is not None
    assert (head.method, head.headers, head.wants_websocket) == ("POST", [], False)


@pytest.mark.parametrize(
    ("data", "route"),
    [
        (b"\x16\x03\x01", "garbage"),
        (b"get / HTTP/1.1\r\n", "garbage"),
        (b" GET", "garbage"),
        (b"\r\n", "garbage"),
        (b"G" * 21, "garbage"),
        (b"GET /\r\n", "garbage"),
        (b"GET  / HTTP/1.1\r\n", "garbage"),
        (b"GET /\xff HTTP/1.1\r\n", "garbage"),
        (b"GET / HTTP/1.10\r\n", "garbage"),
        (b"PRI * HTTP/2.0\r\n", "http2"),
        (b"GET / HTTP/3.0\r\n", "http2"),
    ],
)
def test_refused_as_soon_as_it_cannot_become_a_head(data: bytes, route: str) -> None:
    with pytest.raises(BadHead) as error:
        parse_head(data)
    assert error.value.route == route


@given(st.binary(max_size=300) | st.binary(max_size=100).map(lambda tail: HEAD[:40] + tail + b"\r\n\r\n"))
def test_any_bytes_parse_or_raise_bad_head(data: bytes) -> None:
    try:
        head = parse_head(data)
    except BadHead:
        return
    assert head is None or b"\n" in data
