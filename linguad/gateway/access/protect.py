"""The door of the API before its views and sockets: key, rate, origin, scope, in this order (gateway 2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import wraps
from typing import ParamSpec

from msgspec import Struct
from quart import Response, after_this_request, g, request
from quart.typing import ResponseTypes

from linguad.config.gateway import Gateway
from linguad.core.accounts import Actor
from linguad.core.tenant import Caller, Scope
from linguad.gateway.access.admission import Admission, Slot
from linguad.gateway.access.credentials import Credential, Headers, Kind, of_request, of_upgrade
from linguad.gateway.access.tickets import Tickets
from linguad.net.peer import Peer
from linguad.web.address import client_of
from linguad.web.app import request_id
from linguad.web.problems import Problem

P = ParamSpec("P")
View = Callable[P, Awaitable[Response]]


def protected(
    admission: Admission, scope: Scope | None = None, *, opens: bool = False
) -> Callable[[View[P]], View[P]]:
    """Decorator of a view: only for those with a valid key, and if given one with this scope.

    The view finds them in `caller()`. Every answer carries the rate headers, errors as well; only where
    nobody is known (401) there are none. The body is not read before. A view that `opens` a session finds
    the slot for it in `slot()`; it is given back at the end.
    """

    def decorate(view: View[P]) -> View[P]:
        @wraps(view)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> Response:
            peer = client_of(request)
            admission.check_transport(peer)
            who = admission.identify(of_request(request.scope["headers"]).value, peer)
            g.caller = who
            rate, g.slot = await admission.admit(who, opens=opens)

            @after_this_request
            async def tell_rate(answer: ResponseTypes) -> ResponseTypes:
                answer.headers.update(rate)
                return answer

            with g.slot or nullcontext():
                host = f"{peer.scheme}://{request.headers.get('Host', '')}"
                admission.check_origin(who, request.headers.get("Origin"), host)
                if scope is not None:
                    admission.require(who, scope)
                return await view(*args, **kwargs)

        return guarded

    return decorate


def caller() -> Caller:
    """Who sent the request that a protected view answers."""
    who: Caller = g.caller
    return who


def slot() -> Slot | None:
    """The slot for the session that it opens; None if the tenant has none left."""
    taken: Slot | None = g.slot
    return taken


def actor() -> Actor:
    """The same for the audit trail."""
    return Actor(type="key", id=caller().key_id, request_id=request_id())


class Entry(Struct, frozen=True):
    """An upgrade that may go on."""

    caller: Caller | None
    """None: who it is has to be said by the first message, for `Doorkeeper.first_message`."""
    subprotocol: str | None
    """What to answer as `Sec-WebSocket-Protocol`."""
    origin: str | None
    """The web page it comes from; browsers say so."""
    host: str = ""
    """Scheme and host of this server, as the client knows them: its own pages may call."""


class Doorkeeper:
    """The door for `/v1/stream`, before the upgrade is answered."""

    def __init__(self, admission: Admission, tickets: Tickets, settings: Gateway) -> None:
        self._admission = admission
        self._tickets = tickets
        self._allow_query_key = settings.stream_allow_query_api_key

    async def upgrade(self, headers: Headers, query: str, peer: Peer) -> Entry:
        """Who asks for a socket with these headers (names in lower case) and this query of its target.

        Raises Problem 400, 401, 403 or 429, to be answered instead of 101. Costs one request.
        """
        headers = list(headers)
        self._admission.check_transport(peer)
        shown = of_upgrade(headers, query, allow_query_key=self._allow_query_key)
        origin = _one(headers, b"origin")
        host = f"{peer.scheme}://{_one(headers, b'host') or ''}"
        who = None if shown.credential is None else await self._let_in(shown.credential, origin, host, peer)
        return Entry(who, shown.subprotocol, origin, host)

    async def first_message(self, token: str, entry: Entry, peer: Peer) -> Caller:
        """Who sent this key or ticket as first message; raises Problem as `upgrade` does."""
        kind = Kind.TICKET if self._tickets.is_ticket(token) else Kind.KEY
        return await self._let_in(Credential(kind, token), entry.origin, entry.host, peer)

    async def _let_in(self, shown: Credential, origin: str | None, host: str, peer: Peer) -> Caller:
        who = await self._redeem(shown.value, origin, peer) if shown.kind is Kind.TICKET else None
        who = who or self._admission.identify(shown.value, peer)
        await self._admission.admit(who)
        self._admission.check_origin(who, origin, host)
        self._admission.require(who, Scope.STREAM)
        return who

    async def _redeem(self, ticket: str, origin: str | None, peer: Peer) -> Caller:
        self._admission.check_address(peer)
        try:
            return self._admission.take_up(await self._tickets.take(ticket, origin))
        except Problem as problem:
            if problem.status == 401:
                self._admission.failed(peer)
            raise


def _one(headers: Headers, name: bytes) -> str | None:
    return next((value.decode("latin-1") for known, value in headers if known == name), None)
