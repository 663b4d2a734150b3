"""Client sockets to sessions and back: one reader per connection, one timer for all sessions (design 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import trio

from linguad import log, metrics
from linguad.core.clock import Clock
from linguad.core.deadlines import Deadlines, earliest
from linguad.core.ids import Ids
from linguad.core.job import Job, MissingReason, Outcome
from linguad.core.outputs import Check, Delivered, Ended, LetGo, Output, Send, Submit
from linguad.core.requests import Standing
from linguad.core.room import Claim, Post, Release, Renumber, RoomOutput, Seek, TakeOver, Tell
from linguad.core.rooms import Rooms
from linguad.core.rules import SessionRules
from linguad.core.session import Session
from linguad.core.utterance import CutReason
from linguad.errors import CloseReason, ErrorCode, WireError
from linguad.net.outbox import Budget
from linguad.net.peer import TrustedProxies, origin_of
from linguad.net.supervise import Alarm
from linguad.net.websocket import Link
from linguad.sessions.availability import Availability
from linguad.sessions.connection import Connection, SocketConnection
from linguad.sessions.jobs import JobPort
from linguad.sessions.last import LastSessions
from linguad.sessions.limit import SessionLimit
from linguad.sessions.meetings import Mail, Meetings
from linguad.sessions.reception import Reception, Redeem, paired_by
from linguad.sessions.registry import Entry, Registry
from linguad.sessions.speech import Speech, plays_only_pcm16
from linguad.sessions.takeover import Elsewhere, Takeover
from linguad.wire import binary, codec
from linguad.wire.common import ServiceTimings
from linguad.wire.session import (
    AudioAck,
    AudioChunk,
    ClientMessage,
    ErrorMessage,
    GoAway,
    MissingResult,
    ServerMessage,
    SessionInit,
    TranslationResult,
    Utterance,
)

MAX_INIT_CHARS = 16 * 1024
"""Longest `session_init`; its texts are kept as long as the session, and real ones have 500 characters."""

CHECKED_AT_ONCE = 100
"""Sessions that are told of languages that came or went, before others have their turn."""

KEPT_WHEN_SHORT = 256 * 1024
"""Bytes of results kept for a client that can resume while memory is short."""

STOPPING = "the server is about to stop; connect again, and resume"

_CUT, _QUEUE, _SEND, _NODE, _REORDER, _TOTAL = (metrics.STAGE_SECONDS[stage] for stage in metrics.STAGES)

ENDED_BY = {reason: reason.value for reason in CutReason} | {CutReason.MANUAL: "send"}
"""What ended an utterance, as the metrics call it."""

logger = log.get(__name__)


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
        last: LastSessions,
        now: Callable[[], float],
    ) -> None:
        """`last` knows the sessions of the process that ran before; `now` is the clock, monotonic s."""
        self._jobs = jobs
        self._rules = rules
        self._clock = clock
        self._error_throttle_s = error_throttle_s
        self._budget = budget
        self._last = last
        self._now = now
        self._sessions = Registry(budget, limit)
        self.rooms = Rooms(rules.rooms, ids, clock)
        self._meetings = Meetings(self._sessions, self._tell_client, self._perform)

        def made(session_id: str, init: SessionInit, standing: Standing) -> Session:
            return Session(session_id, init, self._rules, ids, clock, standing, rooms=self.rooms)

        self.redeem: Redeem | None = None
        """Asks the other instances for a pairing code, if there are any."""
        self._takeover = Takeover(self._sessions, made, self._forget, self._perform, limit, now)
        self._reception = Reception(
            self._sessions,
            jobs,
            lambda init, standing: made(ids.session(), init, standing),
            self._perform,
            limit,
            trusted,
            last,
            now,
        )
        self._availability = Availability(jobs)
        self._to_check: dict[str, None] = {}
        self._deadlines: Deadlines[str] = Deadlines()
        self._alarm = Alarm(self.due, self.tick)
        self._speech = Speech()
        self._over: Callable[[Job, ServiceTimings | None], object] | None = None
        metrics.SESSIONS.labels("attached").set_function(lambda: self._sessions.attached)
        metrics.SESSIONS.labels("detached").set_function(
            lambda: len(self._sessions) - self._sessions.attached
        )
        metrics.ROOMS.labels("rooms").set_function(lambda: len(self.rooms))
        metrics.ROOMS.labels("members").set_function(lambda: self.rooms.members)

    def join(self, elsewhere: Elsewhere) -> Takeover:
        """Sessions may go on at other instances; to be called before any begins."""
        self._takeover.elsewhere = elsewhere
        return self._takeover

    def meet(self, mail: Mail) -> Callable[[list[RoomOutput]], None]:
        """Rooms have members at other instances; gives what carries out what they bring about."""
        self._meetings.mail = mail
        return self._meetings.perform_all

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def attached(self) -> int:
        """Sessions with a connection."""
        return self._sessions.attached

    def seen(self) -> Iterator[tuple[Session, bool, str]]:
        """Every session, whether it has a connection, and the room it is in, or ""."""
        for entry in self._sessions:
            room = self.rooms.of(entry.session.id)
            yield entry.session, entry.connection is not None, "" if room is None else room.id

    def paired_with(self, node_id: str) -> list[str]:
        """Ids of the sessions that only this node serves."""
        return [entry.session.id for entry in self._sessions if entry.session.node_id == node_id]

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
                if not isinstance(frame, str):
                    self.take_binary(connection, frame)
                elif (message := self._read(connection, frame)) is not None:
                    if isinstance(message, SessionInit):
                        await self._introduced(connection, message)
                    else:
                        self.hear(connection, message)
        finally:
            self.lost(connection)

    def connected(self, link: Link) -> SocketConnection:
        """A client connected; gateways break on pings, so it gets none before it says who it is."""
        link.may_ping = False
        return SocketConnection(link, self._error_throttle_s, self._now)

    def change_rules(self, rules: SessionRules) -> None:
        """Rooms live by other rules from now on, and sessions that begin from now on."""
        self._rules = rules
        self.rooms.rules = rules.rooms

    def when_over(self, do: Callable[[Job, ServiceTimings | None], object]) -> None:
        """Say what is to be called when an utterance is over in a language, with what its node told."""
        self._over = do

    def finish(self, left_s: float) -> None:
        """The server stops in so long: cut what is buffered, and tell clients that can resume elsewhere.

        What goes on elsewhere is not cut.
        """
        now = self._now()
        for entry in self._sessions:
            session = entry.session
            outputs = [] if self._takeover.keeps(session) else session.finish(now)
            if session.recovery is not None:
                left_ms = round(left_s * 1000)
                outputs.append(Send(GoAway(session_id=session.id, time_left_ms=left_ms, message=STOPPING)))
            self._perform(entry, outputs)

    def abandon(self) -> None:
        """The server stops now: say which utterances have no result."""
        now = self._now()
        for entry in self._sessions:
            if not self._takeover.keeps(entry.session):
                self._perform(entry, entry.session.abandon(now))

    async def wait_gone(self) -> None:
        """Return when all have gone who can go on at another instance."""
        await self._takeover.wait_gone()

    async def remember(self) -> None:
        """Keep how far the sessions came, for those who ask after a restart."""
        sessions = [entry.session for entry in self._sessions]
        await self._last.save(sessions, self._clock.epoch_ms(self._now()) / 1000)

    def nodes_changed(self) -> None:
        """Nodes may have come or gone: sessions whose languages are affected will learn it."""
        self._to_check.update(dict.fromkeys(self._availability.changed(self._now())))
        self._alarm.moved()

    def resolve(self, job: Job, outcome: Outcome) -> None:
        """A job ended; its session gets the outcome, if it still exists."""
        now = self._now()
        self._tell(job, lambda session: session.resolve(job, outcome, now))
        # A text is over when it leaves, which may be later; without a session it never does.
        if self._over is not None and (
            outcome.result is None or job.request.session_id not in self._sessions
        ):
            self._over(job, None)

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
            self._perform(entry, news(entry.session))

    async def _introduced(self, connection: Connection, init: SessionInit) -> None:
        """A client says hello; other instances may have its session, or know its pairing code."""
        await self._takeover.look_for(connection, init)
        code, node_id = paired_by(init), None
        named = (init.resume.session_id if init.resume is not None else None) or ""
        if code and named not in self._sessions and self.redeem is not None:
            node_id = await self.redeem(code, origin_of(connection.address))
        self._open(connection, init, node_id)

    def take(self, connection: Connection, frame: str) -> None:
        """One frame of a client; no await, so its effects are complete before the next is read."""
        if (message := self._read(connection, frame)) is not None:
            self.hear(connection, message)

    def _read(self, connection: Connection, frame: str) -> ClientMessage | None:
        """The message of a frame; None if it makes no sense, which its sender is told."""
        try:
            message = codec.client_messages.decode(frame)
        except WireError as error:
            connection.refuse(error.code, str(error), error.field)
            if self._is_gateways(connection, frame):
                # it skips errors and waits for ever; a closed socket it takes for a failure (1.11)
                connection.close(CloseReason.UNUSABLE_MESSAGE)
            return None
        metrics.child(metrics.MESSAGES, "session", type(message).__struct_config__.tag).inc()
        if isinstance(message, SessionInit) and len(frame) > MAX_INIT_CHARS:
            problem = f"session_init is longer than {MAX_INIT_CHARS} characters"
            connection.refuse(ErrorCode.INVALID_MESSAGE, problem)
            return None
        return message

    def hear(self, connection: Connection, message: ClientMessage) -> None:
        """One message of a client."""
        if isinstance(message, SessionInit):
            self._open(connection, message)
            return
        session = connection.session or self._reception.adopted(connection, message)
        if session is None:
            self._reception.turn_away(connection, message)
            return
        now = self._now()
        # a gateway would take it for the answer to its call
        if self._budget.over and isinstance(message, AudioChunk | Utterance) and not session.is_gateway:
            connection.pause()
        self._perform(self._sessions[session.id], session.handle(message, now))

    def take_binary(self, connection: Connection, frame: bytes) -> None:
        """A binary frame; without effect if its session did not agree to them (session-protocol 1.7.3)."""
        session, now = connection.session, self._now()
        if session is None or not session.binary:
            return
        metrics.child(metrics.MESSAGES, "session", "binary").inc()
        try:
            audio = binary.decode(frame, self._clock.epoch_ms(now))
            if audio is None:
                return
            if audio.session_id != session.id:
                raise WireError(
                    ErrorCode.INVALID_SESSION, "session_id is not this connection's session", "session_id"
                )
        except WireError as error:
            connection.refuse(error.code, str(error), error.field)
            return
        self.hear_audio(
            connection, audio.audio, audio.seq, final=audio.is_final, client_ms=audio.client_timestamp_ms
        )

    def hear_audio(
        self, connection: Connection, audio: bytes, seq: int, *, final: bool, client_ms: int | None = None
    ) -> None:
        """Some streamed audio of a client that has a session, Plan A or PCM16 at 16 kHz."""
        session = connection.session
        assert session is not None, "there is one"
        if self._budget.over:
            connection.pause()
        outputs = session.audio(audio, seq=seq, final=final, client_ms=client_ms, now=self._now())
        self._perform(self._sessions[session.id], outputs)

    def finish_speech(self, connection: Connection) -> None:
        """Cut what a client has streamed so far; nothing more will come."""
        session = connection.session
        if session is not None:
            self._perform(self._sessions[session.id], session.finish(self._now()))

    def _open(self, connection: Connection, message: SessionInit, node_id: str | None = None) -> None:
        """A client says hello; a second time on the same socket it ends its first session (1.4)."""
        before = connection.session
        if before is not None and not (message.resume and before.opens(message.resume)):
            self._perform(self._sessions[before.id], before.end(self._now()))
        self._reception.welcome(connection, message, node_id)

    def _is_gateways(self, connection: Connection, frame: str) -> bool:
        """Whether a frame that cannot be read is of a gateway."""
        if connection.session is not None:
            return connection.session.is_gateway
        entry = self._sessions.get(codec.session_named(frame))
        return entry is not None and entry.session.is_gateway

    def _perform(self, entry: Entry, outputs: list[Output]) -> None:
        """Do everything in order; what a submission brings at once comes after what was decided before."""
        session = entry.session
        if entry.performing is not None:
            entry.performing += outputs
            return
        entry.performing = outputs
        try:
            for output in outputs:
                if session.id not in self._sessions:
                    break
                self._do(entry, output)
        finally:
            entry.performing = None
        if session.id in self._sessions:
            if session.recovery is not None and self._budget.over:
                session.recovery.spare(KEPT_WHEN_SHORT)
            self._sessions.count(entry, session.buffered_bytes)
            self._deadlines.set(session.id, session.due())
            self._alarm.moved()
            self._takeover.note(entry)

    def _do(self, entry: Entry, output: Output) -> None:
        match output:
            case Send():
                if isinstance(output.message, MissingResult):
                    _count_gap(output.message)
                self._tell_client(entry, output.message, output.optional)
            case Submit():
                if output.request.for_speaker:
                    metrics.child(metrics.FINALIZED, ENDED_BY[output.request.reason]).inc()
                self._jobs.submit(output.request, output.audio)
            case Delivered():
                times = output.times
                _CUT.observe(times.cut_ms / 1000)
                _QUEUE.observe(times.queue_ms / 1000)
                _SEND.observe(times.send_ms / 1000)
                _NODE.observe(times.node_ms / 1000)
                _REORDER.observe(times.reorder_ms / 1000)
                _TOTAL.observe(times.total_ms / 1000)
                if self._over is not None:
                    self._over(output.job, output.timings)
            case Tell() | Renumber() | Post() | Claim() | Seek() | TakeOver() | Release():
                self._meetings.perform(output)
            case Check() if entry.connection is not None:
                for event in self._availability.check(entry.session, self._now()):
                    self._tell_client(entry, event.message, event.optional)
            case LetGo():
                self._sessions.detach(entry)
            case Ended():
                self._end(entry)

    def _tell_client(self, entry: Entry, message: ServerMessage, optional: bool) -> None:
        """Send it, if there is a connection; a client that can resume gets results later."""
        message, connection = entry.session.outgoing(message), entry.connection
        if entry.session.recovery is not None:
            self._sessions.count(entry, entry.session.buffered_bytes)
        if connection is None:
            return
        if isinstance(message, AudioAck) and self._takeover.holds(entry, message):
            return
        if isinstance(message, ErrorMessage):
            connection.complain(message)
        elif (
            isinstance(message, TranslationResult)
            and isinstance(connection, SocketConnection)
            and self._plays_only_pcm16(entry.session)
        ):
            connection.link.send(self._speech.playable(message), optional)
        else:
            connection.send(message, optional)

    def _plays_only_pcm16(self, session: Session) -> bool:
        return plays_only_pcm16(session.platform, self.rooms.of(session.id) is not None)

    def due(self) -> float | None:
        """When `tick` has something to do, monotonic s."""
        return self._now() if self._to_check else earliest(self._deadlines.due(), self.rooms.due())

    def tick(self, now: float) -> None:
        """Do what became due; a bug in one session ends that session, not the timer of all."""
        while (session_id := self._deadlines.pop(now)) is not None:
            entry = self._sessions[session_id]
            try:
                self._perform(entry, entry.session.tick(now))
            except Exception as error:
                metrics.LINK_CRASHES.labels("session").inc()
                logger.error("session_crashed", session=session_id, exc_info=error)
                self._crashed(session_id)
        self._meetings.perform_all(self.rooms.tick(now))
        # not all at once: thousands may speak the language of the node that came
        for _ in range(min(CHECKED_AT_ONCE, len(self._to_check))):
            session_id = next(iter(self._to_check))
            del self._to_check[session_id]
            if session_id in self._sessions:
                self._perform(self._sessions[session_id], [Check()])

    def _crashed(self, session_id: str) -> None:
        entry = self._sessions.get(session_id)
        if entry is None:
            return
        if entry.connection is not None:
            entry.connection.close(CloseReason.INTERNAL_ERROR)
        self._end(entry)

    def lost(self, connection: Connection) -> None:
        """The socket is gone; the session stays for its grace."""
        session = connection.session
        if session is None:
            return
        entry = self._sessions[session.id]
        self._sessions.detach(entry)
        logger.info("session_detached", session=session.id, link=connection.id)
        self._perform(entry, session.detach(self._now()))
        self._takeover.left()

    def _end(self, entry: Entry) -> None:
        """A session is over."""
        self._takeover.ended(entry.session)
        self._forget(entry)

    def _forget(self, entry: Entry, moved: bool = False) -> None:
        """Forget a session and cancel its jobs; one that `moved` goes on at another instance."""
        session = entry.session
        self._sessions.remove(entry)
        self._takeover.left()
        self._deadlines.set(session.id, None)
        self._availability.forget(session.id)
        left = self.rooms.moved(session.id, self._now()) if moved else self.rooms.ended(session.id)
        self._meetings.perform_all(left)
        self._jobs.session_ended(session.id)
        metrics.EMPTY_FINALS.inc(session.empty_finals)
        metrics.REPEATED_UTTERANCES.inc(session.repeated_utterances)
        logger.info(
            "session_ended",
            session=session.id,
            malformed_chunks=session.malformed_chunks,
            overlong_chunks=session.overlong_chunks,
            dropped_silence_ms=session.dropped_silence_ms,
            dropped_speech_ms=session.dropped_speech_ms,
            repeated_chunks=session.repeated_chunks,
        )


def _count_gap(message: MissingResult) -> None:
    if message.reason == MissingReason.GAP_TIMEOUT:
        metrics.GAP_TIMEOUTS.inc()
