"""What makes a node better than another, and when a session leaves its node: on both twins."""

from __future__ import annotations

import importlib
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from linguad import pools
from linguad._hash_py import NodeTable

Make = Callable[..., NodeTable]


@pytest.fixture(params=["_hash", "_hash_py"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a table of either twin."""
    made: Make = importlib.import_module(f"linguad.{request.param}").NodeTable
    return made


def ready(table: NodeTable, key: int, *, cap: int = 4, used: int = 0, speed: float = 1.0) -> int:
    """A ready node in a key, with so many slots out."""
    row = table.add_node(f"node-{table.members(key)}", cap)
    table.set_ready(row, True)
    table.join(key, row, speed)
    for _ in range(used):
        assert table.take(row, 1.0)
    return row


def chosen(table: NodeTable, key: int, **asked: Any) -> int:
    """The row that would be selected."""
    (row,) = (row["row"] for row in table.explain(key, 0, 1.0, **asked) if row["selected"])
    assert isinstance(row, int)
    return row


def test_expected_finish_is_the_default(make: Make) -> None:
    for settings in ({}, {"policy": "expected_finish"}):
        table = make(**settings)
        key = table.add_key()
        ready(table, key)
        fast = ready(table, key, cap=100, used=99, speed=1000.0)
        assert table.select(key, 0, 1.0) == fast


def test_least_connections_takes_the_smallest_part_then_the_finish(make: Make) -> None:
    table = make(policy="least_connections")
    key = table.add_key()
    ready(table, key, cap=4, used=2, speed=1000.0)
    large = ready(table, key, cap=10, used=4, speed=0.1)
    assert chosen(table, key) == large
    faster = ready(table, key, cap=5, used=2, speed=0.2)
    assert chosen(table, key) == faster
    table.set_load(faster, 100.0, 0.0)
    assert chosen(table, key) == large
    idle = ready(table, key, speed=0.001)
    assert table.select(key, 0, 1.0) == idle


def test_random_gives_all_the_same(make: Make) -> None:
    """Whatever their speeds and loads; also when all free nodes are looked at, and with exclusions."""
    table = make(policy="random")
    key = table.add_key()
    rows = [ready(table, key, cap=6, used=i % 5, speed=10.0**i) for i in range(6)]
    for excluded in ([], rows[:2], rows[2:]):
        found: Counter[int] = Counter()
        others = [row for row in rows if row not in excluded]
        for _ in range(1000 * len(others)):
            row = table.select(key, 0, 1.0, excluded)
            table.release(row, 1.0)
            found[row] += 1
        assert set(found) == set(others)
        assert all(850 < count < 1150 for count in found.values())


def test_a_session_keeps_its_node_as_long_as_the_settings_say(make: Make) -> None:
    for ratio, margin_s, last_s in ((1.0, 0.0, 0.0), (1.0, 0.5, 0.5), (3.0, 0.0, 2.0), (1.25, 0.125, 0.25)):
        table = make(sticky_ratio=ratio, sticky_margin_s=margin_s)
        key = table.add_key()
        best, mine = ready(table, key), ready(table, key)
        table.set_load(mine, last_s, 0.0)
        assert chosen(table, key, sticky=mine) == mine
        table.set_load(mine, last_s + 0.01, 0.0)
        assert chosen(table, key, sticky=mine) == best


def test_least_connections_keeps_a_node_within_the_ratio_and_one_slot(make: Make) -> None:
    table = make(policy="least_connections", sticky_ratio=2.0, sticky_margin_s=600.0)
    key = table.add_key()
    best = ready(table, key, cap=5, used=1)
    mine = ready(table, key, cap=10, used=5, speed=0.001)  # (5 - 1) / 10 is 2 × 1/5
    assert chosen(table, key, sticky=mine) == mine
    assert table.take(mine, 1.0)
    assert chosen(table, key, sticky=mine) == best
    table.release(best, 1.0)  # idle: twice nothing, and the one slot
    for used in (5, 4, 3, 2):
        assert chosen(table, key, sticky=mine) == best
        table.release(mine, 1.0)
        assert table.used(mine) == used
    table.release(mine, 1.0)
    assert chosen(table, key, sticky=mine) == mine


def test_random_keeps_a_node_while_it_can_serve(make: Make) -> None:
    table = make(policy="random", sticky_ratio=1.0, sticky_margin_s=0.0)
    key = table.add_key()
    other, mine = ready(table, key), ready(table, key, cap=2, used=1, speed=0.001)
    table.set_load(mine, 1000.0, 1000.0)
    assert [chosen(table, key, sticky=mine) for _ in range(9)] == [mine] * 9
    assert chosen(table, key, exclude=[mine], sticky=mine) == other
    assert table.take(mine, 1.0)
    assert chosen(table, key, sticky=mine) == other


def test_settings_that_cannot_be(make: Make) -> None:
    for name, wrong in (
        ("policy", ("", "least", "EXPECTED_FINISH")),
        ("sticky_ratio", (0.99, -1.0, float("inf"), float("nan"))),
        ("sticky_margin_s", (-0.1, float("inf"), float("nan"))),
    ):
        for value in wrong:
            with pytest.raises(ValueError):
                make(**{name: value})


@pytest.mark.parametrize("policy", pools.POLICIES)
def test_explain_changes_nothing_over_a_history(make: Make, policy: str) -> None:
    """Of two tables with the same history only one is asked: it tells each choice, and both choose alike."""
    chance = random.Random(policy)
    asked, other = (make(rng_seed=9, max_members=4, policy=policy, sticky_ratio=2.0) for _ in range(2))

    def both(name: str, *args: Any) -> Any:
        first, second = (getattr(table, name)(*args) for table in (asked, other))
        assert first == second, (name, args)
        return first

    keys = [both("add_key") for _ in range(3)]
    rows: list[int] = []
    held: list[tuple[int, float]] = []
    for step in range(800):
        while len(rows) < 40 or chance.random() < 0.02:
            row = both("add_node", f"node-{step}-{len(rows)}", chance.randint(1, 3))
            rows.append(row)
            for key in chance.sample(keys, chance.randint(1, 3)):
                both("join", key, row, chance.uniform(0.5, 2.0))
        if len(rows) > 40:
            both("remove_node", rows.pop(chance.randrange(len(rows))))
        both("set_ready", chance.choice(rows), chance.random() < 0.9)
        both("set_load", chance.choice(rows), chance.uniform(0.0, 9.0), chance.choice((0.0, 5.0)))
        key, route, audio_s = chance.choice(keys), chance.getrandbits(64), chance.uniform(0.2, 20.0)
        exclude, sticky = chance.sample(rows, chance.choice((0, 0, 1, 4))), chance.choice((-1, *rows))
        for another in keys:
            asked.explain(another, step, 1.0)
        told = asked.explain(key, route, audio_s, exclude, sticky)
        row = both("select", key, route, audio_s, exclude, sticky)
        assert [found["row"] for found in told if found["selected"]] == ([row] if row >= 0 else [])
        if row >= 0:
            held.append((row, audio_s))
        if len(held) > 40:
            both("release", *held.pop(chance.randrange(len(held))))
    assert both("statistics")["used"] == len(held) > 20
