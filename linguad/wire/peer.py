"""How an instance is known to the others: the JSON under `{i:<instance>}:alive`."""

from __future__ import annotations

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
