"""One client's session: what its messages, its jobs and the clock bring about (session-protocol 2 to 5).

Every call returns the outputs in order; the shell sends the messages and submits the requests.
"""

from __future__ import annotations

from msgspec.structs import replace

from linguad.core.again import replay
from linguad.core.answers import Answers
from linguad.core.clock import Clock
from linguad.core.deadlines import earliest
from linguad.core.greeting import greeting
from linguad.core.ids import Ids
from linguad.core.intake import Begun, Input, Intake, Rejected, Spoken, Unusable
from linguad.core.job import Job, JobRequest, Outcome
from linguad.core.outputs import Check, Ended, LetGo, Output, Send
from linguad.core.requests import Requests, Standing
from linguad.core.results import asr_partial, progress_event, refusal_event, utterance_event
from linguad.core.resume import Recovery
from linguad.core.rooms import Rooms
from linguad.core.rules import SessionRules
from linguad.core.seat import Seat
from linguad.core.sound import OPUS, PCM16
from linguad.core.written import written
from linguad.errors import ErrorCode, WireError
from linguad.octets import from_base64
from linguad.wire.resume import SessionRecord
from linguad.wire.room import RoomCreate, RoomJoin, RoomLeave
from linguad.wire.session import (
    AudioAck,
    AudioChunk,
    ClientHeartbeat,
    ClientMessage,
    ErrorMessage,
    ResultAck,
    Resume,
    ServerHeartbeat,
    ServerMessage,
    SessionClose,
    SessionCloseAck,
    SessionInit,
    SessionInitAck,
    SessionUpdate,
    SessionUpdateAck,
    TtsPlayEnded,
    TtsStarted,
    Utterance,
)

GATEWAY_PLATFORM = "api-gateway"
"""Platform of the earlier API gateway, whose connections come and go during one session (1.11)."""

MOBILE_PLATFORMS = frozenset({"ios", "android"})
"""Platforms of the mobile clients, which know fewer messages and only play PCM16 (1.8, 1.10)."""


LANGUAGES_AVAILABLE = "LANGUAGES_AVAILABLE"
"""Our addition to the names of `ui_event`: nodes for a pair of languages are there now."""


class Session:
    """State of one session; owned by the instance that holds its socket."""

    def __init__(
        self,
        session_id: str,
        init: SessionInit,
        rules: SessionRules,
        ids: Ids,
        clock: Clock,
        standing: Standing | None = None,
        *,
        rooms: Rooms | None = None,
    ) -> None:
        """`rooms` are those of all sessions; its own if none are given."""
        standing = standing or Standing()
        self.id = session_id
        self.platform = init.platform
        """What the client says it is: `web`, `ios`, `android`, `api-gateway`, ..."""
        self.trace_id = init.trace_id or ids.uuid()
        self.detached_at: float | None = None
        self._rules = rules
        self._clock = clock
        self._requests = Requests(session_id, init, ids, self.trace_id, standing)
        mobile = self.platform in MOBILE_PLATFORMS
        self._intake = Intake(rules, self._requests, ids, bursts=mobile, may_reuse=self.is_gateway)
        if init.audio_format in (OPUS, PCM16):
            self._intake.cutter.takes(init.audio_format)
        rooms = Rooms(rules.rooms, ids, clock) if rooms is None else rooms
        can_resume = init.resume is not None and not self.is_gateway
        self._seat = Seat(rooms, self._requests, standing.origin, self.is_gateway, can_resume)
        self._hint_language = init.locale if init.locale in ("en", "zh") else rules.hint_language
        self._answers = Answers(
            session_id,
            rules,
            self._seat,
            clock,
            hint_language=self._hint_language,
            one_each=self.is_gateway,
            told_all=standing.told_all,
            tells_language=mobile,
        )
        self.binary = not self.is_gateway and bool(init.use_binary_frame or rules.binary_frames)
        """Whether its client may send audio in binary frames."""
        self._init = init
        """What it began with; only needed while it can be resumed."""
        self._token: str | None = None
        self.recovery: Recovery | None = None
        """What is kept for a client that can resume; None for all others."""
        if can_resume:
            self._token = ids.resume_token()
            self.recovery = Recovery(self._token, rules.kept_results, rules.kept_bytes)
        self.closed = False
        """Whether its client has ended it; it may go on for others."""
        self.dropped_speech_ms = 0
        """Streamed speech that was not cut when nobody wanted it any more."""
        self.repeated_chunks = 0
        """Chunks that had come before a resume already."""

    @property
    def node_id(self) -> str:
        """The node it is paired with, "" if it is not."""
        return self._requests.shared.node_id

    @property
    def request(self) -> JobRequest:
        """What all requests of this session have in common."""
        return self._requests.shared

    @property
    def is_gateway(self) -> bool:
        """Whether the earlier API gateway speaks: it waits for one result of each utterance, nothing else."""
        return self.platform == GATEWAY_PLATFORM

    @property
    def next_index(self) -> int:
        """Lowest index that no utterance has."""
        return self._intake.next_index

    @property
    def buffered_bytes(self) -> int:
        """Bytes of audio that no job has yet, and of results kept for a resume."""
        return self._intake.buffered_bytes + (self.recovery.kept_bytes if self.recovery else 0)

    @property
    def open_utterances(self) -> int:
        """Utterances that have not left yet, in any language."""
        return len(self._answers.unfinished)

    @property
    def is_busy(self) -> bool:
        """Whether something it said is still to be answered."""
        return (
            bool(self._answers.open_requests or self._answers.unfinished) or self._intake.buffered_bytes > 0
        )

    @property
    def malformed_chunks(self) -> int:
        """Chunks whose tail had to be dropped."""
        return self._intake.cutter.malformed

    @property
    def overlong_chunks(self) -> int:
        """Chunks with more audio than one may carry; the rest was dropped."""
        return self._intake.cutter.overlong

    @property
    def empty_finals(self) -> int:
        """Finals that ended nothing."""
        return self._intake.cutter.empty_finals

    @property
    def repeated_utterances(self) -> int:
        """Whole utterances that came again."""
        return self._intake.repeated

    @property
    def dropped_silence_ms(self) -> int:
        """Silence that came in pieces too short to be utterances and led to nothing."""
        return self._intake.cutter.silence_ms

    def hello(self) -> SessionInitAck:
        """The acknowledgement that opens the session, first frame of its connection (1.4)."""
        return greeting(
            self.request,
            audio_format=self._intake.cutter.format,
            binary=self.binary,
            token=self._token,
            within_s=self._grace_s if self.recovery else None,
        )

    def opens(self, resume: Resume) -> bool:
        """Whether this names the session and has its token, so that whoever sent it may go on with it."""
        if self.recovery is None or self.closed or resume.session_id != self.id:
            return False
        return self.recovery.opens(resume.resume_token or "")

    def can_follow(self, delivery: int) -> bool:
        """Whether all results after this number are still there."""
        return self.recovery is not None and self.recovery.can_follow(delivery)

    def hello_again(self) -> SessionInitAck:
        """The acknowledgement for a client that came back; what it missed follows."""
        assert self.recovery is not None, "only these are resumed"
        return self.recovery.welcome(self.hello(), self.next_index)

    def record(self) -> SessionRecord:
        """All that another instance needs to go on with it."""
        assert self.recovery is not None, "only these are resumed"
        return written(self._init, self._requests, self.recovery, self._intake, self._seat)

    @property
    def stamp(self) -> tuple[object, ...]:
        """Changes when the record does, and costs less."""
        assert self.recovery is not None, "only these are resumed"
        audio, shared = self.recovery.audio, self.request
        return self.recovery.delivery, self.next_index, audio.settled.seq, id(shared), self._seat.stamp

    def go_on(self, record: SessionRecord, resume: Resume, now: float) -> list[Output]:
        """It comes from another instance, with what that has written down; nothing was done with it here."""
        assert self.recovery is not None, "only these are resumed"
        self._token = resume.resume_token
        self.recovery = Recovery(self._token or "", self._rules.kept_results, self._rules.kept_bytes)
        self.recovery.go_on(resume.delivery, record.seq, record.size)
        self._intake.go_on(replay(record, resume.delivery), record.size)
        return [] if record.seat is None else [*self._seat.restore(record.seat, now)]

    def outgoing(self, message: ServerMessage) -> ServerMessage:
        """A message as this session's client gets it; results are numbered and kept, if it can resume."""
        return message if self.recovery is None else self.recovery.outgoing(message)

    def handle(self, message: ClientMessage, now: float) -> list[Output]:
        """One message of the client, to the end of its effects."""
        named = getattr(message, "session_id", self.id)
        if named != self.id:
            return self.error(ErrorCode.INVALID_SESSION, "session_id is not this connection's session")
        match message:
            case AudioChunk():
                return self._audio_chunk(message, now)
            case Utterance():
                self._answers.groups.spoke()
                self._seat.spoke(now)
                return self._take_in(self._intake.utterance(message, now), now)
            case ClientHeartbeat():
                return [Send(ServerHeartbeat(session_id=self.id, timestamp=self._clock.epoch_ms(now)))]
            case SessionClose():
                return self.end(now, Send(SessionCloseAck(session_id=self.id)))
            case TtsStarted():
                known = self._answers.groups.play_started(message.group_id, now)
                return self._played("TTS_PLAY_STARTED", known) + self._take_in(
                    self._intake.playback(now), now
                )
            case TtsPlayEnded():
                known = self._answers.groups.play_ended(message.group_id, now)
                return self._played("TTS_PLAY_ENDED", known)
            case SessionUpdate():
                return self._update(message, now)
            case ResultAck():
                if self.recovery is not None:
                    self.recovery.acknowledge(message.delivery)
                return self._settle()
            case SessionInit():
                return self.error(ErrorCode.INVALID_MESSAGE, "the session has begun")
            case RoomCreate() | RoomJoin() | RoomLeave():
                said_before = self._take_in(self._intake.end_slices(now), now)
                return [*said_before, *self._seat.handle(message, self.next_index, now)]
            case _:
                return [*self._seat.handle(message, self.next_index, now)]

    def audio(
        self, payload: bytes, *, seq: int, final: bool, client_ms: int | None, now: float
    ) -> list[Output]:
        """Some streamed audio, Plan A or PCM16 at 16 kHz; `final` completes the utterance."""
        if self.recovery is not None and not self.recovery.audio.is_new(seq):
            self.repeated_chunks += 1
            return []
        if payload:
            self._answers.groups.spoke()
            self._seat.spoke(now)
        inputs = self._intake.chunk(payload, seq=seq, final=final, client_ms=client_ms, now=now)
        if self.recovery is not None:
            self.recovery.audio.chunk(seq, self._intake.cutter.taken_bytes)
        return self._take_in(inputs, now) + self._settle()

    def resolve(self, job: Job, outcome: Outcome, now: float) -> list[Output]:
        """A job ended; what may leave now leaves."""
        if not self._answers.accepts(job, outcome):
            return [] if self._is_needed else [Ended()]
        if outcome.error is not None or self.is_gateway:
            self._intake.forget(job.request)
        elif outcome.result is not None:
            self._intake.remember(job.request, now)
        outputs = self._answers.resolve(job, outcome, self.next_index, now) + self._settle()
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
        return self._take_in(self._intake.finish(now), now)

    def abandon(self, now: float) -> list[Output]:
        """The server stops now: say which utterances have no outcome.

        A client that can resume sends what was not acknowledged to the next one.
        """
        outputs = self._answers.abandon(self.next_index, now)
        if self.recovery is None:
            for request in self._intake.unfinished(now):
                outputs += self._answers.give_up(request, now)
        return outputs

    def detach(self, now: float) -> list[Output]:
        """The socket is gone: the session stays for its grace (1.6, resolution 15).

        What is buffered is cut and the room left, unless the client can resume.
        """
        self.detached_at = now
        if self.recovery is None:
            outputs = [*self.finish(now), *self._seat.leave()]
            if not self.is_gateway:  # whose session goes on with its next connection
                self._answers.groups.close()
            return outputs
        self._intake.cutter.pause()
        return [*self._seat.away(now)]

    def attach(self, now: float) -> None:
        """Another connection speaks for the session from now on."""
        self.detached_at = None
        if self.recovery is not None:
            self._intake.cutter.proceed(now)

    def resumed(self, delivery: int) -> list[Output]:
        """What a client that came back has missed since result `delivery`."""
        assert self.recovery is not None, "only these are resumed"
        self.recovery.acknowledge(delivery)
        self.recovery.audio.tell_again()
        missed = [Send(result) for result in self.recovery.after(delivery)]
        return [*missed, *self._settle(), *self._seat.back(), Check()]

    def end(self, now: float, *goodbye: Output) -> list[Output]:
        """The client is gone, or begins another session (2.2.5, resolution 16).

        What is finished is sent; what has no result is dropped and counted, unless others wait for it.
        """
        if self.closed:
            return [Ended()]
        outputs: list[Output] = []
        if self._seat.has_company:
            outputs += self.finish(now)
        else:
            self.dropped_speech_ms += self._intake.discard()
        outputs += self._answers.drain(self.next_index, now)
        outputs += [*self._seat.leave(), *goodbye]
        self._answers.groups.close()
        self.closed, self.detached_at = True, now
        return [*outputs, LetGo() if self._is_needed else Ended()]

    def needed(self) -> list[JobRequest]:
        """A request for each pair of languages that nodes should serve for it; none of gateways."""
        return [] if self.is_gateway else self._seat.needed()

    def served(self, pair: dict[str, object]) -> Send:
        """Tell that nodes are there now for a pair of languages that had none."""
        event = utterance_event(self.id, self.next_index, LANGUAGES_AVAILABLE, self.trace_id, pair)
        return Send(event)

    def unserved(self, details: dict[str, object]) -> Send:
        """Tell that no node is there for a pair of languages, and what is instead."""
        request = replace(self.request, utterance_index=self.next_index)
        event = refusal_event(request, ErrorCode.NO_AVAILABLE_NODE, self._hint_language, details)
        return Send(event)

    def due(self) -> float | None:
        """When `tick` has something to do, monotonic s."""
        due = earliest(self._intake.due(), self._answers.due())
        return due if self.detached_at is None else earliest(due, self.detached_at + self._grace_s)

    def tick(self, now: float) -> list[Output]:
        """Do what became due: cut on silence, skip gaps, take held utterances, end after the grace."""
        outputs = self._take_in(self._intake.tick(now), now)
        outputs += self._answers.tick(self.next_index, now)
        outputs += self._settle()
        if self.detached_at is not None and now >= self.detached_at + self._grace_s:
            outputs += self.end(now)
        return outputs

    def kept_for(self, now: float) -> float | None:
        """How long it stays without a connection, s; None while there is one."""
        return None if self.detached_at is None else max(0.0, self.detached_at + self._grace_s - now)

    def number_from(self, index: int) -> None:
        """The next utterance has this index or a higher one: its client saw lower ones in a room."""
        self._intake.number_from(index)

    @property
    def _is_needed(self) -> bool:
        """Whether the client goes on, or others wait for what it said."""
        return not self.closed or any(map(self._seat.others_wait_for, self._answers.open_requests))

    @property
    def _grace_s(self) -> float:
        return self._rules.gateway_detach_grace_s if self.is_gateway else self._rules.detach_grace_s

    def _audio_chunk(self, chunk: AudioChunk, now: float) -> list[Output]:
        outputs: list[Output] = []
        try:
            payload = from_base64(chunk.payload or "")
        except ValueError:
            outputs = self.error(ErrorCode.INVALID_MESSAGE, "member payload is not base64")
            payload = b""
        client_ms = chunk.client_timestamp_ms
        return outputs + self.audio(
            payload, seq=chunk.seq, final=chunk.is_final, client_ms=client_ms, now=now
        )

    def _update(self, message: SessionUpdate, now: float) -> list[Output]:
        said_before = self._take_in(self._intake.part(now), now)
        running = self._intake.cutter.turn_id
        self._requests.update(message, running)
        shared = self._requests.shared
        ack = SessionUpdateAck(
            session_id=self.id,
            src_lang=shared.src_lang,
            tgt_lang=shared.tgt_lang,
            after_running=running is not None,
            lang_a=shared.lang_a,
            lang_b=shared.lang_b,
        )
        changed = self._seat.changed(message.preferred_lang, running, now)
        return [*said_before, Send(ack), *changed, Check()]

    def _take_in(self, inputs: list[Input], now: float) -> list[Output]:
        outputs: list[Output] = []
        for taken in inputs:
            match taken:
                case Begun():
                    outputs.append(self._event("INPUT_STARTED", taken.index))
                case Spoken():
                    outputs += self._spoken(taken, now)
                case Unusable():
                    outputs += self._unusable(taken, now)
                case Rejected():
                    outputs += self._refusal(taken.error)
        return outputs

    def _spoken(self, spoken: Spoken, now: float) -> list[Output]:
        request, outputs = spoken.request, list[Output]()
        if spoken.stretch is not None:
            outputs.append(self._event("INPUT_ENDED", request.utterance_index))
            if self.recovery is not None:
                self.recovery.audio.cut(spoken.stretch)
        submitted = self._answers.expect(request, spoken.audio)
        if submitted is not None:
            return outputs + submitted
        self._intake.forget(request)
        return outputs + self._answers.refuse(request, now)

    def _unusable(self, unusable: Unusable, now: float) -> list[Output]:
        request = unusable.request
        if self.is_gateway:
            self._intake.forget(request)
        outputs = self._refusal(unusable.error) if unusable.error is not None else []
        return outputs + self._answers.without_job(request, unusable.reason, now)

    def _refusal(self, error: WireError) -> list[Output]:
        return self.error(error.code, str(error))

    def _played(self, event: str, known: bool) -> list[Output]:
        """The client plays its last result; ids of groups that are over mean nothing (2.2.7)."""
        return [self._event(event, self._answers.last_index)] if known else []

    def _event(self, event: str, index: int) -> Send:
        return Send(utterance_event(self.id, index, event, self.trace_id), optional=True)

    def _settle(self) -> list[Output]:
        """Tell a client that can resume which audio it may forget."""
        if self.recovery is None:
            return []
        self.recovery.audio.left(self._answers.unfinished, self.recovery.delivery)
        mark = self.recovery.audio.settle(self.recovery.acknowledged, self._intake.cut_bytes)
        if mark is None:
            return []
        return [Send(AudioAck(session_id=self.id, seq=mark.seq, audio_bytes=mark.size), optional=True)]
