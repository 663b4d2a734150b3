"""How often something may happen: a token bucket (resolution 11)."""

from __future__ import annotations

from math import inf

_ALMOST_ONE = 1 - 1e-6
"""Times are rounded; who waits until `ready_at` must get his token then."""


class Bucket:
    """Mutable state: the tokens that are left; times are monotonic s."""

    def __init__(self, burst: int, per_second: float) -> None:
        """It holds `burst` tokens and begins full; with a burst of 0 it never runs empty."""
        self._burst = burst
        self._per_second = per_second
        self._tokens = float(burst)
        self._filled_at: float | None = None

    @property
    def left(self) -> int:
        """Whole tokens after the last `take`."""
        return max(0, int(self._tokens + 1 - _ALMOST_ONE))

    def take(self, now: float) -> bool:
        """Take a token, if there is one."""
        if not self._burst:
            return True
        self._fill(now)
        if self._tokens < _ALMOST_ONE:
            return False
        self._tokens -= 1
        return True

    def give_back(self) -> None:
        """What the last token was taken for does not happen."""
        self._tokens = min(float(self._burst), self._tokens + 1)

    def change(self, burst: int, per_second: float, now: float) -> None:
        """Other limits from now on; tokens beyond the new burst are lost."""
        if (burst, per_second) != (self._burst, self._per_second):
            self._fill(now)
            self._burst, self._per_second = burst, per_second
            self._tokens = min(float(burst), self._tokens)

    def ready_at(self, now: float) -> float:
        """When there will be a token, after `take` found none `now`."""
        return self._when(1, now)

    def full_at(self, now: float) -> float:
        """When all tokens will be back, after a `take` `now`; never before `now`."""
        return max(now, self._when(self._burst, now))

    def _when(self, tokens: float, now: float) -> float:
        missing = tokens - self._tokens
        return now + missing / self._per_second if self._per_second else inf if missing > 0 else now

    def _fill(self, now: float) -> None:
        if self._filled_at is not None:
            gained = max(0.0, now - self._filled_at) * self._per_second
            self._tokens = min(float(self._burst), self._tokens + gained)
        self._filled_at = now
