"""One client's session: audio to job requests, outcomes of jobs to messages (session-protocol 3-5).

Every call returns the outputs in order; the shell sends the messages and submits the requests.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64

from msgspec import Struct, field

from linguad.core.clock import Clock
from linguad.core.ids import Ids
from linguad.core.job import DIRECT, Job, JobRequest, MissingReason, Outcome
from linguad.core.ordering import Released, ResultOrder
from linguad.core.results import failure_event, missing_result, progress_event, translation_result
from linguad.core.utterance import OPUS, PCM16, Audio, Cut, CutReason, CutRules, UtteranceCutter
from linguad.errors import ErrorCode
from linguad.wire import opus
from linguad.wire.common import PipelineConfig
from linguad.wire.session import (
    AsrPartial,
    AudioChunk,
    ClientHeartbeat,
    ClientMessage,
    ErrorMessage,
    ServerHeartbeat,
    ServerMessage,
    SessionClose,
    SessionCloseAck,
    SessionInit,
    SessionInitAck,
    TtsPlayEnded,
    TtsStarted,
    Utterance,
)

MAX_HELD_UTTERANCES = 64
"""Whole utterances that may wait for a lower index; one more ends the wait."""

GATEWAY_PLATFORM = "api-gateway"
"""Platform of the earlier API gateway, whose connections come and go during one session (1.11)."""


class SessionRules(Struct, frozen=True, kw_only=True):
    """Timing and limits of sessions, s and counts (session-protocol 9)."""

    cut: CutRules = CutRules()
    gap_s: float = 3.0
    max_undelivered: int = 200
    detach_grace_s: float = 30.0
    gateway_detach_grace_s: float = 600.0
    reorder_wait_s: float = 0.3
    idempotency_s: float = 300.0
    hint_language: str = "en"


class Send(Struct, frozen=True):
    """Send a message to the client; an optional one may be dropped for a slow reader."""

    message: ServerMessage
    optional: bool = False


class Submit(Struct, frozen=True):
    """Have an utterance translated."""

    request: JobRequest
    audio: Audio


class Ended(Struct, frozen=True):
    """The session is over: cancel its jobs and forget it."""


Output = Send | Submit | Ended


class Held(Struct):
    """Utterances of one index that wait for a lower one, until a time."""

    until: float
    messages: list[Utterance] = field(default_factory=list)


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
    ) -> None:
        self.id = session_id
        self.init = init
        self.tenant = tenant
        """Who is charged and whose turn it is; what the client calls itself is only a label."""
        self.trace_id = init.trace_id or ids.uuid()
        self.detached_at: float | None = None
        self.hint_language = init.locale if init.locale in ("en", "zh") else rules.hint_language
        self._rules = rules
        self._ids = ids
        self._clock = clock
        self._cutter = UtteranceCutter(rules.cut, ids.uuid)
        self._next_index = 0
        self._expected: int | None = None
        self._held: dict[int, Held] = {}
        self._taken: dict[tuple[int, str], float] = {}
        self._orders: dict[str, ResultOrder[Ending]] = {}

    @property
    def platform(self) -> str:
        """What the client says it is: `web`, `ios`, `android`, `api-gateway`, ..."""
        return self.init.platform

    @property
    def buffered_bytes(self) -> int:
        """Bytes of audio that are not cut yet."""
        return self._cutter.buffered_bytes

    @property
    def malformed_chunks(self) -> int:
        """Chunks whose tail had to be dropped."""
        return self._cutter.malformed

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
                return self._utterance(message, now)
            case ClientHeartbeat():
                return [Send(ServerHeartbeat(session_id=self.id, timestamp=self._clock.epoch_ms(now)))]
            case SessionClose():
                return self._close(now)
            case TtsStarted() | TtsPlayEnded():
                return []
            case _:
                kind = type(message).__struct_config__.tag
                return self.error(ErrorCode.UNSUPPORTED_FEATURE, f"{kind} is not served yet")

    def resolve(self, job: Job, outcome: Outcome, now: float) -> list[Output]:
        """A job ended; what may leave now leaves."""
        request = job.request
        outputs: list[Output] = []
        if outcome.error is not None:
            self._taken.pop((request.utterance_index, request.tgt_lang), None)
            event = failure_event(job, outcome, outcome.error, self.hint_language, now)
            outputs.append(Send(event))
        ending = Ending(outcome, request.trace_id, job)
        return outputs + self._resolve(request.tgt_lang, request.utterance_index, ending, now)

    def progress(self, job: Job, event: str, now: float) -> list[Output]:
        """A step in the life of a job, for the speaker's screen."""
        return [Send(progress_event(job, event, now), optional=True)]

    def partial(self, job: Job, text: str, is_final: bool, now: float) -> list[Output]:
        """What a node has heard so far."""
        message = AsrPartial(
            session_id=self.id,
            utterance_index=job.request.utterance_index,
            job_id=job.id,
            text=text,
            is_final=is_final,
            trace_id=job.request.trace_id,
        )
        return [Send(message, optional=True), *self.progress(job, "ASR_PARTIAL", now)]

    def error(self, code: ErrorCode, sentence: str) -> list[Output]:
        """An `error` message, for what the client itself did wrong."""
        return [Send(ErrorMessage(code=code, message=sentence, trace_id=self.trace_id))]

    def finish(self, now: float) -> list[Output]:
        """Cut what is buffered, because the server is about to stop."""
        return self._cut(self._cutter.close(now))

    def detach(self, now: float) -> list[Output]:
        """The socket is gone: cut what is buffered and keep the session for its grace (1.6)."""
        self.detached_at = now
        return self.finish(now)

    def due(self) -> float | None:
        """When `tick` has something to do, monotonic s."""
        times = [self._cutter.due(), *(order.due() for order in self._orders.values())]
        times += [held.until for held in self._held.values()]
        if self.detached_at is not None:
            times.append(self.detached_at + self._grace_s)
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: float) -> list[Output]:
        """Do what became due: cut on silence, skip gaps, take held utterances, end after the grace."""
        outputs = self._cut(self._cutter.tick(now))
        while any(held.until <= now for held in self._held.values()):
            outputs += self._wait_no_more(now)
        for order in self._orders.values():
            outputs += self._released(order.tick(now), now)
        if self.detached_at is not None and now >= self.detached_at + self._grace_s:
            outputs.append(Ended())
        return outputs

    @property
    def _grace_s(self) -> float:
        gateway = self.platform == GATEWAY_PLATFORM
        return self._rules.gateway_detach_grace_s if gateway else self._rules.detach_grace_s

    def _audio_chunk(self, chunk: AudioChunk, now: float) -> list[Output]:
        try:
            payload = a2b_base64(chunk.payload or "", strict_mode=True)
        except (Base64Error, ValueError):
            outputs = self.error(ErrorCode.INVALID_MESSAGE, "member payload is not base64")
            payload = b""
        else:
            outputs = []
        cuts = self._cutter.chunk(
            payload, seq=chunk.seq, final=chunk.is_final, client_ms=chunk.client_timestamp_ms, now=now
        )
        return outputs + self._cut(cuts)

    def _cut(self, cuts: list[Cut]) -> list[Output]:
        outputs: list[Output] = []
        init = self.init
        for cut in cuts:
            request = JobRequest(
                session_id=self.id,
                lane=self.id,
                utterance_index=self._next_index,
                reason=cut.reason,
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
                tenant=self.tenant,
                turn_id=cut.turn_id,
                padding_ms=cut.padding_ms,
                last_audio_at=cut.last_audio_at,
                cut_at=cut.cut_at,
                last_client_ms=cut.last_client_ms,
            )
            outputs.append(self._open(request, cut.audio))
        return outputs

    def _open(self, request: JobRequest, audio: Audio) -> Submit:
        self._expect_result(request.utterance_index, request.tgt_lang)
        return Submit(request, audio)

    def _expect_result(self, index: int, tgt_lang: str) -> None:
        self._next_index = max(self._next_index, index + 1)
        self._order(tgt_lang).open(index)

    def _resolve(self, tgt_lang: str, index: int, ending: Ending, now: float) -> list[Output]:
        order = self._order(tgt_lang)
        outputs = self._released(order.resolve(index, ending, now), now)
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

    def _utterance(self, message: Utterance, now: float) -> list[Output]:
        """Take whole utterances in index order, waiting briefly for a lower one (4.4, resolution 14)."""
        index = message.utterance_index
        if self._expected is None or index <= self._expected:
            return self._take_utterance(message, now) + self._take_held(now)
        self._held.setdefault(index, Held(now + self._rules.reorder_wait_s)).messages.append(message)
        if sum(len(held.messages) for held in self._held.values()) > MAX_HELD_UTTERANCES:
            return self._wait_no_more(now)
        return []

    def _wait_no_more(self, now: float) -> list[Output]:
        self._expected = min(self._held)
        return self._take_held(now)

    def _take_held(self, now: float) -> list[Output]:
        outputs: list[Output] = []
        while self._expected in self._held:
            for message in self._held.pop(self._expected).messages:
                outputs += self._take_utterance(message, now)
        return outputs

    def _take_utterance(self, message: Utterance, now: float) -> list[Output]:
        index, init = message.utterance_index, self.init
        self._expected = max(self._expected or 0, index + 1)
        if self._is_repeated(index, message.tgt_lang, now):
            return []
        if message.audio_format not in (OPUS, PCM16):
            return self.error(ErrorCode.INVALID_MESSAGE, "member audio_format must be opus or pcm16")
        try:
            data = a2b_base64(message.audio, strict_mode=True)
        except (Base64Error, ValueError):
            return self.error(ErrorCode.INVALID_MESSAGE, "member audio is not base64")
        if message.audio_format == OPUS:
            duration_ms = opus.walk(data).packets * opus.PACKET_MS
        else:
            duration_ms = len(data) // 2 * 1000 // message.sample_rate
        trace_id = message.trace_id or self.trace_id
        self._taken[index, message.tgt_lang] = now + self._rules.idempotency_s
        if duration_ms == 0:
            self._expect_result(index, message.tgt_lang)
            silence = Outcome(missing=MissingReason.SILENCE, received_at=now)
            return self._resolve(message.tgt_lang, index, Ending(silence, trace_id), now)
        streaming = message.enable_streaming_asr
        if streaming is None:
            streaming = init.enable_streaming_asr
        request = JobRequest(
            session_id=self.id,
            lane=self.id,
            utterance_index=index,
            reason=CutReason.MANUAL,
            src_lang=message.src_lang,
            tgt_lang=message.tgt_lang,
            dialect=message.dialect,
            features=message.features or init.features,
            pipeline=message.pipeline or PipelineConfig(),
            mode=message.mode or init.mode,
            lang_a=message.lang_a or init.lang_a,
            lang_b=message.lang_b or init.lang_b,
            auto_langs=message.auto_langs or init.auto_langs,
            enable_streaming_asr=streaming is not False,
            partial_update_interval_ms=message.partial_update_interval_ms
            or init.partial_update_interval_ms
            or 1000,
            trace_id=trace_id,
            tenant=self.tenant,
            turn_id=self._ids.uuid(),
            last_audio_at=now,
            cut_at=now,
        )
        audio = Audio(message.audio, message.audio_format, message.sample_rate, duration_ms)
        return [self._open(request, audio)]

    def _is_repeated(self, index: int, tgt_lang: str, now: float) -> bool:
        """Whether this utterance is being worked on, or was not long ago (4.3)."""
        while self._taken:
            oldest = next(iter(self._taken))
            if self._taken[oldest] > now:
                break
            del self._taken[oldest]
        return (index, tgt_lang) in self._taken

    def _close(self, now: float) -> list[Output]:
        """The client ends the session: what is finished is sent, the rest dropped (2.2.5, resolution 16)."""
        outputs: list[Output] = []
        for order in self._orders.values():
            outputs += self._released(order.drain(), now)
        return [*outputs, Send(SessionCloseAck(session_id=self.id)), Ended()]

    def _released(self, released: list[Released[Ending]], now: float) -> list[Output]:
        outputs: list[Output] = []
        epoch_ms = self._clock.epoch_ms(now)
        for slot in released:
            if slot.item is None:
                reason = MissingReason.OVERFLOW if slot.evicted else MissingReason.GAP_TIMEOUT
                outputs.append(Send(missing_result(self.id, slot.index, reason, self.trace_id, epoch_ms)))
                continue
            job, outcome = slot.item.job, slot.item.outcome
            if job is not None and outcome.result is not None:
                created_ms = self._clock.epoch_ms(job.created_at)
                message = translation_result(
                    job, outcome, outcome.result, now, epoch_ms, created_ms=created_ms, late=slot.late
                )
                outputs.append(Send(message))
            elif outcome.missing is not None and not slot.late:
                trace_id = slot.item.trace_id
                outputs.append(Send(missing_result(self.id, slot.index, outcome.missing, trace_id, epoch_ms)))
        return outputs
