"""What a caller may know of itself, and tickets for its web pages (gateway 11.4, 11.7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from quart import Response, jsonify, request
from quart_trio import QuartTrio

from linguad.core.limits import burst_of
from linguad.core.tenant import Scope, Tenant
from linguad.gateway.admission import Admission
from linguad.gateway.origins import is_origin
from linguad.gateway.protect import caller, protected
from linguad.gateway.tickets import Tickets
from linguad.web.problems import Problem

LONGEST_TTL_S = 120
"""Of a ticket (gateway 11.4)."""

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
    default_ttl_s: int,
    wall: Callable[[], float],
) -> None:
    """Serve `POST /v1/stream/tickets`; `wall` gives Unix s."""

    @app.post("/v1/stream/tickets")
    @protected(admission, Scope.TICKETS)
    async def make_ticket() -> Response:
        who = caller()
        admission.require(who, Scope.STREAM)
        asked = await _asked()
        origin, ttl_s = asked.get("origin"), asked.get("ttl_seconds", default_ttl_s)
        if not isinstance(ttl_s, int) or isinstance(ttl_s, bool) or not 1 <= ttl_s <= LONGEST_TTL_S:
            raise Problem.wrong_field("ttl_seconds", f"give a whole number from 1 to {LONGEST_TTL_S}")
        if origin is not None:
            if not isinstance(origin, str) or not is_origin(origin):
                raise Problem.wrong_field("origin", "give the scheme and host of the page")
            # Its socket would be refused; better told here, where a developer sees it.
            admission.check_origin(who, origin)
        text = tickets.issue(who, origin, ttl_s)
        until = datetime.fromtimestamp(wall() + ttl_s, UTC).isoformat(timespec="seconds")
        answer = jsonify({"ticket": text, "expires_at": until.replace("+00:00", "Z")})
        answer.status_code = 201
        answer.headers["Cache-Control"] = "no-store"
        return answer


async def _asked() -> Mapping[str, Any]:
    """The JSON object of the request; an empty body is an empty one. Raises Problem 400 or 422."""
    if not await request.get_data():
        return {}
    asked = await request.get_json(force=True, silent=True)
    if not isinstance(asked, dict):
        raise Problem(400, "invalid_json", "Send a JSON object, or no body at all.")
    if unknown := sorted(asked.keys() - {"origin", "ttl_seconds"}):
        raise Problem.wrong_field(unknown[0][:64], "there is no such field; there are origin and ttl_seconds")
    return asked
