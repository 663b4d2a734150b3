"""The node table and its facade: every test runs on both twins."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from linguad import _hash_py, pools
from linguad._hash_py import NodeTable

Make = Callable[..., NodeTable]


@pytest.fixture(params=["_hash", "_hash_py"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a table of either twin."""
    made: Make = importlib.import_module(f"linguad.{request.param}").NodeTable
    return made


def add(table: NodeTable, *keys: int, cap: int = 4, name: str = "node", speed: float = 1.0) -> int:
    """A ready node in these keys."""
    row = table.add_node(name, cap)
    table.set_ready(row, True)
    for key in keys:
        table.join(key, row, speed)
    return row


def fleet(table: NodeTable, count: int, cap: int = 4) -> tuple[int, list[int]]:
    """A key with so many ready nodes."""
    key = table.add_key()
    return key, [add(table, key, cap=cap, name=f"node-{i}") for i in range(count)]


def selected(found: list[dict[str, Any]]) -> list[int]:
    return [row["row"] for row in found if row["selected"]]


def test_extension_is_loaded() -> None:
    """Fails when the extension silently was not built."""
    compiled = importlib.import_module("linguad._hash")
    assert compiled.__file__ is not None
    assert not compiled.__file__.endswith(".py")
    assert pools.COMPILED is not bool(os.environ.get("LINGUAD_NO_EXTENSIONS"))


@pytest.mark.parametrize(
    ("environment", "blocked"),
    [({"LINGUAD_NO_EXTENSIONS": "1"}, False), ({}, True)],
    ids=["asked", "not built"],
)
def test_plain_twin_is_used_without_the_extension(environment: dict[str, str], blocked: bool) -> None:
    program = (
        "import sys\n"
        f"if {blocked}: sys.modules['linguad._hash'] = None\n"
        "from linguad import _hash_py, pools\n"
        "assert not pools.COMPILED\n"
        "assert pools.NodeTable is _hash_py.NodeTable\n"
        "print(pools.pool_id_for_key(16, 42, 'tenant-A'))\n"
    )
    inherited = {name: value for name, value in os.environ.items() if name != "LINGUAD_NO_EXTENSIONS"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=inherited | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "1\n"


def test_twins_have_the_same_names() -> None:
    compiled = importlib.import_module("linguad._hash")
    for name in set(pools.__all__) - {"COMPILED"}:
        assert hasattr(compiled, name), name
    methods = {name for name in dir(_hash_py.NodeTable) if not name.startswith("_")}
    assert methods == {name for name in dir(compiled.NodeTable) if not name.startswith("_")}
    for name in methods:
        plain = inspect.signature(getattr(_hash_py.NodeTable, name))
        assert list(inspect.signature(getattr(compiled.NodeTable, name)).parameters) == list(plain.parameters)


def test_slots_of_a_node_are_shared_by_its_keys(make: Make) -> None:
    table = make()
    first, second = table.add_key(), table.add_key()
    row = add(table, first, second, cap=2)
    assert table.select(first, 0, 1.0) == row
    assert table.select(second, 0, 1.0) == row
    assert (table.free(first), table.free(second), table.used(row)) == (0, 0, 2)
    assert table.select(first, 0, 1.0) == -1
    table.release(row, 1.0)
    assert (table.free(first), table.free(second)) == (1, 1)
    assert table.select(first, 0, 1.0) == row


def test_a_row_that_is_not_ready_is_never_chosen_and_keeps_its_slots(make: Make) -> None:
    table = make()
    key = table.add_key()
    row = table.add_node("node", 2)
    table.join(key, row)
    assert table.select(key, 0, 1.0) == -1
    table.set_ready(row, True)
    assert table.select(key, 0, 1.0) == row
    table.set_ready(row, False)
    assert (table.select(key, 0, 1.0), table.take(row, 1.0), table.used(row)) == (-1, False, 1)
    table.set_ready(row, True)
    assert table.select(key, 0, 1.0) == row
    assert table.select(key, 0, 1.0) == -1


def test_cap_below_what_is_used(make: Make) -> None:
    table = make()
    key, (row,) = fleet(table, 1)
    for _ in range(3):
        assert table.select(key, 0, 1.0) == row
    table.set_cap(row, 1)
    assert (table.cap(row), table.used(row), table.free(key)) == (1, 3, 0)
    table.release(row, 1.0)
    table.release(row, 1.0)
    assert table.select(key, 0, 1.0) == -1
    table.release(row, 1.0)
    assert table.select(key, 0, 1.0) == row


def test_take_may_go_above_the_cap_by_extra(make: Make) -> None:
    table = make()
    key, (row,) = fleet(table, 1, cap=1)
    assert [table.take(row, 1.0, extra) for extra in (0, 0, 2, 2, 2)] == [True, False, True, True, False]
    assert (table.used(row), table.free(key)) == (3, 0)


def test_a_leak_is_loud(make: Make) -> None:
    table = make()
    _, (row,) = fleet(table, 1)
    with pytest.raises(ValueError, match="no slot to release"):
        table.release(row, 1.0)


def test_a_removed_row_is_reused_after_its_last_slot(make: Make) -> None:
    table = make()
    key, (row,) = fleet(table, 1)
    assert table.select(key, 0, 1.0) == row
    table.remove_node(row)
    assert (table.members(key), table.select(key, 0, 1.0), table.used(row)) == (0, -1, 1)
    assert table.statistics()["retired"] == 1
    for use in (lambda: table.take(row, 1.0), lambda: table.remove_node(row), lambda: table.join(key, row)):
        with pytest.raises(KeyError, match="no row"):
            use()
    assert add(table, key) != row
    table.release(row, 1.0)
    with pytest.raises(KeyError, match="no row"):
        table.release(row, 1.0)
    assert add(table, key) == row
    assert table.used(row) == 0


def test_a_removed_key_is_reused_empty(make: Make) -> None:
    table = make()
    key, other = table.add_key(), table.add_key()
    row = add(table, key, other)
    table.remove_key(key)
    with pytest.raises(KeyError, match="no key"):
        table.select(key, 0, 1.0)
    assert table.add_key() == key
    assert (table.members(key), table.free(key), table.free(other)) == (0, 0, 1)
    table.join(key, row)
    assert table.select(key, 0, 1.0) == row


def test_statistics(make: Make) -> None:
    table = make(max_members=2)
    key, rows = fleet(table, 5, cap=3)
    table.set_ready(rows[0], False)
    table.select(key, 0, 1.0)
    assert table.statistics() == {
        "nodes": 5,
        "ready": 4,
        "retired": 0,
        "cap": 15,
        "used": 1,
        "keys": 1,
        "pools": 3,
        "memberships": 5,
    }


@pytest.mark.parametrize(
    "use",
    [
        lambda table, key, row: table.select(key + 1, 0, 1.0),
        lambda table, key, row: table.select(-1, 0, 1.0),
        lambda table, key, row: table.explain(key + 1, 0, 1.0),
        lambda table, key, row: table.free(key + 1),
        lambda table, key, row: table.has_free(key + 1),
        lambda table, key, row: table.ready_slots(key + 1),
        lambda table, key, row: table.members(key + 1),
        lambda table, key, row: table.remove_key(key + 1),
        lambda table, key, row: table.join(key + 1, row),
        lambda table, key, row: table.join(key, row + 1),
        lambda table, key, row: table.leave(key + 1, row),
        lambda table, key, row: table.set_speed(key + 1, row, 1.0),
        lambda table, key, row: table.used(row + 1),
        lambda table, key, row: table.cap(-1),
        lambda table, key, row: table.where(row + 1),
        lambda table, key, row: table.take(row + 1, 1.0),
        lambda table, key, row: table.release(row + 1, 1.0),
        lambda table, key, row: table.set_cap(row + 1, 1),
        lambda table, key, row: table.set_ready(row + 1, True),
        lambda table, key, row: table.set_load(row + 1, 0.0, 0.0),
        lambda table, key, row: table.remove_node(row + 1),
        lambda table, key, row: (table.leave(key, row), table.leave(key, row)),
        lambda table, key, row: (table.leave(key, row), table.set_speed(key, row, 1.0)),
    ],
)
def test_wrong_handles(make: Make, use: Callable[[NodeTable, int, int], object]) -> None:
    table = make()
    key, (row,) = fleet(table, 1)
    with pytest.raises(KeyError):
        use(table, key, row)


@pytest.mark.parametrize(
    "use",
    [
        lambda table, key, row: table.join(key, row),
        lambda table, key, row: table.set_speed(key, row, 0.0),
        lambda table, key, row: table.set_speed(key, row, float("nan")),
        lambda table, key, row: table.set_load(row, -1.0, 0.0),
        lambda table, key, row: table.set_load(row, 0.0, float("inf")),
        lambda table, key, row: table.set_cap(row, -1),
        lambda table, key, row: table.set_cap(row, pools.MAX_CAP + 1),
        lambda table, key, row: table.add_node("x", -1),
        lambda table, key, row: table.take(row, float("nan")),
        lambda table, key, row: table.take(row, 1.0, -1),
        lambda table, key, row: table.release(row, -1.0),
        lambda table, key, row: table.select(key, 0, float("inf")),
        lambda table, key, row: table.select(key, 0, 1.0, [0] * 5),
        lambda table, key, row: table.explain(key, 0, -1.0),
    ],
)
def test_wrong_values_change_nothing(make: Make, use: Callable[[NodeTable, int, int], object]) -> None:
    table = make()
    key, (row,) = fleet(table, 1)
    table.take(row, 1.0)
    before = table.explain(key, 0, 1.0), table.statistics()
    with pytest.raises(ValueError):
        use(table, key, row)
    assert (table.explain(key, 0, 1.0), table.statistics()) == before


def test_wrong_settings(make: Make) -> None:
    for settings_ in ({"choices": 0}, {"choices": pools.MAX_CHOICES + 1}, {"max_members": 0}, {"pools": 998}):
        with pytest.raises(ValueError):
            make(**settings_)
    with pytest.raises(OverflowError):
        make(rng_seed=2**64)
    table = make()
    with pytest.raises(OverflowError):
        table.select(table.add_key(), 2**64, 1.0)


def test_smallest_expected_finish_wins(make: Make) -> None:
    """(backlog + open + audio) / speed + penalty."""
    table = make()
    key = table.add_key()
    slow = add(table, key, speed=1.0)  # 4 / 1 = 4 s
    fast = add(table, key, speed=2.0)  # (5 + 4) / 2 = 4.5 s
    far = add(table, key, speed=4.0)  # 4 / 4 + 3.25 = 4.25 s
    table.set_load(fast, 5.0, 0.0)
    table.set_load(far, 0.0, 3.25)
    expected = {slow: 4.0, fast: 4.5, far: 4.25}
    assert {row["row"]: row["finish_s"] for row in table.explain(key, 0, 4.0)} == expected
    assert table.select(key, 0, 4.0) == slow
    assert table.select(key, 0, 4.0) == far
    table.set_speed(key, slow, 8.0)  # (4 + 4) / 8 = 1 s
    assert table.select(key, 0, 4.0) == slow


def test_open_seconds_come_and_go_with_the_slots(make: Make) -> None:
    table = make()
    key, (row,) = fleet(table, 1)
    seconds = [0.1, 0.7, 1e9]
    for audio_s in seconds:
        table.take(row, audio_s)
    for audio_s in seconds[:2]:
        table.release(row, audio_s)
    assert table.explain(key, 0, 1.0)[0]["backlog_s"] == pytest.approx(1e9)
    table.release(row, 1e9)
    assert table.explain(key, 0, 1.0)[0]["backlog_s"] == 0.0


def test_choice_is_balanced_inside_a_pool(make: Make) -> None:
    """Equal nodes get equal shares, both of jobs that come one by one and of jobs that stay."""
    for count in (2, 5, 60):
        table = make()
        key, rows = fleet(table, count, cap=100)
        one_by_one: Counter[int] = Counter()
        for _ in range(count * 400):
            row = table.select(key, 0, 1.0)
            one_by_one[row] += 1
            table.release(row, 1.0)
        assert min(one_by_one[row] for row in rows) > 300
        for _ in range(count * 50):
            table.select(key, 0, 1.0)
        assert all(45 <= table.used(row) <= 55 for row in rows)


def test_exclusions_are_respected_to_the_last_node(make: Make) -> None:
    table = make(max_members=3)
    key, rows = fleet(table, 5)
    for route in range(20):
        row = table.select(key, route, 1.0, rows[:4])
        assert row == rows[4]
        table.release(row, 1.0)
    table.set_ready(rows[4], False)
    assert table.select(key, 0, 1.0, rows[:4]) == -1
    assert table.select(key, 0, 1.0, [*rows[:3], 99]) == rows[3]


def test_sticky_row_is_kept_unless_clearly_worse(make: Make) -> None:
    table = make()
    key, (best, sticky) = fleet(table, 2)
    for backlog_s, kept in ((0.0, True), (1.0, True), (1.1, True), (2.0, True), (2.5, False)):
        table.set_load(sticky, backlog_s, 0.0)
        assert selected(table.explain(key, 0, 4.0, sticky=sticky)) == [sticky if kept else best]
    table.set_load(sticky, 1.0, 0.0)  # 1.1 s against 0.1 s: many times more, but not more than 1 s later
    assert selected(table.explain(key, 0, 0.1, sticky=sticky)) == [sticky]
    table.set_load(sticky, 1.1, 0.0)
    assert selected(table.explain(key, 0, 0.1, sticky=sticky)) == [best]


def test_sticky_row_is_left_when_it_cannot_serve(make: Make) -> None:
    table = make()
    key, (row, other) = fleet(table, 2, cap=1)
    elsewhere = add(table, table.add_key())
    table.set_load(other, 10.0, 0.0)
    for gone in (-1, 99, elsewhere):
        assert selected(table.explain(key, 0, 1.0, sticky=gone)) == [row]
    table.set_load(other, 0.0, 0.0)
    assert selected(table.explain(key, 0, 1.0, [row], row)) == [other]
    table.set_ready(row, False)
    assert selected(table.explain(key, 0, 1.0, sticky=row)) == [other]
    table.set_ready(row, True)
    table.take(row, 1.0)
    assert selected(table.explain(key, 0, 1.0, sticky=row)) == [other]


def test_pools_follow_the_ladder_and_the_node_id(make: Make) -> None:
    table = make(hash_seed=7, max_members=10)
    key = table.add_key()
    rows: list[int] = []

    def check() -> None:
        count = pools.pool_count_for(len(rows), 10)
        assert table.statistics()["pools"] == (count if rows else 0)  # the class goes with its last row
        found = table.explain(key, 0, 1.0)
        assert {row["row"] for row in found} == set(rows)
        for row in found:
            assert row["pool"] == pools.pool_id_for_key(count, 7, row["node_id"])

    for i in range(120):
        rows.append(add(table, key, name=f"node-{i}"))
        check()
    while rows:
        table.leave(key, rows.pop(len(rows) // 2))
        check()


def test_route_prefers_a_pool_and_walks_the_ring(make: Make) -> None:
    table = make(max_members=4)
    key, rows = fleet(table, 40, cap=1)
    count = table.statistics()["pools"]
    assert count == 11
    found = table.explain(key, 24, 1.0)
    ring = list(dict.fromkeys(row["pool"] for row in found))
    held = {row["pool"] for row in found}
    assert ring == [pool for pool in pools.pool_probe_order(count, 24 % count) if pool in held]
    pool_of = {row["row"]: row["pool"] for row in found}
    for pool in range(count):
        if pool in held:
            row = table.select(key, pool + count, 1.0)
            assert pool_of[row] == pool
            table.release(row, 1.0)
    # nothing is left free in the preferred pool: the next one of the ring that has somebody
    for row in rows:
        if pool_of[row] == ring[0]:
            table.set_ready(row, False)
    assert pool_of[table.select(key, 24, 1.0)] == ring[1]


def test_an_overloaded_pool_is_skipped_but_not_refused(make: Make) -> None:
    """Use above 1.25 × the key's mean plus one slot (resolution 35)."""
    table = make(max_members=10)
    key, rows = fleet(table, 20, cap=4)
    members = Counter(row["pool"] for row in table.explain(key, 0, 1.0))
    first = [row["row"] for row in table.explain(key, 0, 1.0) if row["pool"] == 0]

    def state() -> tuple[bool, int]:
        found = table.explain(key, 0, 1.0)
        (chosen,) = (row["pool"] for row in found if row["selected"])
        return found[0]["overloaded"], chosen

    taken = 0
    while taken + 1 < 4 * len(first):
        limit = 1.25 * taken / 80 * 4 * members[0] + 1
        assert state() == ((True, 1) if taken > limit else (False, 0))
        assert table.take(first[taken % len(first)], 1.0)
        taken += 1
    others = [row for row in rows if row not in first]
    assert selected(table.explain(key, 0, 1.0, others[:4]))[0] in others
    for row in others:
        table.set_ready(row, False)
    assert state() == (False, 0)  # what is not ready does not count
    for row in others:
        table.set_ready(row, True)
        while table.take(row, 1.0):
            pass
    assert state() == (False, 0)


def test_only_excluded_nodes_in_calm_pools_falls_back_to_an_overloaded_one(make: Make) -> None:
    table = make(max_members=1)
    key, _ = fleet(table, 2)
    by_pool = {row["pool"]: row["row"] for row in table.explain(key, 0, 1.0)}
    assert len(by_pool) == 2, "the two nodes should hash into two pools"
    for _ in range(3):
        table.take(by_pool[0], 1.0)
    assert table.select(key, 0, 1.0) == by_pool[1]
    assert table.select(key, 0, 1.0, [by_pool[1]]) == by_pool[0]


def test_explain_changes_nothing_and_tells_the_next_choice(make: Make) -> None:
    table = make(max_members=5, rng_seed=3)
    key, rows = fleet(table, 30, cap=2)
    table.set_ready(rows[3], False)
    while table.take(rows[4], 1.0):
        pass
    found = {row["row"]: row["vetoes"] for row in table.explain(key, 0, 1.0, [rows[5]])}
    assert found == {row: [] for row in rows} | {
        rows[3]: ["not_ready"],
        rows[4]: ["at_capacity"],
        rows[5]: ["excluded"],
    }
    for route in range(50):
        told = table.explain(key, route, 2.0, rows[:2], rows[9])
        assert told == table.explain(key, route, 2.0, rows[:2], rows[9])
        row = table.select(key, route, 2.0, rows[:2], rows[9])
        assert selected(told) == ([] if row < 0 else [row])
