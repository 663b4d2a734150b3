"""One session of `/v1/stream`, from `started` to `ended`: audio in, answers out (gateway 6.2, 6.3, 8.2, 8.3).

Whole utterances get their public index when they are taken in, the core's when they are sent to it; streamed
ones have the core's. At most `max_inflight` are with the core, what comes meanwhile waits here.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import NamedTuple

from msgspec.structs import replace

from linguad import metrics
from linguad.core.job import MissingReason
from linguad.core.sound import OPUS, SAMPLE_RATE
from linguad.gateway.speech.mapping import EMPTY, SESSION_LOST, TIMEOUT, failure_of
from linguad.gateway.stream.actions import Action, HangUp, Release, Say, Stream, Utter
from linguad.gateway.stream.complaints import Complaints
from linguad.gateway.stream.opening import Opening
from linguad.gateway.stream.pending import Answer, Asked, Pending
from linguad.gateway.stream.rules import StreamRules
from linguad.octets import from_base64
from linguad.wire import opus
from linguad.wire.public import Audio, AudioAck, Empty, Ended, Error, Event, Final, Partial, Spent, Usage
from linguad.wire.session import (
    AsrPartial,
    Backpressure,
    ErrorMessage,
    MissingResult,
    ServerMessage,
    TranslationResult,
    UiEvent,
)
from linguad.wire.session import AudioAck as CoreAck

INPUT_STARTED, INPUT_ENDED, ERROR = "INPUT_STARTED", "INPUT_ENDED", "ERROR"
"""Names of `ui_event` (session-protocol 2.4.8)."""

SKIPPED = frozenset({MissingReason.GAP_TIMEOUT, MissingReason.OVERFLOW})
"""Reasons that tell that later utterances were not kept waiting; a result may still come, as late."""


class _Piece(NamedTuple):
    """Audio that waits for its turn, or the end of all audio."""

    audio: bytes = b""
    number: int = -1
    """Public index of a whole utterance."""
    seq: int | None = None
    final: bool = False
    last: bool = False


class Dialogue:
    """Mutable: what waits, what the core has, and what is unanswered; times are monotonic s."""

    def __init__(
        self, opening: Opening, session_id: str, rules: StreamRules, complaints: Complaints, now: float
    ) -> None:
        self.opening = opening
        self.terms = opening.terms
        self.session_id = session_id
        self.last_audio_at = now
        self.utterances = 0
        """Answered ones."""
        self.audio_ms = 0
        """Taken in."""
        self._answered_ms = 0
        self._rules = rules
        self._complaints = complaints
        self._waiting: deque[_Piece] = deque()
        self._waiting_bytes = 0
        self._next_index = 0
        self._sent: dict[int, int] = {}
        """By the core's index the public one, of whole utterances that it has not answered."""
        self._next_sent = 0
        self._running: set[int] = set()
        """The core's indexes of what it has not answered."""
        self._odd = b""
        """Half a sample, which the next piece completes."""
        self._skipped: dict[int, int] = {}
        """Public indexes that later ones did not wait for, and their audio in ms: a result may still come."""
        self._begun: int | None = None
        """The streamed utterance that is being spoken."""
        self._seq: int | None = None
        self._gap_told = False
        self._unacked: deque[tuple[int, int]] = deque()
        """Number of what was sent to the core, and the client's `seq` of it."""
        self._paused_until = -inf
        self._told_ms = 0
        """Charged audio that the client knows of."""
        self._warned = False
        self._pending = Pending()

    @property
    def backlog_bytes(self) -> int:
        """Audio that waits for its turn."""
        return self._waiting_bytes

    def reads(self, now: float, unsaid_bytes: int = 0) -> bool:
        """Whether the client may send more."""
        return self._waiting_bytes + unsaid_bytes < self._rules.backlog_bytes and now >= self._paused_until

    def due(self) -> float:
        """When `tick` has something to do."""
        return min(self._pending.due(), self._paused_until if self._paused_until > -inf else inf)

    def tick(self, now: float) -> list[Action]:
        """Wait no longer for what takes too long."""
        if now >= self._paused_until:
            self._paused_until = -inf
        actions: list[Action] = []
        for index in self._pending.overdue(now):
            self._forget(index)
            actions += self._answer(index, self._complaints.failure(TIMEOUT, index))
        return actions + self._advance(now)

    def take(self, message: Audio, now: float) -> list[Action]:
        """Audio of the client, in a message."""
        text = message.data if message.chunk is None else message.chunk
        told: list[Action] = []
        if message.seq is not None:
            if self._seq is not None and message.seq <= self._seq:
                return [self._complaints.field("seq", f"must grow; the last was {self._seq}")]
            told = self._gap(message.seq)
        if text is None:
            if self.terms.streams and message.is_final:
                return told + self.audio(b"", final=True, now=now, seq=message.seq)
            return [*told, self._complaints.tell("missing_chunk", "chunk: send the audio as base64 text")]
        try:
            audio = from_base64(text)
        except ValueError:
            return [*told, self._complaints.tell("invalid_audio", "chunk: is not base64")]
        return told + self.audio(audio, final=message.is_final, now=now, seq=message.seq)

    def audio(self, audio: bytes, *, final: bool, now: float, seq: int | None = None) -> list[Action]:
        """Audio of the client, as it is."""
        self.last_audio_at = now
        whole = self._whole(audio, final=final)
        milliseconds = self._milliseconds(whole)
        usable = milliseconds > 0 if self.terms.audio_format == OPUS else bool(whole)
        if not usable and not (self.terms.streams and (final or self._odd)):
            what = "holds no whole sample or packet of the agreed format" if audio else "is empty"
            return [self._complaints.tell("invalid_audio", f"chunk: {what}")]
        if milliseconds > self._rules.max_utterance_s * 1000 and not self.terms.streams:
            limit = self._rules.max_utterance_s
            return [
                self._complaints.tell(
                    "audio_too_long",
                    f"chunk: an utterance may have {limit} s; send less, or begin with segmentation stream",
                )
            ]
        self.audio_ms += milliseconds
        index = -1
        if not self.terms.streams:
            index = self._next_index
            self._next_index += 1
            self._pending.ask(index, Asked(audio_ms=milliseconds))
        self._waiting.append(_Piece(whole, index, seq, final))
        self._waiting_bytes += len(whole)
        return self._advance(now)

    def cut(self, now: float) -> list[Action]:
        """The running utterance ends here."""
        return self.audio(b"", final=True, now=now) if self.terms.streams else []

    def wind_up(self, now: float) -> list[Action]:
        """There is no more audio."""
        self._waiting.append(_Piece(last=True))
        return self._advance(now)

    def cancel(self, now: float) -> list[Action]:
        """Nobody wants what has no answer yet; the core may still work on it, which counts as in flight."""
        kept = [piece for piece in self._waiting if piece.last]
        self._waiting = deque(kept)
        self._waiting_bytes = 0
        actions: list[Action] = []
        if self._begun is not None:
            self._next_sent += 1
            actions.append(Stream(b"", final=True))
            self._pending.ask(self._begun, Asked())
        for index in self._pending.open:
            if not self._pending.is_answered(index):
                actions += self._answer(index, Empty(utterance_index=index, reason=MissingReason.CANCELLED))
        return actions + self._advance(now)

    def metered(self, spent: Spent) -> list[Action]:
        """What was charged until now: told if it is wanted and new, or if it is the first warning."""
        is_news = self.terms.usage and spent.audio_ms != self._told_ms
        warns = spent.left_seconds is not None and not self._warned
        self._warned = spent.left_seconds is not None
        if not (is_news or warns):
            return []
        self._told_ms = spent.audio_ms
        return [Say(spent, optional=not warns)]

    def finish(self, reason: str) -> list[Action]:
        """The session is over: what has no answer gets none."""
        actions: list[Action] = []
        for index in self._pending.open:
            if not self._pending.is_answered(index):
                actions += self._answer(index, self._complaints.failure(SESSION_LOST, index))
        self._waiting.clear()
        self._waiting_bytes = 0
        billed = None if self.terms.streams else -(-self._answered_ms // 1000)
        usage = Usage(audio_ms=self.audio_ms, billed_seconds=billed)
        return [*actions, Say(Ended(session_id=self.session_id, reason=reason, usage=usage)), Release()]

    def news(self, message: ServerMessage, now: float) -> list[Action]:
        """A message of the core; those that a caller has no use for lead to nothing."""
        match message:
            case TranslationResult():
                answers = self._result(message, now)
            case MissingResult():
                answers = self._missing(message)
            case AsrPartial():
                return self._partial(message)
            case UiEvent():
                return self._event(message, now)
            case ErrorMessage():
                return [Say(self._complaints.failure(failure_of(message.code)))]
            case CoreAck():
                return self._acknowledge(message.seq)
            case Backpressure():
                self._paused_until = now + message.resume_after_ms / 1000
                return []
            case _:
                return []
        return answers + self._advance(now)

    def _whole(self, audio: bytes, *, final: bool) -> bytes:
        """The whole samples so far: streams of PCM16 may be cut anywhere, be it inside a sample."""
        if self.terms.audio_format == OPUS:
            return audio
        audio = self._odd + audio
        end = len(audio) & ~1
        self._odd = audio[end:] if self.terms.streams and not final else b""
        return audio[:end]

    def _milliseconds(self, audio: bytes) -> int:
        if self.terms.audio_format == OPUS:
            return opus.walk(audio).packets * opus.PACKET_MS
        return len(audio) // 2 * 1000 // self.terms.sample_rate

    def _gap(self, seq: int) -> list[Action]:
        """Whether messages are missing, told once."""
        expected = seq if self._seq is None else self._seq + 1
        self._seq = seq
        if seq == expected or self._gap_told:
            return []
        self._gap_told = True
        return [
            self._complaints.tell(
                "sequence_gap",
                "seq: audio messages are missing; what came is used, and this is told once",
                details={"expected": expected, "got": seq},
            )
        ]

    def _advance(self, now: float) -> list[Action]:
        """Let the core have what it may."""
        actions: list[Action] = []
        while self._waiting and len(self._running) < self._rules.max_inflight:
            piece = self._waiting.popleft()
            self._waiting_bytes -= len(piece.audio)
            if piece.last:
                actions.append(HangUp())
            elif self.terms.streams:
                self._note(piece, self._next_sent)
                self._next_sent += 1
                actions.append(Stream(piece.audio, piece.final))
            else:
                self._note(piece, piece.number)
                self._sent[self._next_sent] = piece.number
                self._running.add(self._next_sent)
                self._next_sent += 1
                if asked := self._pending.asked(piece.number):
                    asked.asked_at, asked.due_at = now, now + self._rules.answer_s
                actions.append(Utter(piece.audio))
        return actions

    def _note(self, piece: _Piece, number: int) -> None:
        if self.terms.acks and piece.seq is not None:
            self._unacked.append((number, piece.seq))

    def _acknowledge(self, number: int) -> list[Action]:
        """All audio up to this number is answered."""
        seq = None
        while self._unacked and self._unacked[0][0] <= number:
            seq = self._unacked.popleft()[1]
        return [] if seq is None else [Say(AudioAck(seq=seq), optional=True)]

    def _public(self, index: int) -> int | None:
        """The public index of one of the core's; None if it is unknown."""
        return index if self.terms.streams else self._sent.get(index)

    def _core_done(self, index: int) -> int | None:
        """The core has answered; its public index, if it is known."""
        public = self._public(index)
        self._running.discard(index)
        self._sent.pop(index, None)
        if self._begun == index:
            self._begun = None
        return public

    def _forget(self, index: int) -> None:
        """The core has left an utterance unanswered for too long; it shall not hold up the others."""
        sent = (
            {index}
            if self.terms.streams
            else {ours for ours, public in self._sent.items() if public == index}
        )
        for ours in sent:
            self._core_done(ours)

    def _answer(self, index: int, answer: Answer) -> list[Action]:
        """What leaves now that an utterance has its answer."""
        if self._pending.is_answered(index):
            metrics.STREAM_LATE.inc()
            return []
        if isinstance(answer, Final) and (asked := self._pending.asked(index)):
            self._answered_ms += asked.audio_ms
        leaving = self._pending.answer(index, answer)
        self.utterances += len(leaving)
        acks = [] if self.terms.streams else self._acknowledge(self._pending.floor - 1)
        return [*(Say(message) for message in leaving), *acks]

    def _result(self, result: TranslationResult, now: float) -> list[Action]:
        """A translation; one that later utterances did not wait for comes behind them, as late."""
        index = self._core_done(result.utterance_index)
        if index is None:
            return []
        final = self._final(result, index, now)
        if (audio_ms := self._skipped.pop(index, None)) is None:
            return self._answer(index, final)
        self._answered_ms += audio_ms
        usage = Usage(audio_ms=audio_ms) if audio_ms else None
        return [Say(replace(final, late=True, usage=usage))]

    def _final(self, result: TranslationResult, index: int, now: float) -> Final:
        asked = self._pending.asked(index)
        if result.time_breakdown is not None:
            duration_ms = result.time_breakdown.total_ms
        else:
            duration_ms = (now - asked.asked_at) * 1000 if asked else 0.0
        audio_ms = asked.audio_ms if asked else 0
        speaks = bool(result.tts_audio)
        return Final(
            text=result.text_translated,
            audio=result.tts_audio,
            utterance_index=index,
            text_asr=result.text_asr,
            tts_format=result.tts_format if speaks else "",
            tts_sample_rate=SAMPLE_RATE if speaks else None,
            duration_ms=max(0, round(duration_ms)),
            src_lang_detected=result.extra.detected_src_lang if result.extra else None,
            group_id=result.group_id,
            part_index=result.part_index,
            usage=Usage(audio_ms=audio_ms) if audio_ms else None,
        )

    def _missing(self, missing: MissingResult) -> list[Action]:
        if missing.reason in SKIPPED:
            return self._skip(missing)
        index = self._core_done(missing.utterance_index)
        if index is None or self._pending.is_answered(index):
            return []
        if missing.reason in EMPTY:
            return self._answer(index, Empty(utterance_index=index, reason=missing.reason))
        return self._answer(index, self._complaints.failure(failure_of(None, missing.reason), index))

    def _skip(self, missing: MissingResult) -> list[Action]:
        """Later utterances wait for this one no longer; the core still works on it."""
        index = self._public(missing.utterance_index)
        if index is None or self._pending.is_answered(index):
            return []
        asked = self._pending.asked(index)
        self._skipped[index] = asked.audio_ms if asked else 0
        return self._answer(index, Empty(utterance_index=index, reason=missing.reason))

    def _partial(self, partial: AsrPartial) -> list[Action]:
        index = self._public(partial.utterance_index)
        if index is None or not self.terms.partials or self._pending.is_answered(index):
            return []
        message = Partial(text=partial.text, utterance_index=index, is_final=partial.is_final)
        return [Say(message, optional=True)]

    def _event(self, event: UiEvent, now: float) -> list[Action]:
        """A step of an utterance; the error of a job is its answer (8.3)."""
        index = self._public(event.utterance_index)
        if event.event == ERROR and event.job_id:
            if index is None or self._pending.is_answered(index):
                return []
            error: Error = self._complaints.failure(failure_of(event.error_code or ""), index)
            return self._answer(index, error)
        if index is not None and self.terms.streams:
            self._follow(event, index, now)
        if not self.terms.events or (index is not None and self._pending.is_answered(index)):
            return []
        told = Event(
            event=event.event,
            utterance_index=self._next_index if index is None else index,
            status=event.status,
            elapsed_ms=event.elapsed_ms,
        )
        return [Say(told, optional=True)]

    def _follow(self, event: UiEvent, index: int, now: float) -> None:
        """Learn from the core which streamed utterances there are."""
        if event.event == INPUT_STARTED:
            self._begun = index
        elif event.event == INPUT_ENDED:
            if self._begun == index:
                self._begun = None
            self._running.add(index)
            self._pending.ask(index, Asked(due_at=now + self._rules.answer_s, asked_at=now))
