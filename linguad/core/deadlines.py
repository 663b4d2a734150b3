"""Many deadlines, one timer: the earliest of them, cheaply moved later again and again."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, KeysView
from itertools import count
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


def earliest(one: float | None, other: float | None) -> float | None:
    """The earlier of two times; None is never."""
    if one is None:
        return other
    return one if other is None or one <= other else other


class Deadlines(Generic[K]):
    """One deadline per key, monotonic s.

    A key stands in the heap at most once per earlier move; when a deadline only became later the old entry
    stays and is put right when it comes up, so pushing a deadline away costs no heap operation.
    """

    def __init__(self) -> None:
        self._at: dict[K, float] = {}
        self._queued: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._serial = count()

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, key: K) -> bool:
        return key in self._at

    def keys(self) -> KeysView[K]:
        """What has a deadline."""
        return self._at.keys()

    def set(self, key: K, at: float | None) -> None:
        """Set, move or (None) lift the deadline of a key."""
        if at is None:
            self._at.pop(key, None)
            return
        self._at[key] = at
        if at < self._queued.get(key, float("inf")):
            self._queued[key] = at
            heapq.heappush(self._heap, (at, next(self._serial), key))

    def at(self, key: K) -> float | None:
        """The deadline of a key; None if it has none."""
        return self._at.get(key)

    def due(self) -> float | None:
        """A time at or before the earliest deadline; None when there is none."""
        self._settle()
        return self._heap[0][0] if self._heap else None

    def pop(self, now: float) -> K | None:
        """The key with the earliest deadline if that has passed, else None; its deadline is lifted.

        One at a time, because what is done about one key may move the deadline of another.
        """
        due = self.due()
        if due is None or due > now:
            return None
        key = heapq.heappop(self._heap)[2]
        del self._queued[key], self._at[key]
        return key

    def _settle(self) -> None:
        """Make the head of the heap a true deadline."""
        while self._heap:
            at, _, key = self._heap[0]
            true_at = self._at.get(key)
            if true_at == at == self._queued.get(key):
                return
            heapq.heappop(self._heap)
            if self._queued.get(key) == at:
                del self._queued[key]
                if true_at is not None:
                    self._queued[key] = true_at
                    heapq.heappush(self._heap, (true_at, next(self._serial), key))
