"""What waits to be sent on one connection: bounded by messages and bytes, filled without awaiting."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import trio

from linguad.net.bell import Bell

Data = str | bytes
"""One message: text frames are str, binary frames are bytes."""


class Later:
    """A message that is still being made; it keeps its place among the others, which wait behind it.

    `estimate` counts as its size in bytes until the message is there. `fallback` goes in its place if it does
    not come. It belongs to one outbox.
    """

    __slots__ = ("_data", "_estimate", "_resize", "_there", "fallback")

    def __init__(self, estimate: int, fallback: Data) -> None:
        self.fallback = fallback
        self._estimate = estimate
        self._data: Data | None = None
        self._there = trio.Event()
        self._resize: Callable[[int], object] | None = None

    @property
    def size(self) -> int:
        """Bytes on the wire, as far as known."""
        return self._estimate if self._data is None else size_of(self._data)

    def set(self, data: Data) -> None:
        """The message; only the first call counts. The writer takes it when its turn has come."""
        if self._data is None:
            self._data = data
            if self._resize is not None:
                self._resize(self.size)
            self._there.set()

    def fail(self) -> None:
        """The message cannot be made; its fallback is to go at once."""
        self.set(self.fallback)

    def when_sized(self, resize: Callable[[int], object]) -> None:
        """Have `resize(size)` run when the message is there; for the outbox."""
        self._resize = resize

    async def wait(self) -> Data:
        """The message, once it is there."""
        await self._there.wait()
        assert self._data is not None
        return self._data


class Budget:
    """Bytes that the whole process holds for its connections: outboxes, audio buffers, kept job audio.

    It counts and tells; what happens when it is `over` is the business of those who fill it (resolutions 7).
    """

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @property
    def over(self) -> bool:
        """More is held than the limit allows."""
        return self.used > self.limit

    def take(self, size: int) -> None:
        """Count `size` bytes as held."""
        self.used += size

    def give(self, size: int) -> None:
        """Count `size` bytes as no longer held."""
        self.used -= size


@dataclass(frozen=True, slots=True)
class OutboxStatistics:
    """A snapshot for status pages."""

    messages: int
    bytes: int
    dropped: int
    """Optional messages dropped since the connection opened."""


class _Item(NamedTuple):
    data: Data | Later
    size: int
    optional: bool


class Outbox:
    """The queue between everybody who has something to say to a peer and the one task that writes.

    Order is kept. Optional messages may take half of the room: above that the oldest of them go first. A
    message that must arrive and finds no room makes `put` answer False; the connection is then to be closed.
    The message being written counts until the next one is taken. One that turns out larger than was estimated
    stays, and leaves less room for those that come.
    """

    __slots__ = (
        *("_max_messages", "_max_bytes", "_budget", "_on_drop"),
        *("_items", "_key", "_size", "_taken", "_writing", "_optional", "_dropped", "_filled"),
    )

    def __init__(
        self,
        max_messages: int,
        max_bytes: int,
        budget: Budget | None = None,
        on_drop: Callable[[], object] = lambda: None,
    ) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._budget = budget
        self._on_drop = on_drop
        self._items: OrderedDict[int, _Item] = OrderedDict()
        self._key = 0
        self._size = 0
        self._taken = 0
        self._writing = 0
        self._optional = 0
        self._dropped = 0
        self._filled = Bell()

    def put(self, data: Data | Later, optional: bool = False) -> bool:
        """Append a message; False if it must arrive and there is no room. Never waits."""
        size = data.size if isinstance(data, Later) else size_of(data)
        share = 2 if optional else 1
        while not self._fits(size, share) and self._optional:
            self._drop_oldest_optional()
        if self._fits(size, share):
            self._key += 1
            self._items[self._key] = _Item(data, size, optional)
            if isinstance(data, Later):
                data.when_sized(partial(self._resize, self._key))
            self._optional += optional
            self._hold(size)
            self.wake()
            return True
        if optional:
            self._count_drop()
        return optional

    def take(self) -> Data | Later | None:
        """The next message, None if there is none. Taking says that the one taken before is written."""
        if self._writing:
            self._hold(-self._writing)
            self._writing = 0
        if not self._items:
            self._taken = 0
            return None
        self._taken, item = self._items.popitem(last=False)
        self._optional -= item.optional
        self._writing = item.size
        return item.data

    def take_along(self, most: int) -> Data | None:
        """The next message, to be written with the one taken before; None if it is not made, or too long."""
        if not self._items:
            return None
        key, item = next(iter(self._items.items()))
        if item.size > most or isinstance(item.data, Later):
            return None
        del self._items[key]
        self._optional -= item.optional
        self._writing += item.size
        return item.data

    async def wait(self) -> None:
        """Wait until there is a message or `wake` is called; for the one task that writes."""
        if not self._items:
            await self._filled.wait()

    def wake(self) -> None:
        """Let the writer look again."""
        self._filled.ring()

    def clear(self) -> None:
        """Drop everything, the message being written as well: the connection is gone."""
        self._items.clear()
        self._optional = 0
        self._taken = 0
        self._writing = 0
        self._hold(-self._size)

    def statistics(self) -> OutboxStatistics:
        """How full the outbox is."""
        return OutboxStatistics(len(self._items) + (self._writing > 0), self._size, self._dropped)

    def _fits(self, size: int, share: int) -> bool:
        """Whether one more message of `size` keeps the queue within one `share`-th of its room."""
        return (
            len(self._items) < self._max_messages // share and self._size + size <= self._max_bytes // share
        )

    def _drop_oldest_optional(self) -> None:
        # A scan, because it only happens to a peer that reads too slowly and the queue is short.
        key = next(key for key, item in self._items.items() if item.optional)
        self._hold(-self._items.pop(key).size)
        self._optional -= 1
        self._count_drop()

    def _count_drop(self) -> None:
        self._dropped += 1
        self._on_drop()

    def _resize(self, key: int, size: int) -> None:
        """The size of a message is known that was still being made; it may have left meanwhile."""
        if key == self._taken:
            self._hold(size - self._writing)
            self._writing = size
        elif item := self._items.get(key):
            self._hold(size - item.size)
            self._items[key] = item._replace(size=size)

    def _hold(self, size: int) -> None:
        self._size += size
        if self._budget is not None:
            self._budget.take(size)


def size_of(data: Data) -> int:
    """Bytes of `data` on the wire."""
    return len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())
