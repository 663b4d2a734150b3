"""What a link may take and wait for, and what is to be known about it."""

from __future__ import annotations

import msgspec

from linguad.net.redis.circuit import State


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a link may take and wait for."""

    connect_seconds: float = 5.0
    """Name, TCP, TLS and login together."""
    command_seconds: float = 3.0
    """From the call to the reply; a server that is slower is taken for lost."""
    pending: int = 10_000
    """Commands that wait for their replies."""
    unsent_bytes: int = 64 * 1024 * 1024
    """Commands that the connection has not taken yet."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of a link, for status pages."""

    name: str
    state: State
    server: str
    """Address without user and password, "" before the first attempt."""
    version: str
    """Of Redis; "" while it is away."""
    reason: str
    """Why it is away; "" while it is not."""
    failures: int
    """Attempts in a row that came to nothing."""
    pending: int
    unsent_bytes: int
