"""One socket of `/v1/stream`: carries out what its conversation decides (gateway 6, 8).

Tasks: the reader, which stops while the conversation has enough; the timer; and one that listens to the core
while there is a session. None of them awaits between a decision and its effects, with one exception: who it
is and whether it may have a session is asked outside, before the next message is read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Protocol

import trio
from msgspec import Struct
from msgspec.structs import replace

from linguad import log
from linguad.core.tenant import Caller, Tenant
from linguad.errors import CloseReason
from linguad.gateway.access.admission import Admission
from linguad.gateway.access.protect import Doorkeeper, Entry
from linguad.gateway.speech.mapping import NO_CAPACITY
from linguad.gateway.speech.talk import Talk, TalkEnded, Talks
from linguad.gateway.stream.actions import (
    Action,
    Authenticate,
    Close,
    HangUp,
    Open,
    Release,
    Say,
    Stream,
    Utter,
)
from linguad.gateway.stream.conversation import Conversation, Phase
from linguad.gateway.stream.mouth import Mouth
from linguad.gateway.stream.opening import Opening
from linguad.gateway.stream.rules import StreamRules
from linguad.gateway.stream.voices import Voices
from linguad.gateway.usage.budget import Tick, Verdict
from linguad.net.bell import Bell
from linguad.net.supervise import Alarm
from linguad.net.websocket import Link
from linguad.web.problems import Problem
from linguad.wire import codec
from linguad.wire.public import Ended, Error, Final, Spent, Start, Started, StreamAnswer, StreamMessage

STRANGER_MESSAGE_BYTES = 8 * 1024
"""Longest message of a socket that has not said who it is (gateway 11.4)."""

Hint = Callable[[str, str], Mapping[str, object]]
"""Tells what there is for a pair of languages, for those who are refused."""

Emit = Callable[[str, str, dict[str, object]], object]
"""Takes a tenant's id, the type of an event and its data."""

logger = log.get(__name__)


class Dialect(Protocol):
    """How the messages of a socket look."""

    start: Start | None
    """The session that begins by itself; there is only this one then."""
    pace: float
    """How many times the usual number of messages may come."""

    def read(self, frame: str) -> StreamMessage:
        """The message in a text frame. Raises WireError."""
        ...

    def ends(self, frame: bytes) -> bool:
        """Whether an utterance ends with the audio of a binary frame; each is shown once."""
        ...

    def write(self, message: StreamAnswer) -> str | None:
        """The text frame of a message; None if it is not told."""
        ...


class JsonDialect:
    """The messages of `wire.public`, as they are."""

    start: Start | None = None
    pace = 1.0

    def read(self, frame: str) -> StreamMessage:
        """The message in a text frame. Raises WireError."""
        return codec.stream_messages.decode(frame)

    def ends(self, frame: bytes) -> bool:
        """Only what says so ends an utterance."""
        return False

    def write(self, message: StreamAnswer) -> str | None:
        """The text frame of a message."""
        return codec.encode(message)


class Meter(Protocol):
    """What was charged, and what may be."""

    def tick(self, tenant: Tenant, session_id: str) -> Tick:
        """What a session has used until now."""
        ...

    def verdict(self, tenant: Tenant) -> Verdict:
        """Whether a stream of a tenant may go on."""
        ...


class Unmetered:
    """The meter of a server that does not count."""

    def tick(self, tenant: Tenant, session_id: str) -> Tick:
        """Nothing was used."""
        return Tick(audio_ms=0, billed_seconds=0)

    def verdict(self, tenant: Tenant) -> Verdict:
        """It may."""
        return Verdict()


class Visitor(Struct, frozen=True):
    """Who is at the other end of a socket, as far as the doorman found out."""

    entry: Entry
    request_id: str
    trace_id: str | None
    dialect: Dialect


class Desk(Struct, frozen=True):
    """What all sockets need."""

    doorkeeper: Doorkeeper
    admission: Admission
    talks: Talks
    voices: Voices
    rules: StreamRules
    meter: Meter
    hint: Hint
    emit: Emit


class StreamSocket:
    """Mutable: the caller once it is known, and the session with its slot while there is one."""

    def __init__(self, desk: Desk, link: Link, visitor: Visitor) -> None:
        self.caller: Caller | None = visitor.entry.caller
        self._desk = desk
        self._link = link
        self._visitor = visitor
        self._dialect = visitor.dialect
        rules = replace(
            desk.rules,
            messages_per_s=desk.rules.messages_per_s * self._dialect.pace,
            burst=round(desk.rules.burst * self._dialect.pace),
        )
        self._conversation = Conversation(
            rules,
            visitor.request_id,
            self.caller.tenant if self.caller else None,
            trio.current_time(),
            read=self._dialect.read,
            ends=self._dialect.ends,
            single=self._dialect.start is not None,
        )
        self._conversation.trace_id = visitor.trace_id
        self._alarm = Alarm(self._conversation.due, self._tick)
        self._changed = Bell()
        self._nursery: trio.Nursery | None = None
        self._session = ExitStack()
        """Ends the session, and gives its slot back."""
        self._outside: Callable[[], Awaitable[None]] | None = None
        """What others have to be asked before the next message is read."""
        self._mouth: Mouth | None = None
        """There is one while there is a session."""

    @property
    def phase(self) -> Phase:
        """What the socket is about."""
        return self._conversation.phase

    async def run(self) -> None:
        """Serve the socket until its client is gone."""
        if self.caller is None:
            self._link.limit_messages(STRANGER_MESSAGE_BYTES)
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._alarm.run)
            if self._dialect.start is not None:
                self._perform(self._conversation.hear(self._dialect.start, trio.current_time()))
                await self._wait_outside()
            async for frame in self._link:
                self._perform(self._conversation.take(frame, trio.current_time()))
                await self._wait_outside()
                if not self._reads and not await self._has_room():
                    break
            self._nursery.cancel_scope.cancel()

    def stop(self) -> None:
        """The server is about to stop."""
        self._perform(self._conversation.stop(trio.current_time()))

    def abandon(self) -> None:
        """The server stops now."""
        self._perform(self._conversation.abandon())

    def crashed(self) -> None:
        """A bug of ours ends it."""
        self._link.close(CloseReason.INTERNAL_ERROR)

    def expel(self, problem: Problem, reason: CloseReason) -> None:
        """The caller may not go on."""
        self._perform(self._conversation.expel(problem.code, problem.message, reason))

    def meter(self, tenant: Tenant) -> None:
        """Tell what the session is charged, and end it when its tenant may use no more for now."""
        dialogue = self._conversation.dialogue
        if self._mouth is None or dialogue is None:
            return
        verdict = self._desk.meter.verdict(tenant)
        if verdict.stop is not None:
            self.expel(verdict.stop, CloseReason.LIMIT_REACHED)
            return
        tick = self._desk.meter.tick(tenant, dialogue.session_id)
        spent = Spent(
            audio_ms=tick.audio_ms,
            billed_seconds=tick.billed_seconds,
            balance_seconds=tick.balance_seconds,
            left_seconds=verdict.left_seconds,
        )
        self._perform(self._conversation.metered(spent))

    def end(self) -> None:
        """The socket is over, however that came: whatever it holds is given back."""
        self._release()
        conversation, dialogue = self._conversation, self._conversation.dialogue
        closing = self._link.closing
        logger.info(
            "stream_closed",
            link=self._link.id,
            request_id=self._visitor.request_id,
            tenant=self.caller and self.caller.tenant.id,
            key_id=self.caller and self.caller.key_id,
            address=self._link.peer.address,
            reason=closing.label if closing else "client_gone",
            sessions=conversation.sessions,
            session=dialogue and dialogue.session_id,
            utterances=dialogue.utterances if dialogue else 0,
            audio_seconds=round(dialogue.audio_ms / 1000, 3) if dialogue else 0.0,
            seconds=round(trio.current_time() - self._link.opened_at, 3),
        )

    @property
    def _reads(self) -> bool:
        unsaid_bytes = self._mouth.waiting_bytes if self._mouth else 0
        return self._conversation.reads(trio.current_time(), unsaid_bytes)

    async def _has_room(self) -> bool:
        """Wait until more may be read; False if the client has gone meanwhile."""
        gone = False

        async def watch(waiting: trio.CancelScope) -> None:
            nonlocal gone
            await self._link.hung_up()
            gone = True
            waiting.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, nursery.cancel_scope)
            while not self._reads:
                await self._changed.wait()
            nursery.cancel_scope.cancel()
        return not gone

    async def _attend(self, talk: Talk, mouth: Mouth, scope: trio.CancelScope) -> None:
        """Speak and listen in one session, until it is released."""
        with scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(mouth.run)
                await self._listen(talk)
                nursery.cancel_scope.cancel()

    async def _listen(self, talk: Talk) -> None:
        while True:
            try:
                message = await talk.receive()
            except TalkEnded as ended:
                self._perform(self._conversation.over(ended.reason, trio.current_time()))
                return
            self._perform(self._conversation.news(message, trio.current_time()))

    def _tick(self, now: float) -> None:
        self._perform(self._conversation.tick(now))

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            self._do(action)
        self._alarm.moved()
        self._changed.ring()

    async def _wait_outside(self) -> None:
        """Ask others what has to be asked before the next message is read."""
        while (ask := self._outside) is not None:
            self._outside = None
            await ask()

    def _do(self, action: Action) -> None:
        match action:
            case Say():
                self._say(action)
            case Authenticate():
                self._outside = partial(self._authenticate, action.token)
            case Open():
                self._outside = partial(self._open, action.opening)
            case Utter() if self._mouth is not None:
                self._mouth.utter(action.audio)
            case Stream() if self._mouth is not None:
                self._mouth.stream(action.audio, final=action.final)
            case HangUp() if self._mouth is not None:
                self._mouth.hang_up()
            case Release():
                self._release()
            case Close():
                self._link.close(action.reason)

    def _say(self, said: Say) -> None:
        message, write = said.message, self._dialect.write
        if isinstance(message, Ended):
            self._tell("session.ended", {"reason": message.reason, "audio_ms": message.usage.audio_ms})
        dialogue = self._conversation.dialogue
        if isinstance(message, Final) and dialogue is not None:
            text = self._desk.voices.frame(
                message, dialogue.terms.output_format, lambda final: write(final) or ""
            )
            if text:
                self._link.send(text, said.optional)
            return
        if isinstance(message, Error) and message.code == NO_CAPACITY.code and dialogue is not None:
            spec = dialogue.opening.spec
            message = replace(message, details=self._desk.hint(spec.src_lang, spec.tgt_lang))
        frame = write(message)
        if frame is not None:
            self._link.send(frame, said.optional)
        if isinstance(message, Started):
            self._tell("session.started", {"src_lang": message.src_lang, "tgt_lang": message.tgt_lang})

    def _tell(self, kind: str, data: dict[str, object]) -> None:
        """An event for the tenant's webhooks."""
        dialogue = self._conversation.dialogue
        if self.caller is not None and dialogue is not None:
            known: dict[str, object] = {
                "session_id": dialogue.session_id,
                "request_id": self._visitor.request_id,
                "client_ref": dialogue.terms.client_ref,
            }
            self._desk.emit(self.caller.tenant.id, kind, known | data)

    async def _authenticate(self, token: str) -> None:
        try:
            entry = self._visitor.entry
            caller = await self._desk.doorkeeper.first_message(token, entry, self._link.peer)
        except Problem as problem:
            if self.phase is Phase.STRANGER:
                self._perform(self._conversation.rejected(problem))
            return
        if self.phase is not Phase.STRANGER:
            # over meanwhile
            return
        self.caller = caller
        self._link.limit_messages(self._desk.rules.max_message_bytes)
        self._perform(self._conversation.authenticated(self.caller.tenant, trio.current_time()))

    async def _open(self, opening: Opening) -> None:
        assert self.caller is not None, "strangers open nothing"
        assert self._nursery is not None, "the socket runs"
        problem: Problem | None = None
        with ExitStack() as session:
            try:
                hint = self._desk.hint(opening.spec.src_lang, opening.spec.tgt_lang)
                session.enter_context(await self._desk.admission.session(self.caller, hint))
                if self.phase is Phase.READY:
                    talk = session.enter_context(
                        self._desk.talks.open(self.caller, opening.spec, self._link.peer.address)
                    )
            except Problem as refused:
                problem = refused
            except TalkEnded:
                problem = _not_created()
            now = trio.current_time()
            if self.phase is not Phase.READY:
                # over meanwhile
                return
            if problem is not None:
                self._perform(self._conversation.not_opened(problem, now))
                return
            scope = trio.CancelScope()
            session.callback(scope.cancel)
            self._session = session.pop_all()
        self._mouth = Mouth(talk, opening.terms, self._changed.ring)
        self._nursery.start_soon(self._attend, talk, self._mouth, scope)
        self._perform(self._conversation.opened(opening, talk.session_id, talk.trace_id, now))

    def _release(self) -> None:
        self._mouth = None
        self._session.close()


def _not_created() -> Problem:
    message = "No session can be opened now; try again shortly."
    return Problem(NO_CAPACITY.status, "session_create_failed", message, retryable=True)
