"""Pool hashing and node selection in plain Python: the readable twin of `_hash.pyx`, with the same results.

Rules (pools-and-cluster 2, design 6):

- A row is a node; a key, whose meaning is not known here, lists the rows that are fit for one kind of job.
  A row has its slots once, whatever the number of keys it is in.
- The rows of a key are sharded into pools; their number follows the number of rows by a fixed ladder, and a
  node's pool follows from its id, so a key is re-sharded only when a row more or less changes that number.
- Inside a pool the available rows (ready, used < cap) stand in front. `_change` is the only place where
  readiness, cap or used slots of a row change, and it keeps every pool of that row in order.
- A selection walks the pools of its key as a ring from the preferred one, calm pools first, and takes from
  the first that has somebody the smallest expected finish among a few random rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

from linguad._pool_ids import MASK
from linguad._pool_ids import POOL_LADDER as POOL_LADDER
from linguad._pool_ids import fnv1a64 as fnv1a64
from linguad._pool_ids import pick_index_for_key as pick_index_for_key
from linguad._pool_ids import pool_count_for as pool_count_for
from linguad._pool_ids import pool_id_for_key as pool_id_for_key
from linguad._pool_ids import pool_probe_order as pool_probe_order
from linguad._pool_ids import ring_order_ids as ring_order_ids

MAX_EXCLUDED: Final = 4  # rows that one selection may exclude
MAX_CHOICES: Final = 16  # more samples than this cost more than they improve
MAX_CAP: Final = 10_000  # slots of a node; keeps every sum of slots far inside 64 bits

OVERLOAD_RATIO: Final = 1.25  # a pool is asked last when its use is above this × its key's, plus one slot
STICKY_RATIO: Final = 1.5  # a session keeps its node while it is done within this × the best finish
STICKY_MARGIN_S: Final = 1.0  # ... or so long after it

Rows = Sequence[int]


@dataclass(slots=True, eq=False)
class _Row:
    number: int
    node_id: str
    hash: int
    cap: int
    used: int = 0
    ready: bool = False
    retired: bool = False  # removed, but slots of it are still out
    backlog_s: float = 0.0
    penalty_s: float = 0.0
    open_s: float = 0.0  # audio seconds of the slots that are out
    links: dict[int, _Link] = field(default_factory=dict)  # by key

    @property
    def available(self) -> bool:
        return self.ready and self.used < self.cap

    @property
    def counts(self) -> tuple[int, int]:
        """What this row adds to the used slots and the cap of its keys and pools."""
        return (self.used, self.cap) if self.ready else (0, 0)


@dataclass(slots=True, eq=False)
class _Link:
    """The membership of a row in a key."""

    row: _Row
    key: _Key
    pool: _Pool
    pos: int
    speed: float

    def count(self, used: int, cap: int) -> None:
        self.key.used += used
        self.key.cap += cap
        self.pool.used += used
        self.pool.cap += cap

    def finish_s(self, audio_s: float) -> float:
        """Seconds from now until this row is expected to be done with a job, penalties added."""
        return (self.row.backlog_s + self.row.open_s + audio_s) / self.speed + self.row.penalty_s


@dataclass(slots=True, eq=False)
class _Pool:
    number: int
    links: list[_Link] = field(default_factory=list)
    available: int = 0  # so many links in front are of available rows
    used: int = 0  # sums of `counts` of its rows
    cap: int = 0


@dataclass(slots=True, eq=False)
class _Key:
    pools: list[_Pool]
    members: int = 0
    free: int = 0
    used: int = 0  # sums of `counts` of its rows
    cap: int = 0

    def ring(self, route: int) -> list[_Pool]:
        """All pools, from the one that this route prefers."""
        start = route % len(self.pools)
        return self.pools[start:] + self.pools[:start]

    def overloaded(self, pool: _Pool) -> bool:
        # (used - 1 slot) / cap > ratio × used / cap of the key, multiplied out: floats, as the compiled twin
        return float(pool.used - 1) * float(self.cap) > OVERLOAD_RATIO * float(self.used) * float(pool.cap)


class NodeTable:
    """Slots and loads of all nodes, and the choice of a node for a job.

    `hash_seed` places nodes in pools, `rng_seed` starts the table's own generator (xorshift64*), `choices` is
    the number of rows compared in a pool, `max_members` the average size of a full pool, `pools` the number
    of pools of every key (0: by the ladder).
    Unknown handles raise KeyError, numbers out of range ValueError: seconds are finite and not negative,
    speeds finite and above 0, caps 0 to MAX_CAP.
    """

    def __init__(
        self,
        *,
        hash_seed: int = 0,
        rng_seed: int = 1,
        choices: int = 3,
        max_members: int = 100,
        pools: int = 0,
    ) -> None:
        if not 1 <= choices <= MAX_CHOICES:
            raise ValueError(f"choices must be 1 to {MAX_CHOICES}")
        if max_members < 1 or not 0 <= pools <= POOL_LADDER[-1]:
            raise ValueError(f"max_members must be at least 1, pools 0 to {POOL_LADDER[-1]}")
        self._hash_seed = hash_seed
        self._choices = choices
        self._max_members = max_members
        self._fixed_pools = pools
        self._random = fnv1a64(b"node table", rng_seed) or 1  # xorshift needs a state other than 0
        self._rows: dict[int, _Row] = {}
        self._keys: dict[int, _Key] = {}
        self._spare_rows: list[int] = []
        self._spare_keys: list[int] = []

    def add_node(self, node_id: str, cap: int) -> int:
        """A row for a node with `cap` slots, not ready and in no key; rows of removed nodes are reused."""
        hashed, cap = fnv1a64(node_id, self._hash_seed), checked_cap(cap)
        row = self._spare_rows.pop() if self._spare_rows else len(self._rows)
        self._rows[row] = _Row(row, node_id, hashed, cap)
        return row

    def remove_node(self, row: int) -> None:
        """Take a node out of all keys; `release` still works, and the row is reused after its last slot."""
        node = self._row(row)
        for key in list(node.links):
            self.leave(key, row)
        node.ready = False
        node.retired = True
        self._recycle(node)

    def set_cap(self, row: int, cap: int) -> None:
        """Change a node's slots; slots above the new cap stay out until they are released."""
        node = self._row(row)
        self._change(node, node.used, checked_cap(cap), node.ready)

    def set_ready(self, row: int, ready: bool) -> None:
        """A row that is not ready is never chosen; its slots stay out until they are released."""
        node = self._row(row)
        self._change(node, node.used, node.cap, bool(ready))

    def set_load(self, row: int, backlog_s: float, penalty_s: float) -> None:
        """The reported backlog in audio seconds (without our open attempts) and the penalty in seconds."""
        node = self._row(row)
        node.backlog_s, node.penalty_s = checked_seconds(backlog_s), checked_seconds(penalty_s)

    def add_key(self) -> int:
        """A handle for a new index key without rows; handles of removed keys are reused."""
        key = self._spare_keys.pop() if self._spare_keys else len(self._keys)
        self._keys[key] = _Key([_Pool(0)])
        return key

    def remove_key(self, key: int) -> None:
        """Forget a key; its rows keep their slots and their other keys."""
        for pool in self._key(key).pools:
            for link in pool.links:
                del link.row.links[key]
        del self._keys[key]
        self._spare_keys.append(key)

    def join(self, key: int, row: int, speed: float = 1.0) -> None:
        """Make a row eligible for a key, at `speed` audio seconds per second; ValueError if it already is."""
        entry, node = self._key(key), self._row(row)
        if key in node.links:
            raise ValueError(f"row {row} is already in key {key}")
        speed = checked_speed(speed)
        self._shard(entry, entry.members + 1)
        link = node.links[key] = _Link(node, entry, entry.pools[0], 0, speed)
        self._place(link)
        entry.members += 1

    def leave(self, key: int, row: int) -> None:
        """Take a row out of a key. Raises KeyError if it is not in it."""
        entry, link = self._key(key), self._link(key, row)
        used, cap = link.row.counts
        link.count(-used, -cap)
        if link.row.available:
            self._set_front(link, False)
        self._swap(link.pool, link.pos, len(link.pool.links) - 1)
        link.pool.links.pop()
        del link.row.links[key]
        entry.members -= 1
        self._shard(entry, entry.members)

    def set_speed(self, key: int, row: int, speed: float) -> None:
        """Change the speed of a row in a key. Raises KeyError if it is not in it."""
        self._key(key)
        self._link(key, row).speed = checked_speed(speed)

    def select(self, key: int, route: int, audio_s: float, exclude: Rows = (), sticky: int = -1) -> int:
        """Choose a row for `audio_s` seconds of audio and take one of its slots; -1 when nobody is free.

        `route` is the FNV-1a hash of the routing key; OverflowError if it does not fit 64 bits. `exclude` and
        `sticky`, the row to keep where that does not cost much, may name rows that are gone. More exclusions
        than MAX_EXCLUDED raise ValueError.
        """
        chosen = self._choose(key, route, audio_s, exclude, sticky)
        if chosen is None:
            return -1
        self._take(chosen, audio_s)
        return chosen.number

    def take(self, row: int, audio_s: float, extra: int = 0) -> bool:
        """Take a slot of exactly this row if it is ready and uses less than cap + extra."""
        node = self._row(row)
        checked_seconds(audio_s)
        if extra < 0:
            raise ValueError("extra must not be negative")
        if not node.ready or node.used >= node.cap + extra:
            return False
        self._take(node, audio_s)
        return True

    def release(self, row: int, audio_s: float) -> None:
        """Give a slot back, with the audio seconds it was taken for; also for a removed node.

        Raises ValueError when no slot of the row is out: a slot was counted twice or never.
        """
        node = self._row(row, retired=True)
        checked_seconds(audio_s)
        if node.used == 0:
            raise ValueError(f"row {row} has no slot to release")
        # from zero again each time, so that rounding cannot add up
        node.open_s = max(node.open_s - audio_s, 0.0) if node.used > 1 else 0.0
        self._change(node, node.used - 1, node.cap, node.ready)
        self._recycle(node)

    def used(self, row: int) -> int:
        """Slots of a row that are out; also for a removed node that still has some."""
        return self._row(row, retired=True).used

    def cap(self, row: int) -> int:
        """Slots of a row."""
        return self._row(row).cap

    def free(self, key: int) -> int:
        """Rows of a key that are available: ready and below their cap."""
        return self._key(key).free

    def members(self, key: int) -> int:
        """Rows of a key, available or not."""
        return self._key(key).members

    def statistics(self) -> dict[str, int]:
        """Counts over the whole table; `used` includes slots of removed nodes."""
        rows, keys = self._rows.values(), self._keys.values()
        nodes = [row for row in rows if not row.retired]
        return {
            "nodes": len(nodes),
            "ready": sum(row.ready for row in nodes),
            "retired": len(rows) - len(nodes),
            "cap": sum(row.cap for row in nodes),
            "used": sum(row.used for row in rows),
            "keys": len(keys),
            "pools": sum(len(key.pools) for key in keys),
            "memberships": sum(key.members for key in keys),
        }

    def explain(
        self, key: int, route: int, audio_s: float, exclude: Rows = (), sticky: int = -1
    ) -> list[dict[str, Any]]:
        """Every row of a key as `select` would see it now, in the order of the ring; changes nothing.

        `vetoes` are `not_ready`, `at_capacity`, `excluded`; `overloaded` says that the row's pool is asked
        last, `selected` marks the row that `select` would take.
        """
        state = self._random
        chosen = self._choose(key, route, audio_s, exclude, sticky)
        self._random = state
        entry = self._key(key)
        return [
            {
                "row": link.row.number,
                "node_id": link.row.node_id,
                "pool": pool.number,
                "rank": rank,
                "overloaded": entry.overloaded(pool),
                "used": link.row.used,
                "cap": link.row.cap,
                "speed": link.speed,
                "backlog_s": link.row.backlog_s + link.row.open_s,
                "penalty_s": link.row.penalty_s,
                "finish_s": link.finish_s(audio_s),
                "vetoes": _vetoes(link.row, exclude),
                "sticky": link.row.number == sticky,
                "selected": link.row is chosen,
            }
            for rank, pool in enumerate(entry.ring(route))
            for link in sorted(pool.links, key=lambda link: link.row.number)
        ]

    def _choose(self, key: int, route: int, audio_s: float, exclude: Rows, sticky: int) -> _Row | None:
        checked_seconds(audio_s)
        if len(exclude) > MAX_EXCLUDED:
            raise ValueError(f"at most {MAX_EXCLUDED} rows may be excluded")
        entry = self._key(key)
        if not 0 <= route <= MASK:
            raise OverflowError("route must fit 64 bits")
        if not entry.free:
            return None
        for overloaded in (False, True):
            for pool in entry.ring(route):
                if pool.available and entry.overloaded(pool) == overloaded:
                    best = self._sample(pool, audio_s, exclude)
                    if best is not None:
                        return self._kept(key, sticky, best, audio_s, exclude) or best.row
        return None

    def _sample(self, pool: _Pool, audio_s: float, exclude: Rows) -> _Link | None:
        """The best of a few random available rows, of all where there are few; None if all are excluded."""
        available = pool.available
        if available <= self._choices + len(exclude):
            ring = pool_probe_order(available, self._draw(available))
            found = [pos for pos in ring if pool.links[pos].row.number not in exclude]
        else:
            found = []
            for _ in range(self._choices):
                pos = self._draw(available)
                # there are more rows than can be found or excluded, so this ends
                while pos in found or pool.links[pos].row.number in exclude:
                    pos = (pos + 1) % available
                found.append(pos)
        links = [pool.links[pos] for pos in found]
        return min(links, key=lambda link: link.finish_s(audio_s), default=None)

    def _kept(self, key: int, sticky: int, best: _Link, audio_s: float, exclude: Rows) -> _Row | None:
        """The sticky row, if it may be kept."""
        node = self._rows.get(sticky)
        if node is None or sticky in exclude or key not in node.links or not node.available:
            return None
        finish, best_finish = node.links[key].finish_s(audio_s), best.finish_s(audio_s)
        close = finish <= STICKY_RATIO * best_finish or finish <= best_finish + STICKY_MARGIN_S
        return node if close else None

    def _draw(self, n: int) -> int:
        """A random index below n (at most 2**32) from xorshift64*."""
        x = self._random
        x ^= x >> 12
        x ^= x << 25 & MASK
        x ^= x >> 27
        self._random = x
        return ((x * 0x2545_F491_4F6C_DD1D & MASK) >> 32) * n >> 32

    def _take(self, node: _Row, audio_s: float) -> None:
        node.open_s += audio_s
        self._change(node, node.used + 1, node.cap, node.ready)

    def _change(self, node: _Row, used: int, cap: int, ready: bool) -> None:
        was_available, (was_used, was_cap) = node.available, node.counts
        node.used, node.cap, node.ready = used, cap, ready
        available, (now_used, now_cap) = node.available, node.counts
        for link in node.links.values():
            link.count(now_used - was_used, now_cap - was_cap)
            if available != was_available:
                self._set_front(link, available)

    def _set_front(self, link: _Link, available: bool) -> None:
        """Move a link to the available ones in front of its pool, or away from them."""
        pool = link.pool
        self._swap(pool, link.pos, pool.available if available else pool.available - 1)
        pool.available += 1 if available else -1
        link.key.free += 1 if available else -1

    def _swap(self, pool: _Pool, a: int, b: int) -> None:
        links = pool.links
        links[a], links[b] = links[b], links[a]
        links[a].pos, links[b].pos = a, b

    def _place(self, link: _Link) -> None:
        """Put a link at the end of its pool, then to the front if its row is available."""
        link.pool = link.key.pools[link.row.hash % len(link.key.pools)]
        link.pos = len(link.pool.links)
        link.pool.links.append(link)
        link.count(*link.row.counts)
        if link.row.available:
            self._set_front(link, True)

    def _shard(self, entry: _Key, members: int) -> None:
        """Spread the rows anew if this number of members asks for another number of pools."""
        count = self._fixed_pools or pool_count_for(members, self._max_members)
        if count == len(entry.pools):
            return
        old = entry.pools
        entry.pools = [_Pool(number) for number in range(count)]
        entry.free = entry.used = entry.cap = 0
        for pool in old:
            for link in pool.links:
                self._place(link)

    def _recycle(self, node: _Row) -> None:
        if node.retired and node.used == 0:
            del self._rows[node.number]
            self._spare_rows.append(node.number)

    def _row(self, row: int, retired: bool = False) -> _Row:
        node = self._rows.get(row)
        if node is None or (node.retired and not retired):
            raise KeyError(f"no row {row}")
        return node

    def _key(self, key: int) -> _Key:
        entry = self._keys.get(key)
        if entry is None:
            raise KeyError(f"no key {key}")
        return entry

    def _link(self, key: int, row: int) -> _Link:
        link = self._row(row).links.get(key)
        if link is None:
            raise KeyError(f"row {row} is not in key {key}")
        return link


def checked_cap(cap: int) -> int:
    """The cap, if it is one."""
    if not 0 <= cap <= MAX_CAP:
        raise ValueError(f"cap must be 0 to {MAX_CAP}")
    return cap


def checked_speed(speed: float) -> float:
    """The speed, if it is one."""
    if not 0.0 < speed < inf:
        raise ValueError("speed must be a positive finite number")
    return float(speed)


def checked_seconds(seconds: float) -> float:
    """The seconds, if they can be added to others."""
    if not 0.0 <= seconds < inf:
        raise ValueError("seconds must be a finite number, 0 or more")
    return float(seconds)


def _vetoes(row: _Row, exclude: Rows) -> list[str]:
    full, excluded = row.used >= row.cap, row.number in exclude
    vetoes = ("not_ready", not row.ready), ("at_capacity", full), ("excluded", excluded)
    return [veto for veto, holds in vetoes if holds]
