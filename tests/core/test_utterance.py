"""Cutting, rule by rule, then for any stream and any chunking of it (session-protocol 3.4, resolution 12)."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import pytest
from core.support import CountingIds, plan_a, records
from hypothesis import given
from hypothesis import strategies as st

from linguad.core.utterance import MAX_CUTS_OF_CHUNK, Cut, CutReason, CutRules, UtteranceCutter
from linguad.wire import opus

RULES = CutRules()


def cutter(**rules: float) -> UtteranceCutter:
    """It takes every piece of audio for an utterance, however short or many; but see test_short.py."""
    every_piece = CutRules(**({"short_ms": 0, "burst_cuts": 0} | rules))  # type: ignore[arg-type]
    return UtteranceCutter(every_piece, CountingIds().uuid)


class Stream:
    """Feeds a cutter with numbered sequence and remembers its cuts."""

    def __init__(self, **rules: float) -> None:
        self.cutter = cutter(**rules)
        self.cuts: list[Cut] = []
        self.seq = 0

    def chunk(
        self, payload: bytes, now: float, final: bool = False, client_ms: int | None = None
    ) -> list[Cut]:
        new = self.cutter.chunk(payload, seq=self.seq, final=final, client_ms=client_ms, now=now)
        self.seq += 1
        self.cuts += new
        return new

    def final(self, now: float) -> list[Cut]:
        return self.chunk(b"", now, final=True)

    def tick(self, now: float) -> list[Cut]:
        new = self.cutter.tick(now)
        self.cuts += new
        return new

    def close(self, now: float) -> list[Cut]:
        new = self.cutter.close(now)
        self.cuts += new
        return new

    @property
    def reasons(self) -> list[CutReason]:
        return [cut.reason for cut in self.cuts]

    @property
    def audio(self) -> list[bytes]:
        return [base64.b64decode(cut.audio.base64) for cut in self.cuts]


class TestFinal:
    def test_final_with_audio_cuts_at_once(self) -> None:
        stream = Stream()
        assert stream.chunk(plan_a(13), 0.0) == []
        (cut,) = stream.chunk(plan_a(13, 13), 0.256, final=True)
        assert cut.reason is CutReason.MANUAL
        assert base64.b64decode(cut.audio.base64) == plan_a(26)
        assert (cut.audio.format, cut.audio.sample_rate, cut.audio.duration_ms) == ("opus", 16000, 520)
        assert (cut.last_audio_at, cut.cut_at, cut.padding_ms) == (0.256, 0.256, 280)

    def test_empty_final_waits_for_its_tail(self) -> None:
        stream = Stream()
        stream.chunk(plan_a(13), 0.0)
        assert stream.final(0.2) == []
        assert stream.cutter.due() == 0.2 + RULES.final_grace_s
        (cut,) = stream.chunk(plan_a(5, 13), 0.205)
        assert cut.reason is CutReason.MANUAL
        assert base64.b64decode(cut.audio.base64) == plan_a(18)
        assert stream.cutter.due() is None

    def test_tail_may_come_until_the_end_of_the_grace(self) -> None:
        stream = Stream()
        stream.chunk(plan_a(13), 0.0)
        stream.final(1.0)
        assert len(stream.chunk(plan_a(5, 13), 1.0 + RULES.final_grace_s)) == 1
        assert stream.audio == [plan_a(18)]

    def test_grace_ends_by_itself(self) -> None:
        stream = Stream()
        stream.chunk(plan_a(13), 0.0)
        stream.final(0.2)
        assert stream.tick(0.239) == []
        (cut,) = stream.tick(0.2 + RULES.final_grace_s)
        assert cut.reason is CutReason.MANUAL
        assert cut.last_audio_at == 0.0

    def test_a_chunk_after_the_grace_is_a_new_utterance(self) -> None:
        """Also when the timer is late."""
        stream = Stream()
        stream.chunk(plan_a(13), 0.0)
        stream.final(0.2)
        (cut,) = stream.chunk(plan_a(5, 13), 0.3)
        assert base64.b64decode(cut.audio.base64) == plan_a(13)
        stream.chunk(b"", 0.4, final=True)
        stream.tick(1.0)
        assert stream.audio == [plan_a(13), plan_a(5, 13)]
        assert stream.cuts[0].turn_id != stream.cuts[1].turn_id

    def test_only_the_next_chunk_by_number_is_a_tail(self) -> None:
        stream = Stream()
        stream.chunk(plan_a(13), 0.0)
        stream.final(0.2)
        stream.seq += 1
        assert len(stream.chunk(plan_a(5, 13), 0.205)) == 1
        assert stream.audio == [plan_a(13)]

    def test_tail_that_is_final_itself(self) -> None:
        stream = Stream()
        stream.chunk(plan_a(13), 0.0)
        stream.final(0.2)
        assert len(stream.chunk(plan_a(5, 13), 0.205, final=True)) == 1
        assert stream.audio == [plan_a(18)]

    def test_chunk_that_is_too_late_a_tail_but_final(self) -> None:
        stream = Stream()
        stream.chunk(plan_a(13), 0.0)
        stream.final(0.2)
        assert len(stream.chunk(plan_a(5, 13), 0.3, final=True)) == 2
        assert stream.audio == [plan_a(13), plan_a(5, 13)]

    def test_second_final_changes_nothing(self) -> None:
        stream = Stream()
        stream.chunk(plan_a(13), 0.0)
        stream.final(0.2)
        assert stream.final(0.21) == []
        assert stream.cutter.due() == 0.2 + RULES.final_grace_s
        assert len(stream.tick(0.25)) == 1

    def test_final_without_audio_is_nothing(self) -> None:
        stream = Stream()
        assert stream.final(0.0) == []
        assert stream.cutter.due() is None
        assert stream.close(1.0) == []

    def test_without_grace_an_empty_final_cuts_at_once(self) -> None:
        stream = Stream(final_grace_s=0)
        stream.chunk(plan_a(13), 0.0)
        assert len(stream.final(0.2)) == 1


class TestPause:
    def test_silence_cuts(self) -> None:
        stream = Stream()
        stream.chunk(plan_a(13), 1.0)
        assert stream.cutter.due() == 4.0
        assert stream.tick(3.99) == []
        (cut,) = stream.tick(4.0)
        assert (cut.reason, cut.padding_ms, cut.last_audio_at, cut.cut_at) == (
            CutReason.TIMEOUT,
            220,
            1.0,
            4.0,
        )

    def test_every_chunk_moves_the_pause_away(self) -> None:
        stream = Stream()
        stream.chunk(plan_a(13), 1.0)
        stream.chunk(plan_a(13), 3.0)
        assert stream.cutter.due() == 6.0

    def test_empty_chunk_does_not(self) -> None:
        stream = Stream()
        stream.chunk(plan_a(13), 1.0)
        stream.chunk(b"", 3.0)
        assert stream.cutter.due() == 4.0

    def test_late_timer_cuts_before_the_chunk_that_follows(self) -> None:
        stream = Stream()
        stream.chunk(plan_a(13), 0.0)
        (cut,) = stream.chunk(plan_a(7, 13), 3.5)
        assert cut.reason is CutReason.TIMEOUT
        assert stream.audio == [plan_a(13)]
        assert stream.close(4.0)[0].turn_id != cut.turn_id
        assert stream.audio == [plan_a(13), plan_a(7, 13)]

    def test_off(self) -> None:
        stream = Stream(pause_s=0)
        stream.chunk(plan_a(13), 0.0)
        assert stream.cutter.due() is None
        assert stream.tick(1e6) == []
        assert stream.chunk(plan_a(1), 1e6) == []

    def test_a_late_timer_meets_all_its_deadlines(self) -> None:
        stream = Stream()
        stream.chunk(plan_a(13), 0.0)
        (cut,) = stream.close(60.0)
        assert (cut.reason, cut.cut_at) == (CutReason.TIMEOUT, 60.0)

    def test_playback_cuts_as_a_pause_does(self) -> None:
        """Session-protocol 3.8."""
        stream = Stream()
        stream.chunk(plan_a(13), 0.0)
        assert [cut.reason for cut in stream.cutter.playback(0.1)] == [CutReason.TIMEOUT]
        assert stream.cutter.playback(0.2) == []

    def test_playback_leaves_the_grace_of_a_final_alone(self) -> None:
        stream = Stream()
        stream.chunk(plan_a(13), 0.0)
        stream.final(0.1)
        assert stream.cutter.playback(0.101) == []
        assert len(stream.chunk(plan_a(5, 13), 0.105)) == 1
        assert stream.audio == [plan_a(18)]


class TestLimits:
    def test_duration_cuts_inside_a_chunk(self) -> None:
        stream = Stream()
        stream.chunk(plan_a(494), 0.0)
        (cut,) = stream.chunk(plan_a(13, 494), 0.3, client_ms=77)
        assert (cut.reason, cut.padding_ms, cut.audio.duration_ms) == (CutReason.MAX_DURATION, 220, 10_000)
        (rest,) = stream.close(1.0)
        assert stream.audio == [plan_a(500), plan_a(7, 500)]
        assert rest.turn_id == cut.turn_id
        assert rest.last_client_ms == cut.last_client_ms == 77

    def test_one_chunk_may_be_many_slices(self) -> None:
        stream = Stream(max_duration_ms=100)
        cuts = stream.chunk(plan_a(23), 0.0, final=True)
        assert [cut.audio.duration_ms for cut in cuts] == [100, 100, 100, 100, 60]
        assert stream.reasons == [CutReason.MAX_DURATION] * 4 + [CutReason.MANUAL]
        assert b"".join(stream.audio) == plan_a(23)
        assert len({cut.turn_id for cut in cuts}) == 1

    def test_duration_between_packets_is_reached_by_the_next_one(self) -> None:
        stream = Stream(max_duration_ms=50)
        assert [cut.audio.duration_ms for cut in stream.chunk(plan_a(7), 0.0)] == [60, 60]

    def test_a_limit_cuts_when_more_comes(self) -> None:
        """The slice that was full meanwhile was not heard later than it was."""
        stream = Stream()
        assert stream.chunk(plan_a(500), 0.0, client_ms=5) == []
        (cut,) = stream.chunk(plan_a(1, 500), 0.3, client_ms=6)
        assert (cut.reason, cut.last_audio_at, cut.cut_at, cut.last_client_ms) == (
            CutReason.MAX_DURATION,
            0.0,
            0.3,
            5,
        )
        assert stream.audio == [plan_a(500)]

    @pytest.mark.parametrize("pcm", [False, True])
    @pytest.mark.parametrize("end", ["final", "pause", "close"])
    def test_a_turn_that_ends_at_a_limit_has_a_closing_slice(self, end: str, pcm: bool) -> None:
        """Nodes keep back what max-duration slices leave over, until the turn ends (node-protocol 6.5)."""
        stream, unit = Stream(), bytes(640) if pcm else plan_a(1)
        stream.chunk(unit * 1000, 0.0)
        if end == "final":
            stream.final(0.1)
            stream.tick(0.14)
        elif end == "pause":
            stream.tick(3.0)
        else:
            stream.close(0.1)
        last = {"final": CutReason.MANUAL, "pause": CutReason.TIMEOUT, "close": CutReason.CLOSE}[end]
        assert stream.reasons == [CutReason.MAX_DURATION, last]
        assert [cut.audio.duration_ms for cut in stream.cuts] == [10_000, 10_000]
        assert len({cut.turn_id for cut in stream.cuts}) == 1

    def test_manual_wins_where_both_hold(self) -> None:
        """Resolution 9: manual > timeout > max-duration."""
        stream = Stream(max_duration_ms=100)
        assert stream.chunk(plan_a(5), 0.0, final=True)[0].reason is CutReason.MANUAL
        stream.chunk(plan_a(3), 1.0)
        stream.final(1.1)
        assert stream.chunk(plan_a(2), 1.11)[0].reason is CutReason.MANUAL

    def test_length_cuts_at_the_first_record_past_it(self) -> None:
        stream = Stream(max_bytes=60)
        assert stream.chunk(plan_a(10), 0.0) == []
        (cut,) = stream.chunk(plan_a(2, 10), 0.1)
        assert (cut.reason, cut.padding_ms) == (CutReason.MAX_LENGTH, 0)
        stream.final(0.2)
        stream.tick(1.0)
        assert stream.audio == [plan_a(11), plan_a(1, 11)]
        assert stream.cuts[0].turn_id == stream.cuts[1].turn_id

    def test_the_nearer_limit_cuts(self) -> None:
        stream = Stream(max_bytes=60, max_duration_ms=100)
        assert stream.chunk(plan_a(6), 0.0)[0].reason is CutReason.MAX_DURATION
        stream = Stream(max_bytes=20, max_duration_ms=100)
        assert stream.chunk(plan_a(5), 0.0)[0].reason is CutReason.MAX_LENGTH

    def test_off(self) -> None:
        stream = Stream(max_bytes=0, max_duration_ms=0)
        assert stream.chunk(plan_a(60_000), 0.0) == []

    def test_slices_of_a_turn_share_its_id_until_final_or_pause(self) -> None:
        stream = Stream(max_duration_ms=100)
        stream.chunk(plan_a(8), 0.0)
        stream.chunk(plan_a(8), 0.2, final=True)
        stream.chunk(plan_a(8), 0.4)
        stream.tick(10.0)
        stream.chunk(plan_a(3), 11.0, final=True)
        turns = [cut.turn_id for cut in stream.cuts]
        assert stream.reasons == [
            *[CutReason.MAX_DURATION] * 3,
            CutReason.MANUAL,
            CutReason.MAX_DURATION,
            CutReason.TIMEOUT,
            CutReason.MANUAL,
        ]
        assert turns[0] == turns[1] == turns[2] == turns[3]
        assert turns[4] == turns[5]
        assert len(set(turns)) == 3

    def test_minutes_in_one_chunk_are_cut_in_one_pass(self) -> None:
        """A paused web client flushes what it held; a hostile one sends the densest payload there is."""
        stream = Stream()
        cuts = stream.chunk(plan_a(30_000), 0.0)
        assert len(cuts) == 59
        assert (stream.cutter.overlong, stream.cutter.buffered_bytes) == (0, 500 * 6)

    def test_more_than_a_chunk_may_carry_is_dropped_and_counted(self) -> None:
        stream = Stream()
        cuts = stream.chunk(plan_a(30_001), 0.0) + stream.chunk(plan_a(5), 0.1, final=True)
        assert [cut.audio.duration_ms for cut in cuts] == [10_000] * 60 + [100]
        assert (stream.cutter.overlong, stream.cutter.malformed) == (1, 0)

    def test_more_pcm_than_a_chunk_may_carry(self) -> None:
        stream = Stream(max_chunk_s=1.0)
        [cut] = stream.chunk(bytes(33_001), 0.0, final=True)
        assert cut.audio.duration_ms == 1000
        assert (stream.cutter.overlong, stream.cutter.malformed) == (1, 0)

    def test_one_chunk_makes_so_many_cuts(self) -> None:
        stream = Stream(max_duration_ms=20)
        assert len(stream.chunk(plan_a(1000), 0.0)) == MAX_CUTS_OF_CHUNK
        assert (stream.cutter.overlong, stream.cutter.buffered_bytes) == (1, 6)
        assert stream.final(0.0) + stream.tick(1.0) != []
        assert len({cut.turn_id for cut in stream.cuts}) == 1

    def test_long_first_payload_tells_the_format_too(self) -> None:
        opus, pcm = Stream(), Stream()
        opus.chunk(plan_a(29_000), 0.0)
        pcm.chunk(bytes(200_000), 0.0)
        assert (opus.cutter.format, pcm.cutter.format) == ("opus", "pcm16")


class TestPcm:
    def test_first_payload_tells_the_format(self) -> None:
        stream = Stream()
        assert stream.cutter.format == "opus"
        stream.chunk(bytes(320), 0.0)
        assert stream.cutter.format == "pcm16"
        stream.chunk(plan_a(4), 0.1, final=True)
        assert stream.cuts[0].audio.format == "pcm16"

    def test_duration_cuts_at_the_exact_sample(self) -> None:
        stream = Stream()
        stream.chunk(bytes(319_000), 0.0)
        (cut,) = stream.chunk(bytes(2_000), 0.1)
        assert (len(base64.b64decode(cut.audio.base64)), cut.audio.duration_ms) == (320_000, 10_000)
        assert stream.cutter.buffered_bytes == 1_000

    def test_chunks_of_less_than_a_millisecond_add_up(self) -> None:
        stream = Stream(max_duration_ms=100)
        for _ in range(200):
            stream.chunk(bytes(20), 0.0)
        assert [cut.audio.duration_ms for cut in stream.cuts] == [100]
        assert stream.cutter.buffered_bytes == 800

    def test_length_cuts_at_the_first_sample_past_it(self) -> None:
        for limit, size in ((999, 1000), (1000, 1002), (1001, 1002)):
            stream = Stream(max_bytes=limit)
            stream.chunk(bytes(1400), 0.0)
            assert [len(audio) for audio in stream.audio] == [size]

    def test_half_a_sample_is_malformed(self) -> None:
        stream = Stream()
        stream.chunk(bytes(321), 0.0, final=True)
        assert stream.cutter.malformed == 1
        assert stream.audio == [bytes(320)]


class TestMalformed:
    def test_bad_tail_of_a_chunk_is_dropped_and_counted(self) -> None:
        stream = Stream()
        stream.chunk(plan_a(3), 0.0)
        stream.chunk(plan_a(2, 3) + b"\x00\x00junk", 0.1)
        stream.chunk(plan_a(1, 5), 0.2, final=True)
        assert stream.cutter.malformed == 1
        assert stream.audio == [plan_a(6)]

    def test_chunk_without_a_good_record_does_not_move_the_pause(self) -> None:
        stream = Stream()
        stream.chunk(plan_a(3), 0.0)
        stream.chunk(b"\xff", 2.0)
        assert stream.cutter.due() == 3.0

    def test_malformed_final_still_ends_the_utterance(self) -> None:
        stream = Stream()
        stream.chunk(plan_a(3), 0.0)
        assert len(stream.chunk(b"\xff", 0.1, final=True)) == 1
        assert stream.audio == [plan_a(3)]


class TestClose:
    def test_close_cuts_what_is_left(self) -> None:
        stream = Stream()
        stream.chunk(plan_a(3), 0.0)
        (cut,) = stream.close(0.5)
        assert (cut.reason, cut.padding_ms) == (CutReason.CLOSE, 220)
        assert stream.close(0.6) == []

    def test_close_within_the_grace_is_manual(self) -> None:
        stream = Stream()
        stream.chunk(plan_a(3), 0.0)
        stream.final(0.1)
        assert stream.close(0.11)[0].reason is CutReason.MANUAL

    def test_buffered_bytes(self) -> None:
        stream = Stream()
        stream.chunk(plan_a(3), 0.0)
        assert stream.cutter.buffered_bytes == 18
        stream.close(0.1)
        assert stream.cutter.buffered_bytes == 0


@pytest.mark.parametrize(
    ("reason", "milliseconds"),
    [("MANUAL", 280), ("TIMEOUT", 220), ("MAX_DURATION", 220), ("MAX_LENGTH", 0), ("CLOSE", 220)],
)
def test_padding(reason: str, milliseconds: int) -> None:
    assert RULES.padding_ms(CutReason[reason]) == milliseconds


def test_client_time_is_of_the_last_chunk_of_the_utterance() -> None:
    stream = Stream()
    stream.chunk(plan_a(3), 0.0, client_ms=100)
    stream.chunk(plan_a(3), 0.2, client_ms=300)
    stream.chunk(plan_a(3), 0.3)
    assert stream.close(0.5)[0].last_client_ms == 300
    stream.chunk(plan_a(3), 0.6)
    assert stream.close(0.7)[0].last_client_ms is None


@dataclass(frozen=True)
class Moment:
    """Audio that arrives at one time, or a final, or both."""

    gap_s: float
    units: int
    final: str


GRACE_S = RULES.final_grace_s
gaps = st.sampled_from([0.001, GRACE_S + 0.001, 0.256, 2.9, 3.1, 20.0])
moments = st.builds(
    Moment,
    gap_s=gaps,
    units=st.integers(0, 30),
    final=st.sampled_from(["no", "no", "no", "with the audio", "after the audio"]),
)
rules = st.fixed_dictionaries(
    {"max_duration_ms": st.sampled_from([0, 50, 100, 360]), "max_bytes": st.sampled_from([0, 31, 60, 200])}
)


def units(pcm: bool, first: int, count: int) -> list[bytes]:
    """Records of six bytes, or samples; PCM starts with silence, so that it cannot be taken for Plan A."""
    if not pcm:
        return records(count, first)
    return [number.to_bytes(3, "big")[1:] for number in range(first, first + count)]


def play(stream: Stream, story: list[Moment], pcm: bool, split: list[int], punctual: bool) -> bytes:
    """Send a story, each moment in chunks of the sizes in `split`, and return all audio that was sent."""
    now, sent, all_audio = 1.0, 0, b""
    sizes = iter(split * 1000)
    after_final = False
    for moment in story:
        # right after an empty final a chunk is its tail: which chunk that is depends on the chunking
        now += max(moment.gap_s, 2 * GRACE_S) if after_final else moment.gap_s
        while punctual and (due := stream.cutter.due()) is not None and due <= now:
            stream.tick(due)
        left = units(pcm, sent, moment.units)
        sent += moment.units
        while left:
            size = next(sizes)
            payload, left = b"".join(left[:size]), left[size:]
            stream.chunk(payload, now, final=not left and moment.final == "with the audio")
            all_audio += payload
        after_final = moment.final == "after the audio"
        if after_final or (moment.final == "with the audio" and not moment.units):
            stream.final(now)
            after_final = True
    stream.close(now + 0.001)
    return all_audio


stories = st.lists(moments, min_size=1, max_size=12)
splits = st.lists(st.integers(1, 31), min_size=1, max_size=5)


@given(stories, rules, st.booleans(), splits, splits)
def test_cuts_do_not_depend_on_the_chunking(
    story: list[Moment], limits: dict[str, int], pcm: bool, split: list[int], other: list[int]
) -> None:
    """Resolution 12: equal audio, equal final positions and equal times make equal cuts, of all the audio."""
    one, two = Stream(**limits), Stream(**limits)
    sent = play(one, story, pcm, split, punctual=True)
    assert play(two, story, pcm, other, punctual=True) == sent
    assert one.cuts == two.cuts
    assert b"".join(one.audio) == sent


@given(stories, rules, st.booleans(), splits)
def test_a_late_timer_changes_nothing_but_the_time_of_the_cut(
    story: list[Moment], limits: dict[str, int], pcm: bool, split: list[int]
) -> None:
    punctual, late = Stream(**limits), Stream(**limits)
    play(punctual, story, pcm, split, punctual=True)
    play(late, story, pcm, split, punctual=False)
    assert late.audio == punctual.audio
    assert [(cut.turn_id, cut.last_audio_at) for cut in late.cuts] == [
        (cut.turn_id, cut.last_audio_at) for cut in punctual.cuts
    ]
    assert late.reasons == punctual.reasons


@given(stories, rules, st.booleans(), splits)
def test_limits_are_kept(story: list[Moment], limits: dict[str, int], pcm: bool, split: list[int]) -> None:
    stream = Stream(**limits)
    play(stream, story, pcm, split, punctual=True)
    unit_ms, unit_bytes = (1, 2) if pcm else (opus.PACKET_MS, 6)
    for cut, audio in zip(stream.cuts, stream.audio, strict=True):
        if limits["max_duration_ms"]:
            assert cut.audio.duration_ms < limits["max_duration_ms"] + unit_ms
        if limits["max_bytes"]:
            assert len(audio) <= limits["max_bytes"] + unit_bytes
        assert cut.audio.duration_ms == (len(audio) // 32 if pcm else len(audio) // 6 * opus.PACKET_MS)
        assert audio
    by_turn: dict[str, list[bool]] = {}
    for cut in stream.cuts:
        by_turn.setdefault(cut.turn_id, []).append(cut.reason.speech_continues)
    for slices in by_turn.values():
        assert slices[-1] is False, "a turn has a last slice that ends it"
        assert all(slices[:-1]), "only the last slice of a turn ends it"


@given(st.lists(st.tuples(st.binary(max_size=40), st.booleans(), st.floats(0, 5)), max_size=30))
def test_any_bytes_at_any_time(chunks: list[tuple[bytes, bool, float]]) -> None:
    stream = Stream(max_duration_ms=100, max_bytes=50)
    now = 0.0
    for payload, final, gap in chunks:
        now += gap
        stream.chunk(payload, now, final=final)
        due = stream.cutter.due()
        assert (due is None) == (stream.cutter.buffered_bytes == 0)
    stream.close(now)
    assert stream.cutter.buffered_bytes == 0
    assert sum(map(len, stream.audio)) <= sum(len(payload) for payload, _, _ in chunks)
