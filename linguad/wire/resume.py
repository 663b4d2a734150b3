"""What one instance writes down of a session, so that another can go on with it (resolution 49)."""

from __future__ import annotations

from msgspec import Struct

from linguad.wire.room_record import RoomRecord
from linguad.wire.session import SessionInit


class Stretch(Struct, frozen=True, array_like=True):
    """Streamed audio that was cut: the utterance it became, and from which byte of the session to which."""

    index: int
    start: int
    end: int
    reason: str
    """Why it ended there, a `CutReason`."""
    delivery: int = 0
    """The number of its result; 0 if it has none yet."""


class SeatRecord(Struct, frozen=True, omit_defaults=True):
    """The seat of a session in a room."""

    room: RoomRecord
    next_number: int = 0
    """The lowest utterance index that its client has not seen."""


class SessionRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One session that can be resumed; no audio, no texts, and of its token the hash only."""

    init: SessionInit
    """What it would begin with now: its languages, features and formats."""
    token_hash: str
    trace_id: str
    tenant: str
    epoch: int = 0
    """Of the lease with which it was taken over; 0 as it is written."""
    node_id: str = ""
    """The node it is paired with."""
    key_id: str = ""
    next_index: int = 0
    delivery: int = 0
    """Number of its last result."""
    seq: int = -1
    """The last chunk that the client may have forgotten."""
    size: int = 0
    """Bytes of audio up to the end of that chunk."""
    cut_bytes: int = 0
    """Bytes of audio behind which nothing was cut yet."""
    cut: list[Stretch] = []
    """What was cut and has no result that the client is known to have, in order."""
    seat: SeatRecord | None = None
