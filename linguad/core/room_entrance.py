"""How sessions enter rooms of other instances, and open ones whose code nobody else has (resolution 50).

Both take a question to Redis, and an answer of the owner; until then nothing has changed for the session.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from linguad.core.clock import Clock
from linguad.core.deadlines import earliest
from linguad.core.ids import Ids
from linguad.core.room import Claim, Guest, Member, RoomOutput, Seek, error
from linguad.core.room_table import RoomTable
from linguad.errors import ErrorCode
from linguad.wire.letters_rooms import RoomRefused
from linguad.wire.moment import rfc3339
from linguad.wire.room import RoomCreate, RoomJoin

if TYPE_CHECKING:
    from linguad.core.room_sharing import Sharing
    from linguad.core.rooms import Rooms

ENTER_S = 5.0
"""How long a client waits to enter a room of another instance, s."""

TRIES = 3
"""Codes that are tried for a new room before there is none."""

APART = "rooms of other instances cannot be reached now; try again later"


class Entering(Struct):
    """A session that wants to enter, and until when."""

    guest: Guest
    message: RoomCreate | RoomJoin
    until: float
    code: str
    room_id: str = ""
    member: Member | None = None
    """What it will be, once it is known where."""
    owner: str = ""
    tries: int = 1


class Entrance:
    """Mutable state: the sessions that want to enter, one room each at most."""

    def __init__(self, rooms: Rooms, table: RoomTable, clock: Clock, ids: Ids, sharing: Sharing) -> None:
        self._rooms = rooms
        self._table = table
        self._clock = clock
        self._ids = ids
        self._sharing = sharing
        self._entering: dict[str, Entering] = {}

    def waiting_for(self, room_id: str) -> Mapping[str, Entering]:
        """Those that the owner of this room was asked for."""
        return {
            session_id: wanted
            for session_id, wanted in self._entering.items()
            if wanted.room_id == room_id and wanted.member is not None
        }

    def claim(self, guest: Guest, message: RoomCreate, code: str, now: float) -> list[RoomOutput]:
        """A session wants a room of its own; nobody else may have its code."""
        wanted = Entering(guest, message, now + ENTER_S, code, self._ids.uuid())
        self._entering[guest.session_id] = wanted
        return [Claim(guest.session_id, code, wanted.room_id)]

    def claimed(self, session_id: str, room_id: str, epoch: int | None, now: float) -> list[RoomOutput]:
        """The code is ours, with 0 another's; with None nobody knows, and the room is for this instance."""
        wanted = self._entering.get(session_id)
        if wanted is None or wanted.room_id != room_id:
            return []
        if epoch == 0 and wanted.tries < TRIES:
            wanted.tries += 1
            wanted.code = self._ids.room_code()
            return [Claim(session_id, wanted.code, room_id)]
        del self._entering[session_id]
        if epoch == 0 or wanted.code in self._table.by_code:
            return [error(session_id, ErrorCode.NODE_OVERLOADED, "there are too many rooms")]
        outputs = self._rooms.open(room_id, wanted.code, wanted.guest, wanted.message, now)
        self._table.by_id[room_id].epoch = epoch or 0
        return outputs

    def seek(self, guest: Guest, message: RoomJoin, code: str, now: float) -> list[RoomOutput]:
        """A session wants to enter a room that is not ours."""
        if not self._sharing.up:
            return [error(guest.session_id, ErrorCode.SCHEDULER_DEPENDENCY_DOWN, APART)]
        self._entering[guest.session_id] = Entering(guest, message, now + ENTER_S, code)
        return [Seek(guest.session_id, code)]

    def found(self, session_id: str, code: str, room_id: str, owner: str, now: float) -> list[RoomOutput]:
        """Who owns the room of a code; without an id nobody does."""
        wanted = self._entering.get(session_id)
        if wanted is None or wanted.code != code:
            return []
        room = self._table.by_id.get(room_id)
        if owner == self._sharing.me and room is not None:
            # it has become ours meanwhile
            del self._entering[session_id]
            return self._rooms.handle(wanted.guest, wanted.message, now)
        if not room_id or not self._sharing.is_alive(owner):
            del self._entering[session_id]
            return self._rooms.wrong_code(wanted.guest, now)
        wanted.room_id, wanted.owner = room_id, owner
        joined_at = rfc3339(self._clock.epoch_ms(now))
        wanted.member = self._rooms.member(wanted.guest, wanted.message, joined_at)
        return [self._sharing.mine(owner, room_id, code, room)]

    def give_up(self, session_id: str) -> None:
        """A session does not want to enter any more."""
        self._entering.pop(session_id, None)

    def refused(self, letter: RoomRefused) -> list[RoomOutput]:
        """A session may not enter."""
        wanted = self._entering.get(letter.session)
        if wanted is None or wanted.room_id != letter.room:
            return []
        del self._entering[letter.session]
        return [error(letter.session, ErrorCode(letter.code))]

    def unknown(self, room_id: str, owner: str) -> list[RoomOutput]:
        """Whom we took for the owner of a room is not."""
        outputs: list[RoomOutput] = []
        for session_id, wanted in self.waiting_for(room_id).items():
            if wanted.owner == owner:
                del self._entering[session_id]
                outputs.append(error(session_id, ErrorCode.ROOM_NOT_FOUND))
        return outputs

    def due(self) -> float | None:
        """When `tick` has something to do, monotonic s."""
        due: float | None = None
        for wanted in self._entering.values():
            due = earliest(due, wanted.until)
        return due

    def tick(self, now: float) -> list[RoomOutput]:
        """Wait no longer for answers that do not come."""
        late = [session_id for session_id, wanted in self._entering.items() if wanted.until <= now]
        for session_id in late:
            del self._entering[session_id]
        return [error(session_id, ErrorCode.SCHEDULER_DEPENDENCY_DOWN, APART) for session_id in late]
