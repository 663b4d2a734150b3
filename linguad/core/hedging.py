"""A second attempt beside one that takes suspiciously long, within a budget."""

from __future__ import annotations

MAX_SAVED = 10.0
"""Second attempts that may be saved up while nothing is slow."""


class Hedging:
    """Mutable state: second attempts that may be made; every dispatch earns `percent` hundredths of one."""

    def __init__(self, percent: float, part: float) -> None:
        self._percent = percent
        self._part = part
        self._saved = 0.0

    def earn(self, sent_at: float, deadline: float) -> float | None:
        """A job was dispatched; when a second attempt is due if it is not answered, or None if never."""
        if not self._percent:
            return None
        self._saved = min(self._saved + self._percent / 100, MAX_SAVED)
        return sent_at + self._part * (deadline - sent_at)

    @property
    def affordable(self) -> bool:
        """Whether a second attempt may be made now."""
        return self._saved >= 1.0

    def spend(self) -> None:
        """A second attempt is made."""
        self._saved -= 1.0
