"""Tells tenants once that so much of a quota is used, whichever instances saw it (gateway 11.5, 11.7)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Protocol

import trio
from msgspec import Struct

from linguad import log
from linguad.core.idempotency import Answer, Asked, Standing
from linguad.errors import StoreError
from linguad.gateway.usage.budget import Period, next_period

ROUTE = "usage.threshold"
"""Where the claims are among the requests that are done once."""

MAX_UNTOLD = 1000
"""Warnings that may wait for the store; more are lost."""

AWAY_SECONDS = 1.0
"""Pause after the store could not be used."""

KEPT_SECONDS = 3600.0
"""How long after its period it is known that a warning was told: clocks may differ."""

logger = log.get(__name__)


class Claims(Protocol):
    """The records of what is done once; raises StoreError."""

    async def begin(
        self, asked: Asked, attempt: str, now: float, running_until: float, kept_until: float
    ) -> Answer | Standing:
        """NEW for the first that asks, until `running_until`."""
        ...


class _Warning(Struct, frozen=True):
    tenant: str
    period: Period
    percent: int
    ends_at: float


class Thresholds:
    """Mutable state: warnings that nobody has claimed yet. `run` in a task."""

    def __init__(
        self,
        claims: Claims,
        emit: Callable[[str, str, dict[str, object]], object],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`emit` tells the webhooks of a tenant; `clock` gives Unix s."""
        self._claims = claims
        self._emit = emit
        self._clock = clock
        self._untold, self._next = trio.open_memory_channel[_Warning](MAX_UNTOLD)

    def crossed(self, tenant: str, period: Period, percent: int) -> None:
        """This instance saw that a tenant has used so much of its quota."""
        ends_at = next_period(period, self._clock()).timestamp()
        try:
            self._untold.send_nowait(_Warning(tenant, period, percent, ends_at))
        except trio.WouldBlock:
            logger.warning("threshold_untold", tenant=tenant, period=period, percent=percent)

    async def run(self) -> None:
        """Tell what no other instance told, for ever."""
        async for warning in self._next:
            while True:
                try:
                    is_ours = await self._claim(warning)
                    break
                except StoreError:
                    await trio.sleep(AWAY_SECONDS)
            if is_ours:
                self._emit(warning.tenant, ROUTE, {"period": warning.period, "percent": warning.percent})

    async def _claim(self, warning: _Warning) -> bool:
        asked = Asked(
            tenant_id=warning.tenant,
            route=ROUTE,
            key=f"{warning.period} {warning.ends_at:.0f} {warning.percent}",
            fingerprint="",
        )
        until = warning.ends_at + KEPT_SECONDS
        known = await self._claims.begin(asked, secrets.token_hex(8), self._clock(), until, until)
        return known is Standing.NEW
