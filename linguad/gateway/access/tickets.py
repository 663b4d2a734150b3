"""Tickets: what a web page shows instead of a key, to open one stream (gateway 11.4)."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable
from math import inf
from typing import Protocol

import trio
from msgspec import Struct, msgpack
from msgspec.structs import replace

from linguad.config.gateway import Gateway
from linguad.core.limits import LOOKS, forget
from linguad.core.tenant import ADMIN_SCOPES, Caller, Scope
from linguad.errors import LinguadError
from linguad.gateway.access.admission import AWAY_WAIT_S, retry_after
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
    shared: bool = False
    """It is with `Shared`, and here only for the count."""


class Shared(Protocol):
    """Tickets that any instance takes; LinguadError while they are out of reach."""

    async def put(self, name: str, ticket: bytes, ttl_s: float) -> None:
        """Keep one for so long."""
        ...

    async def take(self, name: str) -> bytes | None:
        """One that was not taken before."""
        ...


class Tickets:
    """Mutable state: the tickets given out by this process that were not used here nor ran out.

    With several instances a ticket is kept where all of them find it; while that place is out of reach, here,
    where it opens a stream on this instance only.
    """

    def __init__(self, settings: Gateway, now: Callable[[], float] = trio.current_time) -> None:
        """`now` gives monotonic s."""
        self._most = settings.max_tickets
        self._now = now
        self._tickets: OrderedDict[bytes, Ticket] = OrderedDict()
        self._count: Counter[str] = Counter()
        self._swept_at = -inf
        self._shared: Shared | None = None

    def share(self, shared: Shared) -> None:
        """From now on tickets are for all instances."""
        self._shared = shared

    def __len__(self) -> int:
        return len(self._tickets)

    async def give(self, caller: Caller, origin: str | None, ttl_s: float) -> str:
        """A new ticket, for any instance if that is possible; see `issue`."""
        text = self.issue(caller, origin, ttl_s)
        if self._shared is not None:
            name = _digest(text)
            ticket = replace(self._tickets[name], shared=True)
            try:
                await self._shared.put(name.hex(), msgpack.encode(ticket), ttl_s)
            except LinguadError:
                # it may be there all the same, and would open two streams; nobody knows this one
                self._drop(name)
                return self.issue(caller, origin, ttl_s)
            if name in self._tickets:
                self._tickets[name] = ticket
        return text

    async def take(self, text: str, origin: str | None) -> Caller:
        """Who got this ticket, wherever; see `redeem`. Raises Problem 503 if nobody can tell now."""
        name = _digest(text)
        kept = self._tickets.get(name)
        if self._shared is None or (kept is not None and not kept.shared):
            return self.redeem(text, origin)
        try:
            body = await self._shared.take(name.hex())
        except LinguadError:
            message = "Tickets cannot be looked up now; get a new one, or try again shortly."
            raise Problem(503, "tickets_unavailable", message, headers=retry_after(AWAY_WAIT_S)) from None
        self._drop(name)
        if body is None:
            raise wrong_credentials()
        return _of_page(msgpack.decode(body, type=Ticket), origin)

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
        return _of_page(ticket, origin)

    def _drop(self, name: bytes) -> None:
        if (ticket := self._tickets.pop(name, None)) is not None:
            self._take_off(ticket)

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


def _of_page(ticket: Ticket, origin: str | None) -> Caller:
    if ticket.origin is not None and normal_origin(origin or "") != ticket.origin:
        raise Problem(
            403, "origin_not_allowed", "This ticket was made for another web page, and is now used up."
        )
    return ticket.caller


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
