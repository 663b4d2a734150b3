"""Time and chance of a simulated world: one clock, one heap of events, one seeded generator."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any


class World:
    """Everything that happens is an event in the heap; equal seeds make equal worlds."""

    def __init__(self, seed: int, tell: Callable[[str], None] | None = None) -> None:
        self.random = Random(seed)
        self.now = 1000.0
        """Seconds; not zero, so that nobody takes the start of time for "never"."""
        self.told = tell is not None
        """Whether somebody reads the event log."""
        self._tell = tell
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = count()

    def after(self, seconds: float, do: Callable[..., None], *args: Any) -> None:
        """Let something happen so many seconds later; at one time first what was asked for first."""
        heapq.heappush(self._events, (self.now + seconds, next(self._serial), do, args))

    def again_and_again(
        self, mean_s: float, do: Callable[[], None], going_on: Callable[[], bool] = lambda: True
    ) -> None:
        """Let something happen at random times, so many seconds apart in the mean; 0 for never."""

        def happen() -> None:
            if going_on():
                do()
                self.after(self.random.expovariate(1 / mean_s), happen)

        if mean_s:
            self.after(self.random.expovariate(1 / mean_s), happen)

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        until = self.now + seconds
        while self._events and self._events[0][0] <= until:
            self.now, _, do, args = heapq.heappop(self._events)
            do(*args)
        self.now = until

    def chance(self, probability: float) -> bool:
        """Whether something of this probability happens now."""
        return self.random.random() < probability

    def between(self, low: float, high: float) -> float:
        """A time in seconds, or any other quantity."""
        return self.random.uniform(low, high)

    def say(self, who: str, what: str) -> None:
        """A line of the event log."""
        if self._tell is not None:
            self._tell(f"{self.now - 1000.0:9.3f}  {who:<10} {what}")


class Names:
    """Fresh identifiers, the same in every run of a seed; others for another first number."""

    def __init__(self, first: int = 1) -> None:
        self._number = count(first)

    def session(self) -> str:
        return f"s-{next(self._number)}"

    def job(self) -> str:
        return f"job-{next(self._number)}"

    def node(self) -> str:
        return f"node-{next(self._number):08X}"

    def uuid(self) -> str:
        return f"id-{next(self._number)}"

    def trace(self) -> str:
        return f"{next(self._number):032x}"

    def resume_token(self) -> str:
        return f"token-{next(self._number)}"

    def pairing_code(self) -> str:
        return f"{next(self._number) % 1_000_000:06d}"

    def room_code(self) -> str:
        return str(100_000 + next(self._number) % 900_000)
