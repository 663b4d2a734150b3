"""How often something may happen: a token bucket (resolution 11)."""

from __future__ import annotations

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

    def take(self, now: float) -> bool:
        """Take a token, if there is one."""
        if not self._burst:
            return True
        if self._filled_at is not None:
            gained = max(0.0, now - self._filled_at) * self._per_second
            self._tokens = min(float(self._burst), self._tokens + gained)
        self._filled_at = now
        if self._tokens < _ALMOST_ONE:
            return False
        self._tokens -= 1
        return True

    def ready_at(self, now: float) -> float:
        """When there will be a token, after `take` found none `now`."""
        return now + (1 - self._tokens) / self._per_second
