"""All rooms that this instance knows, and the room of each of its sessions."""

from __future__ import annotations

from collections.abc import Iterator

from linguad.core.deadlines import Deadlines
from linguad.core.room import HERE, Member, Room


class RoomTable:
    """Mutable state: rooms by code and id, whose session is in which, and how far each one's numbers went."""

    def __init__(self) -> None:
        self.by_code: dict[str, Room] = {}
        self.by_id: dict[str, Room] = {}
        self.of: dict[str, Room] = {}
        """The room of each session of this instance that is in one."""
        self.next_number: dict[str, int] = {}
        """Lowest index that the client of a session has not seen, if it was ever in a room."""
        self.deadlines: Deadlines[str] = Deadlines()
        """When rooms of ours end because nobody speaks, by id."""

    def __iter__(self) -> Iterator[Room]:
        return iter(list(self.by_id.values()))

    def add(self, room: Room) -> None:
        """A room is known from now on."""
        self.by_id[room.id] = room
        self.by_code.setdefault(room.code, room)

    def close(self, room: Room) -> None:
        """A room is not known any more."""
        self.by_id.pop(room.id, None)
        if self.by_code.get(room.code) is room:
            del self.by_code[room.code]
        self.deadlines.set(room.id, None)

    def seat(self, room: Room, member: Member, next_index: int) -> None:
        """A session of this instance is in a room."""
        session_id = member.session_id
        member.home = HERE
        room.members[session_id] = member
        self.of[session_id] = room
        self.next_number[session_id] = max(self.next_number.get(session_id, 0), next_index)

    def active(self, room: Room, now: float, idle_s: float) -> None:
        """Somebody spoke, or entered."""
        room.active_at = max(room.active_at, now)
        if room.owner == HERE:
            self.deadlines.set(room.id, room.active_at + idle_s)
