"""Results of one delivery stream leave in index order (session-protocol 5.5).

A stream is one (speaker session, target language). Every created job opens a slot; whatever ends the job
resolves it. The head slot is waited for only while a later one is ready, and only so long; then it is skipped
and its result, if it still comes, leaves at once and is marked late.
"""

from __future__ import annotations

from bisect import insort
from typing import Generic, TypeVar

from msgspec import Struct

T = TypeVar("T")


class Released(Struct, Generic[T], frozen=True):
    """What leaves the stream: a resolved slot, or one that was skipped (`item` is None)."""

    index: int
    item: T | None
    late: bool = False
    evicted: bool = False
    """Skipped because too many finished results waited behind it, not because its time was over."""


class ResultOrder(Generic[T]):
    """Mutable state: open slots in order, and finished items that wait with the time they came."""

    def __init__(self, gap_s: float, max_waiting: int) -> None:
        self._gap_s = gap_s
        self._max_waiting = max_waiting
        self._slots: list[int] = []
        self._ready: dict[int, tuple[T, float]] = {}

    @property
    def open_slots(self) -> int:
        """Slots that have not left yet."""
        return len(self._slots)

    def is_open(self, index: int) -> bool:
        """Whether the slot of this index has not left yet."""
        return index in self._slots

    def open(self, index: int) -> None:
        """A job for this index exists; its slot must be resolved once."""
        if index not in self._slots:
            insort(self._slots, index)

    def resolve(self, index: int, item: T, now: float) -> list[Released[T]]:
        """The slot's job ended with `item`; returns what may leave now.

        An index that left already (skipped, or ended without text before) is late and leaves at once.
        """
        if index in self._ready:
            self._ready[index] = (item, self._ready[index][1])
            return []
        if index not in self._slots:
            return [Released(index, item, late=True)]
        self._ready[index] = (item, now)
        released = self._release_head()
        while len(self._ready) > self._max_waiting:
            released.append(Released(self._slots.pop(0), None, evicted=True))
            released.extend(self._release_head())
        return released

    def due(self) -> float | None:
        """When the wait for the head ends, monotonic s; None while nothing waits behind it."""
        if not self._ready:
            return None
        return min(since for _, since in self._ready.values()) + self._gap_s

    def tick(self, now: float) -> list[Released[T]]:
        """Skip heads whose time is over."""
        released: list[Released[T]] = []
        while (due := self.due()) is not None and now >= due:
            released.append(Released(self._slots.pop(0), None))
            released.extend(self._release_head())
        return released

    def drain(self) -> list[Released[T]]:
        """Everything finished, in order, as the session ends; open slots before it are late from now on."""
        released = [Released(index, self._ready[index][0]) for index in self._slots if index in self._ready]
        if released:
            self._slots = [index for index in self._slots if index > released[-1].index]
        self._ready.clear()
        return released

    def _release_head(self) -> list[Released[T]]:
        released: list[Released[T]] = []
        while self._slots and self._slots[0] in self._ready:
            index = self._slots.pop(0)
            released.append(Released(index, self._ready.pop(index)[0]))
        return released
