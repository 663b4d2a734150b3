"""How fast one socket of the public API may talk (gateway 4.3)."""

from __future__ import annotations

from collections import deque

from linguad.core.bucket import Bucket

OVERFLOWS = 3
OVERFLOW_SECONDS = 10.0
"""So many messages too many within so long end the connection."""


class Flow:
    """Mutable: a token bucket for messages, and when it overflowed lately; times are monotonic s."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._bucket = Bucket(burst, per_second)
        self._credit = 0.0
        self._overflows: deque[float] = deque(maxlen=OVERFLOWS)

    def allows(self, now: float) -> bool:
        """Take a token, if there is one."""
        if self._bucket.take(now):
            return True
        if self._credit >= 1:
            self._credit -= 1
            return True
        self._overflows.append(now)
        return False

    def was_paused(self, seconds: float) -> None:
        """We did not read for so long: what gathered meanwhile is not the client's fault."""
        self._credit += seconds * self._per_second

    def is_flooded(self, now: float) -> bool:
        """Whether it overflowed too often."""
        return len(self._overflows) == OVERFLOWS and now - self._overflows[0] <= OVERFLOW_SECONDS
