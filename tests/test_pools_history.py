"""Both twins of the node table side by side over any history, beside a naive model of what must hold."""

from __future__ import annotations

import importlib
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from linguad import _hash_py
from linguad._limits import POLICIES


class Model:
    """What must hold of any table: slots out per row, readiness, caps and memberships."""

    def __init__(self) -> None:
        self.cap: dict[int, int] = {}
        self.ready: dict[int, bool] = {}
        self.used: Counter[int] = Counter()
        self.keys: dict[int, set[int]] = {}
        self.held: list[tuple[int, float]] = []

    def available(self, key: int) -> set[int]:
        return {row for row in self.keys[key] if self.ready[row] and self.used[row] < self.cap[row]}


class Twins:
    """Does the same to both twins and compares the answers, and keeps the model in step."""

    def __init__(self, seed: int, **settings_: Any) -> None:
        compiled = importlib.import_module("linguad._hash")
        self.tables = [
            twin.NodeTable(hash_seed=seed, rng_seed=seed, **settings_) for twin in (compiled, _hash_py)
        ]
        self.model = Model()
        self.added = 0

    def both(self, name: str, *args: Any) -> Any:
        fast, plain = (getattr(table, name)(*args) for table in self.tables)
        assert fast == plain, (name, args)
        assert type(fast) is type(plain)
        return fast

    def add_node(self, cap: int, ready: bool) -> int:
        self.added += 1
        row: int = self.both("add_node", f"node-{self.added}", cap)
        assert row not in self.model.cap
        assert not self.model.used[row]
        self.model.cap[row] = cap
        self.set_ready(row, ready)
        return row

    def remove_node(self, row: int) -> None:
        self.both("remove_node", row)
        del self.model.cap[row], self.model.ready[row]
        for rows in self.model.keys.values():
            rows.discard(row)

    def add_key(self) -> int:
        key: int = self.both("add_key")
        assert key not in self.model.keys
        self.model.keys[key] = set()
        return key

    def remove_key(self, key: int) -> None:
        self.both("remove_key", key)
        del self.model.keys[key]

    def toggle(self, key: int, row: int, speed: float) -> None:
        rows = self.model.keys[key]
        if row in rows:
            self.both("leave", key, row)
        else:
            self.both("join", key, row, speed)
        rows ^= {row}

    def set_ready(self, row: int, ready: bool) -> None:
        self.both("set_ready", row, ready)
        self.model.ready[row] = ready

    def set_cap(self, row: int, cap: int) -> None:
        self.both("set_cap", row, cap)
        self.model.cap[row] = cap

    def select(self, key: int, route: int, audio_s: float, exclude: list[int], sticky: int) -> None:
        allowed = self.model.available(key) - set(exclude)
        told = self.both("explain", key, route, audio_s, exclude, sticky)
        row = self.both("select", key, route, audio_s, exclude, sticky)
        assert row in allowed if allowed else row == -1
        assert [found["row"] for found in told if found["selected"]] == ([row] if allowed else [])
        if allowed:
            self._hold(row, audio_s)
            assert self.tables[0].used(row) <= self.tables[0].cap(row)

    def take(self, row: int, audio_s: float, extra: int) -> None:
        may = self.model.ready[row] and self.model.used[row] < self.model.cap[row] + extra
        assert self.both("take", row, audio_s, extra) is may
        if may:
            self._hold(row, audio_s)

    def release(self, which: int) -> None:
        row, audio_s = self.model.held.pop(which % len(self.model.held))
        self.both("release", row, audio_s)
        self.model.used[row] -= 1

    def part(self, which: int) -> None:
        """One of the twins goes on as a copy; what happens to the original means nothing any more."""
        table = self.tables[which]
        self.tables[which] = table.copy()
        for key in self.model.keys:
            while table.select(key, key, 1.0) >= 0:
                pass
            table.remove_key(key)
        for row in self.model.cap:
            table.remove_node(row)
        table.add_node("other", 1)

    def _hold(self, row: int, audio_s: float) -> None:
        self.model.used[row] += 1
        self.model.held.append((row, audio_s))

    def check(self) -> None:
        model = self.model
        statistics = self.both("statistics")
        assert statistics["used"] == len(model.held)
        assert statistics["nodes"] == len(model.cap)
        assert statistics["memberships"] == sum(map(len, model.keys.values()))
        for row in model.cap:
            assert self.both("used", row) == model.used[row]
            assert self.both("cap", row) == model.cap[row]
            assert self.both("where", row)[1] < self.both("where", row)[2]
        for key, rows in model.keys.items():
            assert self.both("members", key) == len(rows)
            assert self.both("free", key) == len(model.available(key))
            assert self.both("has_free", key) is bool(model.available(key))
            assert self.both("ready_slots", key) == sum(model.cap[row] for row in rows if model.ready[row])
            told = self.both("explain", key, 5, 1.0)
            assert {row["row"] for row in told} == rows
            for row in told:
                number, pool, count = self.both("where", row["row"])
                assert (number, pool, (pool - 5) % count) == (row["class"], row["pool"], row["rank"])

    def every_available_row_is_reached(self) -> None:
        """Selecting until nobody is free takes exactly what was free."""
        for key in self.model.keys:
            free = sum(self.model.cap[row] - self.model.used[row] for row in self.model.available(key))
            for i in range(free + 1):
                self.select(key, i, 1.0, [], -1)
            assert not self.model.available(key)
        self.check()


class History(RuleBasedStateMachine):
    """Any history: hypothesis looks for a short one that breaks the twins or the model."""

    def __init__(self) -> None:
        super().__init__()
        self.twins = Twins(seed=1, choices=2, max_members=2)

    @initialize(
        policy=st.sampled_from(POLICIES), ratio=st.sampled_from((1.0, 1.5, 3.0)), margin_s=st.floats(0.0, 2.0)
    )
    def settings(self, policy: str, ratio: float, margin_s: float) -> None:
        self.twins = Twins(
            1, choices=2, max_members=2, policy=policy, sticky_ratio=ratio, sticky_margin_s=margin_s
        )

    def row(self, pick: int) -> int:
        rows = sorted(self.twins.model.cap)
        return rows[pick % len(rows)]

    def key(self, pick: int) -> int:
        keys = sorted(self.twins.model.keys)
        return keys[pick % len(keys)]

    picks = st.integers(0, 1000)
    seconds = st.floats(0.0, 100.0)
    some_rows = precondition(lambda self: self.twins.model.cap)
    some_keys = precondition(lambda self: self.twins.model.keys)
    some_held = precondition(lambda self: self.twins.model.held)

    @rule(cap=st.integers(0, 3), ready=st.booleans(), keys=st.sets(picks, max_size=4))
    def add_node(self, cap: int, ready: bool, keys: set[int]) -> None:
        row = self.twins.add_node(cap, ready)
        if self.twins.model.keys:
            for key in sorted({self.key(pick) for pick in keys}):
                self.twins.toggle(key, row, 1.0)

    @some_rows
    @rule(row=picks)
    def remove_node(self, row: int) -> None:
        self.twins.remove_node(self.row(row))

    @rule()
    def add_key(self) -> None:
        self.twins.add_key()

    @some_keys
    @rule(key=picks)
    def remove_key(self, key: int) -> None:
        self.twins.remove_key(self.key(key))

    @some_keys
    @rule(key=picks, cap=st.integers(0, 3))
    def pass_by(self, key: int, cap: int) -> None:
        row = self.twins.add_node(cap, True)
        self.twins.toggle(self.key(key), row, 1.0)
        self.twins.remove_node(row)

    @some_keys
    @some_rows
    @rule(key=picks, row=picks, speed=st.floats(0.1, 10.0))
    def toggle(self, key: int, row: int, speed: float) -> None:
        self.twins.toggle(self.key(key), self.row(row), speed)

    @some_rows
    @rule(row=picks, ready=st.booleans(), cap=st.integers(0, 3), backlog_s=seconds, penalty_s=seconds)
    def status(self, row: int, ready: bool, cap: int, backlog_s: float, penalty_s: float) -> None:
        self.twins.set_ready(self.row(row), ready)
        self.twins.set_cap(self.row(row), cap)
        self.twins.both("set_load", self.row(row), backlog_s, penalty_s)

    @some_keys
    @rule(
        key=picks,
        route=st.integers(0, 2**64 - 1),
        audio_s=seconds,
        exclude=st.lists(st.integers(0, 8), max_size=4),
        sticky=st.integers(-1, 8),
    )
    def select(self, key: int, route: int, audio_s: float, exclude: list[int], sticky: int) -> None:
        self.twins.select(self.key(key), route, audio_s, exclude, sticky)

    @some_rows
    @rule(row=picks, audio_s=seconds, extra=st.integers(0, 2))
    def take(self, row: int, audio_s: float, extra: int) -> None:
        self.twins.take(self.row(row), audio_s, extra)

    @some_held
    @rule(which=picks)
    def release(self, which: int) -> None:
        self.twins.release(which)

    @rule(which=st.integers(0, 1))
    def part(self, which: int) -> None:
        self.twins.part(which)

    @invariant()
    def holds(self) -> None:
        self.twins.check()

    def teardown(self) -> None:
        self.twins.every_available_row_is_reached()


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=60, stateful_step_count=40)


@pytest.mark.parametrize(
    ("seed", "nodes", "kinds", "max_members", "pools", "fill", "policy"),
    [
        (1, 30, 30, 100, 0, 0.5, "expected_finish"),
        (2, 120, 3, 3, 0, 0.5, "expected_finish"),
        (3, 300, 300, 20, 0, 0.9, "expected_finish"),
        (4, 60, 10, 100, 7, 0.5, "expected_finish"),
        (5, 300, 300, 100, 0, 0.97, "expected_finish"),
        (6, 400, 2, 5, 0, 0.97, "expected_finish"),
        (7, 300, 40, 2, 0, 0.99, "expected_finish"),
        (8, 60, 10, 10, 0, 0.6, "least_connections"),
        (9, 60, 10, 10, 0, 0.6, "random"),
        (10, 120, 2, 100, 0, 0.97, "expected_finish"),
    ],
)
def test_long_history(
    seed: int, nodes: int, kinds: int, max_members: int, pools: int, fill: float, policy: str
) -> None:
    """Thousands of steps over a fleet of so many kinds of nodes that grows and shrinks around a fill."""
    chance = random.Random(seed)
    settings_ = {"max_members": max_members, "pools": pools, "policy": policy}
    twins = Twins(seed, choices=1 + seed % 4, sticky_ratio=1.0 + seed / 4, **settings_)
    model = twins.model
    keys = [twins.add_key() for _ in range(8)]
    kind = [chance.sample(range(8), chance.randint(1, 8)) for _ in range(kinds)]

    def a_row() -> int:
        return chance.choice(list(model.cap))

    def grow() -> int:
        row = twins.add_node(chance.randint(0, 4), chance.random() < 0.9)
        for number in chance.choice(kind):
            twins.toggle(keys[number], row, chance.uniform(0.5, 2.0))
        return row

    def pass_by() -> None:
        """A node that comes, changes its mind and goes before anybody looks."""
        row = grow()
        twins.toggle(keys[0], row, 1.0)
        twins.remove_node(row)

    def set_speed() -> None:
        key = chance.choice(keys)
        if model.keys[key]:
            twins.both("set_speed", key, min(model.keys[key]), chance.uniform(0.5, 2.0))

    def replace_key() -> None:
        number = chance.randrange(8)
        twins.remove_key(keys[number])
        keys[number] = twins.add_key()
        for row in [row for row in model.cap if chance.random() < 0.5]:
            twins.toggle(keys[number], row, 1.0)

    def select() -> None:
        exclude = [a_row() for _ in range(chance.choice((0, 0, 1, 4)))]
        sticky = chance.choice((-1, a_row()))
        route = chance.getrandbits(64)
        twins.select(chance.choice(keys), route, chance.uniform(0.2, 20.0), exclude, sticky)

    def release() -> None:
        if model.held and len(model.held) > fill * sum(model.cap.values()):
            twins.release(chance.randrange(len(model.held)))

    steps: list[tuple[float, Callable[[], object]]] = [
        (3, grow),
        (2, lambda: twins.remove_node(a_row())),
        (10, lambda: twins.toggle(chance.choice(keys), a_row(), chance.uniform(0.5, 2.0))),
        (10, lambda: twins.set_ready(a_row(), chance.random() < 0.9)),
        (2, lambda: twins.set_cap(a_row(), chance.randint(0, 4))),
        (10, lambda: twins.both("set_load", a_row(), chance.uniform(0, 9), chance.choice((0.0, 0.2, 5.0)))),
        (90, select),
        (5, lambda: twins.take(a_row(), chance.uniform(0.2, 20.0), chance.randint(0, 2))),
        (120, release),
        (2, pass_by),
        (2, set_speed),
        (0.5, replace_key),
        (0.5, lambda: twins.part(chance.randrange(2))),
        (0.5, twins.check),
    ]
    for _ in range(nodes):
        grow()
    while len(model.held) < fill * sum(model.cap[row] for row in model.cap if model.ready[row]) - 8:
        select()
    weights = [weight for weight, _ in steps]
    for _, step in chance.choices(steps, weights, k=1500):
        step()
    twins.check()
    twins.every_available_row_is_reached()
    while model.held:
        twins.release(chance.randrange(len(model.held)))
    for row in list(model.cap):
        twins.remove_node(row)
    twins.check()
    assert twins.both("statistics")["used"] == 0
