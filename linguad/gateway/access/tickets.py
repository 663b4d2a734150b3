"""Tickets: what a web page shows instead of a key, to open one stream (gateway 11.4)."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable
from math import inf

import trio
from msgspec import Struct

from linguad.config.gateway import Gateway
from linguad.core.limits import LOOKS, forget
from linguad.core.tenant import ADMIN_SCOPES, Caller, Scope
from linguad.gateway.access.admission import retry_after
from linguad.gateway.access.credentials import wrong_credentials
from linguad.gateway.access.origins import normal_origin
from linguad.web.problems import Problem

PREFIX = "tk_"
RANDOM_BYTES = 32

SWEEP_S = 1.0
"""How often all tickets are looked at for a tenant that has too many."""


class Ticket(Struct, frozen=True):
    """What a ticket stands for."""

    caller: Caller
    origin: str | None
    """The one origin it may come from; None: any that the tenant allows."""
    expires_at: float
    """Monotonic s."""


class Tickets:
    """Mutable state: the tickets of this process that were neither used nor ran out."""

    def __init__(self, settings: Gateway, now: Callable[[], float] = trio.current_time) -> None:
        """`now` gives monotonic s."""
        self._most = settings.max_tickets
        self._now = now
        self._tickets: OrderedDict[bytes, Ticket] = OrderedDict()
        self._count: Counter[str] = Counter()
        self._swept_at = -inf

    def __len__(self) -> int:
        return len(self._tickets)

    def issue(self, caller: Caller, origin: str | None, ttl_s: float) -> str:
        """A new ticket for what the caller may do, but for administration and more tickets.

        Raises Problem 429 if the tenant has too many.
        """
        now = self._now()
        self._forget(now, LOOKS)
        if self._count[caller.tenant.id] >= self._most and now >= self._swept_at + SWEEP_S:
            self._swept_at = now
            self._forget(now, len(self._tickets))
        if self._count[caller.tenant.id] >= self._most:
            raise Problem(
                429,
                "too_many_tickets",
                "There are too many unused tickets; use them, or wait until some run out.",
                headers=retry_after(ttl_s),
            )
        text = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
        scopes = caller.scopes - ADMIN_SCOPES - {Scope.TICKETS}
        bound = Caller(tenant=caller.tenant, key_id=caller.key_id, scopes=scopes)
        self._tickets[_digest(text)] = Ticket(bound, normal_origin(origin) if origin else None, now + ttl_s)
        self._count[caller.tenant.id] += 1
        return text

    @staticmethod
    def is_ticket(text: str) -> bool:
        """Whether a text looks like a ticket rather than a key."""
        return text.startswith(PREFIX)

    def redeem(self, text: str, origin: str | None) -> Caller:
        """Who got this ticket, which is then used up, whatever comes of it; `origin` is that of the page.

        Raises Problem 401 if there is no such ticket, 403 if it is for another page.
        """
        ticket = self._tickets.pop(_digest(text), None)
        if ticket is None:
            raise wrong_credentials()
        self._take_off(ticket)
        if ticket.expires_at <= self._now():
            raise wrong_credentials()
        if ticket.origin is not None and normal_origin(origin or "") != ticket.origin:
            raise Problem(
                403, "origin_not_allowed", "This ticket was made for another web page, and is now used up."
            )
        return ticket.caller

    def _forget(self, now: float, looks: int) -> None:
        forget(self._tickets, lambda ticket: self._is_past(ticket, now), looks)

    def _is_past(self, ticket: Ticket, now: float) -> bool:
        if ticket.expires_at > now:
            return False
        self._take_off(ticket)
        return True

    def _take_off(self, ticket: Ticket) -> None:
        tenant = ticket.caller.tenant.id
        self._count[tenant] -= 1
        if not self._count[tenant]:
            del self._count[tenant]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
