"""A room as instances tell each other of it (resolution 50)."""

from __future__ import annotations

from msgspec import Struct


class MemberRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A member of a room."""

    session_id: str
    home: str
    """The instance that has its session; "" while nobody has, and its client may come back."""
    joined_at: str
    speaks: str
    hears: str
    display_name: str | None = None
    preferred_lang: str | None = None
    raw_voice: dict[str, bool] = {}
    keeps: bool = False
    """Whether its seat is kept for a while when its instance is gone."""


class RoomRecord(Struct, frozen=True, kw_only=True):
    """A room as its owner sees it; a copy with a higher (epoch, version) is newer."""

    id: str
    code: str
    owner: str
    epoch: int
    """Of the ownership; the owner in Redis has the highest."""
    version: int
    members: list[MemberRecord]
    """In the order in which they joined."""
