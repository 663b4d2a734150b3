"""Letters about rooms whose members are at several instances (resolution 50).

They tell how things are, not what is to be done: each may be lost or come twice, the next one puts it right.
"""

from __future__ import annotations

from msgspec import field

from linguad.wire.letters import Letter
from linguad.wire.room_record import MemberRecord, RoomRecord


class RoomMine(Letter, frozen=True, tag="room_mine", kw_only=True):
    """Home to owner: these are all members of the room that are here, and those that want to enter."""

    room: str
    code: str
    number: int
    """Counts up, so that an older one changes nothing."""
    epoch: int
    version: int
    """What the home knows of the room; both 0 if nothing."""
    members: list[MemberRecord]
    moved: list[str] = field(default_factory=list)
    """Sessions that another instance goes on with."""
    quiet_s: float = 0.0
    """How long nobody here has spoken."""


class RoomIs(Letter, frozen=True, tag="room_is"):
    """Owner to homes: the room is like this now; without members it is gone."""

    room: RoomRecord
    expired: bool = False
    """It is gone because nobody spoke in it."""


class RoomRefused(Letter, frozen=True, tag="room_refused"):
    """Owner to home: this session may not enter; `code` is an error code of session-protocol 8."""

    room: str
    session: str
    code: str


class RoomUnknown(Letter, frozen=True, tag="room_unknown"):
    """To a home that takes us for the owner of a room: we are not."""

    room: str


class RoomHeard(Letter, frozen=True, tag="room_heard"):
    """Home of a speaker to another home: a result for those who listen in this language."""

    room: str
    language: str
    frame: str
    """The `translation_result`, as JSON."""


class RoomTold(Letter, frozen=True, tag="room_told"):
    """Home to home: what a member is told by another, as JSON."""

    room: str
    session: str
    frame: str
    optional: bool = False
