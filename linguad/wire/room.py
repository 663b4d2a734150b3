"""Messages about rooms and between their members on `/ws/session` (session-protocol 2.2.8, 2.2.9, 2.4)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Raw, field

from linguad.wire.common import MANY, Int, Short, Wire


class RoomCreate(Wire, frozen=True, tag="room_create"):
    """Open a room and be its first member (session-protocol 2.2.8)."""

    client_ts: Int
    display_name: Short | None = None
    preferred_lang: Short | None = None


class RoomJoin(Wire, frozen=True, tag="room_join"):
    """Enter a room by its code."""

    room_code: Short
    display_name: Short | None = None
    preferred_lang: Short | None = None


class RoomLeave(Wire, frozen=True, tag="room_leave"):
    """Leave a room; there is no reply."""

    room_code: Short


class RoomRawVoicePreference(Wire, frozen=True, tag="room_raw_voice_preference"):
    """Whether the sender wants the raw voice of another member."""

    room_code: Short
    target_session_id: Short
    receive_raw_voice: bool


class WebrtcOffer(Wire, frozen=True, tag="webrtc_offer"):
    """Signalling, relayed untouched but for `to` (session-protocol 2.2.9)."""

    room_code: Short
    to: Short
    sdp: Raw


class WebrtcAnswer(Wire, frozen=True, tag="webrtc_answer"):
    """Signalling, relayed untouched but for `to`."""

    room_code: Short
    to: Short
    sdp: Raw


class WebrtcIce(Wire, frozen=True, tag="webrtc_ice"):
    """Signalling, relayed untouched but for `to`."""

    room_code: Short
    to: Short
    candidate: Raw


class RemoteSpeakingStart(Wire, frozen=True, tag="remote_speaking_start"):
    """A member began to speak; the server says itself `from` whom it relays this to the others.

    Documented for the earlier clients (session-protocol 2.3); `ts_ms` is the sender's epoch.
    """

    room_code: Short
    ts_ms: Int
    from_: Short | None = field(default=None, name="from")


class RemoteSpeakingEnd(Wire, frozen=True, tag="remote_speaking_end"):
    """A member stopped speaking; like `remote_speaking_start`."""

    room_code: Short
    ts_ms: Int
    from_: Short | None = field(default=None, name="from")


class RoomCreateAck(Wire, frozen=True, tag="room_create_ack"):
    """You are in this room (also sent to joiners, session-protocol 6.3)."""

    room_code: Short
    room_id: Short | None = None


class RoomMember(Wire, frozen=True):
    """A member of a room; `joined_at` is RFC 3339."""

    participant_id: Short
    session_id: Short
    raw_voice_preferences: Annotated[dict[Short, bool], MANY]
    joined_at: Short
    display_name: Short | None = None
    preferred_lang: Short | None = None


class RoomMembers(Wire, frozen=True, tag="room_members"):
    """All members of a room, in the order they joined."""

    room_code: Short
    members: Annotated[list[RoomMember], MANY]


class RoomError(Wire, frozen=True, tag="room_error"):
    """A room request failed."""

    code: Short
    message: str | None = None


class RoomExpired(Wire, frozen=True, tag="room_expired"):
    """Nobody spoke for too long; the room is gone."""

    room_code: Short
    message: str
