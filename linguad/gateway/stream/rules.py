"""Limits of a socket of `/v1/stream` (gateway 6, 12)."""

from __future__ import annotations

from msgspec import Struct


class StreamRules(Struct, frozen=True, kw_only=True):
    """Seconds, bytes and counts."""

    start_s: float = 10.0
    """How long a socket may be without a session, and a stranger without a credential."""
    idle_s: float = 300.0
    """How long a session may be without audio."""
    max_s: float = 14_400.0
    answer_s: float = 170.0
    """How long an utterance is waited for once the core has it."""
    max_inflight: int = 4
    backlog_bytes: int = 4 * 1024 * 1024
    """Audio that may wait for its turn before the socket is not read."""
    messages_per_s: float = 60.0
    burst: int = 120
    max_utterance_s: int = 30
    max_message_bytes: int = 2 * 1024 * 1024
