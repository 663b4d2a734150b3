"""One client's session: audio to job requests, outcomes of jobs to messages (session-protocol 3-5).

Every call returns the outputs in order; the shell sends the messages and submits the requests.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64

from msgspec import Struct
from msgspec.structs import replace

from linguad.core.arrivals import Arrivals
from linguad.core.clock import Clock
from linguad.core.fanout import Fanout
from linguad.core.ids import Ids
from linguad.core.job import DIRECT, Job, JobRequest, MissingReason, Outcome
from linguad.core.ordering import Released, ResultOrder
from linguad.core.outputs import Ended, LetGo, Output, Send, Submit
from linguad.core.results import (
    asr_partial,
    empty_result,
    failure_event,
    missing_result,
    progress_event,
    refusal_event,
    translation_result,
)
from linguad.core.rooms import RoomRules, Rooms
from linguad.core.seat import Seat
from linguad.core.utterance import Audio, Cut, CutReason, CutRules, UtteranceCutter
from linguad.core.whole import audio_of
from linguad.errors import ErrorCode, WireError
from linguad.wire.common import PipelineConfig
from linguad.wire.session import (
    AudioChunk,
    ClientHeartbeat,
    ClientMessage,
    ErrorMessage,
    ServerHeartbeat,
    SessionClose,
    SessionCloseAck,
    SessionInit,
    SessionInitAck,
    TtsPlayEnded,
    TtsStarted,
    Utterance,
)

MAX_CUT_RUNS = 64
"""Runs of indexes that streamed speech used; beyond it the oldest two count as one, with what is between."""

GATEWAY_PLATFORM = "api-gateway"
"""Platform of the earlier API gateway, whose connections come and go during one session (1.11)."""


class SessionRules(Struct, frozen=True, kw_only=True):
    """Timing and limits of sessions, s and counts (session-protocol 9)."""

    cut: CutRules = CutRules()
    rooms: RoomRules = RoomRules()
    gap_s: float = 3.0
    max_undelivered: int = 128
    max_open: int = 64
    detach_grace_s: float = 30.0
    gateway_detach_grace_s: float = 600.0
    reorder_wait_s: float = 0.3
    idempotency_s: float = 300.0
    hint_language: str = "en"


class Ending(Struct, frozen=True):
    """What an index came to; without a job when there was nothing to translate."""

    outcome: Outcome
    trace_id: str
    job: Job | None = None


class Session:
    """State of one session; owned by the instance that holds its socket."""

    def __init__(
        self,
        session_id: str,
        init: SessionInit,
        rules: SessionRules,
        ids: Ids,
        clock: Clock,
        tenant: str = DIRECT,
        node_id: str = "",
        *,
        rooms: Rooms | None = None,
        origin: str = "",
    ) -> None:
        """`node_id` is the node it was paired with; no other one gets its jobs (resolution 22).

        `rooms` are those of all sessions (its own if none are given); `origin` is where it comes from.
        """
        self.id = session_id
        self.platform = init.platform
        """What the client says it is: `web`, `ios`, `android`, `api-gateway`, ..."""
        self.trace_id = init.trace_id or ids.uuid()
        self.detached_at: float | None = None
        self.hint_language = init.locale if init.locale in ("en", "zh") else rules.hint_language
        self._rules = rules
        self._ids = ids
        self._clock = clock
        self._request = JobRequest(
            session_id=session_id,
            lane=session_id,
            utterance_index=0,
            reason=CutReason.MANUAL,
            src_lang=init.src_lang,
            tgt_lang=init.tgt_lang,
            dialect=init.dialect,
            features=init.features,
            pipeline=PipelineConfig(),
            mode=init.mode,
            lang_a=init.lang_a,
            lang_b=init.lang_b,
            auto_langs=init.auto_langs,
            enable_streaming_asr=init.enable_streaming_asr is not False,
            partial_update_interval_ms=init.partial_update_interval_ms or 1000,
            trace_id=self.trace_id,
            tenant=tenant,
            node_id=node_id,
            turn_id="",
            last_audio_at=0.0,
            cut_at=0.0,
        )
        """What all requests of this session have in common."""
        self._cutter = UtteranceCutter(rules.cut, ids.uuid)
        rooms = Rooms(rules.rooms, ids, clock) if rooms is None else rooms
        self._seat = Seat(rooms, self._request, origin, self.is_gateway)
        self._arrivals = Arrivals(rules.reorder_wait_s, rules.idempotency_s)
        self._fanout = Fanout()
        self._next_index = 0
        self._cut_runs: list[range] = []
        self._open: dict[tuple[int, str], JobRequest] = {}
        self._closed = False
        self._orders: dict[str, ResultOrder[Ending]] = {}

    @property
    def node_id(self) -> str:
        """The node it is paired with, "" if it is not."""
        return self._request.node_id

    @property
    def request(self) -> JobRequest:
        """What all requests of this session have in common."""
        return self._request

    @property
    def is_gateway(self) -> bool:
        """Whether the earlier API gateway speaks: it waits for one result of each utterance, nothing else."""
        return self.platform == GATEWAY_PLATFORM

    @property
    def buffered_bytes(self) -> int:
        """Bytes of audio that no job has yet."""
        return self._cutter.buffered_bytes + self._arrivals.held_bytes

    @property
    def malformed_chunks(self) -> int:
        """Chunks whose tail had to be dropped."""
        return self._cutter.malformed

    @property
    def overlong_chunks(self) -> int:
        """Chunks with more audio than one may carry; the rest was dropped."""
        return self._cutter.overlong

    @property
    def dropped_silence_ms(self) -> int:
        """Silence that came in pieces too short to be utterances and led to nothing."""
        return self._cutter.silence_ms

    def hello(self) -> SessionInitAck:
        """The acknowledgement that opens the session, first frame of its connection (1.4)."""
        return SessionInitAck(
            session_id=self.id,
            message="session created",
            trace_id=self.trace_id,
            protocol_version="1.0",
            use_binary_frame=False,
            negotiated_codec="opus",
            negotiated_audio_format="opus",
            negotiated_sample_rate=16000,
            negotiated_channel_count=1,
            assigned_node_id=self.node_id or None,
        )

    def handle(self, message: ClientMessage, now: float) -> list[Output]:
        """One message of the client, to the end of its effects."""
        named = getattr(message, "session_id", self.id)
        if named != self.id:
            return self.error(ErrorCode.INVALID_SESSION, "session_id is not this connection's session")
        match message:
            case AudioChunk():
                return self._audio_chunk(message, now)
            case Utterance():
                self._seat.spoke(now)
                return self._take_all(self._arrivals.arrive(message, now), now)
            case ClientHeartbeat():
                return [Send(ServerHeartbeat(session_id=self.id, timestamp=self._clock.epoch_ms(now)))]
            case SessionClose():
                return self._close(now)
            case TtsStarted():
                return self._cut(self._cutter.playback(now), now)
            case TtsPlayEnded():
                return []
            case SessionInit():
                return self.error(ErrorCode.INVALID_MESSAGE, "the session has begun")
            case _:
                return [*self._seat.handle(message, self._next_index, now)]

    def resolve(self, job: Job, outcome: Outcome, now: float) -> list[Output]:
        """A job ended; what may leave now leaves."""
        index, tgt_lang = job.request.utterance_index, job.request.tgt_lang
        self._open.pop((index, tgt_lang), None)
        outputs: list[Output] = []
        if outcome.error is not None or self.is_gateway:
            self._arrivals.forget(index, tgt_lang)
        if outcome.error is not None:
            event = failure_event(job, outcome, outcome.error, self.hint_language, now)
            outputs.append(Send(event, optional=self._order(tgt_lang).is_open(index)))
        if outcome.result is not None:
            self._seat.heard(outcome.result.extra)
        ending = Ending(outcome, job.request.trace_id, job)
        outputs += self._resolve(tgt_lang, index, ending, now)
        return outputs if self._is_needed else [*outputs, Ended()]

    def progress(self, job: Job, event: str, now: float) -> list[Output]:
        """A step in the life of a job, for the speaker's screen."""
        return [Send(progress_event(job, event, now), optional=True)] if job.request.for_speaker else []

    def partial(self, job: Job, text: str, is_final: bool, now: float) -> list[Output]:
        """What a node has heard so far."""
        if not job.request.for_speaker:
            return []
        heard = Send(asr_partial(job, text, is_final), optional=True)
        return [heard, *self.progress(job, "ASR_PARTIAL", now)]

    def error(self, code: ErrorCode, sentence: str) -> list[Output]:
        """An `error` message, for what the client itself did wrong."""
        return [Send(ErrorMessage(code=code, message=sentence, trace_id=self.trace_id))]

    def finish(self, now: float) -> list[Output]:
        """Cut what is buffered, because the server is about to stop."""
        return self._cut(self._cutter.close(now), now)

    def detach(self, now: float) -> list[Output]:
        """The socket is gone: cut what is buffered, leave the room, keep the session for its grace (1.6)."""
        self.detached_at = now
        return [*self.finish(now), *self._seat.leave()]

    def attach(self) -> None:
        """Another connection speaks for the session from now on."""
        self.detached_at = None

    def due(self) -> float | None:
        """When `tick` has something to do, monotonic s."""
        times = [self._cutter.due(), self._arrivals.due(), *(order.due() for order in self._orders.values())]
        if self.detached_at is not None:
            times.append(self.detached_at + self._grace_s)
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: float) -> list[Output]:
        """Do what became due: cut on silence, skip gaps, take held utterances, end after the grace."""
        outputs = self._cut(self._cutter.tick(now), now)
        outputs += self._take_all(self._arrivals.tick(now), now)
        for tgt_lang, order in self._orders.items():
            outputs += self._released(tgt_lang, order.tick(now), now)
        if self.detached_at is not None and now >= self.detached_at + self._grace_s:
            outputs.append(Ended())
        return outputs

    def number_from(self, index: int) -> None:
        """The next utterance has this index or a higher one: its client saw lower ones in a room."""
        self._next_index = max(self._next_index, index)

    @property
    def _is_needed(self) -> bool:
        """Whether the client goes on, or others wait for what it said."""
        return not self._closed or any(map(self._seat.others_wait_for, self._open.values()))

    @property
    def _grace_s(self) -> float:
        return self._rules.gateway_detach_grace_s if self.is_gateway else self._rules.detach_grace_s

    def _audio_chunk(self, chunk: AudioChunk, now: float) -> list[Output]:
        try:
            payload = a2b_base64(chunk.payload or "", strict_mode=True)
        except (Base64Error, ValueError):
            outputs = self.error(ErrorCode.INVALID_MESSAGE, "member payload is not base64")
            payload = b""
        else:
            outputs = []
        if payload:
            self._seat.spoke(now)
        overlong = self._cutter.overlong
        cuts = self._cutter.chunk(
            payload, seq=chunk.seq, final=chunk.is_final, client_ms=chunk.client_timestamp_ms, now=now
        )
        if self._cutter.overlong > overlong:
            outputs += self.error(ErrorCode.INVALID_MESSAGE, "member payload is too much audio at once")
        return outputs + self._cut(cuts, now)

    def _cut(self, cuts: list[Cut], now: float) -> list[Output]:
        outputs: list[Output] = []
        for cut in cuts:
            index = self._next_index
            self._next_index += 1
            self._used_by_cut(index)
            self._arrivals.skip(index)
            request = replace(
                self._request,
                utterance_index=index,
                reason=cut.reason,
                turn_id=cut.turn_id,
                padding_ms=cut.padding_ms,
                last_audio_at=cut.last_audio_at,
                cut_at=cut.cut_at,
                last_client_ms=cut.last_client_ms,
            )
            outputs += self._submit(request, cut.audio, now)
        return outputs

    def _used_by_cut(self, index: int) -> None:
        runs = self._cut_runs
        if runs and runs[-1].stop == index:
            runs[-1] = range(runs[-1].start, index + 1)
            return
        runs.append(range(index, index + 1))
        if len(runs) > MAX_CUT_RUNS:
            runs[:2] = [range(runs[0].start, runs[1].stop)]

    def _submit(self, request: JobRequest, audio: Audio, now: float) -> list[Output]:
        """Have it translated, or refuse it at once while too much of this session is not answered yet.

        What is refused takes no place in the order of results, so that nothing gathers behind it.
        """
        index = request.utterance_index
        requests = self._seat.requests(request)
        if not requests:
            return [self._missing(index, MissingReason.CANCELLED, now)]
        if len(self._open) + len(requests) > self._rules.max_open:
            self._arrivals.forget(index, request.tgt_lang)
            event = refusal_event(request, ErrorCode.NODE_OVERLOADED, self.hint_language)
            return [Send(event, optional=True), self._missing(index, MissingReason.OVERLOADED, now)]
        outputs: list[Output] = []
        for wanted in requests:
            self._open[index, wanted.tgt_lang] = wanted
            self._expect_result(index, wanted.tgt_lang)
            outputs.append(Submit(self._fanout.place(wanted), audio))
        return outputs

    def _missing(self, index: int, reason: MissingReason, now: float, trace_id: str | None = None) -> Send:
        trace_id = trace_id or self.trace_id
        if self.is_gateway:
            return Send(empty_result(self.id, index, trace_id, self._clock.epoch_ms(now)))
        return Send(missing_result(self.id, index, reason, trace_id, self._clock.epoch_ms(now)))

    def _expect_result(self, index: int, tgt_lang: str) -> None:
        self._order(tgt_lang).open(index)

    def _resolve(self, tgt_lang: str, index: int, ending: Ending, now: float) -> list[Output]:
        order = self._order(tgt_lang)
        outputs = self._released(tgt_lang, order.resolve(index, ending, now), now)
        if not order.open_slots:
            del self._orders[tgt_lang]
        return outputs

    def _order(self, tgt_lang: str) -> ResultOrder[Ending]:
        """The delivery stream of a language; it exists while it has open slots."""
        order = self._orders.get(tgt_lang)
        if order is None:
            order = ResultOrder(self._rules.gap_s, self._rules.max_undelivered)
            self._orders[tgt_lang] = order
        return order

    def _take_all(self, messages: list[Utterance], now: float) -> list[Output]:
        return [output for message in messages for output in self._take(message, now)]

    def _take(self, message: Utterance, now: float) -> list[Output]:
        """A whole utterance whose turn has come."""
        index, tgt_lang, base = message.utterance_index, message.tgt_lang, self._request
        if any(index in run for run in self._cut_runs):
            return self.error(
                ErrorCode.INVALID_MESSAGE, "member utterance_index is one that streamed speech has used"
            )
        if self._arrivals.is_repeated(index, tgt_lang, now):
            return []
        trace_id = message.trace_id or self.trace_id
        self._next_index = max(self._next_index, index + 1)
        try:
            audio = audio_of(message, self._rules.cut.max_chunk_s)
        except WireError as error:
            failed = Outcome(missing=MissingReason.JOB_FAILED, received_at=now)
            self._expect_result(index, tgt_lang)
            outputs = self.error(error.code, str(error))
            return outputs + self._resolve(tgt_lang, index, Ending(failed, trace_id), now)
        self._arrivals.remember(index, tgt_lang, now)
        if audio.duration_ms == 0:
            silence = Outcome(missing=MissingReason.SILENCE, received_at=now)
            if self.is_gateway:
                self._arrivals.forget(index, tgt_lang)
            self._expect_result(index, tgt_lang)
            return self._resolve(tgt_lang, index, Ending(silence, trace_id), now)
        streaming = message.enable_streaming_asr
        request = replace(
            base,
            utterance_index=index,
            src_lang=message.src_lang,
            tgt_lang=tgt_lang,
            dialect=message.dialect,
            features=message.features or base.features,
            pipeline=message.pipeline or base.pipeline,
            mode=message.mode or base.mode,
            lang_a=message.lang_a or base.lang_a,
            lang_b=message.lang_b or base.lang_b,
            auto_langs=message.auto_langs or base.auto_langs,
            enable_streaming_asr=base.enable_streaming_asr if streaming is None else streaming,
            partial_update_interval_ms=message.partial_update_interval_ms or base.partial_update_interval_ms,
            trace_id=trace_id,
            turn_id=self._ids.uuid(),
            last_audio_at=now,
            cut_at=now,
        )
        return self._submit(request, audio, now)

    def _close(self, now: float) -> list[Output]:
        """The client ends the session: what is finished is sent (2.2.5).

        The rest is dropped, unless others in its room wait for it (resolution 16).
        """
        outputs = self.finish(now) if self._seat.has_company else []
        for tgt_lang, order in self._orders.items():
            outputs += self._released(tgt_lang, order.drain(), now)
        outputs += [*self._seat.leave(), Send(SessionCloseAck(session_id=self.id))]
        self._closed, self.detached_at = True, now
        return [*outputs, LetGo() if self._is_needed else Ended()]

    def _released(self, tgt_lang: str, released: list[Released[Ending]], now: float) -> list[Output]:
        outputs: list[Output] = []
        for slot in released:
            if slot.item is None and self.is_gateway:
                # it waits for one result, and that is still to come
                continue
            if slot.item is None:
                waiting = self._open.get((slot.index, tgt_lang))
                if waiting is not None and not waiting.for_speaker:
                    continue
                reason = MissingReason.OVERFLOW if slot.evicted else MissingReason.GAP_TIMEOUT
                outputs.append(self._missing(slot.index, reason, now))
                continue
            job, outcome = slot.item.job, slot.item.outcome
            if job is not None and outcome.result is not None:
                epoch_ms, created_ms = self._clock.epoch_ms(now), self._clock.epoch_ms(job.created_at)
                message = translation_result(
                    job, outcome, outcome.result, now, epoch_ms, created_ms=created_ms, late=slot.late
                )
                request = job.request
                outputs += (
                    self._seat.deliver(request, message, self._next_index, now)
                    if request.room_id
                    else [Send(message)]
                )
            elif job is not None and not job.request.for_speaker:
                continue
            elif outcome.missing is not None and (not slot.late or self.is_gateway):
                outputs.append(self._missing(slot.index, outcome.missing, now, slot.item.trace_id))
        return outputs
