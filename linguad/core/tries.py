"""Wrong tries of a short code, by address: who guesses is stopped for a while, others are not."""

from __future__ import annotations

from collections import deque

MAX_FAILED_TRIES = 10
"""Wrong codes that an address may try in TRIES_S; more, be they right, are not looked at."""

TRIES_S = 60.0

MAX_ADDRESSES = 10_000
"""Addresses whose wrong tries are remembered; the one that failed longest ago is forgotten for a new one."""


class WrongTries:
    """Mutable state: when each address was wrong in the last minute."""

    def __init__(self) -> None:
        self._failed: dict[str, deque[float]] = {}

    def __len__(self) -> int:
        return len(self._failed)

    def allows(self, address: str, now: float) -> bool:
        """Whether a code from this address is to be looked at."""
        tries = self._failed.get(address)
        if tries is None:
            return True
        while tries and tries[0] <= now - TRIES_S:
            tries.popleft()
        if not tries:
            del self._failed[address]
        return len(tries) < MAX_FAILED_TRIES

    def add(self, address: str, now: float) -> None:
        """A code from this address was wrong."""
        tries = self._failed.pop(address, None) or deque[float](maxlen=MAX_FAILED_TRIES)
        tries.append(now)
        self._failed[address] = tries
        if len(self._failed) > MAX_ADDRESSES:
            del self._failed[next(iter(self._failed))]
