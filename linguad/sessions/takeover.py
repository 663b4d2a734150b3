"""Sessions that go on at another instance: what the others are told of ours, and what is taken of theirs.

Nothing here waits but the one question of a client that names a session which is not here (resolution 49).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio

from linguad import log, metrics
from linguad.core.outputs import Output
from linguad.core.requests import Standing
from linguad.core.session import Session
from linguad.errors import CloseReason
from linguad.net.peer import origin_of
from linguad.sessions.connection import Connection
from linguad.sessions.limit import SessionLimit
from linguad.sessions.registry import Entry, Registry
from linguad.wire.resume import SessionRecord
from linguad.wire.session import AudioAck, Resume, SessionInit

logger = log.get(__name__)


class Elsewhere(Protocol):
    """Where all instances keep what they know of their sessions."""

    @property
    def up(self) -> bool:
        """Whether it can be reached."""
        ...

    def changed(self, session_id: str) -> None:
        """What is kept of a session of ours is not true any more."""
        ...

    def ended(self, session_id: str) -> None:
        """A session of ours is over."""
        ...

    async def take(self, session_id: str, token: str) -> SessionRecord | None:
        """Take a session over, if it is kept and this is its token; in about a second at most."""
        ...


class Takeover:
    """Between the sessions of this instance and those that had them before, or have them after."""

    def __init__(
        self,
        sessions: Registry,
        restored: Callable[[str, SessionInit, Standing], Session],
        forget: Callable[[Entry, bool], None],
        perform: Callable[[Entry, list[Output]], None],
        limit: SessionLimit,
        now: Callable[[], float],
    ) -> None:
        """`now` is the clock, monotonic s."""
        self.elsewhere: Elsewhere | None = None
        """Other instances; None if this one is alone."""
        self._sessions = sessions
        self._restored = restored
        self._forget = forget
        self._perform = perform
        self._limit = limit
        self._now = now
        self._left: trio.Event | None = None

    async def look_for(self, connection: Connection, init: SessionInit) -> None:
        """A client that names a session which is not here; if another instance had it, it is here then."""
        resume = init.resume or Resume()
        session_id, token = resume.session_id or "", resume.resume_token or ""
        if self.elsewhere is None or not session_id or not token or session_id in self._sessions:
            return
        if self._limit.refusal(connection.address):
            return
        record = await self.elsewhere.take(session_id, token)
        # another connection of the same client may have asked as well
        if record is None or session_id in self._sessions:
            return
        standing = Standing(
            tenant=record.tenant,
            node_id=record.node_id,
            origin=origin_of(connection.address),
            key_id=record.key_id,
            lane=f"{session_id}~i{record.epoch}",
        )
        session = self._restored(session_id, record.init, standing)
        entry = self._sessions.add_detached(session, connection.address)
        outputs = session.go_on(record, resume, self._now())
        metrics.SESSIONS_TAKEN.labels("taken").inc()
        logger.info("session_taken", session=session_id, link=connection.id)
        self._perform(entry, [*outputs, *session.detach(self._now())])

    def note(self, entry: Entry) -> None:
        """Something was done for a session; others are told if it matters to them."""
        if self.elsewhere is None or entry.session.recovery is None:
            return
        stamp = entry.session.stamp
        if stamp != entry.stamp:
            entry.stamp = stamp
            self.elsewhere.changed(entry.session.id)

    def ended(self, session: Session) -> None:
        """A session is over."""
        if self.elsewhere is not None and session.recovery is not None:
            self.elsewhere.ended(session.id)

    def keeps(self, session: Session) -> bool:
        """Whether its client can go on elsewhere, so that nothing has to end here."""
        return self.is_up and session.recovery is not None

    @property
    def is_up(self) -> bool:
        """Whether other instances can be reached, if there are any."""
        return self.elsewhere is not None and self.elsewhere.up

    async def wait_gone(self) -> None:
        """Return when no client is left that can go on elsewhere."""
        while any(entry.connection is not None and self.keeps(entry.session) for entry in self._sessions):
            self._left = trio.Event()
            await self._left.wait()

    def left(self) -> None:
        """A client is gone."""
        if self._left is not None:
            self._left.set()

    def holds(self, entry: Entry, ack: AudioAck) -> bool:
        """Whether its client is to be told later: what it forgets, the others must not ask for."""
        if self.is_up:
            entry.untold = ack
        return self.is_up

    # What the keeper of the records asks

    def all(self) -> list[str]:
        """The sessions that others may take."""
        return [entry.session.id for entry in self._sessions if entry.session.recovery is not None]

    def record(self, session_id: str) -> SessionRecord | None:
        """What others need to know of a session; None if it is over."""
        entry = self._sessions.get(session_id)
        if entry is None or entry.session.closed or entry.session.recovery is None:
            return None
        return entry.session.record()

    def left_s(self, session_id: str) -> float | None:
        """How long a session is still kept; None while there is a connection."""
        entry = self._sessions.get(session_id)
        if entry is None:
            return 0.0
        return entry.session.kept_for(self._now())

    def saved(self, session_id: str, record: SessionRecord) -> None:
        """The others know this now."""
        entry = self._sessions.get(session_id)
        if entry is None or entry.untold is None or entry.untold.seq > record.seq:
            return
        ack, entry.untold = entry.untold, None
        if entry.connection is not None:
            entry.connection.send(ack, optional=True)

    def lost(self, session_id: str) -> None:
        """Another instance has it now; our copy ends without a word to anybody else."""
        entry = self._sessions.get(session_id)
        if entry is None:
            return
        if entry.connection is not None:
            entry.connection.close(CloseReason.SUPERSEDED)
        metrics.SESSIONS_TAKEN.labels("lost").inc()
        logger.info("session_lost", session=session_id)
        self._forget(entry, True)
