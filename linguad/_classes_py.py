"""Rows that are in the same keys form a class: the structure of the node table in plain Python.

- A class is listed in each of its keys; its rows lie in pools, by the hash of their node ids. Whatever
  changes about a row changes one class and one pool, however many keys it is in.
- A row whose keys change is put into a draft: an unlisted class of its own. `settle` then finds the class
  with the same keys, or lists the draft itself, so that 100 keys joined one by one are looked up once.
- The compiled twin does the same in `_classes.pxd`, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from linguad._pool_ids import ring_order_ids

OVERLOAD_RATIO: Final = 1.25  # a pool is asked last when its use is above this × its key's, plus one slot
TOLD_PART: Final = 64  # a class keeps from its keys a change of its used slots by at most this part, or slot
MAX_DRAFTS: Final = 64  # so many rows wait for their class; for one more the others get theirs

RULES: Final = (OVERLOAD_RATIO, TOLD_PART, MAX_DRAFTS)  # what the compiled twin was built for


@dataclass(slots=True, eq=False)
class Row:
    """A node: its slots, its load, and its speed for each key it is in."""

    number: int
    node_id: str
    hash: int
    cap: int
    home: Class = field(init=False)
    pool: Pool = field(init=False)
    used: int = 0
    ready: bool = False
    retired: bool = False  # removed, but slots of it are still out
    backlog_s: float = 0.0
    penalty_s: float = 0.0
    open_s: float = 0.0  # audio seconds of the slots that are out
    speeds: dict[int, float] = field(default_factory=dict)  # by key

    @property
    def available(self) -> bool:
        """Whether it may be chosen."""
        return self.ready and self.used < self.cap

    @property
    def counts(self) -> tuple[int, int, int]:
        """What it adds to the used slots, the cap and the available rows of its pool."""
        return (self.used, self.cap, int(self.used < self.cap)) if self.ready else (0, 0, 0)

    def finish_s(self, key: int, audio_s: float) -> float:
        """Seconds from now until it is expected to be done with a job, penalties added."""
        return (self.backlog_s + self.open_s + audio_s) / self.speeds[key] + self.penalty_s


@dataclass(slots=True, eq=False)
class Pool:
    """A shard of a class; its sums are those of `counts` of its rows."""

    number: int
    rows: list[Row] = field(default_factory=list)
    used: int = 0
    cap: int = 0
    available: int = 0


@dataclass(slots=True, eq=False)
class Key:
    """What a job asks for. Its classes told it their sums: the used slots but for TOLD_PART of them."""

    number: int
    classes: list[Class] = field(default_factory=list)
    members: int = 0  # rows, those of drafts too
    used: int = 0
    cap: int = 0
    open: int = 0  # classes that have an available row
    tickets: list[tuple[int, int]] | None = None  # None: out of date

    def overloaded(self, part: Pool | Class) -> bool:
        """Whether a part of this key has to be asked last."""
        # (used - 1 slot) / cap > ratio × used / cap of the key, multiplied out: floats, as the compiled twin
        return float(part.used - 1) * float(self.cap) > OVERLOAD_RATIO * float(self.used) * float(part.cap)

    @property
    def free(self) -> int:
        """Available rows."""
        return sum(one.free for one in self.classes)

    def drawn(self, draw: Callable[[int], int]) -> Class:
        """A random class, weighted by rows."""
        if len(self.classes) == 1:
            return self.classes[0]
        if self.tickets is None:
            self.tickets = _tickets([one.members for one in self.classes])
        first = draw(len(self.classes))
        threshold, other = self.tickets[first]
        return self.classes[first if draw(self.members) < threshold else other]


@dataclass(slots=True, eq=False)
class Class:
    """Rows that are in the same keys."""

    number: int
    keys: dict[int, Key]
    listed: bool = False
    pools: list[Pool] = field(default_factory=lambda: [Pool(0)])
    members: int = 0
    used: int = 0
    told: int = 0  # of `used`, what the keys know
    cap: int = 0
    free: int = 0

    def ring(self, route: int) -> list[Pool]:
        """All pools, from the one that this route prefers."""
        return ring_order_ids(self.pools, route)

    def open_pools(self, route: int) -> Iterator[Pool]:
        """Those of the ring that have an available row."""
        return (pool for pool in self.ring(route) if pool.available)

    def change(self, row: Row, used: int, cap: int, ready: bool) -> None:
        """The only place where used slots, cap or readiness of a row change."""
        before = row.counts
        row.used, row.cap, row.ready = used, cap, ready
        used, cap, free = (now - then for now, then in zip(row.counts, before, strict=True))
        self._count(row.pool, used, cap, free)

    def put(self, row: Row) -> None:
        """Take a row in, into its pool."""
        row.home, row.pool = self, self.pools[row.hash % len(self.pools)]
        row.pool.rows.append(row)
        self.members += 1
        self._count(row.pool, *row.counts)

    def cut(self, row: Row) -> None:
        """Let a row go; the last one of its pool takes its place."""
        rows = row.pool.rows
        rows[rows.index(row)] = rows[-1]
        rows.pop()
        self.members -= 1
        self._count(row.pool, *(-count for count in row.counts))

    def shard(self, count: int) -> None:
        """Spread the rows over so many pools."""
        if count != len(self.pools):
            rows = [row for pool in self.pools for row in pool.rows]
            self.pools = [Pool(number) for number in range(count)]
            self.members = self.used = self.cap = self.free = 0
            listed, self.listed = self.listed, False  # for the keys nothing changes
            for row in rows:
                self.put(row)
            self.listed = listed

    def enlist(self) -> None:
        """List it in its keys."""
        self.listed, self.told = True, self.used
        for key in self.keys.values():
            key.classes.append(self)
            self._tell(key, self.used, self.cap, int(self.free > 0))

    def delist(self) -> None:
        """Take it out of its keys' lists."""
        for key in self.keys.values():
            key.classes[key.classes.index(self)] = key.classes[-1]
            key.classes.pop()
            self._tell(key, -self.told, -self.cap, -int(self.free > 0))
        self.listed = False

    def _count(self, pool: Pool, used: int, cap: int, free: int) -> None:
        pool.used, pool.cap, pool.available = pool.used + used, pool.cap + cap, pool.available + free
        was_open = self.free > 0
        self.used, self.cap, self.free = self.used + used, self.cap + cap, self.free + free
        untold, opened = self.used - self.told, int(self.free > 0) - int(was_open)
        news = abs(untold) * TOLD_PART > max(self.told, min(self.cap, TOLD_PART))
        if self.listed and (news or cap or opened):
            self.told = self.used
            for key in self.keys.values():
                self._tell(key, untold, cap, opened)

    def _tell(self, key: Key, used: int, cap: int, opened: int) -> None:
        key.used, key.cap, key.open = key.used + used, key.cap + cap, key.open + opened


class Classes:
    """All classes by number; number 0 has the rows that are in no key."""

    def __init__(self, pool_count: Callable[[int], int]) -> None:
        self._pool_count = pool_count
        self._all: list[Class | None] = []
        self._spare: list[int] = []
        self._drafts: list[Class] = []
        self._by_keys: dict[frozenset[int], Class] = {}
        self.keyless = self._new({})
        self._place(self.keyless)

    def __len__(self) -> int:
        """Numbers in use or spare."""
        return len(self._all)

    def __iter__(self) -> Iterator[Class]:
        """All but the keyless one."""
        return (one for one in self._all[1:] if one is not None)

    def open_ones(self, key: Key, start: int = 0) -> list[Class]:
        """The classes of a key that have an available row, as a ring from a number on."""
        found = sorted((one for one in key.classes if one.free), key=lambda one: one.number)
        return [one for one in found if one.number >= start] + [one for one in found if one.number < start]

    def enter(self, row: Row) -> None:
        """Take in a row, which is in no key yet."""
        self._resize(self.keyless, 1)
        self.keyless.put(row)

    def draft(self, row: Row) -> Class:
        """An unlisted class for a row alone, whose keys are about to change."""
        if row.home.listed:
            if len(self._drafts) == MAX_DRAFTS:
                self.settle()
            draft = self._new(dict(row.home.keys))
            self._drafts.append(draft)
            self._move(row, draft)
        return row.home

    def retire(self, row: Row) -> None:
        """Let a row leave all its keys."""
        if row.home is not self.keyless:
            self._move(row, self.keyless)
            row.speeds.clear()

    def settle(self) -> None:
        """Find the classes of the rows in drafts."""
        drafts, self._drafts = self._drafts, []
        for draft in drafts:
            self._place(draft)

    def forget_key(self, key: Key) -> None:
        """Take a key from all its classes; those that become equal to another one join that."""
        self.settle()
        while key.classes:
            changed = key.classes[-1]
            changed.delist()
            del self._by_keys[frozenset(changed.keys)], changed.keys[key.number]
            for row in (row for pool in changed.pools for row in pool.rows):
                del row.speeds[key.number]
            self._place(changed)

    def _new(self, keys: dict[int, Key]) -> Class:
        number = self._spare.pop() if self._spare else len(self._all)
        if number == len(self._all):
            self._all.append(None)
        made = self._all[number] = Class(number, keys)
        return made

    def _place(self, unlisted: Class) -> None:
        """List a class, or move its rows to the one with the same keys."""
        known = self._by_keys.setdefault(frozenset(unlisted.keys), unlisted)
        if known is unlisted:
            unlisted.shard(self._pool_count(unlisted.members))
            unlisted.enlist()
            self._out_of_date(unlisted)
            return
        for pool in reversed(unlisted.pools):
            while pool.rows:
                self._move(pool.rows[-1], known)

    def _move(self, row: Row, home: Class) -> None:
        left = row.home
        left.cut(row)
        self._resize(left)
        self._resize(home, 1)
        home.put(row)
        if not left.members and left is not self.keyless:
            self._drop(left)

    def _resize(self, one: Class, more: int = 0) -> None:
        if one.listed:
            one.shard(self._pool_count(one.members + more))
            self._out_of_date(one)

    def _drop(self, empty: Class) -> None:
        if empty.listed:
            del self._by_keys[frozenset(empty.keys)]
            empty.delist()
            self._out_of_date(empty)
        elif empty in self._drafts:
            self._drafts.remove(empty)
        self._all[empty.number] = None
        self._spare.append(empty.number)

    def _out_of_date(self, one: Class) -> None:
        for key in one.keys.values():
            key.tickets = None


def _tickets(weights: list[int]) -> list[tuple[int, int]]:
    """Walker's alias method: a random index below the threshold (of a random number below the sum) stands for
    itself, else for the other one, so that a weighted choice costs two random numbers. Vose's way to make it.
    """
    total = sum(weights)
    rest = [weight * len(weights) for weight in weights]
    tickets = [(total, index) for index in range(len(weights))]
    small = [index for index, share in enumerate(rest) if share < total]
    large = [index for index, share in enumerate(rest) if share >= total]
    while small and large:
        poor, rich = small.pop(), large.pop()
        tickets[poor] = rest[poor], rich
        rest[rich] -= total - rest[poor]
        (small if rest[rich] < total else large).append(rich)
    return tickets
