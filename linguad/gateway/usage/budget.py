"""How much speech a tenant may still have translated: quotas of day and month, and prepaid balance.

Rules (gateway 4.3, 11.7):
- Admission looks at what was charged and at what is reserved for requests under way.
- A quota refuses new requests with 429 until it begins anew, at 00:00 UTC or on the first of the month.
  Streams are warned before it is used up, and stopped when it is.
- A prepaid balance refuses new requests with 402 once it is below the overdraft; what runs may finish.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Literal, Protocol

from msgspec import Struct

from linguad.core.tenant import BillingMode, Tenant
from linguad.web.problems import Problem

THRESHOLDS = (80, 100)
"""Percent of a quota at which its tenant is told (`usage.threshold`)."""

WARNING_SECONDS = 60
"""Speech that is left when a stream is warned: time to say goodbye."""

MAX_TOLD = 10_000
"""Thresholds that are known to have been told; those of tenants long silent are forgotten first."""

Period = Literal["day", "month"]


class Accounts(Protocol):
    """What was charged so far, written or not; ms, and seconds of balance."""

    def session_ms(self, session_id: str) -> int:
        """Of a session that is not settled."""
        ...

    def today_ms(self, tenant_id: str) -> int:
        """Of a tenant since 00:00 UTC."""
        ...

    def month_ms(self, tenant_id: str) -> int:
        """Of a tenant since the first of the month, UTC."""
        ...

    def balance_seconds(self, tenant_id: str) -> int:
        """What a tenant owns, less what its open sessions cost so far."""
        ...


class Tick(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a stream has used until now, for its client."""

    audio_ms: int
    billed_seconds: int
    balance_seconds: int | None = None
    """Only where there is a balance to be used up."""


class Verdict(Struct, frozen=True, kw_only=True):
    """Whether a stream may go on."""

    stop: Problem | None = None
    left_seconds: int | None = None
    """Speech until it must stop, if that is soon enough to be told."""


class _Quota(Struct, frozen=True):
    period: Period
    seconds: int
    used_ms: int

    @property
    def percent(self) -> float:
        return 100.0 if not self.seconds else self.used_ms / (10 * self.seconds)


class Budgets:
    """Mutable state: what is reserved, and which thresholds were told."""

    def __init__(
        self, accounts: Accounts, overdraft_seconds: int, clock: Callable[[], float] = time.time
    ) -> None:
        """`overdraft_seconds` is how far a prepaid balance may fall below 0; `clock` gives Unix s."""
        self._accounts = accounts
        self._overdraft_s = overdraft_seconds
        self._clock = clock
        self._reserved_ms: dict[str, int] = {}
        self._told: dict[tuple[str, Period, int, int], None] = {}
        self._on_threshold: Callable[[str, Period, int], object] = _nothing

    def when_threshold(self, tell: Callable[[str, Period, int], object]) -> None:
        """Say what is called, once in each period, with tenant, period and percent of the quota."""
        self._on_threshold = tell

    def refusal(self, tenant: Tenant, wanted_ms: int = 0) -> Problem | None:
        """Why a tenant may begin nothing new that is so long; None if it may."""
        if tenant.billing_mode is BillingMode.PREPAID:
            balance = self._accounts.balance_seconds(tenant.id) - ceil(self._reserved(tenant) / 1000)
            if balance < -self._overdraft_s:
                return Problem(
                    402,
                    "insufficient_balance",
                    "The balance of this account is used up; add credit and try again.",
                    retryable=False,
                    details={"balance_seconds": balance},
                )
        for quota in self._quotas(tenant):
            used_ms = quota.used_ms + self._reserved(tenant)
            if used_ms >= quota.seconds * 1000 or used_ms + wanted_ms > quota.seconds * 1000:
                return self._exceeded(quota)
        return None

    @contextmanager
    def reserve(self, tenant: Tenant, wanted_ms: int) -> Iterator[None]:
        """Hold so much of the budget while a request runs; raises Problem if it is not there."""
        if (problem := self.refusal(tenant, wanted_ms)) is not None:
            raise problem
        self._reserved_ms[tenant.id] = self._reserved(tenant) + wanted_ms
        try:
            yield
        finally:
            left = self._reserved(tenant) - wanted_ms
            if left:
                self._reserved_ms[tenant.id] = left
            else:
                self._reserved_ms.pop(tenant.id, None)

    def tick(self, tenant: Tenant, session_id: str) -> Tick:
        """What a session has used until now; `usage` of an answer, too."""
        audio_ms = self._accounts.session_ms(session_id)
        prepaid = tenant.billing_mode is BillingMode.PREPAID
        return Tick(
            audio_ms=audio_ms,
            billed_seconds=ceil(audio_ms / 1000),
            balance_seconds=self._accounts.balance_seconds(tenant.id) if prepaid else None,
        )

    def verdict(self, tenant: Tenant) -> Verdict:
        """Whether a stream of a tenant may go on; to be asked now and then, with every tick."""
        nearest: int | None = None
        for quota in self._quotas(tenant):
            left_ms = quota.seconds * 1000 - quota.used_ms
            if left_ms <= 0:
                return Verdict(stop=self._exceeded(quota), left_seconds=0)
            left_s = left_ms // 1000
            if left_s <= WARNING_SECONDS and (nearest is None or left_s < nearest):
                nearest = left_s
        return Verdict(left_seconds=nearest)

    def assume_told(self, tenants: Iterable[Tenant]) -> None:
        """Tell nobody of thresholds that were crossed before the start."""
        tell, self._on_threshold = self._on_threshold, _nothing
        for tenant in tenants:
            self.charged(tenant)
        self._on_threshold = tell

    def charged(self, tenant: Tenant) -> None:
        """A tenant was charged: see whether it crossed a threshold."""
        for quota in self._quotas(tenant):
            for percent in THRESHOLDS:
                name = tenant.id, quota.period, self._began(quota.period), percent
                if quota.percent < percent or name in self._told:
                    continue
                self._told[name] = None
                if len(self._told) > MAX_TOLD:
                    del self._told[next(iter(self._told))]
                self._on_threshold(tenant.id, quota.period, percent)

    def _reserved(self, tenant: Tenant) -> int:
        return self._reserved_ms.get(tenant.id, 0)

    def _quotas(self, tenant: Tenant) -> Iterator[_Quota]:
        if tenant.max_audio_seconds_per_day is not None:
            yield _Quota("day", tenant.max_audio_seconds_per_day, self._accounts.today_ms(tenant.id))
        if tenant.max_audio_seconds_per_month is not None:
            yield _Quota("month", tenant.max_audio_seconds_per_month, self._accounts.month_ms(tenant.id))

    def _exceeded(self, quota: _Quota) -> Problem:
        anew = next_period(quota.period, self._clock())
        return Problem(
            429,
            "quota_exceeded",
            f"The speech that this account may have translated in a {quota.period} is used up; "
            f"it begins anew at {anew:%Y-%m-%dT%H:%M:%SZ}.",
            details={
                "period": quota.period,
                "quota_seconds": quota.seconds,
                "used_seconds": quota.used_ms // 1000,
            },
            headers={"Retry-After": str(max(1, ceil(anew.timestamp() - self._clock())))},
        )

    def _began(self, period: Period) -> int:
        """A number of the period that runs."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        return now.toordinal() if period == "day" else now.year * 12 + now.month


def next_period(period: Period, now: float) -> datetime:
    """When a quota of this period begins anew, for a moment in Unix s."""
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return today + timedelta(days=1)
    return (today.replace(day=1) + timedelta(days=32)).replace(day=1)


def _nothing(_tenant_id: str, _period: Period, _percent: int) -> None:
    """Nobody asked to be told."""
