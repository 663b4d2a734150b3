"""At most one error message of a kind per while: old clients show each in a modal dialog."""

from __future__ import annotations

MAX_KINDS = 16
"""Different errors of one code that a client is told per interval; who makes more is not reading them."""


class ErrorThrottle:
    """Per connection: when each kind of error was told last (session-protocol 2.1).

    A kind is a code and what it is about: the member that is wrong, or the sentence where none is named.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._last: dict[tuple[str, str], float] = {}
        self.swallowed = 0
        """Errors that were not told."""

    def allows(self, code: str, about: str, now: float) -> bool:
        """Whether an error of this kind may be sent now; a yes counts as sent, a no as swallowed."""
        for kind, last in list(self._last.items()):
            if now - last >= self._interval_s:
                del self._last[kind]
        if (code, about) in self._last or sum(known == code for known, _ in self._last) >= MAX_KINDS:
            self.swallowed += 1
            return False
        self._last[code, about] = now
        return True
