"""What tenants used and own at this moment, in memory: written or not (for quotas and live counters)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from msgspec import Struct

from linguad.core.metering import Usage

DAY_S = 86_400


class OpenSession(Struct):
    """What a session that is not settled has cost so far; mutable."""

    tenant: str
    billed: bool
    charged_ms: int = 0

    @property
    def held_seconds(self) -> int:
        """What it will be settled with as it is now."""
        return -(-self.charged_ms // 1000) if self.billed else 0


class Totals:
    """Mutable state: charged ms by tenant and UTC day, balances, and sessions that are not settled."""

    def __init__(
        self,
        days: Iterable[tuple[str, int, int]] = (),
        balances: Mapping[str, int] | None = None,
        sessions: Mapping[str, OpenSession] | None = None,
    ) -> None:
        """`days` holds (tenant, days since 1970, ms); all as the store knows it."""
        self._days: dict[str, dict[int, int]] = {}
        for tenant, day, charged_ms in days:
            self._days.setdefault(tenant, {})[day] = charged_ms
        self.balances = dict(balances or {})
        self._sessions = dict(sessions or {})
        self._held: dict[str, int] = {}
        for session in self._sessions.values():
            self._hold(session.tenant, session.held_seconds)

    def add(self, row: Usage, *, billed: bool) -> None:
        """An attempt ended."""
        if not row.charged_ms:
            return
        days, day = self._days.setdefault(row.tenant, {}), int(row.finished_at // DAY_S)
        days[day] = days.get(day, 0) + row.charged_ms
        session = self._sessions.get(row.session)
        if session is None:
            session = self._sessions[row.session] = OpenSession(row.tenant, billed)
        before = session.held_seconds
        session.charged_ms += row.charged_ms
        self._hold(session.tenant, session.held_seconds - before)

    def settled(self, session_id: str) -> None:
        """A session is in the ledger now."""
        if (session := self._sessions.pop(session_id, None)) is not None:
            self._hold(session.tenant, -session.held_seconds)
            self.changed(session.tenant, -session.held_seconds)

    def changed(self, account: str, seconds: int) -> None:
        """A line was written."""
        if seconds:
            self.balances[account] = self.balances.get(account, 0) + seconds

    def session_ms(self, session_id: str) -> int:
        """What a session was charged so far; 0 when it is settled."""
        session = self._sessions.get(session_id)
        return session.charged_ms if session else 0

    def today_ms(self, tenant: str, now: float) -> int:
        """What a tenant was charged since 00:00 UTC; `now` in Unix s."""
        return self._days.get(tenant, {}).get(int(now // DAY_S), 0)

    def month_ms(self, tenant: str, now: float) -> int:
        """What a tenant was charged since the first of the month, UTC."""
        first = int(month_start(now) // DAY_S)
        return sum(ms for day, ms in self._days.get(tenant, {}).items() if day >= first)

    def balance_seconds(self, tenant: str) -> int:
        """What a tenant owns, less what its open sessions cost so far."""
        return self.balances.get(tenant, 0) - self._held.get(tenant, 0)

    def _hold(self, tenant: str, seconds: int) -> None:
        if seconds:
            self._held[tenant] = self._held.get(tenant, 0) + seconds


def month_start(now: float) -> float:
    """00:00 UTC of the first day of the month, Unix s."""
    start = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return start.timestamp()
