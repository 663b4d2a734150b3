"""What nodes and pools get over a million choices: on the compiled table, for the other one takes minutes."""

from __future__ import annotations

import random
from collections import Counter
from heapq import heappush, heapreplace
from typing import Any

from linguad import pools
from linguad._hash import NodeTable

MANY = 1_000_000


def ready(table: NodeTable, name: str, cap: int, *keys: int, speed: float = 1.0) -> int:
    """A ready node in these keys."""
    row: int = table.add_node(name, cap)
    table.set_ready(row, True)
    for key in keys:
        table.join(key, row, speed)
    return row


def pools_of(table: NodeTable, key: int) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """What `explain` tells of the rows of a key, by class and pool."""
    found: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in table.explain(key, 0, 1.0):
        found.setdefault((row["class"], row["pool"]), []).append(row)
    return found


def test_equal_nodes_of_a_pool_get_equal_shares() -> None:
    table = NodeTable()
    key = table.add_key()
    rows = [ready(table, f"node-{i}", 4, key) for i in range(100)]
    chosen: Counter[int] = Counter()
    chance = random.Random(1)
    held: list[int] = []
    for _ in range(MANY):
        row = table.select(key, chance.getrandbits(64), 1.0)
        chosen[row] += 1
        held.append(row)
        if len(held) > 240:  # 60 of 100 slots are out
            at = chance.randrange(len(held))
            held[at], held[-1] = held[-1], held[at]
            table.release(held.pop(), 1.0)
    ideal = MANY / len(rows)
    assert all(0.9 * ideal < chosen[row] < 1.1 * ideal for row in rows)


def test_nodes_that_always_have_work_get_shares_as_their_speeds() -> None:
    """Nodes do one job after another; 300 jobs are out all the time."""
    table = NodeTable()
    key = table.add_key()
    speeds = [1.0, 2.0, 4.0] * 20
    rows = [ready(table, f"node-{i}", 100, key, speed=speed) for i, speed in enumerate(speeds)]
    chosen: Counter[int] = Counter()
    free_at = dict.fromkeys(rows, 0.0)
    running: list[tuple[float, int]] = []
    now = 0.0
    for i in range(MANY):
        row = table.select(key, 0, 1.0)
        chosen[row] += 1
        free_at[row] = max(now, free_at[row]) + 1.0 / speeds[rows.index(row)]
        if i < 300:
            heappush(running, (free_at[row], row))
        else:
            now, done = heapreplace(running, (free_at[row], row))
            table.release(done, 1.0)
    for row, speed in zip(rows, speeds, strict=True):
        ideal = MANY * speed / sum(speeds)
        assert 0.9 * ideal < chosen[row] < 1.1 * ideal, (speed, chosen[row] / ideal)


def test_a_node_gets_the_same_whatever_the_size_of_its_class() -> None:
    """Two nodes, thirty and sixty that differ in another key: each gets the share of one node."""
    table = NodeTable()
    key, others = table.add_key(), [table.add_key() for _ in range(3)]
    rows = [
        ready(table, f"node-{i}", 4, key, other)
        for other, size in zip(others, (2, 30, 60), strict=True)
        for i in range(size)
    ]
    chosen: Counter[int] = Counter()
    for _ in range(MANY):
        row = table.select(key, 0, 1.0)
        chosen[row] += 1
        table.release(row, 1.0)
    ideal = MANY / len(rows)
    assert all(0.9 * ideal < chosen[row] < 1.1 * ideal for row in rows)


def test_pools_stay_within_the_rule() -> None:
    """At most 1.25 × the key's use and two slots, though all sessions prefer the same few pools.

    Classes tell their keys of their use in steps of a 64th.
    """
    for kinds in (1, 3, 40):
        table = NodeTable(max_members=20)
        key, others = table.add_key(), [table.add_key() for _ in range(kinds)]
        rows = [ready(table, f"node-{i}", 4, key, others[i * i % kinds]) for i in range(600)]
        chance = random.Random(2)
        held: list[int] = []
        for step in range(40_000):
            held.append(table.select(key, chance.choice((5, 5, 5, 6, 10, 29)), 1.0))
            if len(held) > 0.6 * 4 * len(rows):
                at = chance.randrange(len(held))
                held[at], held[-1] = held[-1], held[at]
                table.release(held.pop(), 1.0)
            if step % 500 == 499:
                mean = len(held) / (4 * len(rows))
                for pool in pools_of(table, key).values():
                    used, cap = (sum(row[name] for row in pool) for name in ("used", "cap"))
                    assert used <= 1.25 * 65 / 64 * mean * cap + 2, (kinds, step, used, cap, mean)


def test_one_node_more_or_less_moves_only_the_sessions_of_its_pool() -> None:
    """While the number of pools stays: the others have the same candidates as before."""
    table = NodeTable(max_members=20)
    key, others = table.add_key(), [table.add_key() for _ in range(3)]
    rows = [ready(table, f"node-{i}", 4, key, others[i % 3]) for i in range(600)]
    routes = [pools.fnv1a64(f"session-{i}", 0) for i in range(200)]

    def preferred() -> list[set[tuple[int, int, int]]]:
        """The rows of each session's preferred pools."""
        return [
            {
                (row["class"], row["pool"], row["row"])
                for row in table.explain(key, route, 1.0)
                if not row["rank"]
            }
            for route in routes
        ]

    before = preferred()
    count = table.statistics()["pools"]
    for change in (
        lambda: ready(table, "one-more", 4, key, others[1]),
        lambda: table.remove_node(rows[7]),
        lambda: table.leave(key, rows[8]),
    ):
        change()
        assert table.statistics()["pools"] == count + (change.__code__.co_names[-1] == "leave")
        after = preferred()
        differing = [a ^ b for a, b in zip(after, before, strict=True) if a != b]
        assert 0 < len(differing) < len(routes) / 5
        assert {len(one) for one in differing} == {1}
        before = after


def test_the_last_free_node_is_found_among_thousands() -> None:
    """A fleet of nodes that all differ, full but for one that comes free, one after another."""
    table = NodeTable()
    chance = random.Random(3)
    keys = [table.add_key() for _ in range(40)]
    sets = [chance.sample(keys, chance.randint(1, 12)) for _ in range(3_000)]
    rows = [ready(table, f"node-{i}", 1, *served) for i, served in enumerate(sets)]
    for row in rows:
        assert table.take(row, 1.0)
    assert all(table.select(key, 0, 1.0) == -1 for key in keys)
    for row, served in zip(rows, sets, strict=True):
        table.release(row, 1.0)
        assert {key for key in keys if table.free(key)} == set(served)
        assert table.select(chance.choice(served), chance.getrandbits(64), 1.0) == row
