"""What nodes and pools get over a million choices: on the compiled table, for the other one takes minutes."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Sequence
from heapq import heappop, heappush, heapreplace
from itertools import permutations
from typing import Any

import pytest

from linguad import pools
from linguad._hash import NodeTable

MANY = 1_000_000
SPEEDS = [1.0, 2.0, 4.0] * 20


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
    speeds = {ready(table, f"node-{i}", 100, key, speed=speed): speed for i, speed in enumerate(SPEEDS)}
    chosen: Counter[int] = Counter()
    free_at = dict.fromkeys(speeds, 0.0)
    running: list[tuple[float, int]] = []
    now = 0.0
    for i in range(MANY):
        row = table.select(key, 0, 1.0)
        chosen[row] += 1
        free_at[row] = max(now, free_at[row]) + 1.0 / speeds[row]
        if i < 300:
            heappush(running, (free_at[row], row))
        else:
            now, done = heapreplace(running, (free_at[row], row))
            table.release(done, 1.0)
    for row, speed in speeds.items():
        ideal = MANY * speed / sum(SPEEDS)
        assert 0.9 * ideal < chosen[row] < 1.1 * ideal, (speed, chosen[row] / ideal)


def fair_parts(
    load: float, jobs: int, *, cap: int = 4, order: Sequence[int] = range(60), **settings: Any
) -> list[float]:
    """The audio that each of 60 nodes gets, where 1 is its speed's part of all.

    Nodes do one job after another. Jobs of 1 to 5 s come at random, so many that the nodes have to work for
    this part of the time, and wait where no slot is free. `order` is that in which the nodes register.
    """
    table, chance = NodeTable(**settings), random.Random(4)
    key = table.add_key()
    node_of = {ready(table, f"node-{i}", cap, key, speed=SPEEDS[i]): i for i in order}
    audio, done_at = [0.0] * len(SPEEDS), [0.0] * len(SPEEDS)
    running: list[tuple[float, int, float]] = []
    waiting: deque[float] = deque()

    def start(now: float) -> None:
        while waiting and (row := table.select(key, 0, waiting[0])) >= 0:
            node, seconds = node_of[row], waiting.popleft()
            audio[node] += seconds
            done_at[node] = max(now, done_at[node]) + seconds / SPEEDS[node]
            heappush(running, (done_at[node], row, seconds))

    now = 0.0
    for _ in range(jobs):
        now += chance.expovariate(load * sum(SPEEDS) / 3.0)
        while running and running[0][0] <= now:
            ended, row, seconds = heappop(running)
            table.release(row, seconds)
            start(ended)
        waiting.append(chance.uniform(1.0, 5.0))
        start(now)
    return [part / speed * sum(SPEEDS) / sum(audio) for part, speed in zip(audio, SPEEDS, strict=True)]


def test_shares_are_as_the_speeds_when_all_nodes_are_needed() -> None:
    assert all(0.9 < part < 1.1 for part in fair_parts(0.98, 200_000))


def test_with_less_to_do_fast_nodes_do_more_of_it_but_are_not_flooded() -> None:
    """Whoever is done first gets the job, and the slowest of the compared ones seldom is."""
    parts = fair_parts(0.7, 100_000)
    slow, middle, fast = (parts[kind::3] for kind in range(3))
    assert 0.5 < min(slow) <= max(slow) < min(middle) <= max(middle) < 1.1
    assert 1.0 < min(fast) <= max(fast) < 1.1


def test_least_connections_needs_no_speeds_to_share_by_them() -> None:
    """Slow nodes have their slots out for longer; who is fast when there is a choice it cannot tell."""
    assert all(0.9 < part < 1.1 for part in fair_parts(0.98, 100_000, policy="least_connections"))
    parts = fair_parts(0.7, 100_000, policy="least_connections")
    assert min(parts[0::3]) > 1.05
    assert max(parts[2::3]) < 0.98


def test_random_gives_equal_shares_whatever_the_speeds() -> None:
    parts = fair_parts(0.3, 200_000, cap=100, policy="random")
    equal = sum(SPEEDS) / len(SPEEDS)
    assert all(0.9 < part * speed / equal < 1.1 for part, speed in zip(parts, SPEEDS, strict=True))


def test_shares_do_not_depend_on_the_order_of_registration() -> None:
    """Nodes of one slot, few of them free: where a node lies among the others would show here."""
    first = fair_parts(0.9, 100_000, cap=1)
    for order in (sorted(range(60), key=SPEEDS.__getitem__), random.Random(5).sample(range(60), 60)):
        parts = fair_parts(0.9, 100_000, cap=1, order=order)
        assert all(0.95 < part / before < 1.05 for part, before in zip(parts, first, strict=True))


@pytest.mark.parametrize("policy", pools.POLICIES)
def test_equal_nodes_among_few_get_the_same_in_any_order(policy: str) -> None:
    """Fast, slow, fast: the second fast one must not get what the slow one refuses."""
    for order in permutations((2.0, 1.0, 2.0)):
        table = NodeTable(policy=policy)
        key = table.add_key()
        rows = [ready(table, f"node-{i}", 4, key, speed=speed) for i, speed in enumerate(order)]
        chosen: Counter[int] = Counter()
        for _ in range(20_000):
            row = table.select(key, 0, 1.0)
            chosen[row] += 1
            table.release(row, 1.0)
        first, second = (chosen[row] for row, speed in zip(rows, order, strict=True) if speed == 2.0)
        assert 0.9 < first / second < 1.1, order


def test_pools_do_not_depend_on_the_order_of_registration() -> None:
    """Also if nodes went and came: who shares a pool with whom follows from ids and keys."""

    def together(order: Sequence[int], *, visitors: bool) -> set[frozenset[str]]:
        table = NodeTable(max_members=10)
        key, others = table.add_key(), [table.add_key() for _ in range(3)]
        for i in order:
            guest = ready(table, f"guest-{i}", 4, key, others[i % 2]) if visitors else -1
            ready(table, f"node-{i}", 4, key, others[i % 3])
            if visitors and i % 2:
                table.leave(key, guest)
            if visitors:
                table.remove_node(guest)
        return {
            frozenset(row["node_id"] for row in pool) | {str(number)}
            for (_, number), pool in pools_of(table, key).items()
        }

    expected = together(range(300), visitors=False)
    assert len(expected) == 3 * 11
    for order in (range(299, -1, -1), random.Random(6).sample(range(300), 300)):
        for visitors in (False, True):
            assert together(order, visitors=visitors) == expected


@pytest.mark.parametrize("policy", pools.POLICIES)
def test_every_available_node_is_reached(policy: str) -> None:
    """By chance, not only when nobody else is left; with classes and pools of any size, half of it full."""
    table, chance = NodeTable(policy=policy, max_members=10), random.Random(7)
    key, others = table.add_key(), [table.add_key() for _ in range(30)]
    rows = [ready(table, f"node-{i}", 4, key, others[i * i % 30], speed=1.0 + i % 3) for i in range(600)]
    unavailable = set(chance.sample(rows, 60))
    for row in unavailable:
        table.set_ready(row, False)
    chosen, held = set(), []
    for _ in range(100_000):
        row = table.select(key, chance.getrandbits(64), 1.0)
        chosen.add(row)
        held.append(row)
        if len(held) > 1080:
            at = chance.randrange(len(held))
            held[at], held[-1] = held[-1], held[at]
            table.release(held.pop(), 1.0)
    assert chosen == set(rows) - unavailable


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
