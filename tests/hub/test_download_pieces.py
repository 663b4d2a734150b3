"""What is known of the pieces in which a file went out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from linguad.hub import usage
from linguad.hub.access import Who
from linguad.hub.usage import MAX_PIECES, Spans, Usage
from linguad.store.database import Database
from linguad.store.hub import HubRecords

SIZE = 40
PIECE = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(lambda ends: (min(ends), max(ends)))


@given(st.lists(PIECE, max_size=30))
def test_a_file_is_whole_when_every_byte_went_out(pieces: list[tuple[int, int]]) -> None:
    spans, sent = Spans(), set[int]()
    for start, end in pieces:
        if start < end:
            spans.add(start, end)
            sent |= set(range(start, end))
        assert spans.whole(SIZE) == (len(sent) == SIZE)


def test_who_fetches_single_bytes_takes_no_memory() -> None:
    spans = Spans()
    for start in range(0, 20_000, 2):
        spans.add(start, start + 1)
    assert len(spans._spans) == MAX_PIECES


def test_downloads_that_never_end_are_forgotten() -> None:
    follower = Usage(HubRecords(Database("sqlite:///never-opened.db")))
    sizes = {f"{number}.bin": 2 for number in range(100)}
    for caller in range(usage.MAX_TRACKED // 100 + 3):
        for path in sizes:
            follower.sent(Who(f"node:{caller}", "192.0.2.1"), "model", "m", "1.0.0", path, (0, 1), sizes)
    assert sum(map(len, follower._open.values())) == follower._tracked <= usage.MAX_TRACKED
