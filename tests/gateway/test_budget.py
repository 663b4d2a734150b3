"""Quotas, balances, reservations and thresholds."""

from __future__ import annotations

from typing import Any

import pytest

from linguad.core.tenant import BillingMode, Tenant
from linguad.gateway.usage.budget import Budgets, Tick
from linguad.web.problems import Problem

NOON = 1_767_268_800.0  # 2026-01-01 12:00 UTC


class Accounts:
    """What was charged, as a test says."""

    def __init__(self) -> None:
        self.today = self.month = self.session = self.balance = 0

    def session_ms(self, session_id: str) -> int:
        return self.session

    def today_ms(self, tenant_id: str) -> int:
        return self.today

    def month_ms(self, tenant_id: str) -> int:
        return self.month

    def balance_seconds(self, tenant_id: str) -> int:
        return self.balance


def tenant(**members: Any) -> Tenant:
    return Tenant(**({"id": "t-1", "name": "One", "created_at": 0.0, "updated_at": 0.0} | members))


DAILY = tenant(max_audio_seconds_per_day=100)
PREPAID = tenant(billing_mode=BillingMode.PREPAID)


@pytest.fixture
def accounts() -> Accounts:
    return Accounts()


@pytest.fixture
def budgets(accounts: Accounts) -> Budgets:
    return Budgets(accounts, overdraft_seconds=60, clock=lambda: NOON)


def test_without_limits_nothing_is_refused(accounts: Accounts, budgets: Budgets) -> None:
    accounts.today = accounts.month = 10**12
    accounts.balance = -(10**9)
    assert budgets.refusal(tenant(billing_mode=BillingMode.POSTPAID), 10**9) is None


@pytest.mark.parametrize(
    ("used_ms", "wanted_ms", "refused"),
    [(0, 0, False), (0, 100_000, False), (0, 100_001, True), (99_999, 1, False), (100_000, 0, True)],
)
def test_the_quota_of_a_day(
    accounts: Accounts, budgets: Budgets, used_ms: int, wanted_ms: int, refused: bool
) -> None:
    accounts.today = used_ms
    problem = budgets.refusal(DAILY, wanted_ms)
    assert (problem is not None) == refused
    if problem is not None:
        assert (problem.status, problem.code, problem.retryable) == (429, "quota_exceeded", True)
        assert problem.headers == {"Retry-After": "43200"}
        assert "2026-01-02T00:00:00Z" in problem.message


def test_the_quota_of_a_month(accounts: Accounts, budgets: Budgets) -> None:
    accounts.month = 100_000
    problem = budgets.refusal(tenant(max_audio_seconds_per_month=100))
    assert problem is not None
    assert "2026-02-01T00:00:00Z" in problem.message


def test_the_floor_of_a_balance(accounts: Accounts, budgets: Budgets) -> None:
    accounts.balance = -60
    assert budgets.refusal(PREPAID) is None
    accounts.balance = -61
    problem = budgets.refusal(PREPAID)
    assert problem is not None
    assert (problem.status, problem.code, problem.retryable) == (402, "insufficient_balance", False)
    assert budgets.verdict(PREPAID).stop is None


def test_what_is_reserved_counts(accounts: Accounts, budgets: Budgets) -> None:
    accounts.today = 40_000
    with budgets.reserve(DAILY, 50_000):
        assert budgets.refusal(DAILY, 10_001) is not None
        with budgets.reserve(DAILY, 10_000), pytest.raises(Problem), budgets.reserve(DAILY, 1):
            pass
        with budgets.reserve(DAILY, 10_000):
            pass
    assert budgets.refusal(DAILY, 60_000) is None


def test_a_stream_is_warned_and_then_stopped(accounts: Accounts, budgets: Budgets) -> None:
    assert budgets.verdict(DAILY).left_seconds is None
    accounts.today = 45_000
    verdict = budgets.verdict(DAILY)
    assert (verdict.stop, verdict.left_seconds) == (None, 55)
    accounts.today = 100_000
    verdict = budgets.verdict(DAILY)
    assert verdict.stop is not None
    assert verdict.stop.code == "quota_exceeded"


def test_a_tick(accounts: Accounts, budgets: Budgets) -> None:
    accounts.session, accounts.balance = 1001, 7
    assert budgets.tick(DAILY, "s-1") == Tick(audio_ms=1001, billed_seconds=2)
    assert budgets.tick(PREPAID, "s-1") == Tick(audio_ms=1001, billed_seconds=2, balance_seconds=7)


def test_thresholds_are_told_once_in_a_period(accounts: Accounts) -> None:
    now, told = [NOON], []
    budgets = Budgets(accounts, 0, lambda: now[0])
    budgets.when_threshold(lambda *news: told.append(news))
    both = tenant(max_audio_seconds_per_day=100, max_audio_seconds_per_month=1000)
    for day, month in ((79_999, 79_999), (80_000, 80_000), (90_000, 90_000), (100_001, 100_001)):
        accounts.today, accounts.month = day, month
        budgets.charged(both)
    assert told == [("t-1", "day", 80), ("t-1", "day", 100)]
    now[0] += 86_400
    accounts.today, accounts.month = 85_000, 1_000_000
    budgets.charged(both)
    assert told[2:] == [("t-1", "day", 80), ("t-1", "month", 80), ("t-1", "month", 100)]


def test_thresholds_of_before_the_start_are_not_told(accounts: Accounts, budgets: Budgets) -> None:
    told: list[Any] = []
    budgets.when_threshold(lambda *news: told.append(news))
    accounts.today = 85_000
    budgets.assume_told([DAILY, PREPAID])
    budgets.charged(DAILY)
    assert told == []
    accounts.today = 100_000
    budgets.charged(DAILY)
    assert told == [("t-1", "day", 100)]


def test_a_quota_of_nothing(budgets: Budgets) -> None:
    told: list[Any] = []
    budgets.when_threshold(lambda *news: told.append(news))
    none = tenant(max_audio_seconds_per_day=0)
    assert budgets.refusal(none) is not None
    budgets.charged(none)
    assert [percent for _, _, percent in told] == [80, 100]
