"""What is too short to be an utterance, and what are too many (session-protocol 3.6, resolutions 11, 13)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from core.support import CountingIds
from hypothesis import given
from hypothesis import strategies as st

from linguad.core.bucket import Bucket
from linguad.core.held import MAX_PIECES
from linguad.core.utterance import Cut, CutReason, CutRules, UtteranceCutter
from linguad.wire import opus

RULES = CutRules()


def quiet(count: int, first: int = 0) -> bytes:
    """Numbered packets as short as those of silence."""
    return opus.join([(number + 1).to_bytes(8, "big") for number in range(first, first + count)])


def loud(count: int, first: int = 0) -> bytes:
    """Numbered packets as long as those of speech."""
    return opus.join([(number + 1).to_bytes(40, "big") for number in range(first, first + count)])


class Stream:
    """A cutter whose timer is punctual: `until` does all that is due before a time."""

    def __init__(self, **rules: float) -> None:
        self.cutter = UtteranceCutter(CutRules(**rules), CountingIds().uuid)  # type: ignore[arg-type]
        self.cuts: list[Cut] = []
        self.seq = 0

    def until(self, now: float) -> None:
        while (due := self.cutter.due()) is not None and due <= now:
            self.cuts += self.cutter.tick(due)

    def chunk(self, payload: bytes, now: float, final: bool = False) -> None:
        self.until(now)
        self.seq += 1
        self.cuts += self.cutter.chunk(payload, seq=self.seq, final=final, client_ms=None, now=now)

    def close(self, now: float) -> None:
        self.cuts += self.cutter.close(now)

    @property
    def told(self) -> list[tuple[CutReason, bytes]]:
        return [(cut.reason, base64.b64decode(cut.audio.base64)) for cut in self.cuts]


class TestShortWord:
    def test_it_is_held_and_goes_alone_soon_after_its_final(self) -> None:
        stream = Stream()
        stream.chunk(loud(13), 0.0, final=True)
        assert stream.cutter.due() == 0.3
        stream.until(0.3)
        assert stream.told == [(CutReason.MANUAL, loud(13))]
        assert (stream.cuts[0].padding_ms, stream.cuts[0].audio.duration_ms) == (280, 260)
        assert stream.cutter.due() is None

    def test_the_time_counts_from_the_final_not_from_the_end_of_its_grace(self) -> None:
        stream = Stream()
        stream.chunk(loud(13), 0.0)
        stream.chunk(b"", 0.1, final=True)
        stream.until(0.14)
        assert stream.cutter.due() == 0.4

    def test_it_precedes_what_is_long_enough_by_then(self) -> None:
        stream = Stream()
        stream.chunk(loud(13), 0.0, final=True)
        stream.chunk(loud(20, 13), 0.2)
        stream.until(1.0)
        assert stream.told == []
        stream.chunk(b"", 1.0, final=True)
        stream.until(1.1)
        assert stream.told == [(CutReason.MANUAL, loud(33))]

    def test_it_does_not_wait_for_what_is_short_as_well(self) -> None:
        stream = Stream()
        stream.chunk(loud(13), 0.0, final=True)
        stream.chunk(quiet(13, 13), 0.256)
        stream.until(0.3)
        assert stream.told == [(CutReason.MANUAL, loud(13))]
        assert stream.cuts[0].last_audio_at == 0.0
        stream.chunk(loud(20, 26), 0.5, final=True)
        assert stream.told[1:] == [(CutReason.MANUAL, quiet(13, 13) + loud(20, 26))]
        assert stream.cuts[0].turn_id != stream.cuts[1].turn_id

    def test_silence_behind_it_goes_with_it(self) -> None:
        stream = Stream()
        stream.chunk(loud(13), 0.0, final=True)
        stream.chunk(quiet(13, 13), 0.256, final=True)
        stream.until(5.0)
        assert stream.told == [(CutReason.MANUAL, loud(13) + quiet(13, 13))]

    def test_endless_noise_is_gathered(self) -> None:
        """Seven pieces make 1.82 s; with the eighth it is more than may be held."""
        stream = Stream()
        for number in range(24):
            stream.chunk(loud(13, 13 * number), number * 0.256, final=True)
        assert [cut.audio.duration_ms for cut in stream.cuts] == [8 * 260] * 3
        assert b"".join(audio for _, audio in stream.told) == loud(13 * 24)

    @pytest.mark.parametrize("payload", [loud(13), quiet(13)])
    def test_a_pause_and_the_end_hold_nothing(self, payload: bytes) -> None:
        for end, reason in ((3.0, CutReason.TIMEOUT), (1.0, CutReason.CLOSE)):
            stream = Stream()
            stream.chunk(payload, 0.0)
            stream.until(end)
            stream.close(end)
            assert stream.told == ([(reason, payload)] if payload == loud(13) else [])
            assert stream.cutter.buffered_bytes == 0

    def test_the_end_of_the_session_lets_it_go(self) -> None:
        stream = Stream()
        stream.chunk(loud(13), 0.0, final=True)
        stream.close(0.1)
        assert stream.told == [(CutReason.MANUAL, loud(13))]

    @pytest.mark.parametrize("payload", [loud(501), quiet(501)])
    def test_the_last_slice_of_a_turn_is_never_too_short(self, payload: bytes) -> None:
        """The turn would have no closing job."""
        stream = Stream()
        stream.chunk(payload, 0.0, final=True)
        assert [cut.reason for cut in stream.cuts] == [CutReason.MAX_DURATION, CutReason.MANUAL]
        assert stream.cuts[0].turn_id == stream.cuts[1].turn_id

    def test_the_threshold(self) -> None:
        stream = Stream()
        stream.chunk(loud(20), 0.0, final=True)
        stream.chunk(loud(19, 20), 0.0, final=True)
        assert stream.told == [(CutReason.MANUAL, loud(20))]


class TestSilence:
    def test_it_is_dropped_when_nothing_follows(self) -> None:
        stream = Stream()
        for number in range(7):
            stream.chunk(quiet(13, 13 * number), number * 0.256, final=True)
        assert stream.cutter.due() == 6 * 0.256 + 3.0
        stream.until(10.0)
        assert (stream.cuts, stream.cutter.buffered_bytes, stream.cutter.silence_ms) == ([], 0, 7 * 260)

    def test_endless_it_takes_no_more_room_than_it_may(self) -> None:
        stream = Stream()
        for number in range(1000):
            stream.chunk(quiet(13, 13 * number), number * 0.256, final=True)
            assert stream.cutter.buffered_bytes <= len(quiet(100))
        assert stream.cuts == []
        stream.chunk(loud(50), 256.1, final=True)
        assert stream.told == [(CutReason.MANUAL, quiet(91, 993 * 13) + loud(50))]
        assert stream.cutter.silence_ms == 993 * 260

    def test_the_end_of_the_session_drops_it(self) -> None:
        stream = Stream()
        stream.chunk(quiet(13), 0.0, final=True)
        stream.close(0.1)
        assert (stream.cuts, stream.cutter.silence_ms) == ([], 260)

    def test_long_enough_it_is_an_utterance(self) -> None:
        """Nodes know better what silence is."""
        stream = Stream()
        stream.chunk(quiet(20), 0.0, final=True)
        assert stream.told == [(CutReason.MANUAL, quiet(20))]

    @pytest.mark.parametrize(("level", "heard"), [(90, False), (200, True)])
    def test_of_pcm_it_is_told_by_how_loud_it_is(self, level: int, heard: bool) -> None:
        stream = Stream()
        samples = b"".join(value.to_bytes(2, "little", signed=True) for value in (level, -level))
        stream.chunk(samples * 2000, 0.0, final=True)
        assert (stream.cutter.format, stream.cutter.silence_ms) == ("pcm16", 0)
        stream.until(10.0)
        assert (len(stream.cuts), stream.cutter.silence_ms) == ((1, 0) if heard else (0, 250))

    def test_shortest_pieces_are_counted(self) -> None:
        """One sample is no time at all, but something to remember."""
        stream = Stream()
        for _ in range(10 * MAX_PIECES):
            stream.chunk(bytes(2), 0.0, final=True)
        assert stream.cutter.buffered_bytes == 2 * MAX_PIECES


class TestGuard:
    def test_beyond_a_burst_cuts_are_merged(self) -> None:
        stream = Stream(burst_cuts=2, cuts_per_second=1.0)
        for number in range(4):
            stream.chunk(loud(20, 20 * number), number * 0.01, final=True)
        assert [audio for _, audio in stream.told] == [loud(20), loud(20, 20)]
        stream.until(0.9)
        assert len(stream.cuts) == 2
        stream.until(1.1)
        assert stream.told[2:] == [(CutReason.MANUAL, loud(40, 40))]

    def test_audio_that_comes_meanwhile_is_added(self) -> None:
        stream = Stream(burst_cuts=1, cuts_per_second=1.0)
        stream.chunk(loud(20), 0.0, final=True)
        stream.chunk(loud(20, 20), 0.1, final=True)
        stream.chunk(loud(20, 40), 0.5)
        stream.until(2.0)
        assert len(stream.cuts) == 1
        stream.chunk(b"", 2.0, final=True)
        stream.until(2.1)
        assert stream.told[1:] == [(CutReason.MANUAL, loud(40, 20))]

    def test_limits_do_not_count(self) -> None:
        stream = Stream(burst_cuts=1, cuts_per_second=0.1)
        stream.chunk(loud(2020), 0.0, final=True)
        assert [cut.reason for cut in stream.cuts] == [CutReason.MAX_DURATION] * 4 + [CutReason.MANUAL]

    def test_the_end_of_the_session_is_not_held_up(self) -> None:
        stream = Stream(burst_cuts=1, cuts_per_second=0.1)
        stream.chunk(loud(20), 0.0, final=True)
        stream.chunk(loud(20, 20), 0.0, final=True)
        stream.close(0.1)
        assert [audio for _, audio in stream.told] == [loud(20), loud(20, 20)]

    def test_flood_of_short_words(self) -> None:
        """A thousand of them within a second make no more utterances than the guard and the limits let."""
        stream = Stream()
        for number in range(1000):
            stream.chunk(loud(19, 19 * number), number * 0.001, final=True)
        stream.close(1.0)
        counted = [reason for reason, _ in stream.told if not reason.speech_continues]
        assert len(counted) <= RULES.burst_cuts + RULES.cuts_per_second + 1
        assert b"".join(audio for _, audio in stream.told) == loud(19_000)


@given(st.lists(st.floats(0, 10), max_size=200), st.integers(1, 30), st.sampled_from([0.1, 1.0, 4.0]))
def test_a_bucket_gives_no_more_than_it_may(gaps: list[float], burst: int, rate: float) -> None:
    bucket, now, given_at = Bucket(burst, rate), 0.0, list[float]()
    for gap in gaps:
        now += gap
        if bucket.take(now):
            given_at.append(now)
        else:
            now = bucket.ready_at(now)
            assert bucket.take(now)
            given_at.append(now)
    for first, start in enumerate(given_at):
        for count, end in enumerate(given_at[first:], 1):
            assert count <= burst + (end - start) * rate + 0.01


@dataclass(frozen=True)
class Moment:
    """Audio that arrives at one time, how loud each packet of it is, and whether a final follows."""

    gap_s: float
    packets: list[bool]
    final: bool


some_packets = st.builds(
    lambda runs: [is_loud for count, is_loud in runs for _ in range(count)],
    st.lists(st.tuples(st.integers(1, 24), st.booleans()), max_size=3),
)
gaps = st.sampled_from([0.0011, 0.0507, 0.2561, 0.3107, 2.9, 3.3, 20.0])
stories = st.lists(st.builds(Moment, gaps, some_packets, st.booleans()), min_size=1, max_size=15)
splits = st.lists(st.integers(1, 31), min_size=1, max_size=5)
limits = st.fixed_dictionaries(
    {
        "max_duration_ms": st.sampled_from([0, 100, 1000, 10_000]),
        "max_bytes": st.sampled_from([0, 500, 512_000]),
        "held_ms": st.sampled_from([0, 300, 2000]),
        "burst_cuts": st.sampled_from([0, 1, 30]),
        "cuts_per_second": st.sampled_from([0.1, 4.0]),
        "pause_s": st.sampled_from([0.0, 0.1, 3.0]),
        "final_grace_s": st.sampled_from([0.0, 0.04]),
    }
)


def play(stream: Stream, story: list[Moment], split: list[int], look: Callable[[], None], late: bool) -> None:
    """Send a story, each moment in chunks of the sizes in `split`; finals are empty, tails never come."""
    now, number, sizes = 1.0, 0, iter(split * 1000)
    for moment in story:
        now += moment.gap_s
        if not late:
            stream.until(now)
        stream.seq += 1
        records = [(loud if is_loud else quiet)(1, number + at) for at, is_loud in enumerate(moment.packets)]
        number += len(records)
        while records:
            size = next(sizes)
            _chunk(stream, b"".join(records[:size]), now)
            records = records[size:]
            look()
        if moment.final:
            _chunk(stream, b"", now, final=True)
        look()


def _chunk(stream: Stream, payload: bytes, now: float, final: bool = False) -> None:
    stream.seq += 1
    stream.cuts += stream.cutter.chunk(payload, seq=stream.seq, final=final, client_ms=None, now=now)


def numbers(audio: bytes) -> list[int]:
    """Whose packets these are."""
    return [int.from_bytes(packet, "big") - 1 for packet in opus.packets(audio)]


@given(stories, limits, splits, splits)
def test_neither_chunking_nor_a_late_timer_changes_the_utterances(
    story: list[Moment], rules: dict[str, float], split: list[int], other: list[int]
) -> None:
    """Resolution 12, with pieces that are held, dropped, released and merged."""
    one, two, late = Stream(**rules), Stream(**rules), Stream(**rules)
    for stream, sizes in ((one, split), (two, other), (late, other)):
        play(stream, story, sizes, lambda: None, late=stream is late)
        stream.close(1000.0)
    assert one.cuts == two.cuts
    assert one.cutter.silence_ms == two.cutter.silence_ms == late.cutter.silence_ms
    assert late.told == one.told
    assert [(cut.turn_id, cut.last_audio_at) for cut in late.cuts] == [
        (cut.turn_id, cut.last_audio_at) for cut in one.cuts
    ]


@given(stories, limits, splits)
def test_every_packet_is_cut_once_or_held_or_was_silence(
    story: list[Moment], rules: dict[str, float], split: list[int]
) -> None:
    stream = Stream(**rules)
    spoken = [is_loud for moment in story for is_loud in moment.packets]

    def look() -> None:
        cut = [number for _, audio in stream.told for number in numbers(audio)]
        assert cut == sorted(set(cut)), "in order, and none twice"
        assert (stream.cutter.due() is None) <= (stream.cutter.buffered_bytes == 0 or not rules["pause_s"])

    play(stream, story, split, look, late=False)
    stream.close(1000.0)
    look()
    assert stream.cutter.buffered_bytes == 0
    cut = {number for _, audio in stream.told for number in numbers(audio)}
    dropped = [number for number in range(len(spoken)) if number not in cut]
    assert len(dropped) * opus.PACKET_MS == stream.cutter.silence_ms
    assert sum(42 if spoken[number] else 10 for number in dropped) <= len(dropped) * 14


@given(stories, limits, splits)
def test_turns_and_limits_hold_with_what_is_held(
    story: list[Moment], rules: dict[str, float], split: list[int]
) -> None:
    stream = Stream(**rules)
    play(stream, story, split, lambda: None, late=False)
    stream.close(1000.0)
    by_turn: dict[str, list[bool]] = {}
    for cut, (reason, audio) in zip(stream.cuts, stream.told, strict=True):
        by_turn.setdefault(cut.turn_id, []).append(reason.speech_continues)
        assert cut.audio.duration_ms == len(numbers(audio)) * opus.PACKET_MS > 0
        if rules["max_duration_ms"]:
            assert cut.audio.duration_ms < rules["max_duration_ms"] + opus.PACKET_MS
        if rules["max_bytes"]:
            assert len(audio) <= rules["max_bytes"] + 42
    for slices in by_turn.values():
        assert slices[-1] is False
        assert all(slices[:-1])
