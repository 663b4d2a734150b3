"""Monotonic seconds to wall-clock time, for the few wire members that need it."""

from __future__ import annotations


class Clock:
    """Offset between the monotonic clock and the Unix epoch; the daemon keeps it true."""

    def __init__(self, offset_s: float = 0.0) -> None:
        self.offset_s = offset_s
        """Epoch seconds minus monotonic seconds."""

    def epoch_ms(self, now: float) -> int:
        """Unix time in ms at the monotonic instant `now`."""
        return int((now + self.offset_s) * 1000)
