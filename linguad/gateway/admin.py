"""`/admin/v1`: tenants, their keys, and who changed what (gateway 11.1)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from quart import Response, jsonify, request
from quart_trio import QuartTrio

from linguad.core.accounts import (
    CHANGEABLE,
    Actor,
    AuditRecord,
    ConflictError,
    FieldsError,
    IssuedKey,
    KeyWish,
)
from linguad.core.tenant import DEFAULT_SCOPES, Key, Scope, Status, Tenant
from linguad.gateway.access.protect import actor
from linguad.gateway.refusals import answer_refusals
from linguad.web.body import json_object
from linguad.web.problems import Problem
from linguad.web.query import cursor, cursor_of, limit_of, moment_of, number_of, query
from linguad.wire.moment import told

DAY_S = 86400
ENVIRONMENTS = ("live", "test")
_ETAG = re.compile(r'(?:W/)?"(\d{1,15})"')

View = Callable[..., Awaitable[Response]]


class Accounts(Protocol):
    """Tenants and keys; changes raise NotFoundError, ConflictError and FieldsError."""

    def tenant(self, tenant_id: str) -> Tenant | None:
        """A tenant, unless it was deleted."""
        ...

    def revision(self, tenant_id: str) -> int:
        """Grows with every change of a tenant."""
        ...

    def tenants(self) -> list[Tenant]:
        """Every tenant, the oldest first."""
        ...

    def key(self, key_id: str) -> Key | None:
        """A key by its id."""
        ...

    def keys_of(self, tenant_id: str) -> list[Key]:
        """Every key that a tenant ever had, the oldest first."""
        ...

    async def create_tenant(
        self,
        actor: Actor,
        name: str,
        members: Mapping[str, object] | None = None,
        *,
        key: KeyWish | None = None,
    ) -> tuple[Tenant, IssuedKey | None]:
        """A new tenant, with a first key if one is wished for."""
        ...

    async def change_tenant(
        self,
        actor: Actor,
        tenant_id: str,
        members: Mapping[str, object],
        *,
        expected_revision: int | None = None,
    ) -> Tenant:
        """Change members of a tenant."""
        ...

    async def delete_tenant(self, actor: Actor, tenant_id: str) -> None:
        """Disable a tenant for good and revoke its keys."""
        ...

    async def create_key(self, actor: Actor, tenant_id: str, wish: KeyWish | None = None) -> IssuedKey:
        """A new key of a tenant."""
        ...

    async def rotate_key(self, actor: Actor, key_id: str, grace_s: float) -> IssuedKey:
        """A new key like another one, which works for the grace."""
        ...

    async def revoke_key(self, actor: Actor, key_id: str) -> Key:
        """Let a key open nothing from now on."""
        ...

    async def audit_trail(
        self,
        *,
        tenant_id: str | None = None,
        since: float | None = None,
        before_id: int | None = None,
        limit: int = 50,
    ) -> list[AuditRecord]:
        """What was changed, the latest first."""
        ...


def add_admin_routes(
    app: QuartTrio,
    accounts: Accounts,
    protect: Callable[[Scope], Callable[[View], View]],
    once: Callable[[View], View],
) -> None:
    """Serve the administration of tenants on an app.

    `protect` lets only keys with a scope through and sets `g.caller`; `once` honours Idempotency-Key.
    """
    answer_refusals(app)
    tenants, keys = protect(Scope.ADMIN_TENANTS), protect(Scope.ADMIN_KEYS)

    @app.post("/admin/v1/tenants")
    @tenants
    @once
    async def create_tenant() -> Response:
        body = await json_object(("create_key", *CHANGEABLE))
        wants_key = body.pop("create_key", True)
        if not isinstance(wants_key, bool):
            raise Problem.wrong_field("create_key", "allowed is true or false")
        name = body.pop("name", None)
        tenant, issued = await _do(
            accounts.create_tenant(actor(), name, body, key=KeyWish() if wants_key else None)
        )
        return _created(tenant_page(tenant), accounts.revision(tenant.id), issued)

    @app.get("/admin/v1/tenants")
    @tenants
    async def list_tenants() -> Response:
        asked = query(("limit", "cursor", "status", "q"))
        limit, after = limit_of(asked), cursor_of(asked)
        status, part = asked.get("status"), asked.get("q", "").casefold()
        if status is not None and status not in list(Status):
            raise Problem.wrong_field("status", f"allowed is one of {', '.join(Status)}")
        found = [
            tenant
            for tenant in accounts.tenants()
            if status in (None, tenant.status) and part in f"{tenant.id}\n{tenant.name}".casefold()
        ]
        start = next((number for number, tenant in enumerate(found, 1) if tenant.id == after), 0)
        if after and not start:
            raise Problem.wrong_field("cursor", "that tenant is gone; begin with the first page")
        page = found[start : start + limit]
        more = len(found) > start + limit
        return jsonify(
            {
                "items": [tenant_page(tenant) for tenant in page],
                "next_cursor": cursor(page[-1].id) if more else None,
            }
        )

    @app.get("/admin/v1/tenants/<tenant_id>")
    @tenants
    async def show_tenant(tenant_id: str) -> Response:
        return _tagged(jsonify(tenant_page(_known(accounts, tenant_id))), accounts.revision(tenant_id))

    @app.patch("/admin/v1/tenants/<tenant_id>")
    @tenants
    async def change_tenant(tenant_id: str) -> Response:
        _known(accounts, tenant_id)
        body, expected = await json_object(CHANGEABLE), _expected()
        if expected is not None and expected != accounts.revision(tenant_id):
            raise _outdated()
        tenant = await _do(
            accounts.change_tenant(actor(), tenant_id, body, expected_revision=expected),
            conflict=_outdated() if expected is not None else None,
        )
        return _tagged(jsonify(tenant_page(tenant)), accounts.revision(tenant_id))

    @app.delete("/admin/v1/tenants/<tenant_id>")
    @tenants
    async def delete_tenant(tenant_id: str) -> Response:
        _known(accounts, tenant_id)
        await _do(accounts.delete_tenant(actor(), tenant_id))
        return Response("", status=204)

    @app.post("/admin/v1/tenants/<tenant_id>/disable")
    @tenants
    async def disable(tenant_id: str) -> Response:
        return await _set_status(accounts, tenant_id, Status.DISABLED)

    @app.post("/admin/v1/tenants/<tenant_id>/enable")
    @tenants
    async def enable(tenant_id: str) -> Response:
        return await _set_status(accounts, tenant_id, Status.ACTIVE)

    @app.get("/admin/v1/tenants/<tenant_id>/keys")
    @keys
    async def list_keys(tenant_id: str) -> Response:
        _known(accounts, tenant_id)
        return jsonify({"items": [key_page(key) for key in accounts.keys_of(tenant_id)]})

    @app.post("/admin/v1/tenants/<tenant_id>/keys")
    @keys
    async def create_key(tenant_id: str) -> Response:
        _known(accounts, tenant_id)
        wish = _wish(await json_object(("label", "scopes", "expires_at", "env")))
        return _created({}, None, await _do(accounts.create_key(actor(), tenant_id, wish)))

    @app.post("/admin/v1/tenants/<tenant_id>/keys/<key_id>/rotate")
    @keys
    async def rotate_key(tenant_id: str, key_id: str) -> Response:
        _known_key(accounts, tenant_id, key_id)
        grace_s = (await json_object(("grace_seconds",))).get("grace_seconds", DAY_S)
        if not isinstance(grace_s, int | float) or isinstance(grace_s, bool):
            raise Problem.wrong_field("grace_seconds", "allowed is a number of seconds")
        return _created({}, None, await _do(accounts.rotate_key(actor(), key_id, grace_s)))

    @app.delete("/admin/v1/tenants/<tenant_id>/keys/<key_id>")
    @keys
    async def revoke_key(tenant_id: str, key_id: str) -> Response:
        _known_key(accounts, tenant_id, key_id)
        await _do(accounts.revoke_key(actor(), key_id))
        return Response("", status=204)

    @app.get("/admin/v1/audit")
    @tenants
    async def audit() -> Response:
        asked = query(("tenant_id", "since", "limit", "cursor"))
        limit = limit_of(asked)
        records = await accounts.audit_trail(
            tenant_id=asked.get("tenant_id"),
            since=moment_of("since", asked["since"]) if "since" in asked else None,
            before_id=number_of(asked),
            limit=limit + 1,
        )
        page = records[:limit]
        return jsonify(
            {
                "items": [_audit_page(record) for record in page],
                "next_cursor": cursor(page[-1].audit_id) if len(records) > limit else None,
            }
        )


def tenant_page(tenant: Tenant) -> dict[str, Any]:
    """A tenant as JSON; `enabled` is what earlier programs read."""
    return {
        "tenant_id": tenant.id,
        **{name: getattr(tenant, name) for name in CHANGEABLE},
        "enabled": tenant.active,
        "created_at": told(tenant.created_at),
        "updated_at": told(tenant.updated_at),
    }


def key_page(key: Key) -> dict[str, Any]:
    """A key as JSON, without its secret."""
    return {
        "key_id": key.id,
        "tenant_id": key.tenant_id,
        "prefix": key.prefix,
        "label": key.label,
        "scopes": sorted(key.scopes),
        "created_at": told(key.created_at),
        "expires_at": told(key.expires_at),
        "revoked_at": told(key.revoked_at),
        "last_used_at": told(key.last_used_at),
    }


def _audit_page(record: AuditRecord) -> dict[str, Any]:
    return {
        "audit_id": record.audit_id,
        "actor_type": record.actor_type,
        "actor_id": record.actor_id,
        "action": record.action,
        "target": record.target,
        "tenant_id": record.tenant_id,
        "request_id": record.request_id,
        "payload": record.payload,
        "created_at": told(record.created_at),
    }


def _wish(body: Mapping[str, Any]) -> KeyWish:
    """What a request says of a new key. Raises Problem 422."""
    label, environment = body.get("label", ""), body.get("env", "live")
    if not isinstance(label, str):
        raise Problem.wrong_field("label", "allowed is text")
    if environment not in ENVIRONMENTS:
        raise Problem.wrong_field("env", f"allowed is one of {', '.join(ENVIRONMENTS)}")
    scopes = body.get("scopes")
    if scopes is not None and not (
        isinstance(scopes, list) and all(isinstance(scope, str) and scope in list(Scope) for scope in scopes)
    ):
        raise Problem.wrong_field("scopes", f"allowed is a list of some of {', '.join(Scope)}")
    expires_at = body.get("expires_at")
    return KeyWish(
        label=label,
        scopes=DEFAULT_SCOPES if scopes is None else frozenset(map(Scope, scopes)),
        expires_at=None if expires_at is None else moment_of("expires_at", expires_at),
        test=environment == "test",
    )


def _known(accounts: Accounts, tenant_id: str) -> Tenant:
    tenant = accounts.tenant(tenant_id)
    if tenant is None:
        raise Problem(404, "tenant_not_found", "There is no such tenant; GET /admin/v1/tenants lists them.")
    return tenant


def _known_key(accounts: Accounts, tenant_id: str, key_id: str) -> None:
    _known(accounts, tenant_id)
    key = accounts.key(key_id)
    if key is None or key.tenant_id != tenant_id:
        raise Problem(404, "key_not_found", "The tenant has no such key; GET …/keys lists them.")


async def _set_status(accounts: Accounts, tenant_id: str, status: Status) -> Response:
    _known(accounts, tenant_id)
    tenant = await _do(accounts.change_tenant(actor(), tenant_id, {"status": status.value}))
    return _tagged(jsonify(tenant_page(tenant)), accounts.revision(tenant_id))


async def _do(change: Awaitable[Any], conflict: Problem | None = None) -> Any:
    """The outcome of a change, its refusals in public words."""
    try:
        return await change
    except FieldsError as error:
        details = [{"field": field, "reason": reason} for field, reason in error.problems]
        raise Problem(422, "invalid_field", f"{error}.", details=details) from error
    except ConflictError as error:
        raise conflict or Problem(409, "conflict", str(error), retryable=False) from error


def _expected() -> int | None:
    """The revision that If-Match names. Raises Problem 412 for one that never was."""
    given = request.headers.get("If-Match", "*").strip()
    if given == "*":
        return None
    match = _ETAG.fullmatch(given)
    if match is None:
        raise _outdated()
    return int(match[1])


def _outdated() -> Problem:
    return Problem(412, "precondition_failed", "The tenant was changed meanwhile; read it again first.")


def _tagged(response: Response, revision: int | None) -> Response:
    if revision is not None:
        response.headers["ETag"] = f'"{revision}"'
    return response


def _created(page: dict[str, Any], revision: int | None, issued: IssuedKey | None) -> Response:
    """201 with a key that is shown this once."""
    if issued is not None:
        page["api_key"] = key_page(issued.key) | {"key": issued.text}
    response = jsonify(page)
    response.status_code = 201
    response.headers["Cache-Control"] = "no-store"
    return _tagged(response, revision)
