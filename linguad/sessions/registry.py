"""The sessions of this instance, the connection of each, and what is counted of them."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from linguad.core.outputs import Output
from linguad.core.session import Session
from linguad.net.outbox import Budget
from linguad.sessions.connection import Connection
from linguad.sessions.limit import SessionLimit
from linguad.wire.session import AudioAck


class Entry(Struct, eq=False):
    """A session, its connection while it has one, and what is counted for it."""

    session: Session
    address: str
    connection: Connection | None = None
    held_bytes: int = 0
    """Its part of the budget: audio that no job has yet, and results kept for it."""
    stamp: tuple[object, ...] = ()
    """Of what other instances were told of it last."""
    untold: AudioAck | None = None
    """Audio that its client may forget as soon as other instances know."""
    performing: list[Output] | None = None
    """What is being done for it; more may be added meanwhile."""


class Registry:
    """Mutable state: all sessions by id; a detached one has no connection."""

    def __init__(self, budget: Budget, limit: SessionLimit) -> None:
        self._budget = budget
        self._limit = limit
        self._entries: dict[str, Entry] = {}
        self.attached = 0
        """Sessions with a connection."""

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """All of them, as they are now."""
        return iter(list(self._entries.values()))

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._entries

    def __getitem__(self, session_id: str) -> Entry:
        return self._entries[session_id]

    def get(self, session_id: str) -> Entry | None:
        """The session of this id, if there is one."""
        return self._entries.get(session_id)

    def add(self, session: Session, connection: Connection) -> Entry:
        """A session begins on a connection."""
        entry = self.add_detached(session, connection.address)
        self.attach(entry, connection)
        return entry

    def add_detached(self, session: Session, address: str) -> Entry:
        """A session is here, for which no connection speaks yet; its client is at `address`."""
        entry = self._entries[session.id] = Entry(session, address)
        self._limit.add(address)
        return entry

    def attach(self, entry: Entry, connection: Connection) -> Connection | None:
        """A connection speaks for the session from now on; returns the one that did before."""
        before = self.detach(entry)
        entry.connection, connection.session = connection, entry.session
        self.attached += 1
        return before

    def detach(self, entry: Entry) -> Connection | None:
        """No connection speaks for the session any more; returns the one that did."""
        before, entry.connection = entry.connection, None
        if before is not None:
            before.session, before.former = None, entry.session.id
            self.attached -= 1
        return before

    def count(self, entry: Entry, held_bytes: int) -> None:
        """The session holds so many bytes now."""
        self._budget.take(held_bytes - entry.held_bytes)
        entry.held_bytes = held_bytes

    def remove(self, entry: Entry) -> None:
        """A session is over."""
        del self._entries[entry.session.id]
        self.count(entry, 0)
        self._limit.remove(entry.address)
        self.detach(entry)
