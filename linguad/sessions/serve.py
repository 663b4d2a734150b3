"""Client sockets to sessions and back: one reader per connection, one timer for all sessions (design 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio
from msgspec import Struct

from linguad import log, metrics
from linguad.core.clock import Clock
from linguad.core.deadlines import Deadlines
from linguad.core.ids import Ids
from linguad.core.job import DIRECT, Job, JobRequest, Outcome
from linguad.core.outputs import Ended, LetGo, Output, Send, Submit
from linguad.core.room import Tell
from linguad.core.rooms import Renumber, RoomOutput, Rooms
from linguad.core.session import Session, SessionRules
from linguad.core.throttle import ErrorThrottle
from linguad.core.utterance import Audio
from linguad.errors import CloseReason, ErrorCode, WireError
from linguad.net.outbox import Budget, Later
from linguad.net.peer import TrustedProxies
from linguad.net.supervise import Alarm
from linguad.net.websocket import Link
from linguad.sessions.limit import SessionLimit, origin_of
from linguad.sessions.speech import Speech, plays_only_pcm16
from linguad.wire import codec
from linguad.wire.session import (
    AudioChunk,
    Backpressure,
    ClientMessage,
    ErrorMessage,
    RoomCreateAck,
    ServerMessage,
    SessionInit,
    TranslationResult,
    Utterance,
)

MAX_INIT_CHARS = 16 * 1024
"""Longest `session_init`; its texts are kept as long as the session, and real ones have 500 characters."""

WRONG_PAIRING_CODE = (
    "the pairing code is wrong, was used or has expired, or too many wrong ones came from your address; "
    "let the node show a new one, and wait a minute after many tries"
)

PAUSE_SECONDS = 2.0
"""How long clients are told to hold their audio, and how often at most (session-protocol 2.4.12)."""

logger = log.get(__name__)


class JobPort(Protocol):
    """Where utterances go."""

    def submit(self, request: JobRequest, audio: Audio) -> None:
        """Have an utterance translated."""
        ...

    def unsupported_features(self, request: JobRequest) -> list[str]:
        """The features such jobs ask for, if they are required and no node has them."""
        ...

    def session_ended(self, session_id: str) -> None:
        """Cancel what a session still has running."""
        ...

    def redeem(self, pairing_code: str, origin: str) -> str:
        """The node that a code stands for; "" if none."""
        ...


class Connection(Struct, eq=False):
    """A client's socket and the session it speaks for, if it has one."""

    link: Link
    throttle: ErrorThrottle
    session: Session | None = None
    paused_until: float = 0.0


class Entry(Struct, eq=False):
    """A session, its connection while it has one, and what is counted for it."""

    session: Session
    connection: Connection | None
    address: str
    held_bytes: int = 0
    """Its part of the budget: audio that no job has yet."""
    performing: list[Output] | None = None
    """What is being done for it; more may be added meanwhile."""


class Sessions:
    """All sessions of this instance, with the connection of each; detached ones have none."""

    def __init__(
        self,
        jobs: JobPort,
        rules: SessionRules,
        ids: Ids,
        clock: Clock,
        error_throttle_s: float,
        budget: Budget,
        limit: SessionLimit,
        trusted: TrustedProxies,
        now: Callable[[], float],
    ) -> None:
        """`now` is the clock, monotonic s."""
        self._jobs = jobs
        self._rules = rules
        self._ids = ids
        self._clock = clock
        self._error_throttle_s = error_throttle_s
        self._budget = budget
        self._limit = limit
        self._trusted = trusted
        self._now = now
        self._sessions: dict[str, Entry] = {}
        self.rooms = Rooms(rules.rooms, ids, clock)
        self._attached = 0
        self._deadlines: Deadlines[str] = Deadlines()
        self._alarm = Alarm(self.due, self.tick)
        self._speech = Speech()
        metrics.SESSIONS.labels("attached").set_function(lambda: self._attached)
        metrics.SESSIONS.labels("detached").set_function(lambda: len(self._sessions) - self._attached)
        metrics.ROOMS.labels("rooms").set_function(lambda: len(self.rooms))
        metrics.ROOMS.labels("members").set_function(lambda: self.rooms.members)

    def __len__(self) -> int:
        return len(self._sessions)

    def paired_with(self, node_id: str) -> list[str]:
        """Ids of the sessions that only this node serves."""
        return [entry.session.id for entry in self._sessions.values() if entry.session.node_id == node_id]

    async def serve(self) -> None:
        """Keep the deadlines of all sessions and convert their speech, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._alarm.run)
            nursery.start_soon(self._speech.run)

    async def talk(self, link: Link) -> None:
        """Serve one client connection to its end (session-protocol 1.2)."""
        connection = self.connected(link)
        try:
            async for frame in link:
                if isinstance(frame, str):
                    self.take(connection, frame)
        finally:
            self.lost(connection)

    def connected(self, link: Link) -> Connection:
        """A client connected; gateways break on pings, so it gets none before it says who it is."""
        link.may_ping = False
        return Connection(link, ErrorThrottle(self._error_throttle_s))

    def finish(self) -> None:
        """Cut what every session has buffered: the server is about to stop."""
        now = self._now()
        for entry in list(self._sessions.values()):
            self._perform(entry.session, entry.session.finish(now))

    def resolve(self, job: Job, outcome: Outcome) -> None:
        """A job ended; its session gets the outcome, if it still exists."""
        now = self._now()
        self._tell(job, lambda session: session.resolve(job, outcome, now))

    def progress(self, job: Job, event: str) -> None:
        """A step in the life of a job."""
        now = self._now()
        self._tell(job, lambda session: session.progress(job, event, now))

    def partial(self, job: Job, text: str, is_final: bool) -> None:
        """What was recognised so far."""
        now = self._now()
        self._tell(job, lambda session: session.partial(job, text, is_final, now))

    def _tell(self, job: Job, news: Callable[[Session], list[Output]]) -> None:
        entry = self._sessions.get(job.request.session_id)
        if entry is not None:
            self._perform(entry.session, news(entry.session))

    def take(self, connection: Connection, frame: str) -> None:
        """One frame of a client; no await, so its effects are complete before the next is read."""
        try:
            message = codec.client_messages.decode(frame)
        except WireError as error:
            self._refuse(connection, error.code, str(error), error.field)
            return
        metrics.MESSAGES.labels("session", type(message).__struct_config__.tag).inc()
        if isinstance(message, SessionInit):
            self._open(connection, message, len(frame))
            return
        session = connection.session or self._adopted(connection, message)
        if session is None:
            self._without_session(connection, message)
        else:
            now = self._now()
            if self._budget.over and isinstance(message, AudioChunk | Utterance):
                self._pause(connection, session, now)
            self._perform(session, session.handle(message, now))

    def _pause(self, connection: Connection, session: Session, now: float) -> None:
        """Ask for less; gateways would take it for the answer to their call."""
        if now >= connection.paused_until and not session.is_gateway:
            connection.paused_until = now + PAUSE_SECONDS
            message = Backpressure(
                action="PAUSE",
                resume_after_ms=int(PAUSE_SECONDS * 1000),
                message="the server is short of memory",
            )
            self._send(connection, message, optional=True)

    def _open(self, connection: Connection, message: SessionInit, size: int) -> None:
        """A session begins; a second one on the same socket ends the first (session-protocol 1.4)."""
        if size > MAX_INIT_CHARS:
            self._refuse(
                connection,
                ErrorCode.INVALID_MESSAGE,
                f"session_init is longer than {MAX_INIT_CHARS} characters",
            )
            return
        if connection.session is not None:
            self._end(connection.session)
        address = connection.link.peer.address
        if refusal := self._limit.refusal(address):
            self._refuse(connection, ErrorCode.NODE_OVERLOADED, refusal)
            connection.link.close(CloseReason.TOO_MANY_SESSIONS)
            return
        trusted = address in self._trusted
        tenant = (message.tenant_id if trusted else None) or DIRECT
        code = (message.pairing_code or "").strip()
        node_id = self._jobs.redeem(code, origin_of(address)) if code else ""
        session = Session(
            self._ids.session(),
            message,
            self._rules,
            self._ids,
            self._clock,
            tenant,
            node_id,
            rooms=self.rooms,
            origin=origin_of(address),
        )
        connection.session = session
        self._sessions[session.id] = Entry(session, connection, address)
        self._limit.add(address)
        self._attached += 1
        connection.link.may_ping = not session.is_gateway
        connection.link.send(codec.encode(session.hello()))
        if code and not node_id:
            self._refuse(connection, ErrorCode.INVALID_PAIRING_CODE, WRONG_PAIRING_CODE, "pairing_code")
        if missing := self._jobs.unsupported_features(session.request):
            problem = f"no node has what this session asks for: {', '.join(missing)}"
            self._refuse(connection, ErrorCode.UNSUPPORTED_FEATURE, problem, "features")
        logger.info(
            "session_opened",
            session=session.id,
            trace=session.trace_id,
            link=connection.link.id,
            platform=message.platform,
            client_version=message.client_version,
            src=message.src_lang,
            tgt=message.tgt_lang,
            paired_with=node_id or None,
        )

    def _adopted(self, connection: Connection, message: ClientMessage) -> Session | None:
        """The session that a connection without one speaks for by naming it (session-protocol 1.11).

        Only the earlier API gateway may, which opens a connection for each utterance; the newest one counts.
        """
        entry = self._sessions.get(getattr(message, "session_id", ""))
        if entry is None or not entry.session.is_gateway:
            return None
        session, before = entry.session, entry.connection
        if before is None:
            self._attached += 1
        else:
            before.session = None
        entry.connection, connection.session = connection, session
        session.attach()
        logger.info("session_adopted", session=session.id, link=connection.link.id)
        return session

    def _without_session(self, connection: Connection, message: ClientMessage) -> None:
        """A message before `session_init`; naming an unknown session ends the socket (resolution 18)."""
        if hasattr(message, "session_id"):
            self._refuse(
                connection, ErrorCode.INVALID_SESSION, "no such session here; send session_init first"
            )
            connection.link.close(CloseReason.INVALID_SESSION)
        else:
            self._refuse(connection, ErrorCode.INVALID_SESSION, "send session_init first")

    def _refuse(self, connection: Connection, code: ErrorCode, sentence: str, field: str = "") -> None:
        trace_id = connection.session.trace_id if connection.session else None
        self._send(connection, ErrorMessage(code=code, message=sentence, trace_id=trace_id), about=field)

    def _send(
        self, connection: Connection, message: ServerMessage, optional: bool = False, about: str = ""
    ) -> None:
        if isinstance(message, ErrorMessage):
            if not connection.throttle.allows(message.code, about or message.message, self._now()):
                metrics.ERRORS_SWALLOWED.labels(message.code).inc()
                return
            logger.info("client_error", link=connection.link.id, code=message.code, reason=message.message)
        connection.link.send(self._frame(connection.session, message), optional)

    def _frame(self, receiver: Session | None, message: ServerMessage) -> str | Later:
        if isinstance(message, TranslationResult) and receiver is not None:
            in_room = self.rooms.of(receiver.id) is not None
            if plays_only_pcm16(receiver.platform, in_room):
                return self._speech.playable(message)
        return codec.encode(message)

    def _perform(self, session: Session, outputs: list[Output]) -> None:
        """Do everything in order; what a submission brings at once comes after what was decided before."""
        entry = self._sessions[session.id]
        self._count(entry, session.buffered_bytes)
        if entry.performing is not None:
            entry.performing += outputs
            return
        entry.performing = outputs
        try:
            for output in outputs:
                match output:
                    case Send():
                        if entry.connection is not None:
                            self._send(entry.connection, output.message, output.optional)
                    case Submit():
                        self._jobs.submit(output.request, output.audio)
                    case Tell() | Renumber():
                        self._perform_room(output)
                    case LetGo():
                        self._let_go(entry)
                    case Ended():
                        self._end(session)
        finally:
            entry.performing = None
        if session.id in self._sessions:
            self._deadlines.set(session.id, session.due())
            self._alarm.moved()

    def _perform_room(self, output: RoomOutput) -> None:
        """What concerns another session; there may be none any more."""
        entry = self._sessions.get(output.session_id)
        if entry is None:
            return
        if isinstance(output, Renumber):
            entry.session.number_from(output.next_index)
            return
        if isinstance(output.message, RoomCreateAck):
            logger.info("room_entered", session=output.session_id, room=output.message.room_id)
        if entry.connection is not None:
            self._send(entry.connection, output.message, output.optional)

    def _let_go(self, entry: Entry) -> None:
        """No connection speaks for the session any more."""
        if entry.connection is not None:
            entry.connection.session = None
            entry.connection = None
            self._attached -= 1

    def _count(self, entry: Entry, held_bytes: int) -> None:
        self._budget.take(held_bytes - entry.held_bytes)
        entry.held_bytes = held_bytes

    def due(self) -> float | None:
        """When `tick` has something to do, monotonic s."""
        times = self._deadlines.due(), self.rooms.due()
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: float) -> None:
        """Do what became due; a bug in one session ends that session, not the timer of all."""
        while (session_id := self._deadlines.pop(now)) is not None:
            session = self._sessions[session_id].session
            try:
                self._perform(session, session.tick(now))
            except Exception as error:
                metrics.LINK_CRASHES.labels("session").inc()
                logger.error("session_crashed", session=session_id, exc_info=error)
                self._crashed(session_id)
        for output in self.rooms.tick(now):
            self._perform_room(output)

    def _crashed(self, session_id: str) -> None:
        entry = self._sessions.get(session_id)
        if entry is None:
            return
        if entry.connection is not None:
            entry.connection.link.close(CloseReason.INTERNAL_ERROR)
        self._end(entry.session)

    def lost(self, connection: Connection) -> None:
        """The socket is gone; the session stays for its grace."""
        session = connection.session
        if session is None:
            return
        self._sessions[session.id].connection = None
        self._attached -= 1
        logger.info("session_detached", session=session.id, link=connection.link.id)
        self._perform(session, session.detach(self._now()))

    def _end(self, session: Session) -> None:
        """Forget a session and cancel its jobs."""
        entry = self._sessions.pop(session.id)
        self._count(entry, 0)
        self._limit.remove(entry.address)
        self._deadlines.set(session.id, None)
        self._let_go(entry)
        for output in self.rooms.ended(session.id):
            self._perform_room(output)
        self._jobs.session_ended(session.id)
        logger.info(
            "session_ended",
            session=session.id,
            malformed_chunks=session.malformed_chunks,
            overlong_chunks=session.overlong_chunks,
            dropped_silence_ms=session.dropped_silence_ms,
        )
