"""The table of what operators can do, for the documents of the public API (gateway 11.1, 11.7)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from msgspec.structs import replace

from linguad.core.tenant import Scope, Status
from linguad.gateway.openapi.document import Operation, Parameter
from linguad.gateway.openapi.operations_shared import (
    BODY,
    CURSOR,
    FIELDS,
    IDEMPOTENCY_KEY,
    IDEMPOTENT,
    LIMIT,
    REPLAYED,
    STORE,
    TENANT_ID,
    USAGE_QUERY,
    in_path,
)
from linguad.gateway.openapi.pages import (
    AuditList,
    KeyCreated,
    KeyList,
    KeyWishPage,
    LedgerLine,
    LedgerPage,
    NodeCreditDetail,
    NodeCredits,
    Rotation,
    TenantChange,
    TenantCreated,
    TenantList,
    TenantPage,
    TenantWish,
    Transferred,
    UsagePage,
)
from linguad.gateway.usage.routes import CreditBody, TransferBody

_TENANT = ((404, "tenant_not_found"),)
_CHANGE = (*_TENANT, (404, "not_found"), (409, "conflict"), *STORE)
_KEY = (*_CHANGE, (404, "key_not_found"))
_ETAG = {"ETag": "The version of the tenant, for `If-Match`."}
_KEY_ID = in_path("key_id", "Id of a key.")
_OWNER = in_path("owner", "Name of an owner of nodes.")
_LEDGER_CURSOR = replace(CURSOR, type=Annotated[str, Meta(max_length=18)])

TENANTS = (
    Operation(
        method="POST",
        path="/admin/v1/tenants",
        id="create_tenant",
        summary="A new tenant, with its first key",
        tag="tenants",
        scope=Scope.ADMIN_TENANTS,
        parameters=(IDEMPOTENCY_KEY,),
        request=TenantWish,
        status=201,
        response=TenantCreated,
        problems=(*BODY, *IDEMPOTENT, (409, "conflict")),
        headers=_ETAG | REPLAYED,
    ),
    Operation(
        method="GET",
        path="/admin/v1/tenants",
        id="list_tenants",
        summary="Tenants, the oldest first",
        tag="tenants",
        scope=Scope.ADMIN_TENANTS,
        parameters=(
            LIMIT,
            CURSOR,
            Parameter(name="status", type=Status, description="Only those with this status."),
            Parameter(name="q", type=str, description="Part of the id or name."),
        ),
        response=TenantList,
        problems=FIELDS,
    ),
    Operation(
        method="GET",
        path="/admin/v1/tenants/{tenant_id}",
        id="show_tenant",
        summary="One tenant",
        tag="tenants",
        scope=Scope.ADMIN_TENANTS,
        parameters=(TENANT_ID,),
        response=TenantPage,
        problems=_TENANT,
        headers=_ETAG,
    ),
    Operation(
        method="PATCH",
        path="/admin/v1/tenants/{tenant_id}",
        id="change_tenant",
        summary="Change a tenant; null stands for the default",
        tag="tenants",
        scope=Scope.ADMIN_TENANTS,
        parameters=(
            TENANT_ID,
            Parameter(
                name="If-Match", type=str, where="header", description="The `ETag` that is to be changed."
            ),
        ),
        request=TenantChange,
        response=TenantPage,
        problems=(*BODY, *_CHANGE, (412, "precondition_failed")),
        headers=_ETAG,
    ),
    Operation(
        method="DELETE",
        path="/admin/v1/tenants/{tenant_id}",
        id="delete_tenant",
        summary="Disable a tenant for good, and revoke its keys",
        tag="tenants",
        scope=Scope.ADMIN_TENANTS,
        parameters=(TENANT_ID,),
        status=204,
        problems=_CHANGE,
    ),
    Operation(
        method="POST",
        path="/admin/v1/tenants/{tenant_id}/disable",
        id="disable_tenant",
        summary="Let a tenant use nothing; its streams close within 5 s",
        tag="tenants",
        scope=Scope.ADMIN_TENANTS,
        parameters=(TENANT_ID,),
        response=TenantPage,
        problems=_CHANGE,
        headers=_ETAG,
    ),
    Operation(
        method="POST",
        path="/admin/v1/tenants/{tenant_id}/enable",
        id="enable_tenant",
        summary="Let a tenant use the API again",
        tag="tenants",
        scope=Scope.ADMIN_TENANTS,
        parameters=(TENANT_ID,),
        response=TenantPage,
        problems=_CHANGE,
        headers=_ETAG,
    ),
    Operation(
        method="GET",
        path="/admin/v1/audit",
        id="audit",
        summary="Who changed what, the latest first",
        tag="tenants",
        scope=Scope.ADMIN_TENANTS,
        parameters=(
            LIMIT,
            CURSOR,
            Parameter(name="tenant_id", type=str, description="Only changes of this tenant."),
            Parameter(name="since", type=str, description="Only later ones, RFC 3339."),
        ),
        response=AuditList,
        problems=FIELDS + STORE,
    ),
)

KEYS = (
    Operation(
        method="GET",
        path="/admin/v1/tenants/{tenant_id}/keys",
        id="list_keys",
        summary="All keys that a tenant ever had",
        tag="keys",
        scope=Scope.ADMIN_KEYS,
        parameters=(TENANT_ID,),
        response=KeyList,
        problems=_TENANT,
    ),
    Operation(
        method="POST",
        path="/admin/v1/tenants/{tenant_id}/keys",
        id="create_key",
        summary="A new key; at most 20 work at once",
        tag="keys",
        scope=Scope.ADMIN_KEYS,
        parameters=(TENANT_ID,),
        request=KeyWishPage,
        status=201,
        response=KeyCreated,
        problems=BODY + _CHANGE,
    ),
    Operation(
        method="POST",
        path="/admin/v1/tenants/{tenant_id}/keys/{key_id}/rotate",
        id="rotate_key",
        summary="A new key for an old one, which works a while longer",
        tag="keys",
        scope=Scope.ADMIN_KEYS,
        parameters=(TENANT_ID, _KEY_ID),
        request=Rotation,
        status=201,
        response=KeyCreated,
        problems=BODY + _KEY,
    ),
    Operation(
        method="DELETE",
        path="/admin/v1/tenants/{tenant_id}/keys/{key_id}",
        id="revoke_key",
        summary="Let a key open nothing from now on",
        tag="keys",
        scope=Scope.ADMIN_KEYS,
        parameters=(TENANT_ID, _KEY_ID),
        status=204,
        problems=_KEY,
    ),
)

BOOKS = (
    Operation(
        method="GET",
        path="/admin/v1/tenants/{tenant_id}/usage",
        id="tenant_usage",
        summary="What a tenant used",
        tag="books",
        scope=Scope.ADMIN_USAGE,
        parameters=(TENANT_ID, *USAGE_QUERY),
        response=UsagePage,
        problems=_TENANT + FIELDS + STORE,
    ),
    Operation(
        method="GET",
        path="/admin/v1/tenants/{tenant_id}/ledger",
        id="tenant_ledger",
        summary="What changed the balance of a tenant, the latest first",
        tag="books",
        scope=Scope.ADMIN_USAGE,
        parameters=(TENANT_ID, LIMIT, _LEDGER_CURSOR),
        response=LedgerPage,
        problems=_TENANT + FIELDS + STORE,
    ),
    Operation(
        method="POST",
        path="/admin/v1/tenants/{tenant_id}/credits",
        id="credits",
        summary="Change a balance; the same `request_id` again changes nothing",
        tag="books",
        scope=Scope.ADMIN_BILLING,
        parameters=(TENANT_ID, IDEMPOTENCY_KEY),
        request=CreditBody,
        response=LedgerLine,
        problems=BODY + _CHANGE + IDEMPOTENT,
        headers=REPLAYED,
    ),
    Operation(
        method="GET",
        path="/admin/v1/node-credits",
        id="node_credits",
        summary="What owners of nodes earned",
        tag="books",
        scope=Scope.ADMIN_USAGE,
        parameters=(LIMIT, CURSOR),
        response=NodeCredits,
        problems=FIELDS + STORE,
    ),
    Operation(
        method="GET",
        path="/admin/v1/node-credits/{owner}",
        id="node_credit",
        summary="What one owner of nodes earned, and where it went",
        tag="books",
        scope=Scope.ADMIN_USAGE,
        parameters=(_OWNER,),
        response=NodeCreditDetail,
        problems=((404, "not_found"), *STORE),
    ),
    Operation(
        method="POST",
        path="/admin/v1/node-credits/{owner}/transfer",
        id="transfer",
        summary="Give what an owner of nodes earned to a tenant",
        tag="books",
        scope=Scope.ADMIN_BILLING,
        parameters=(_OWNER,),
        request=TransferBody,
        response=Transferred,
        problems=BODY + _CHANGE,
    ),
)

ADMIN_OPERATIONS = TENANTS + KEYS + BOOKS
