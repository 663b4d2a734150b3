"""What became of a session's utterances, on its way to those who listen (session-protocol 5).

Results of one language leave in the order of their indexes; each index leaves once in the ordinary way, as a
result or with the reason why there is none.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from linguad.core.asked import Requested
from linguad.core.clock import Clock
from linguad.core.deadlines import earliest
from linguad.core.fanout import Fanout
from linguad.core.groups import Groups, Place
from linguad.core.job import Job, JobRequest, MissingReason, Outcome
from linguad.core.ordering import Released, ResultOrder
from linguad.core.outputs import Delivered, Output, Send, Submit
from linguad.core.results import (
    empty_result,
    failure_event,
    language_detected,
    missing_result,
    refusal_event,
    translation_result,
)
from linguad.core.rules import SessionRules
from linguad.core.seat import Seat
from linguad.core.utterance import Audio
from linguad.errors import ErrorCode


class Resolved(Struct, frozen=True):
    """What an index came to; without a job when there was nothing to translate."""

    outcome: Outcome
    trace_id: str
    job: Job | None = None
    place: Place | None = None


class Answers:
    """Mutable state: requests without outcome, results that wait for earlier ones, and what was said last."""

    def __init__(
        self,
        session_id: str,
        rules: SessionRules,
        seat: Seat,
        clock: Clock,
        *,
        hint_language: str,
        one_each: bool,
        told_all: bool,
        tells_language: bool,
    ) -> None:
        """With `one_each` the client waits for exactly one `translation_result` of each utterance (1.11).

        With `told_all` it is told of a failure even where the index was skipped before.
        """
        self._session_id = session_id
        self._rules = rules
        self._seat = seat
        self._clock = clock
        self._hint_language = hint_language
        self._one_each = one_each
        self._told_all = told_all or one_each
        self._tells_language = tells_language
        self._fanout = Fanout()
        self._requested = Requested(one_each=one_each)
        self._orders: dict[str, ResultOrder[Resolved]] = {}
        self.unfinished: dict[int, set[str]] = {}
        """By index the languages whose result is still to leave."""
        self.groups = Groups(session_id, clock, rules.groups)
        self.last_index = 0
        """That of the last result with a text."""

    @property
    def open_requests(self) -> list[JobRequest]:
        """What was submitted and has no outcome yet."""
        return list(self._requested.open)

    def expect(self, request: JobRequest, audio: Audio) -> list[Output] | None:
        """Have an utterance translated; None if too much is not answered yet.

        What is refused takes no place in the order of results, so that nothing gathers behind it.
        """
        requests = self._seat.requests(request)
        if len(self._requested) + len(requests) > self._rules.max_open:
            return None
        outputs: list[Output] = []
        for wanted in requests:
            index, tgt_lang = wanted.utterance_index, wanted.tgt_lang
            context = self.groups.context(tgt_lang, request.last_audio_at - audio.seconds)
            if context is not None:
                wanted = replace(wanted, context=context)
            self._requested.add(wanted)
            self._await(index, tgt_lang)
            outputs.append(Submit(self._fanout.place(wanted), audio))
        return outputs

    def refuse(self, request: JobRequest, now: float) -> list[Output]:
        """An utterance that would be one too many."""
        event = refusal_event(request, ErrorCode.NODE_OVERLOADED, self._hint_language)
        missing = self._missing(request.utterance_index, MissingReason.OVERLOADED, now, request.trace_id)
        return [Send(event, optional=True), missing]

    def without_job(self, request: JobRequest, reason: MissingReason, now: float) -> list[Output]:
        """An utterance that leads to no job has its turn all the same."""
        index, tgt_lang = request.utterance_index, request.tgt_lang
        self._requested.drop(index, tgt_lang)
        self._await(index, tgt_lang)
        outcome = Outcome(missing=reason, received_at=now)
        return self._resolve(tgt_lang, index, Resolved(outcome, request.trace_id), 0, now)

    def accepts(self, job: Job, outcome: Outcome) -> bool:
        """Whether an outcome is for the client, so that `resolve` is to be called: each counts once."""
        return self._requested.take(job.request, has_text=outcome.result is not None)

    def resolve(self, job: Job, outcome: Outcome, next_index: int, now: float) -> list[Output]:
        """A job ended; what may leave now leaves. `next_index` is the lowest that the client has not seen."""
        request, result = job.request, outcome.result
        index, tgt_lang = request.utterance_index, request.tgt_lang
        outputs: list[Output] = []
        if outcome.error is not None:
            event = failure_event(job, outcome, outcome.error, self._hint_language, now)
            outputs.append(Send(event, optional=self._order(tgt_lang).is_open(index)))
        place = None
        if result is not None:
            outputs += self._seat.heard(result.extra, request, now)
            spoken = request.last_audio_at - job.seconds, request.last_audio_at
            place = self.groups.heard(
                index, tgt_lang, result.text_asr or "", result.text_translated or "", now, spoken
            )
        ending = Resolved(outcome, request.trace_id, job, place)
        return outputs + self._resolve(tgt_lang, index, ending, next_index, now)

    def due(self) -> float | None:
        """When `tick` has something to do, monotonic s."""
        due = None
        for order in self._orders.values():
            due = earliest(due, order.due())
        return due

    def tick(self, next_index: int, now: float) -> list[Output]:
        """Wait no longer for what is missing."""
        outputs: list[Output] = []
        for tgt_lang, order in self._orders.items():
            outputs += self._released(tgt_lang, order.tick(now), next_index, now)
        return outputs

    def drain(self, next_index: int, now: float) -> list[Output]:
        """Everything finished, whatever it waits for: the session ends."""
        outputs: list[Output] = []
        for tgt_lang, order in self._orders.items():
            outputs += self._released(tgt_lang, order.drain(), next_index, now)
        return outputs

    def abandon(self, next_index: int, now: float) -> list[Output]:
        """The server stops before these had their outcome: say so."""
        outputs = self.drain(next_index, now)
        heard_of = (request for request in self._requested.open if request.for_speaker)
        for request in sorted(heard_of, key=lambda request: request.utterance_index):
            outputs += self.give_up(request, now)
        return outputs

    def give_up(self, request: JobRequest, now: float) -> list[Output]:
        """Nothing will come of an utterance any more."""
        return [self._missing(request.utterance_index, MissingReason.CANCELLED, now, request.trace_id)]

    def _resolve(
        self, tgt_lang: str, index: int, ending: Resolved, next_index: int, now: float
    ) -> list[Output]:
        order = self._order(tgt_lang)
        outputs = self._released(tgt_lang, order.resolve(index, ending, now), next_index, now)
        if not order.open_slots:
            del self._orders[tgt_lang]
        return outputs

    def _order(self, tgt_lang: str) -> ResultOrder[Resolved]:
        """The delivery stream of a language; it exists while it has open slots."""
        order = self._orders.get(tgt_lang)
        if order is None:
            order = ResultOrder(self._rules.gap_s, self._rules.max_undelivered)
            self._orders[tgt_lang] = order
        return order

    def _released(
        self, tgt_lang: str, released: list[Released[Resolved]], next_index: int, now: float
    ) -> list[Output]:
        outputs: list[Output] = []
        for slot in released:
            if slot.item is None:
                outputs += self._skipped(tgt_lang, slot.index, now, evicted=slot.evicted)
                continue
            self._finished(slot.index, tgt_lang)
            job, outcome = slot.item.job, slot.item.outcome
            if job is not None and outcome.result is not None:
                outputs += self._text(slot.item, job, next_index, now, late=slot.late)
            elif job is not None and not job.request.for_speaker:
                continue
            elif outcome.missing is not None and (not slot.late or self._told_all):
                outputs.append(self._missing(slot.index, outcome.missing, now, slot.item.trace_id))
        return outputs

    def _skipped(self, tgt_lang: str, index: int, now: float, *, evicted: bool) -> list[Output]:
        """An index is waited for no more; its result may still come, late."""
        waiting = self._requested.waiting(index, tgt_lang)
        if self._one_each or (waiting is not None and not waiting.for_speaker):
            return []
        reason = MissingReason.OVERFLOW if evicted else MissingReason.GAP_TIMEOUT
        return [self._missing(index, reason, now, waiting.trace_id if waiting else "")]

    def _await(self, index: int, tgt_lang: str) -> None:
        self.unfinished.setdefault(index, set()).add(tgt_lang)
        self._order(tgt_lang).open(index)

    def _finished(self, index: int, tgt_lang: str) -> None:
        if (languages := self.unfinished.get(index)) is not None:
            languages.discard(tgt_lang)
            if not languages:
                del self.unfinished[index]

    def _text(self, ending: Resolved, job: Job, next_index: int, now: float, *, late: bool) -> list[Output]:
        """A result with text, for all it is for."""
        request, outcome = job.request, ending.outcome
        assert outcome.result is not None, "there is a text"
        message = translation_result(
            job,
            outcome,
            outcome.result,
            now,
            self._clock.epoch_ms(now),
            created_ms=self._clock.epoch_ms(job.created_at),
            place=ending.place,
            late=late,
        )
        self.last_index = request.utterance_index
        times = message.time_breakdown
        assert times is not None, "results have one"
        job.delivered_at, job.late, job.node_s = now, late, times.node_ms / 1000
        outputs: list[Output] = [Delivered(job, times, message.service_timings)]
        if self._tells_language and (detected := language_detected(job, outcome.result)):
            outputs.append(Send(detected, optional=True))
        if request.room_id:
            return [*outputs, *self._seat.deliver(request, message, next_index, now)]
        return [*outputs, Send(message)]

    def _missing(self, index: int, reason: MissingReason, now: float, trace_id: str) -> Send:
        trace_id, epoch_ms = trace_id or self._seat.trace_id, self._clock.epoch_ms(now)
        if self._one_each:
            return Send(empty_result(self._session_id, index, trace_id, epoch_ms))
        return Send(missing_result(self._session_id, index, reason, trace_id, epoch_ms))
