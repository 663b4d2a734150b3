"""One socket of `/v1/stream`: what its messages, the core and the clock bring about (gateway 6, 8).

Rules:
- A stranger says `auth` first, and nothing else before it is known.
- One session at a time, from `started` to `ended`; then another may begin. Within it see `dialogue`.
- Every call returns the actions in order; the shell carries them out before the next call. After `Close`
  nothing leads to anything.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from math import inf

from linguad import metrics
from linguad.core.tenant import Tenant
from linguad.errors import CloseReason, WireError
from linguad.gateway.stream.actions import Action, Authenticate, Close, Open, Say
from linguad.gateway.stream.complaints import Complaints
from linguad.gateway.stream.dialogue import Dialogue
from linguad.gateway.stream.flow import Flow
from linguad.gateway.stream.opening import Opening, opening_of
from linguad.gateway.stream.rules import StreamRules
from linguad.web.problems import Problem
from linguad.wire import codec
from linguad.wire.public import (
    Audio,
    Auth,
    Cancel,
    End,
    Init,
    Ping,
    Pong,
    Spent,
    Start,
    Started,
    StreamLimits,
    StreamMessage,
)
from linguad.wire.session import ServerMessage

CLIENT_END, CLIENT_GONE, SHUTDOWN, TIMED_OUT = "client_end", "client_gone", "shutdown", "max_duration"
"""Reasons in `ended`, beside codes of errors."""

_CLOSES = {401: CloseReason.UNAUTHENTICATED, 429: CloseReason.LIMIT_REACHED}
"""By the status of the problem that kept a stranger out; all others are FORBIDDEN."""


class Phase(Enum):
    """What the socket is about."""

    STRANGER = "stranger"
    READY = "ready"
    """Known, without a session."""
    LIVE = "live"
    ENDING = "ending"
    """No more audio; answers still come."""
    OVER = "over"


class Conversation:
    """Mutable: the phase, its deadlines, and the session if there is one; times are monotonic s."""

    def __init__(
        self,
        rules: StreamRules,
        request_id: str,
        tenant: Tenant | None,
        now: float,
        *,
        read: Callable[[str], StreamMessage] = codec.stream_messages.decode,
        ends: Callable[[bytes], bool] = lambda frame: False,
        single: bool = False,
    ) -> None:
        """Without a `tenant` a stranger connected.

        `read` makes a message of a text frame, or raises WireError; `ends` tells whether an utterance ends
        with a binary one. A `single` one is over with its first session, and its pings count as audio.
        """
        self.phase = Phase.STRANGER if tenant is None else Phase.READY
        self.request_id = request_id
        self.dialogue: Dialogue | None = None
        """The session; the last one, when it is over."""
        self.sessions = 0
        """Opened so far."""
        self.trace_id: str | None = None
        """That the caller asked for."""
        self._read = read
        self._ends = ends
        self._single = single
        self._rules = rules
        self._tenant = tenant
        self._complaints = Complaints(request_id)
        self._flow = Flow(rules.messages_per_s, rules.burst)
        self._wait_until = now + rules.start_s
        """Without a session: when it is waited for no longer."""
        self._wait_close = CloseReason.TIME_OUT
        self._leave_at = now + rules.max_s
        self._end_by = inf
        """While a session ends: when its answers are waited for no longer."""
        self._end_reason = CLIENT_END
        self._then: CloseReason | None = None
        """Why the socket is closed when its session has ended; None if it stays."""
        self._after_auth: Start | None = None
        self._not_reading_since: float | None = None

    def take(self, frame: str | bytes, now: float) -> list[Action]:
        """One frame of the client."""
        if self.phase is Phase.OVER:
            return []
        if not self._flow.allows(now):
            return self._overflow(now)
        if isinstance(frame, bytes):
            return self._binary(frame, now)
        try:
            message = self._read(frame)
        except WireError as error:
            told = self._complaints.unreadable(error)
            return self._unknown(told) if self.phase is Phase.STRANGER else [told]
        return self.hear(message, now)

    def hear(self, message: StreamMessage, now: float) -> list[Action]:
        """One message of the client."""
        metrics.child(metrics.MESSAGES, "stream", type(message).__struct_config__.tag).inc()
        if self.phase is Phase.OVER:
            return []
        if self.phase is Phase.STRANGER:
            return self._introduction(message)
        match message:
            case Auth():
                sentence = "auth: this connection has its credential; begin with start"
                return [self._complaints.tell("multiple_credentials", sentence)]
            case Start():
                return self._start(message)
            case Ping():
                if self._single and self.dialogue is not None:
                    self.dialogue.last_audio_at = now
                return [Say(Pong(id=message.id))]
            case Audio() | End() | Cancel():
                return self._speech(message, now)

    def authenticated(self, tenant: Tenant, now: float) -> list[Action]:
        """The stranger is known."""
        self.phase, self._tenant = Phase.READY, tenant
        self._wait_until = now + self._rules.start_s
        start, self._after_auth = self._after_auth, None
        return [] if start is None else self._start(start)

    def rejected(self, problem: Problem) -> list[Action]:
        """The stranger stays one."""
        reason = _CLOSES.get(problem.status, CloseReason.FORBIDDEN)
        return self._quit(self._complaints.problem(problem), problem.code, reason)

    def opened(self, opening: Opening, session_id: str, trace_id: str, now: float) -> list[Action]:
        """The core has a session for us."""
        self.phase = Phase.LIVE
        self.sessions += 1
        self._end_reason, self._then, self._end_by = CLIENT_END, None, inf
        self.dialogue = Dialogue(opening, session_id, self._rules, self._complaints, now)
        spec, terms, rules = opening.spec, opening.terms, self._rules
        limits = StreamLimits(
            max_message_bytes=rules.max_message_bytes,
            max_inflight_utterances=rules.max_inflight,
            max_utterance_seconds=rules.max_utterance_s,
            max_messages_per_second=round(rules.messages_per_s),
            idle_seconds=round(rules.idle_s),
            max_seconds=round(rules.max_s),
        )
        started = Started(
            session_id=session_id,
            trace_id=trace_id,
            request_id=self.request_id,
            src_lang=spec.src_lang,
            tgt_lang=spec.tgt_lang,
            audio_format=terms.audio_format,
            sample_rate=terms.sample_rate,
            segmentation=terms.segmentation,
            partials=terms.partials,
            events=terms.events,
            tts=spec.tts,
            output_format=terms.output_format,
            binary_audio=terms.binary_audio,
            limits=limits,
            client_ref=terms.client_ref,
        )
        return [Say(started)]

    def not_opened(self, problem: Problem, now: float) -> list[Action]:
        """There is no session for us now; the client may try again."""
        if self._single:
            return self.rejected(problem)
        self._wait_until = now + self._rules.idle_s
        return [self._complaints.problem(problem)]

    def news(self, message: ServerMessage, now: float) -> list[Action]:
        """A message of the core."""
        if self.dialogue is None or self.phase not in (Phase.LIVE, Phase.ENDING):
            return []
        return self.dialogue.news(message, now)

    def over(self, reason: CloseReason | None, now: float) -> list[Action]:
        """Nothing more comes from the core; `reason` is None if we hung up."""
        if self.phase not in (Phase.LIVE, Phase.ENDING):
            return []
        if reason is CloseReason.SHUTDOWN:
            return self._quit(None, SHUTDOWN, CloseReason.SHUTDOWN)
        if reason is None and self.phase is Phase.ENDING:
            return self._ended(now)
        sentence = "The translation session was lost; connect again."
        lost = self._complaints.tell("upstream_lost", sentence, retryable=True)
        return self._quit(lost, "upstream_lost", CloseReason.UPSTREAM_LOST)

    def due(self) -> float | None:
        """When `tick` has something to do; None if it never has."""
        due = self._leave_at
        match self.phase:
            case Phase.STRANGER | Phase.READY:
                due = min(due, self._wait_until)
            case Phase.LIVE if self.dialogue is not None:
                due = min(due, self.dialogue.last_audio_at + self._rules.idle_s, self.dialogue.due())
            case Phase.ENDING if self.dialogue is not None:
                due = min(self._end_by, self.dialogue.due())
            case _:
                return None
        return due

    def tick(self, now: float) -> list[Action]:
        """What the clock brings about."""
        match self.phase:
            case Phase.STRANGER | Phase.READY:
                return self._tick_waiting(now)
            case Phase.LIVE if self.dialogue is not None:
                if now >= self._leave_at:
                    return self._wind_up(TIMED_OUT, CloseReason.TIME_OUT, now)
                if now >= self.dialogue.last_audio_at + self._rules.idle_s:
                    sentence = f"No audio for {self._rules.idle_s:g} s; connect again when there is some."
                    idle = self._complaints.tell("idle_timeout", sentence, retryable=True)
                    return self._quit(idle, "idle_timeout", CloseReason.TIME_OUT)
                return self.dialogue.tick(now)
            case Phase.ENDING if self.dialogue is not None:
                return self._ended(now) if now >= self._end_by else self.dialogue.tick(now)
        return []

    def reads(self, now: float, unsaid_bytes: int = 0) -> bool:
        """Whether the socket is to be read; what gathers while it is not is no flood.

        `unsaid_bytes` of audio are on their way to the core.
        """
        reads = (
            self.dialogue is None or self.phase is not Phase.LIVE or self.dialogue.reads(now, unsaid_bytes)
        )
        if not reads and self._not_reading_since is None:
            self._not_reading_since = now
        elif reads and self._not_reading_since is not None:
            self._flow.was_paused(now - self._not_reading_since)
            self._not_reading_since = None
        return reads

    def stop(self, now: float) -> list[Action]:
        """The server is about to stop: what was said is still answered."""
        match self.phase:
            case Phase.LIVE:
                return self._wind_up(SHUTDOWN, CloseReason.SHUTDOWN, now)
            case Phase.ENDING:
                self._then = CloseReason.SHUTDOWN
                return []
            case _:
                return self._quit(None, SHUTDOWN, CloseReason.SHUTDOWN)

    def abandon(self) -> list[Action]:
        """The server stops now."""
        return self._quit(None, SHUTDOWN, CloseReason.SHUTDOWN)

    def metered(self, spent: Spent) -> list[Action]:
        """What the session was charged until now."""
        return self.dialogue.metered(spent) if self.dialogue and self.phase is Phase.LIVE else []

    def expel(self, code: str, sentence: str, reason: CloseReason) -> list[Action]:
        """The caller may not go on."""
        return self._quit(self._complaints.tell(code, sentence), code, reason)

    def _introduction(self, message: StreamMessage) -> list[Action]:
        """The first message of a stranger."""
        if isinstance(message, Auth):
            return [Authenticate(message.token)]
        if isinstance(message, Init) and message.api_key is not None:
            self._after_auth = message
            return [Authenticate(message.api_key)]
        sentence = "Say who you are first: send auth with your key or a token."
        return self._unknown(self._complaints.tell("unauthorized", sentence))

    def _unknown(self, told: Say) -> list[Action]:
        return self._quit(told, "unauthorized", CloseReason.UNAUTHENTICATED)

    def _start(self, start: Start) -> list[Action]:
        assert self._tenant is not None, "strangers do not start"
        if self.phase is not Phase.READY:
            sentence = "A session is running; send end with close, wait for ended, then start again."
            return [self._complaints.tell("already_started", sentence)]
        try:
            return [Open(opening_of(start, self._tenant, self.trace_id))]
        except Problem as problem:
            return self.rejected(problem) if self._single else [self._complaints.problem(problem)]

    def _speech(self, message: Audio | End | Cancel, now: float) -> list[Action]:
        if self.phase is not Phase.LIVE or self.dialogue is None:
            if isinstance(message, Cancel) and self.phase is Phase.ENDING and self.dialogue is not None:
                return self.dialogue.cancel(now)
            what = "the session is ending" if self.phase is Phase.ENDING else "no session is running"
            return [self._complaints.tell("not_started", f"{what}; send start first")]
        match message:
            case Audio():
                return self.dialogue.take(message, now)
            case Cancel():
                return self.dialogue.cancel(now)
            case End(close=False):
                return self.dialogue.cut(now)
            case End():
                return self._wind_up(CLIENT_END, CloseReason.NORMAL if self._single else None, now)

    def _binary(self, frame: bytes, now: float) -> list[Action]:
        dialogue = self.dialogue
        if self.phase is Phase.ENDING and dialogue is not None and dialogue.terms.binary_audio:
            return [self._complaints.tell("not_started", "the session is ending; send start first")]
        if self.phase is not Phase.LIVE or dialogue is None or not dialogue.terms.binary_audio:
            sentence = "Binary frames need binary_audio in start; send text frames."
            told = self._complaints.tell("binary_not_negotiated", sentence)
            return self._quit(told, "binary_not_negotiated", CloseReason.BINARY_NOT_NEGOTIATED)
        if self._single and not frame:
            return self._wind_up(CLIENT_END, CloseReason.NORMAL, now)
        return dialogue.audio(frame, final=self._ends(frame), now=now)

    def _overflow(self, now: float) -> list[Action]:
        rate = f"{self._rules.messages_per_s:g}"
        sentence = f"More than {rate} messages per second; this one was dropped, put more into each."
        told = self._complaints.tell("rate_limited", sentence, retryable=True)
        if self._flow.is_flooded(now):
            return self._quit(told, "rate_limited", CloseReason.TOO_MANY_MESSAGES)
        return [told]

    def _tick_waiting(self, now: float) -> list[Action]:
        if now < min(self._wait_until, self._leave_at):
            return []
        if self.phase is Phase.STRANGER:
            return self._quit(None, TIMED_OUT, CloseReason.TIME_OUT)
        return self._quit(None, TIMED_OUT, self._wait_close)

    def _wind_up(self, reason: str, then: CloseReason | None, now: float) -> list[Action]:
        """No more audio is taken; the answers still come."""
        assert self.dialogue is not None, "there is a session"
        self.phase, self._end_reason, self._then = Phase.ENDING, reason, then
        self._end_by = now + self._rules.answer_s
        return self.dialogue.wind_up(now)

    def _ended(self, now: float) -> list[Action]:
        """The session has ended in order."""
        assert self.dialogue is not None, "there is a session"
        if self._then is not None:
            return self._quit(None, self._end_reason, self._then)
        actions = self.dialogue.finish(self._end_reason)
        self.phase = Phase.READY
        self._wait_until, self._wait_close = now + self._rules.start_s, CloseReason.NORMAL
        return actions

    def _quit(self, told: Say | None, reason: str, close: CloseReason) -> list[Action]:
        """Say why, end the session if there is one, and close."""
        if self.phase is Phase.OVER:
            return []
        actions: list[Action] = [] if told is None else [told]
        if self.dialogue is not None and self.phase in (Phase.LIVE, Phase.ENDING):
            actions += self.dialogue.finish(reason)
        self.phase = Phase.OVER
        return [*actions, Close(close)]
