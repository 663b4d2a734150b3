"""When to try to connect again after a connection was lost, and when to give up."""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST_S = 0.1
"""The first pause, s: most lost connections can be had again at once."""

LONGEST_S = 5.0
"""The longest pause, s: a server that was started again is not kept waiting for long."""

SPREAD = 0.5
"""Part of a pause that is random, so that a thousand clients do not come back together."""


class Backoff:
    """Mutable state: the row of connections and attempts since a connection held.

    One that broke sooner than the next pause would be long did not hold: a server that accepts and drops its
    clients again and again is met with longer and longer pauses, and given up like one that is away.
    """

    def __init__(self, give_up_s: float, chance: Callable[[], float] = random.random) -> None:
        """`chance` gives numbers from 0 to 1."""
        self.give_up_s = give_up_s
        """How long a row may last, s."""
        self._chance = chance
        self._pause_s = FIRST_S
        self._began_at: float | None = None
        self._connected_at: float | None = None

    def connected(self, now: float) -> None:
        """A connection was made (monotonic s)."""
        self._connected_at = now

    def lost(self, now: float) -> float | None:
        """A connection was lost, or an attempt failed: how long to wait, s; None if it is time to give up."""
        if self._connected_at is not None and now - self._connected_at >= self._pause_s:
            self._began_at, self._pause_s = None, FIRST_S
        self._connected_at = None
        if self._began_at is None:
            self._began_at = now
        left = self.left(now)
        if left <= 0:
            return None
        pause = self._pause_s * (1 - SPREAD * self._chance())
        self._pause_s = min(2 * self._pause_s, LONGEST_S)
        return min(pause, left)

    def left(self, now: float) -> float:
        """How long the row may still last, s."""
        return self.give_up_s - (0.0 if self._began_at is None else now - self._began_at)
