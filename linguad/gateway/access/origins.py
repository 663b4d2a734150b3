"""Which web pages may call: the origins of the operator, and each tenant's own (gateway 11.4, 11.9)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from math import inf

from linguad.core.tenant import Tenant
from linguad.errors import ConfigError

FRESH_S = 1.0
"""How long what was gathered from all tenants holds, so that preflights cost nothing."""

_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:\d{1,5})?")


class Origins:
    """Mutable state: the origins of all tenants, as they were lately."""

    def __init__(
        self,
        everywhere: Iterable[str],
        tenants: Callable[[], Iterable[Tenant]],
        now: Callable[[], float],
    ) -> None:
        """`everywhere` are the origins that may call for any tenant; `now` gives monotonic s.

        Raises ConfigError if one of them is no origin.
        """
        self._everywhere = frozenset(_checked(origin) for origin in everywhere)
        self._tenants = tenants
        self._now = now
        self._known = self._everywhere
        self._known_until = -inf

    def allows(self, tenant: Tenant, origin: str) -> bool:
        """Whether this page may call for this tenant."""
        origin = normal_origin(origin)
        return origin in self._everywhere or origin in map(normal_origin, tenant.allowed_origins)

    def knows(self, origin: str) -> bool:
        """Whether this page may call for any tenant: a preflight does not say for which."""
        if (now := self._now()) >= self._known_until:
            own = (normal_origin(origin) for tenant in self._tenants() for origin in tenant.allowed_origins)
            self._known = self._everywhere.union(own)
            self._known_until = now + FRESH_S
        return normal_origin(origin) in self._known


def normal_origin(origin: str) -> str:
    """An origin as origins are compared: lower case, without a slash at the end or the port of its scheme."""
    origin = origin.lower().removesuffix("/")
    scheme, _, _ = origin.partition(":")
    return origin.removesuffix({"https": ":443", "http": ":80"}.get(scheme, ":"))


def is_origin(text: str) -> bool:
    """Whether a text is the origin of web pages, such as `https://app.example.com`."""
    return bool(_ORIGIN.fullmatch(normal_origin(text)))


def _checked(origin: str) -> str:
    if not is_origin(origin):
        problem = (
            f"{origin!r} is no origin; write the scheme and host of each page, such as "
            '"https://app.example.com", and never "*", because the API takes keys'
        )
        raise ConfigError([("gateway.cors_allowed_origins", problem)])
    return normal_origin(origin)
