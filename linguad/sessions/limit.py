"""How many sessions there may be, in all and from one address."""

from __future__ import annotations

from collections import Counter

from linguad.net.peer import TrustedProxies, origin_of


class SessionLimit:
    """Mutable state: sessions by origin; a limit of 0 is none."""

    def __init__(
        self, most: int = 0, most_per_address: int = 0, exempt: TrustedProxies | None = None
    ) -> None:
        """Addresses in `exempt` speak for many people and are only counted in the whole."""
        self._most = most
        self._most_per_address = most_per_address
        self._exempt = exempt or TrustedProxies()
        self._count = 0
        self._by_origin: Counter[str] = Counter()

    def change(self, most: int, most_per_address: int) -> None:
        """Other limits from now on; nobody is sent away."""
        self._most = most
        self._most_per_address = most_per_address

    def refusal(self, address: str) -> str:
        """Why one more session from here cannot be had and what to do, in a sentence; "" if it can."""
        if 0 < self._most <= self._count:
            return "too many sessions here; try again later, or raise sessions.max_sessions"
        count = self._by_origin[origin_of(address)]
        if 0 < self._most_per_address <= count and address not in self._exempt:
            return (
                "too many sessions from your address; close some, list your proxy in server.trusted_proxies, "
                "or raise sessions.max_sessions_per_address"
            )
        return ""

    def add(self, address: str) -> None:
        """A session began."""
        self._count += 1
        self._by_origin[origin_of(address)] += 1

    def remove(self, address: str) -> None:
        """A session ended."""
        self._count -= 1
        origin = origin_of(address)
        self._by_origin[origin] -= 1
        if not self._by_origin[origin]:
            del self._by_origin[origin]
