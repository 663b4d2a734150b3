"""Limits of tenants: no window lets more through than promised, and what was taken comes back once."""

from __future__ import annotations

from collections import Counter
from math import ceil, inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from linguad.core.bucket import Bucket
from linguad.core.limits import IDLE_S, Lease, Leases, Rates, burst_of
from linguad.core.tries import LOOKS, MAX_ADDRESSES, WrongTries

TENANTS = st.sampled_from(["a", "b"])


def passed(rates: Rates, times: list[float], burst: int, per_second: float) -> list[float]:
    return [now for now in times if not rates.take("a", burst, per_second, now).wait_s]


def test_one_too_many_in_an_instant() -> None:
    assert len(passed(Rates(), [0.0] * 101, 100, 100.0)) == 100


def test_two_bursts_round_a_second_are_one() -> None:
    times = [0.99] * 150 + [1.01] * 150
    assert len(passed(Rates(), times, 100, 100.0)) == 102


@given(
    gaps=st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.3, 1.0, 7.0]), max_size=200),
    burst=st.integers(1, 8),
    per_second=st.sampled_from([0.0, 0.5, 1.0, 3.0, 100.0]),
)
def test_no_window_lets_more_through(gaps: list[float], burst: int, per_second: float) -> None:
    times, now = [], 1000.0
    for gap in gaps:
        now += gap
        times.append(now)
    let = passed(Rates(), times, burst, per_second)
    for first, begin in enumerate(let):
        for count, end in enumerate(let[first:], 1):
            assert count <= burst + per_second * (end - begin) + 0.001


@given(
    gaps=st.lists(st.tuples(TENANTS, st.sampled_from([0.0, 0.01, 0.2, 1.0])), max_size=100),
    in_all=st.sampled_from([0.5, 1.0, 5.0]),
)
def test_all_together_have_a_limit(gaps: list[tuple[str, float]], in_all: float) -> None:
    rates, now, let = Rates(in_all), 0.0, []
    for tenant, gap in gaps:
        now += gap
        standing = rates.take(tenant, 3, 2.0, now)
        if not standing.wait_s:
            let.append(now)
        assert standing.overall <= (standing.wait_s > 0)
    for first, begin in enumerate(let):
        for count, end in enumerate(let[first:], 1):
            assert count <= burst_of(in_all) + in_all * (end - begin) + 0.001


def test_what_all_together_refuse_costs_the_tenant_nothing() -> None:
    rates = Rates(1.0)
    assert rates.take("a", 5, 1.0, 0.0).remaining == 4
    refused = rates.take("b", 5, 1.0, 0.0)
    assert refused.overall
    assert (refused.wait_s, refused.remaining) == (1.0, 5)


@given(
    gaps=st.lists(st.sampled_from([0.0, 0.01, 0.4]), max_size=50),
    per_second=st.sampled_from([0.3, 1.0, 7.0]),
)
def test_who_comes_again_when_told_is_let_through(gaps: list[float], per_second: float) -> None:
    rates, now = Rates(), 0.0
    for gap in gaps:
        now += gap
        standing = rates.take("a", 2, per_second, now)
        if standing.wait_s:
            now += standing.wait_s
            assert not rates.take("a", 2, per_second, now).wait_s


def test_standing_says_what_is_left_and_when_it_is_full() -> None:
    rates = Rates()
    standings = [rates.take("a", 3, 2.0, 0.0) for _ in range(4)]
    assert [one.remaining for one in standings] == [2, 1, 0, 0]
    assert [one.full_in_s for one in standings] == [0.5, 1.0, 1.5, 1.5]
    assert [one.wait_s for one in standings] == [0.0, 0.0, 0.0, 0.5]
    assert {one.limit for one in standings} == {3}


def test_a_rate_of_zero_never_refills() -> None:
    rates = Rates()
    assert not rates.take("a", 1, 0.0, 0.0).wait_s
    assert rates.take("a", 1, 0.0, 1e9).wait_s == inf


def test_other_limits_hold_at_once() -> None:
    rates = Rates()
    assert len([None for _ in range(5) if not rates.take("a", 100, 1.0, 0.0).wait_s]) == 5
    assert rates.take("a", 2, 1.0, 0.0).remaining == 1
    raised = rates.take("a", 100, 100.0, 0.0)
    assert raised.remaining == 0
    assert rates.take("a", 100, 100.0, 1.0).remaining == 99


def test_tenants_that_ask_no_more_are_forgotten() -> None:
    rates = Rates()
    for number in range(1000):
        rates.take(f"tenant-{number}", 1, 1.0, 0.0)
    slow = [rates.take("slow", 1000, 0.001, 0.0) for _ in range(500)]
    for _ in range(1000):
        rates.take("busy", 1, 1.0, IDLE_S + 2)
    assert len(rates) == 2
    assert rates.take("slow", 1000, 0.001, IDLE_S + 2).remaining == slow[-1].remaining - 1


@given(rate=st.floats(0.01, 1e6))
def test_a_second_of_requests_may_come_at_once(rate: float) -> None:
    assert burst_of(rate) == max(1, ceil(rate))


def test_a_bucket_that_never_runs_empty() -> None:
    assert all(Bucket(0, 0.0).take(0.0) for _ in range(1000))


class HeldLeases(RuleBasedStateMachine):
    """Leases against a plain count."""

    def __init__(self) -> None:
        super().__init__()
        self.leases = Leases()
        self.held: list[tuple[str, Lease]] = []
        self.gone: list[Lease] = []

    @rule(tenant=TENANTS, most=st.integers(0, 4))
    def take(self, tenant: str, most: int) -> None:
        before = sum(one == tenant for one, _ in self.held)
        lease = self.leases.take(tenant, most)
        assert (lease is None) == (before >= most)
        if lease is not None:
            self.held.append((tenant, lease))

    @rule(number=st.integers(0, 10))
    def release(self, number: int) -> None:
        if self.held:
            _, lease = self.held.pop(number % len(self.held))
            assert lease.release()
            self.gone.append(lease)

    @rule(number=st.integers(0, 10))
    def release_again(self, number: int) -> None:
        if self.gone:
            assert not self.gone[number % len(self.gone)].release()

    @invariant()
    def counts_are_right(self) -> None:
        counts = Counter(tenant for tenant, _ in self.held)
        assert len(self.leases) == len(self.held)
        assert {tenant: self.leases.used(tenant) for tenant in ("a", "b")} == {
            tenant: counts[tenant] for tenant in ("a", "b")
        }


TestHeldLeases = HeldLeases.TestCase
TestHeldLeases.settings = settings(max_examples=50, stateful_step_count=30)


class TestWrongKeys:
    """20 wrong keys in a minute from one address, then a minute of rest."""

    def tries(self) -> WrongTries:
        return WrongTries(20, 60.0, 60.0)

    def test_so_many_may_be_wrong(self) -> None:
        tries = self.tries()
        told = [tries.add("a", now / 10) for now in range(20)]
        assert told == [False] * 19 + [True]
        assert tries.wait_s("a", 1.9) == 60.0
        assert tries.wait_s("a", 61.8) == pytest.approx(0.1)
        assert tries.allows("a", 61.9)
        assert tries.allows("b", 1.9)

    def test_the_rest_counts_from_the_last(self) -> None:
        tries = self.tries()
        for number in range(20):
            tries.add("a", number * 3.0)
        assert tries.wait_s("a", 57.0) == 60.0
        assert not tries.allows("a", 116.9)
        assert tries.allows("a", 117.0)

    def test_few_at_a_time_are_no_attack(self) -> None:
        tries = self.tries()
        assert not any(tries.add("a", number * 3.2) for number in range(1000))

    def test_afterwards_all_begins_anew(self) -> None:
        tries = self.tries()
        for _ in range(20):
            tries.add("a", 0.0)
        assert [tries.add("a", 60.0) for _ in range(20)] == [False] * 19 + [True]

    def test_no_limit(self) -> None:
        tries = WrongTries(0, 60.0, 60.0)
        assert not any(tries.add("a", 0.0) for _ in range(100))
        assert tries.allows("a", 0.0)

    def test_memory_is_bounded_and_given_back(self) -> None:
        tries = self.tries()
        for number in range(2 * MAX_ADDRESSES):
            tries.add(f"address {number}", 0.0)
        assert len(tries) == MAX_ADDRESSES
        for number in range(MAX_ADDRESSES // (LOOKS - 1) + 1):
            tries.add(f"later {number % 2}", 61.0)
        assert len(tries) <= 2
