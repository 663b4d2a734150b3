"""A session goes on at another instance: what is cut again, what is passed over (resolution 49)."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import msgspec
from core.talk import Talk
from hypothesis import given
from hypothesis import strategies as st

from linguad.core.again import Rerun, replay
from linguad.core.outputs import Send, Submit
from linguad.core.resume import Result
from linguad.core.rules import SessionRules
from linguad.core.utterance import CutRules
from linguad.wire import opus
from linguad.wire.resume import SeatRecord, SessionRecord, Stretch
from linguad.wire.room_record import RoomRecord
from linguad.wire.session import MissingResult, ResultAck, Resume, SessionInit, TranslationResult, TtsStarted

RULES = SessionRules(cut=CutRules(short_ms=0, burst_cuts=0, pause_s=0, max_duration_ms=200))
"""Ten packets at most are one utterance; silence cuts nothing."""

INIT = SessionInit(client_version="1", platform="web", src_lang="en", tgt_lang="es", resume=Resume())


def packet(number: int) -> bytes:
    return number.to_bytes(4, "big") + b"audio"


def numbers(audio: str) -> list[int]:
    return [int.from_bytes(one[:4], "big") for one in opus.packets(b64decode(audio))]


def record(*cut: Stretch, end: int, next_index: int, delivery: int = 0, **members: Any) -> SessionRecord:
    return SessionRecord(
        init=INIT,
        token_hash="",
        trace_id="t",
        tenant="direct",
        next_index=next_index,
        delivery=delivery,
        cut_bytes=end,
        cut=list(cut),
        **members,
    )


class Speaker:
    """A client that keeps what it said, at one instance and then at another."""

    def __init__(self) -> None:
        self.here = Talk(RULES, resume=Resume())
        self.chunks: list[tuple[int, bytes, bool]] = []
        self.said = 0
        self.got: list[tuple[int, int]] = []
        """Number and index of each result."""
        self.written = self.write()

    def write(self) -> SessionRecord:
        """What the other instance will know."""
        data = msgspec.msgpack.encode(self.here.session.record())
        self.written = msgspec.msgpack.decode(data, type=SessionRecord)
        return self.written

    def hear(self, outputs: list[Any]) -> None:
        for output in outputs:
            if isinstance(output, Send) and isinstance(output.message, TranslationResult | MissingResult):
                message: Result = self.here.session.outgoing(output.message)  # type: ignore[assignment]
                self.got.append((message.delivery or 0, message.utterance_index))

    def speak(self, packets: int, final: bool) -> None:
        data = opus.join([packet(self.said + at) for at in range(packets)])
        self.said += packets
        self.hear(self.here.chunk(data, final=final))
        self.chunks.append((self.here.seq, data, final))

    def move(self, delivery: int) -> tuple[dict[int, list[int]], list[int]]:
        """Go on elsewhere with this last result: packets by index, and all in the order they were cut."""
        there = Talk(RULES, resume=Resume())
        known = self.written
        there.see(
            there.session.go_on(known, Resume(session_id="s-1", resume_token="x", delivery=delivery), 0.0)
        )
        outputs: list[Any] = []
        for seq, data, final in self.chunks:
            if seq > known.seq:
                there.seq = seq - 1
                outputs += there.chunk(data, final=final)
        outputs += there.see(there.session.finish(there.now))
        cut = {
            output.request.utterance_index: numbers(output.audio.base64)
            for output in outputs
            if isinstance(output, Submit)
        }
        return cut, [number for audio in cut.values() for number in audio]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("speak"), st.integers(0, 25), st.booleans()),
        st.tuples(st.just("resolve"), st.integers(0, 10), st.booleans()),
        st.tuples(st.just("acknowledge"), st.integers(0, 10), st.booleans()),
        st.tuples(st.just("play"), st.just(0), st.booleans()),
        st.tuples(st.just("write"), st.just(0), st.booleans()),
    ),
    max_size=40,
)


@given(steps=STEPS, is_written=st.booleans(), data=st.data())
def test_what_has_no_answer_is_done_again_once(
    steps: list[tuple[str, int, bool]], is_written: bool, data: st.DataObject
) -> None:
    speaker = Speaker()
    here, open_, acknowledged = speaker.here, list[int](), 0
    for what, number, flag in steps:
        match what:
            case "speak":
                speaker.speak(number, flag)
            case "resolve" if open_:
                # in any order, if it is written down what came of it
                at = number % len(open_) if is_written else 0
                speaker.hear(here.resolve(open_[at]))
            case "acknowledge" if speaker.got:
                acknowledged = max(acknowledged, min(number, len(speaker.got)))
                speaker.hear(here.say(_ack(acknowledged)))
            case "play" if is_written:
                speaker.hear(
                    here.say(TtsStarted(session_id="s-1", trace_id="t", group_id="g", ts_start_ms=1))
                )
            case "write":
                speaker.write()
        resolved = {index for _, index in speaker.got}
        open_ = [index for index in here.jobs if index not in resolved and index not in _ready(speaker)]
    if is_written:
        speaker.write()
    delivery = data.draw(st.integers(acknowledged, len(speaker.got)))
    cut, again = speaker.move(delivery)
    answered = {index for number, index in speaker.got if number <= delivery}
    has_answer = {one for index in answered for one in numbers(here.jobs[index].audio.base64)}
    assert again == [one for one in range(speaker.said) if one not in has_answer]
    if is_written:
        for index, audio in cut.items():
            if index in here.jobs and _is_complete(speaker, index):
                assert audio == numbers(here.jobs[index].audio.base64), "cut at the same bytes"


def _ready(speaker: Speaker) -> set[int]:
    """Utterances that have an answer which waits for that of an earlier one."""
    return {index for order in speaker.here.session._answers._orders.values() for index in order._ready}


def _is_complete(speaker: Speaker, index: int) -> bool:
    """Whether its turn is over, so that nothing is added to it elsewhere."""
    return not speaker.here.jobs[index].request.reason.speech_continues


def _ack(delivery: int) -> ResultAck:
    return ResultAck(session_id="s-1", delivery=delivery)


class TestReplay:
    def test_results_that_nobody_wrote_down_are_of_the_oldest(self) -> None:
        one, two = Stretch(0, 0, 10, "manual"), Stretch(1, 10, 20, "manual")
        known = record(one, two, end=20, next_index=2)
        assert replay(known, 0).stretches == [one, two]
        assert replay(known, 1).stretches == [two]
        plan = replay(known, 3)
        assert (plan.stretches, plan.answered, plan.next_index) == ([], 1, 2)

    def test_in_a_room_they_may_be_of_others(self) -> None:
        one = Stretch(0, 0, 10, "manual")
        room = RoomRecord(id="r", code="123456", owner="a", epoch=1, version=1, members=[])
        assert replay(record(one, end=10, next_index=1, seat=SeatRecord(room)), 5).stretches == [one]

    def test_a_turn_that_goes_on_is_cut_by_its_limits_again(self) -> None:
        one, two = Stretch(0, 0, 10, "max_duration"), Stretch(1, 10, 20, "max_duration")
        plan = replay(record(one, two, end=20, next_index=2), 0)
        assert (plan.stretches, plan.end, plan.next_index) == ([], 0, 0)

    def test_a_slice_whose_rest_is_answered_is_the_last(self) -> None:
        one, two = Stretch(0, 0, 10, "max_duration"), Stretch(1, 10, 20, "manual", delivery=1)
        (last,) = replay(record(one, two, end=20, next_index=2, delivery=1), 1).stretches
        assert (last.index, last.reason) == (0, "close")


@given(
    sizes=st.lists(st.integers(1, 50), max_size=12),
    answered=st.sets(st.integers(0, 11)),
    pieces=st.lists(st.integers(1, 40), min_size=1, max_size=30),
)
def test_stretches_come_back_whole(sizes: list[int], answered: set[int], pieces: list[int]) -> None:
    stretches, at = list[Stretch](), 0
    for index, size in enumerate(sizes):
        stretches.append(Stretch(index, at, at + size, "manual"))
        at += size
    todo = [one for one in stretches if one.index not in answered]
    sound = bytes(number % 251 for number in range(at + 100))
    rerun, found, fed = Rerun(replay(record(*todo, end=at, next_index=len(sizes)), 0), 0), [], 0
    for size in pieces * 20:
        if rerun.is_over:
            break
        done, used = rerun.feed(sound[fed : fed + size])
        found += done
        fed += used
    if rerun.is_over:
        assert fed == at, "not a byte more"
        assert [(piece.stretch, piece.data) for piece in found] == [
            (one, sound[one.start : one.end]) for one in todo
        ]
