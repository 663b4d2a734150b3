"""What the rows of the tables of operations have in common."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from linguad.gateway.openapi.document import Parameter

Problems = tuple[tuple[int, str], ...]

FIELDS: Problems = ((422, "invalid_field"),)
"""A parameter or member that cannot be used."""

BODY: Problems = ((400, "invalid_json"), (408, "request_timeout"), (413, "payload_too_large"), *FIELDS)
"""Errors of a body in JSON."""

STORE: Problems = ((503, "store_unavailable"),)
"""Errors of everything that is looked up or kept."""

IDEMPOTENT: Problems = (
    (400, "invalid_idempotency_key"),
    (409, "idempotency_in_progress"),
    (422, "idempotency_mismatch"),
    *STORE,
)
"""Errors of an operation that takes `Idempotency-Key` (gateway 11.8)."""

IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    type=Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")],
    where="header",
    description="Names this request; sent again within a day it gets the same answer and is not done twice.",
)

REPLAYED = {"Idempotency-Replayed": "`true` where an earlier answer is given again."}
LOCATION = {"Location": "Where it is."}

LIMIT = Parameter(
    name="limit", type=Annotated[int, Meta(ge=1, le=200)], description="Items of a page; 50 if left out."
)
CURSOR = Parameter(
    name="cursor",
    type=Annotated[str, Meta(max_length=200)],
    description="The `next_cursor` of the page before, as it is.",
)

USAGE_QUERY = (
    Parameter(name="from", type=str, description="Beginning, RFC 3339; the first of the month if left out."),
    Parameter(name="to", type=str, description="End, RFC 3339; now if left out. At most 92 days later."),
    Parameter(
        name="granularity", type=Literal["hour", "day", "month"], description="Steps; `day` if left out."
    ),
    Parameter(name="group_by", type=Literal["key"], description="Counts each key apart."),
)
"""What a report may be asked for."""


def in_path(name: str, description: str, kind: Any = str) -> Parameter:
    """A part of the path."""
    return Parameter(name=name, type=kind, where="path", description=description)


WEBHOOK_ID = in_path("webhook_id", "Id of a webhook.")
TENANT_ID = in_path("tenant_id", "Id of a tenant.")
