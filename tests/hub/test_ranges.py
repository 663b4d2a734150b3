"""Ranges and conditions: the table of model-hub 8.1 with the results of 8.2, and an oracle that slices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linguad.hub.ranges import Facts, Outcome, decide, http_date

FACTS = Facts(1000, '"abc"', 1_700_000_000)
THEN = http_date(FACTS.modified)
BEFORE, AFTER = http_date(FACTS.modified - 1), http_date(FACTS.modified + 1)


@pytest.mark.parametrize(
    ("text", "size", "status", "content_range"),
    [
        ("bytes=0-499", 1000, 206, "bytes 0-499/1000"),
        ("bytes=500-", 1000, 206, "bytes 500-999/1000"),
        ("bytes=500-5000", 1000, 206, "bytes 500-999/1000"),
        ("bytes=-500", 1000, 206, "bytes 500-999/1000"),
        ("bytes=-5000", 1000, 206, "bytes 0-999/1000"),
        ("bytes=-0", 1000, 416, "bytes */1000"),
        ("bytes=1000-", 1000, 416, "bytes */1000"),
        ("bytes=1000-2000", 1000, 416, "bytes */1000"),
        ("bytes=5-2", 1000, 416, "bytes */1000"),
        ("bytes=0-", 0, 416, "bytes */0"),
        ("bytes=-1", 0, 416, "bytes */0"),
        ("BYTES=0-0", 1000, 206, "bytes 0-0/1000"),
        ("bytes= 0-0 ", 1000, 206, "bytes 0-0/1000"),
        ("bytes=-", 1000, 200, ""),
        ("bytes=", 1000, 200, ""),
        ("bytes", 1000, 200, ""),
        ("bytes=abc", 1000, 200, ""),
        ("items=0-1", 1000, 200, ""),
        ("bytes=0-1,5-6", 1000, 200, ""),
        ("bytes=+1-2", 1000, 200, ""),
        ("bytes=1 - 2", 1000, 200, ""),
        ("bytes=١-", 1000, 200, ""),
        ("bytes=" + "9" * 19 + "-", 1000, 416, "bytes */1000"),
        ("bytes=" + "9" * 20 + "-", 1000, 200, ""),
        ("bytes=0-" + "9" * 19, 1000, 206, "bytes 0-999/1000"),
    ],
)
def test_ranges(text: str, size: int, status: int, content_range: str) -> None:
    outcome = decide({"range": text}, Facts(size, '"e"', 0))
    assert (outcome.status, outcome.content_range) == (status, content_range)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if-match": '"abc"'}, 200),
        ({"if-match": '"x", "abc"'}, 200),
        ({"if-match": "*"}, 200),
        ({"if-match": '"x"'}, 412),
        ({"if-match": 'W/"abc"'}, 412),
        ({"if-match": '"x"', "if-none-match": '"abc"'}, 412),
        ({"if-unmodified-since": THEN}, 200),
        ({"if-unmodified-since": BEFORE}, 412),
        ({"if-match": '"abc"', "if-unmodified-since": BEFORE}, 200),
        ({"if-none-match": '"abc"'}, 304),
        ({"if-none-match": 'W/"abc"'}, 304),
        ({"if-none-match": '"x", W/"abc"'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"x"'}, 200),
        ({"if-none-match": '"x"', "if-modified-since": AFTER}, 200),
        ({"if-modified-since": THEN}, 304),
        ({"if-modified-since": BEFORE}, 200),
        ({"if-modified-since": "yesterday"}, 200),
        ({"if-none-match": '"abc"', "range": "bytes=0-1"}, 304),
        ({"range": "bytes=0-1", "if-range": '"abc"'}, 206),
        ({"range": "bytes=0-1", "if-range": 'W/"abc"'}, 200),
        ({"range": "bytes=0-1", "if-range": '"x"'}, 200),
        ({"range": "bytes=0-1", "if-range": THEN}, 206),
        ({"range": "bytes=0-1", "if-range": AFTER}, 200),
        ({"range": "bytes=0-1", "if-range": "nonsense"}, 200),
        ({"range": "bytes=5000-", "if-range": '"x"'}, 200),
    ],
)
def test_conditions(headers: dict[str, str], status: int) -> None:
    assert decide(headers, FACTS).status == status


def oracle(first: str, last: str, body: bytes) -> bytes | None:
    """The bytes that a range names, in the plainest way; None if it names none."""
    numbers = range(len(body))
    if first:
        named = [n for n in numbers if n >= int(first) and (not last or n <= int(last))]
    else:
        named = list(numbers)[-int(last) :] if int(last) else []
    return bytes(body[n] for n in named) if named else None


numbers = st.one_of(st.integers(0, 40), st.integers(0, 10**19 - 1)).map(str)


@given(st.binary(max_size=30), numbers, st.one_of(st.just(""), numbers), st.booleans())
def test_single_ranges_never_get_the_whole_file_instead(
    body: bytes, number: str, other: str, suffix: bool
) -> None:
    first, last = ("", number) if suffix else (number, other)
    outcome = decide({"range": f"bytes={first}-{last}"}, Facts(len(body), '"e"', 0))
    expected = oracle(first, last, body)
    if expected is None:
        assert outcome == Outcome(416, content_range=f"bytes */{len(body)}")
    else:
        assert outcome.status == 206
        assert body[outcome.start : outcome.start + outcome.length] == expected
        end = outcome.start + outcome.length - 1
        assert outcome.content_range == f"bytes {outcome.start}-{end}/{len(body)}"


HEADERS = ("range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
values = st.one_of(
    st.text('0189-=, "W/*abytes:GMT\t\xff', max_size=30),
    st.sampled_from(['"abc"', "*", THEN, "bytes=0-1", "bytes=-", "=-"]),
)


@given(st.dictionaries(st.sampled_from(HEADERS), values))
def test_any_headers_have_an_outcome(headers: dict[str, str]) -> None:
    outcome = decide(headers, FACTS)
    assert outcome.status in (200, 206, 304, 412, 416)
    assert 0 <= outcome.start <= outcome.start + outcome.length <= FACTS.size
    assert (outcome.content_range != "") == (outcome.status in (206, 416))
