"""Letters that instances send each other through their inboxes; msgpack, the kind is the tag."""

from __future__ import annotations

from msgspec import Struct


class Letter(Struct, frozen=True):
    """Base of all kinds."""
