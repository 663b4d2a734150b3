"""When to try Redis again after it was lost, and what to tell those who ask meanwhile. No I/O, no clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import Enum

FIRST_S = 0.1
"""The first pause, s: a server that was only started again is back at once."""

LONGEST_S = 5.0
"""The longest pause, s (pools-and-cluster 6.11)."""

SPREAD = 0.5
"""Part of a pause that is random, so that all instances do not come back in the same moment."""


class State(Enum):
    """Of a link; the value is that of the metric."""

    CLOSED = 0
    """Connected: commands go through."""
    HALF_OPEN = 1
    """One attempt to connect is on its way; commands fail at once."""
    OPEN = 2
    """A pause before the next attempt; commands fail at once."""


class Circuit:
    """Mutable state: the state, and the length of the next pause.

    A connection that broke sooner than the next pause would be long did not count: a server that lets
    everybody in and drops them again is met with longer and longer pauses.
    """

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        """`chance` gives numbers from 0 to 1."""
        self.state = State.OPEN
        self.failures = 0
        """Attempts and short connections in a row that came to nothing."""
        self._chance = chance
        self._pause_s = FIRST_S
        self._connected_at: float | None = None

    def attempt(self) -> None:
        """An attempt to connect begins."""
        assert self.state is State.OPEN
        self.state = State.HALF_OPEN

    def connected(self, now: float) -> None:
        """The attempt came through (monotonic s)."""
        assert self.state is State.HALF_OPEN
        self.state = State.CLOSED
        self._connected_at = now

    def lost(self, now: float) -> float:
        """The connection broke or the attempt failed: how long to wait, s."""
        held_s = 0.0 if self._connected_at is None else now - self._connected_at
        if held_s >= self._pause_s:
            self._pause_s, self.failures = FIRST_S, 0
        self.state, self._connected_at = State.OPEN, None
        self.failures += 1
        pause = self._pause_s * (1 - SPREAD * self._chance())
        self._pause_s = min(2 * self._pause_s, LONGEST_S)
        return pause
