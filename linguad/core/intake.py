"""A session's speech on its way in: chunks and whole utterances to numbered requests (session-protocol 3, 4).

Streamed speech is numbered here, whole utterances by their client; both share one row of numbers (3.3).
"""

from __future__ import annotations

from msgspec import Struct

from linguad.core.again import Replay, Rerun
from linguad.core.arrivals import Arrivals
from linguad.core.deadlines import earliest
from linguad.core.ids import Ids
from linguad.core.job import JobRequest, MissingReason
from linguad.core.requests import Requests
from linguad.core.rules import SessionRules
from linguad.core.sound import SAMPLE_RATE
from linguad.core.utterance import Audio, Cut, CutReason, UtteranceCutter
from linguad.core.whole import audio_of
from linguad.errors import ErrorCode, WireError
from linguad.octets import decoded_size, from_base64
from linguad.wire.resume import Stretch
from linguad.wire.session import SessionUpdate, Utterance

MAX_CUT_RUNS = 64
"""Runs of indexes that streamed speech used; beyond it the oldest two count as one, with what is between."""


class Begun(Struct, frozen=True):
    """The first streamed sound of an utterance is there; each begins once, before it is spoken."""

    index: int


class Spoken(Struct, frozen=True):
    """An utterance is complete: what is asked for, and its sound."""

    request: JobRequest
    audio: Audio
    stretch: Stretch | None = None
    """Of streamed speech: where it lies in the session's audio."""


class Unusable(Struct, frozen=True):
    """A whole utterance that leads to no job, and why its index has no result."""

    request: JobRequest
    reason: MissingReason
    error: WireError | None = None


class Rejected(Struct, frozen=True):
    """Nothing comes of what the client sent."""

    error: WireError


Input = Begun | Spoken | Unusable | Rejected


class Intake:
    """Mutable state: audio that is not cut yet, whole utterances that wait, and the next index."""

    def __init__(
        self, rules: SessionRules, requests: Requests, ids: Ids, *, bursts: bool, may_reuse: bool
    ) -> None:
        """With `bursts` the client sends speech as rows of tiny utterances, as mobile ones do (1.10).

        With `may_reuse` an index may come again with other audio: a gateway may break a call off (1.11).
        """
        self._may_reuse = may_reuse
        self._rules = rules
        self._requests = requests
        self._burst_ms = rules.burst_ms if bursts else 0
        self._new_turn_id = ids.uuid
        self._cutter = UtteranceCutter(rules.cut, ids.uuid)
        self._arrivals = Arrivals(rules.reorder_wait_s, rules.idempotency_s)
        self.next_index = 0
        """Lowest index that no utterance has."""
        self._cut_runs: list[range] = []
        self._begun = -1
        self.repeated = 0
        """Whole utterances that came again and led to nothing."""
        self.cut_bytes = 0
        """Bytes of streamed audio that are cut, or dropped as silence; the rest is buffered."""
        self._rerun: Rerun | None = None
        self._rerun_turn: str | None = None
        self._index_after = 0
        self._answered = range(0)

    @property
    def buffered_bytes(self) -> int:
        """Bytes of audio that no job has yet."""
        coming_again = self._rerun.held_bytes if self._rerun is not None else 0
        return self._cutter.buffered_bytes + self._arrivals.held_bytes + coming_again

    def go_on(self, plan: Replay, position: int) -> None:
        """The session comes from another instance; audio from this byte on comes again."""
        self._cutter.taken_bytes = self.cut_bytes = position
        self.next_index = plan.stretches[0].index if plan.stretches else plan.next_index
        self._index_after = plan.next_index
        self._answered = range(plan.next_index, plan.next_index + plan.answered)
        self._begun = self.next_index - 1
        self._rerun = Rerun(plan, position)
        self._end_rerun()

    @property
    def cutter(self) -> UtteranceCutter:
        """What was streamed and is not cut, with its counters."""
        return self._cutter

    def number_from(self, index: int) -> None:
        """The next utterance has this index or a higher one: its client saw lower ones."""
        self.next_index = max(self.next_index, index)

    def forget(self, request: JobRequest) -> None:
        """This utterance may be sent again.

        In a room it was asked for in other languages than its client knows.
        """
        self._arrivals.forget(request.utterance_index, None if request.room_id else request.tgt_lang)

    def remember(self, request: JobRequest, now: float) -> None:
        """This utterance has its text, perhaps after it had failed; it need not be sent again."""
        if request.sound and not request.room_id:
            self._arrivals.remember(request.utterance_index, request.tgt_lang, request.sound, now)

    def chunk(
        self, payload: bytes, *, seq: int, final: bool, client_ms: int | None, now: float
    ) -> list[Input]:
        """Some streamed audio, perhaps the last of its utterance."""
        again: list[Input] = []
        if self._rerun is not None:
            again, payload = self._again(payload, now)
            if self._rerun is not None:
                return again
        overlong = self._cutter.overlong
        cuts = self._cutter.chunk(payload, seq=seq, final=final, client_ms=client_ms, now=now)
        inputs = again + self._spoken(cuts)
        if self._cutter.overlong > overlong:
            inputs.append(_rejected("payload", "is too much audio at once"))
        if self._cutter.collects:
            inputs += self._begin(self.next_index)
        return inputs

    def utterance(self, message: Utterance, now: float) -> list[Input]:
        """A whole utterance; those of a burst are taken for chunks."""
        if (payload := self._part_of_burst(message)) is not None:
            return self._burst(message, payload, now)
        return self._take_all(self._arrivals.arrive(message, now), now)

    def playback(self, now: float) -> list[Input]:
        """The client plays speech and is mute meanwhile (3.8)."""
        return self._spoken(self._cutter.playback(now))

    def part(self, now: float) -> list[Input]:
        """What comes next is in another language: what was said before it waits for nothing."""
        return self._spoken(self._cutter.part(now))

    def end_slices(self, now: float) -> list[Input]:
        """What comes next is for others: a turn that is cut into slices ends."""
        return self._spoken(self._cutter.end_slices(now))

    def finish(self, now: float) -> list[Input]:
        """There is no more to come: cut what is buffered."""
        return self._spoken(self._cutter.close(now))

    def discard(self) -> int:
        """Nobody wants what is buffered: it is dropped; returns ms of streamed speech."""
        dropped_ms = self._cutter.discard()
        self._rerun = None
        self.cut_bytes = self._cutter.taken_bytes
        self._arrivals.discard()
        return dropped_ms

    def unfinished(self, now: float) -> list[JobRequest]:
        """The server stops: a request for each utterance that was begun, or waits for its turn."""
        begun = [taken.request for taken in self.finish(now) if isinstance(taken, Spoken)]
        return begun + [self._requests.of_utterance(message, now) for message in self._arrivals.discard()]

    def due(self) -> float | None:
        """When `tick` has something to do, monotonic s."""
        return earliest(self._cutter.due(), self._arrivals.due())

    def tick(self, now: float) -> list[Input]:
        """Cut on silence; take utterances that waited long enough for a lower index."""
        return self._spoken(self._cutter.tick(now)) + self._take_all(self._arrivals.tick(now), now)

    def _spoken(self, cuts: list[Cut]) -> list[Input]:
        inputs: list[Input] = []
        start, end = self.cut_bytes, self._cutter.taken_bytes - self._cutter.buffered_bytes
        for at, cut in enumerate(cuts, start=1):
            # several at once are slices; one alone may have had silence before it
            stop = end if at == len(cuts) else start + decoded_size(cut.audio.base64)
            inputs += self._number(cut, start, stop)
            start = stop
        self.cut_bytes = end
        return inputs

    def _number(self, cut: Cut, start: int, end: int) -> list[Input]:
        index = self.next_index
        self.next_index += 1
        self._used_by_cut(index)
        self._arrivals.skip(index)
        if index in self._answered:
            return []
        request = self._requests.of_cut(cut, index)
        stretch = Stretch(index, start, end, cut.reason.value)
        return [*self._begin(index), Spoken(request, cut.audio, stretch)]

    def _again(self, payload: bytes, now: float) -> tuple[list[Input], bytes]:
        """Audio that had been cut by another instance comes again; returns what is left of it."""
        assert self._rerun is not None, "there is more of it to come"
        inputs: list[Input] = []
        pieces, used = self._rerun.feed(self._cutter.usable(payload))
        for piece in pieces:
            stretch, reason = piece.stretch, CutReason(piece.stretch.reason)
            self.number_from(stretch.index)
            turn_id = self._rerun_turn or self._new_turn_id()
            self._rerun_turn = turn_id if reason.speech_continues else None
            cut = self._cutter.again(piece.data, reason, turn_id, now)
            inputs += self._number(cut, stretch.start, stretch.end)
        self._cutter.taken_bytes, self.cut_bytes = self._rerun.position, self._rerun.start
        self._end_rerun()
        return inputs, payload[used:]

    def _end_rerun(self) -> None:
        if self._rerun is not None and self._rerun.is_over:
            self._rerun = None
            self.number_from(self._index_after)

    def _begin(self, index: int) -> list[Input]:
        """Say once for each index, in order, that it began."""
        if index <= self._begun:
            return []
        self._begun = index
        return [Begun(index)]

    def _used_by_cut(self, index: int) -> None:
        runs = self._cut_runs
        if runs and runs[-1].stop == index:
            runs[-1] = range(runs[-1].start, index + 1)
            return
        runs.append(range(index, index + 1))
        if len(runs) > MAX_CUT_RUNS:
            runs[:2] = [range(runs[0].start, runs[1].stop)]

    def _take_all(self, messages: list[Utterance], now: float) -> list[Input]:
        return [taken for message in messages for taken in self._take(message, now)]

    def _take(self, message: Utterance, now: float) -> list[Input]:
        """A whole utterance whose turn has come."""
        index, tgt_lang = message.utterance_index, message.tgt_lang
        if any(index in run for run in self._cut_runs):
            return [_rejected("utterance_index", "is one that streamed speech has used")]
        request = self._requests.of_utterance(message, now)
        if self._arrivals.is_repeated(index, tgt_lang, now, request.sound if self._may_reuse else None):
            self.repeated += 1
            return []
        self.number_from(index + 1)
        try:
            audio = audio_of(message, self._rules.cut.max_chunk_s)
        except WireError as error:
            return [Unusable(request, MissingReason.JOB_FAILED, error)]
        self._arrivals.remember(index, tgt_lang, request.sound, now)
        if audio.duration_ms == 0:
            return [Unusable(request, MissingReason.SILENCE)]
        return [Spoken(request, audio)]

    def _burst(self, message: Utterance, payload: bytes, now: float) -> list[Input]:
        """A piece of an utterance, which is over where another language begins."""
        inputs: list[Input] = []
        shared, index = self._requests.shared, message.utterance_index
        if (message.src_lang, message.tgt_lang) != (shared.src_lang, shared.tgt_lang):
            inputs = self.finish(now)
            languages = SessionUpdate(
                session_id=message.session_id, src_lang=message.src_lang, tgt_lang=message.tgt_lang
            )
            self._requests.update(languages, None)
        if not self._cutter.collects:
            self.number_from(index)
        return inputs + self.chunk(payload, seq=index, final=message.manual_cut, client_ms=None, now=now)

    def _part_of_burst(self, message: Utterance) -> bytes | None:
        """The sound of a whole utterance that is only a piece of one."""
        if not self._burst_ms or message.sample_rate != SAMPLE_RATE:
            return None
        try:
            audio = audio_of(message, self._burst_ms / 1000)
        except WireError:
            return None
        if not audio.duration_ms or not self._cutter.takes(audio.format):
            return None
        return from_base64(message.audio)


def _rejected(field: str, problem: str) -> Rejected:
    return Rejected(WireError(ErrorCode.INVALID_MESSAGE, f"member {field} {problem}", field))
