"""What becomes of each letter in our inbox. No I/O."""

from __future__ import annotations

from enum import StrEnum

from linguad.wire.letters import Envelope

MAX_ACCOUNTS = 4096
"""Senders' accounts of which the last number is known; one is new with each process that writes to us."""


class Verdict(StrEnum):
    """What becomes of a letter; the value is a label of metrics."""

    DELIVER = "delivered"
    DUPLICATE = "duplicate"
    EXPIRED = "expired"
    LATE_HEIR = "for_the_dead"
    """It was written to a process that is no more, and means nothing to another."""
    DEAD = "dead"
    """Nobody here can do anything with it."""


class Incoming:
    """Mutable state: the last number seen of each account."""

    def __init__(self, boot: str, max_deliveries: int) -> None:
        self._boot = boot
        self._max_deliveries = max_deliveries
        self._seen: dict[str, int] = {}

    def judge(self, envelope: Envelope, now_ms: float, *, outlives: bool, deliveries: int) -> Verdict:
        """Decide on a letter and remember it; `now_ms` is Redis's time, `deliveries` counts this one.

        Letters of an account come in order, and those that were handed out before come again first.
        """
        ours = envelope.to == self._boot
        if ours:
            if envelope.seq <= self._seen.get(envelope.account, 0):
                return Verdict.DUPLICATE
            self._remember(envelope.account, envelope.seq)
        if now_ms >= envelope.expires_ms:
            return Verdict.EXPIRED
        if not ours and not outlives:
            return Verdict.LATE_HEIR
        return Verdict.DEAD if deliveries > self._max_deliveries else Verdict.DELIVER

    def _remember(self, account: str, seq: int) -> None:
        self._seen.pop(account, None)
        self._seen[account] = seq
        if len(self._seen) > MAX_ACCOUNTS:
            del self._seen[next(iter(self._seen))]
