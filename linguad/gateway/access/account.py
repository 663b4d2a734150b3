"""What a caller may know of itself, and tickets for its web pages (gateway 11.4, 11.7)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

from msgspec import Meta, Struct
from quart import Response, jsonify
from quart_trio import QuartTrio

from linguad.config.gateway import Gateway
from linguad.core.limits import burst_of
from linguad.core.tenant import Scope, Tenant
from linguad.gateway.access.admission import Admission
from linguad.gateway.access.origins import is_origin
from linguad.gateway.access.protect import caller, protected
from linguad.gateway.access.tickets import Tickets
from linguad.web.body import json_body
from linguad.web.problems import Problem
from linguad.wire.moment import told

LONGEST_TTL_S = 120
"""Of a ticket (gateway 11.4)."""


class TicketWish(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/stream/tickets`."""

    origin: str | None = None
    """The only page that may use it."""
    ttl_seconds: Annotated[int, Meta(ge=1, le=LONGEST_TTL_S)] | None = None


Balance = Callable[[Tenant], float | None]
"""The seconds a tenant has left to use; None where none are counted."""


def add_account_routes(app: QuartTrio, admission: Admission, balance: Balance | None = None) -> None:
    """Serve `/v1/me`: the caller's tenant, key and limits, never the key."""

    @app.get("/v1/me")
    @protected(admission)
    async def me() -> Response:
        who = caller()
        tenant = who.tenant
        body: dict[str, Any] = {
            "tenant_id": tenant.id,
            "name": tenant.name,
            "status": tenant.status.value,
            "key_id": who.key_id,
            "scopes": sorted(who.scopes),
            "limits": {
                "max_requests_per_second": tenant.max_requests_per_second,
                "burst": max(1, tenant.burst or burst_of(tenant.max_requests_per_second)),
                "max_concurrent_sessions": tenant.max_concurrent_sessions,
                "max_audio_seconds_per_day": tenant.max_audio_seconds_per_day,
                "max_audio_seconds_per_month": tenant.max_audio_seconds_per_month,
                "max_upload_bytes": tenant.max_upload_bytes,
            },
            "sessions_in_use": admission.sessions_of(tenant.id),
        }
        if balance is not None and (left := balance(tenant)) is not None:
            body["balance_seconds"] = left
        return jsonify(body)


def add_ticket_routes(
    app: QuartTrio,
    admission: Admission,
    tickets: Tickets,
    settings: Gateway,
    wall: Callable[[], float] = time.time,
) -> None:
    """Serve `POST /v1/stream/tickets`; `wall` gives Unix s."""

    @app.post("/v1/stream/tickets")
    @protected(admission, Scope.TICKETS)
    async def make_ticket() -> Response:
        who = caller()
        admission.require(who, Scope.STREAM)
        asked = await json_body(TicketWish)
        if asked.origin is not None:
            if not is_origin(asked.origin):
                raise Problem.wrong_field("origin", "give the scheme and host of the page")
            # Its socket would be refused; better told here, where a developer sees it.
            admission.check_origin(who, asked.origin)
        ttl_s = asked.ttl_seconds or settings.ticket_ttl_seconds
        text = await tickets.give(who, asked.origin, ttl_s)
        answer = jsonify({"ticket": text, "expires_at": told(wall() + ttl_s)})
        answer.status_code = 201
        answer.headers["Cache-Control"] = "no-store"
        return answer
