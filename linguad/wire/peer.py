"""How an instance is known to the others: the JSON under `{i:<instance>}:alive`."""

from __future__ import annotations

from typing import Self

import msgspec
from msgspec import Struct


class Peer(Struct, frozen=True, kw_only=True):
    """One instance as it says of itself with every heartbeat."""

    instance: str
    boot: str
    """Random, made at the start of the process."""
    hostname: str = ""
    pid: int = 0
    version: str = ""
    address: str = ""
    """Where operators reach its HTTP; "" if it was not told."""
    started_at_ms: int = 0
    draining: bool = False
    """It finishes what it has and takes no new work."""
    nodes: int = 0
    """Nodes with a socket there."""
    sessions: int = 0
    """Sessions that live there."""

    @classmethod
    def read(cls, instance: str, sign: bytes) -> Self:
        """The peer of a sign of life. One that cannot be read, as of a far newer version, lives as well."""
        try:
            return msgspec.json.decode(sign, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return cls(instance=instance, boot="unreadable")
