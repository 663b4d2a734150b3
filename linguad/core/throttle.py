"""At most one error message of a kind per while: old clients show each in a modal dialog."""

from __future__ import annotations


class ErrorThrottle:
    """Per connection: the time of the last error of each code (session-protocol 2.1)."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._last: dict[str, float] = {}

    def allows(self, code: str, now: float) -> bool:
        """Whether an error of this code may be sent now; a yes counts as sent."""
        last = self._last.get(code)
        if last is not None and now - last < self._interval_s:
            return False
        self._last[code] = now
        return True
