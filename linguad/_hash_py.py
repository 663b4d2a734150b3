"""Pool hashing and node selection in plain Python: the readable twin of `_hash.pyx`, with the same results.

Rules (pools-and-cluster 2, design 6, decision 5):

- A row is a node; a key, whose meaning is not known here, lists the rows that are fit for one kind of job.
  A row has its slots once, whatever the number of keys it is in.
- Rows that are in the same keys form a class (`_classes_py.py`). The rows of a class are sharded into pools;
  their number follows the number of rows by a fixed ladder, and a node's pool follows from its id.
- A selection draws a class of its key, weighted by rows, walks the pools of the class as a ring from the one
  the route prefers, and takes from the first that has somebody and is not overloaded the best of a few random
  rows. If few rows are free it compares all; if chance finds nobody it searches.
- The policy says what is best: the smallest expected finish, the smallest part of the slots in use (of equal
  ones the smallest finish), or just the first that chance found. A row that is to be kept need not be quite
  as good; where chance decides it is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy, deepcopy
from itertools import islice
from typing import Any, Final

from linguad._classes_py import Class, Classes, Key, Pool, Row
from linguad._limits import MAX_CAP as MAX_CAP
from linguad._limits import MAX_CHOICES as MAX_CHOICES
from linguad._limits import MAX_EXCLUDED as MAX_EXCLUDED
from linguad._limits import POLICIES as POLICIES
from linguad._limits import check_table, checked_cap, checked_seconds, checked_speed
from linguad._pool_ids import MASK
from linguad._pool_ids import POOL_LADDER as POOL_LADDER
from linguad._pool_ids import fnv1a64 as fnv1a64
from linguad._pool_ids import pick_index_for_key as pick_index_for_key
from linguad._pool_ids import pool_count_for as pool_count_for
from linguad._pool_ids import pool_id_for_key as pool_id_for_key
from linguad._pool_ids import pool_probe_order as pool_probe_order
from linguad._pool_ids import ring_order_ids as ring_order_ids

SCARCE_PART: Final = 8  # classes are drawn while at least this part of them has an available row
DRAWS: Final = 8  # classes drawn before the search begins
LOOKS: Final = 8  # classes that a search looks at before it takes what it has
THIN_PART: Final = 4  # rows of a pool are drawn while at least this part is available, else among those

# what the compiled twin was built for
RULES: Final = (SCARCE_PART, DRAWS, LOOKS, THIN_PART)

Rows = Sequence[int]


class NodeTable:
    """Slots and loads of all nodes, and the choice of a node for a job.

    `hash_seed` places nodes in pools, `rng_seed` starts the table's own generator (xorshift64*), `choices` is
    the number of rows compared, `max_members` the average size of a full pool, `pools` the number of pools of
    every class that has as many rows (0: by the ladder). `policy` is one of POLICIES. A row is kept within
    `sticky_ratio` × the finish of the best, or `sticky_margin_s` after it; by `least_connections` within the
    ratio of the part in use, plus one slot.
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
        policy: str = "expected_finish",
        sticky_ratio: float = 1.5,
        sticky_margin_s: float = 1.0,
    ) -> None:
        check_table(choices, max_members, pools, policy, sticky_ratio, sticky_margin_s)
        self._policy = policy
        self._sticky_ratio = sticky_ratio
        self._sticky_margin_s = sticky_margin_s
        self._hash_seed = hash_seed
        self._choices = choices
        self._max_members = max_members
        self._fixed_pools = pools
        self._random = fnv1a64(b"node table", rng_seed) or 1  # xorshift needs a state other than 0
        self._rows: dict[int, Row] = {}
        self._keys: dict[int, Key] = {}
        self._classes = Classes(self._pool_count)
        self._spare_rows: list[int] = []
        self._spare_keys: list[int] = []

    def copy(self) -> NodeTable:
        """A table in the same state, which draws the same random numbers and then goes its own way."""
        pools = [pool for one in (self._classes.keyless, *self._classes) for pool in one.pools]
        parts = [*self._rows.values(), *self._keys.values(), *self._classes, self._classes.keyless, *pools]
        made = {id(part): copy(part) for part in parts}
        # all parts know one another: each is there before it is filled, so that no chain of them is followed
        for part in parts:
            for name in part.__slots__:
                setattr(made[id(part)], name, deepcopy(getattr(part, name), made))
        return deepcopy(self, made)

    def add_node(self, node_id: str, cap: int) -> int:
        """A row for a node with `cap` slots, not ready and in no key; rows of removed nodes are reused."""
        hashed, cap = fnv1a64(node_id, self._hash_seed), checked_cap(cap)
        row = self._spare_rows.pop() if self._spare_rows else len(self._rows)
        node = self._rows[row] = Row(row, node_id, hashed, cap)
        self._classes.enter(node)
        return row

    def remove_node(self, row: int) -> None:
        """Take a node out of all keys; `release` still works, and the row is reused after its last slot."""
        node = self._row(row)
        for key in node.home.keys.values():
            key.members -= 1
        self._classes.retire(node)
        node.home.change(node, node.used, node.cap, False)
        node.retired = True
        self._recycle(node)

    def set_cap(self, row: int, cap: int) -> None:
        """Change a node's slots; slots above the new cap stay out until they are released."""
        node = self._row(row)
        node.home.change(node, node.used, checked_cap(cap), node.ready)

    def set_ready(self, row: int, ready: bool) -> None:
        """A row that is not ready is never chosen; its slots stay out until they are released."""
        node = self._row(row)
        node.home.change(node, node.used, node.cap, bool(ready))

    def set_load(self, row: int, backlog_s: float, penalty_s: float) -> None:
        """The reported backlog in audio seconds (without our open attempts) and the penalty in seconds."""
        node = self._row(row)
        node.backlog_s, node.penalty_s = checked_seconds(backlog_s), checked_seconds(penalty_s)

    def add_key(self) -> int:
        """A handle for a new index key without rows; handles of removed keys are reused."""
        key = self._spare_keys.pop() if self._spare_keys else len(self._keys)
        self._keys[key] = Key(key)
        return key

    def remove_key(self, key: int) -> None:
        """Forget a key; its rows keep their slots and their other keys."""
        self._classes.forget_key(self._key(key))
        del self._keys[key]
        self._spare_keys.append(key)

    def join(self, key: int, row: int, speed: float = 1.0) -> None:
        """Make a row eligible for a key, at `speed` audio seconds per second; ValueError if it already is."""
        entry, node = self._key(key), self._row(row)
        if key in node.speeds:
            raise ValueError(f"row {row} is already in key {key}")
        speed = checked_speed(speed)
        self._classes.draft(node).keys[key] = entry
        node.speeds[key] = speed
        entry.members += 1

    def leave(self, key: int, row: int) -> None:
        """Take a row out of a key. Raises KeyError if it is not in it."""
        entry, node = self._key(key), self._member(key, row)
        del self._classes.draft(node).keys[key], node.speeds[key]
        entry.members -= 1

    def set_speed(self, key: int, row: int, speed: float) -> None:
        """Change the speed of a row in a key. Raises KeyError if it is not in it."""
        self._key(key)
        self._member(key, row).speeds[key] = checked_speed(speed)

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
        node.home.change(node, node.used - 1, node.cap, node.ready)
        self._recycle(node)

    def used(self, row: int) -> int:
        """Slots of a row that are out; also for a removed node that still has some."""
        return self._row(row, retired=True).used

    def cap(self, row: int) -> int:
        """Slots of a row."""
        return self._row(row).cap

    def where(self, row: int) -> tuple[int, int, int]:
        """The class of a row, its pool there, and how many pools the class has."""
        node = self._row(row)
        self._classes.settle()
        return node.home.number, node.pool.number, len(node.home.pools)

    def free(self, key: int) -> int:
        """Rows of a key that are available: ready and below their cap."""
        entry = self._key(key)
        self._classes.settle()
        return entry.free

    def has_free(self, key: int) -> bool:
        """Whether a row of a key is available; takes no longer the more rows there are."""
        entry = self._key(key)
        self._classes.settle()
        return entry.open > 0

    def ready_slots(self, key: int) -> int:
        """Slots of the ready rows of a key, taken or not; takes no longer the more rows there are."""
        entry = self._key(key)
        self._classes.settle()
        return entry.cap

    def members(self, key: int) -> int:
        """Rows of a key, available or not."""
        return self._key(key).members

    def statistics(self) -> dict[str, int]:
        """Counts over the whole table; `used` includes slots of removed nodes, `pools` are of all classes."""
        self._classes.settle()
        rows, keys = self._rows.values(), self._keys.values()
        nodes = [row for row in rows if not row.retired]
        return {
            "nodes": len(nodes),
            "ready": sum(row.ready for row in nodes),
            "retired": len(rows) - len(nodes),
            "cap": sum(row.cap for row in nodes),
            "used": sum(row.used for row in rows),
            "keys": len(keys),
            "pools": sum(len(one.pools) for one in self._classes),
            "memberships": sum(key.members for key in keys),
        }

    def explain(
        self, key: int, route: int, audio_s: float, exclude: Rows = (), sticky: int = -1
    ) -> list[dict[str, Any]]:
        """Every row of a key as `select` would see it now, in the order of the rings; changes nothing.

        `pool` is a number in the `class`, `rank` its place in the ring. `vetoes` are `not_ready`,
        `at_capacity`, `excluded`; `overloaded` says that the row's pool is asked last, `selected` marks the
        row that `select` would take. Rows whose keys changed get their class, as at any look.
        """
        state = self._random
        chosen = self._choose(key, route, audio_s, exclude, sticky)
        self._random = state
        entry = self._key(key)
        found = [
            {
                "row": row.number,
                "node_id": row.node_id,
                "class": one.number,
                "pool": pool.number,
                "rank": rank,
                "overloaded": entry.overloaded(pool),
                "used": row.used,
                "cap": row.cap,
                "speed": row.speeds[key],
                "backlog_s": row.backlog_s + row.open_s,
                "penalty_s": row.penalty_s,
                "finish_s": row.finish_s(key, audio_s),
                "vetoes": _vetoes(row, exclude),
                "sticky": row.number == sticky,
                "selected": row is chosen,
            }
            for one in entry.classes
            for rank, pool in enumerate(one.ring(route))
            for row in pool.rows
        ]
        return sorted(found, key=lambda candidate: (candidate["rank"], candidate["row"]))

    def _choose(self, key: int, route: int, audio_s: float, exclude: Rows, sticky: int) -> Row | None:
        checked_seconds(audio_s)
        if len(exclude) > MAX_EXCLUDED:
            raise ValueError(f"at most {MAX_EXCLUDED} rows may be excluded")
        entry = self._key(key)
        if not 0 <= route <= MASK:
            raise OverflowError("route must fit 64 bits")
        self._classes.settle()
        if entry.free <= self._choices + len(exclude):
            found = self._all_free(entry, exclude)
        else:
            found = self._drawn(entry, route, exclude) or self._searched(entry, route, exclude)
        best = min(found, key=lambda row: self._rank(row, key, audio_s), default=None)
        return best and (self._kept(key, sticky, best, audio_s, exclude) or best)

    def _rank(self, row: Row, key: int, audio_s: float) -> tuple[float, float]:
        """What is smallest for the best row; of equal ones the first is taken, for their order is random."""
        if self._policy == "random":
            return 0.0, 0.0
        part = row.used / row.cap if self._policy == "least_connections" else 0.0
        return part, row.finish_s(key, audio_s)

    def _all_free(self, entry: Key, exclude: Rows) -> list[Row]:
        """All rows of a key that may be chosen, when they are few."""
        pools = [pool for one in self._classes.open_ones(entry) for pool in one.open_pools(0)]
        rows = [row for pool in pools for row in pool.rows]
        return self._shuffled([row for row in rows if row.available and row.number not in exclude])

    def _drawn(self, entry: Key, route: int, exclude: Rows) -> list[Row]:
        """Rows of random classes, from the first calm pool of each, until there are enough to compare."""
        found: list[Row] = []
        if entry.open * SCARCE_PART >= len(entry.classes):
            for _ in range(DRAWS):
                for pool in self._calm_pool(entry, entry.drawn(self._draw), route):
                    found += self._sample(pool, found, exclude)
                if len(found) >= self._choices:
                    break
        return found

    def _searched(self, entry: Key, route: int, exclude: Rows) -> list[Row]:
        """Rows of open classes, from a random one on, until there are enough; calm pools before others."""
        found: list[Row] = []
        open_ones = self._classes.open_ones(entry, self._draw(len(self._classes)))
        for calm in (True, False):
            for looks, one in enumerate(open_ones, 1):
                for pool in self._calm_pool(entry, one, route) if calm else one.open_pools(route):
                    sample = self._sample(pool, found, exclude)
                    found += sample
                    if sample:
                        break
                if len(found) >= self._choices or (looks >= LOOKS and (calm or found)):
                    break
            if found:
                break
        return found

    def _calm_pool(self, entry: Key, one: Class, route: int) -> Iterator[Pool]:
        """The first open pool of a class that is not overloaded; none if the whole class is."""
        pools = () if entry.overloaded(one) else one.open_pools(route)
        return islice((pool for pool in pools if not entry.overloaded(pool)), 1)

    def _sample(self, pool: Pool, besides: list[Row], exclude: Rows) -> list[Row]:
        """So many random available rows that there are enough besides those; all of them if they are few."""
        available = [row for row in pool.rows if row.available]
        if pool.available <= self._choices + len(exclude):
            return self._shuffled([r for r in available if r not in besides and r.number not in exclude])
        found: list[Row] = []
        rows = available if pool.available * THIN_PART < len(pool.rows) else pool.rows
        # there are more rows than can be found or excluded, so this ends, and soon
        while len(found) < self._choices - len(besides):
            row = rows[self._draw(len(rows))]
            if row.available and row not in found + besides and row.number not in exclude:
                found.append(row)
        return found

    def _kept(self, key: int, sticky: int, best: Row, audio_s: float, exclude: Rows) -> Row | None:
        """The sticky row, if it may be kept."""
        node = self._rows.get(sticky)
        if node is None or sticky in exclude or key not in node.speeds or not node.available:
            return None
        return node if self._is_close(node, best, key, audio_s) else None

    def _is_close(self, node: Row, best: Row, key: int, audio_s: float) -> bool:
        """Whether a row is not clearly worse than the best one."""
        if self._policy == "random":
            return True
        if self._policy == "least_connections":
            # (used - 1 slot) / cap against the ratio × that of the best, multiplied out: floats, as compiled
            used, best_used = float(node.used - 1), self._sticky_ratio * float(best.used)
            return used * float(best.cap) <= best_used * float(node.cap)
        finish, best_finish = node.finish_s(key, audio_s), best.finish_s(key, audio_s)
        return finish <= self._sticky_ratio * best_finish or finish <= best_finish + self._sticky_margin_s

    def _shuffled(self, rows: list[Row]) -> list[Row]:
        for i in range(len(rows) - 1, 0, -1):
            at = self._draw(i + 1)
            rows[i], rows[at] = rows[at], rows[i]
        return rows

    def _draw(self, n: int) -> int:
        """A random index below n (at most 2**32) from xorshift64*."""
        x = self._random
        x ^= x >> 12
        x ^= x << 25 & MASK
        x ^= x >> 27
        self._random = x
        return ((x * 0x2545_F491_4F6C_DD1D & MASK) >> 32) * n >> 32

    def _take(self, node: Row, audio_s: float) -> None:
        node.open_s += audio_s
        node.home.change(node, node.used + 1, node.cap, node.ready)

    def _recycle(self, node: Row) -> None:
        if node.retired and node.used == 0:
            self._classes.keyless.cut(node)
            del self._rows[node.number]
            self._spare_rows.append(node.number)

    def _pool_count(self, members: int) -> int:
        """How many pools a class of so many rows has; no more than rows, but for steps of the ladder."""
        if self._fixed_pools:
            return min(self._fixed_pools, pool_count_for(members, 1))
        return pool_count_for(members, self._max_members)

    def _row(self, row: int, retired: bool = False) -> Row:
        node = self._rows.get(row)
        if node is None or (node.retired and not retired):
            raise KeyError(f"no row {row}")
        return node

    def _key(self, key: int) -> Key:
        entry = self._keys.get(key)
        if entry is None:
            raise KeyError(f"no key {key}")
        return entry

    def _member(self, key: int, row: int) -> Row:
        node = self._row(row)
        if key not in node.speeds:
            raise KeyError(f"row {row} is not in key {key}")
        return node


def _vetoes(row: Row, exclude: Rows) -> list[str]:
    full, excluded = row.used >= row.cap, row.number in exclude
    vetoes = ("not_ready", not row.ready), ("at_capacity", full), ("excluded", excluded)
    return [veto for veto, holds in vetoes if holds]
