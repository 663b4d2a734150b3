"""What the routes of accounts, webhooks and jobs take and answer, as it is documented (gateway 11).

The views answer plain data; a test against a running daemon compares their answers with these types.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType, defstruct

from linguad.core.accounts import member_types
from linguad.core.coverage import Served
from linguad.core.speech_job import JobStatus
from linguad.core.tenant import Scope, Status
from linguad.core.webhooks import DeliveryState, EventType
from linguad.gateway.openapi.answers import Translated
from linguad.gateway.speech.request import TranslateRequest
from linguad.gateway.usage.routes import COUNTERS

Time = Annotated[str, Meta(description="A moment in UTC, as RFC 3339.", examples=["2026-01-31T12:00:00Z"])]
NextCursor = Annotated[str | None, Meta(description="What to ask the next page with; null on the last one.")]
RetryS = Annotated[int, Meta(description="When to try again, in seconds.")]


class Page(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base: nothing is answered that is not documented."""


class Check(Page, frozen=True, kw_only=True):
    """Whether the API can do its work."""

    status: str
    checks: Annotated[dict[str, str], Meta(description="By part: `ok`, or what is wrong.")]
    version: str


class Limits(Page, frozen=True, kw_only=True):
    """What an account may use; null where there is no limit."""

    max_requests_per_second: float
    burst: int
    max_concurrent_sessions: int
    max_audio_seconds_per_day: int | None
    max_audio_seconds_per_month: int | None
    max_upload_bytes: int | None


class Me(Page, frozen=True, kw_only=True):
    """Whose key this is, and what it may do."""

    tenant_id: str
    name: str
    status: Status
    key_id: str
    scopes: list[Scope]
    limits: Limits
    sessions_in_use: int
    balance_seconds: Annotated[int | None, Meta(description="Only of accounts that pay.")] = None


class Ticket(Page, frozen=True, kw_only=True):
    """Opens one stream."""

    ticket: str
    expires_at: Time


class Languages(Page, frozen=True, kw_only=True):
    """The pairs of languages that are served now."""

    pairs: list[Served]
    sources: list[str]
    targets: list[str]


_CAPACITY: list[tuple[str, Any] | tuple[str, Any, Any]] = [
    ("from", str),
    ("to", str),
    ("sessions", int),
    ("enough", Annotated[bool, Meta(description="Whether so many sessions would find room now.")]),
    ("free_sessions", Annotated[int, Meta(description="That the account may still begin.")]),
    ("ready_nodes", int),
    ("free_slots", int),
    ("retry_after_s", RetryS, None),
]
# `from` is no name that a class could have
CapacityPage = defstruct("CapacityPage", _CAPACITY, bases=(Page,), frozen=True, kw_only=True)

_COUNTERS: list[tuple[str, Any]] = [(name, int) for name in (*COUNTERS, "gpu_active_time_ms")]
UsageItem = defstruct(
    "UsageItem",
    [("start", Time), ("key_id", str, ""), *_COUNTERS],
    bases=(Page,),
    frozen=True,
    kw_only=True,
)
UsageTotals = defstruct(
    "UsageTotals",
    [*_COUNTERS, ("billed_seconds", int), ("billed_minutes", int)],
    bases=(Page,),
    frozen=True,
    kw_only=True,
)
UsagePage = defstruct(
    "UsagePage",
    [
        ("from", Time),
        ("to", Time),
        ("granularity", str),
        ("items", list[UsageItem]),  # type: ignore[valid-type]
        ("totals", UsageTotals),
        ("balance_seconds", int, 0),
    ],
    bases=(Page,),
    frozen=True,
    kw_only=True,
)


class WebhookWish(Page, frozen=True, kw_only=True):
    """A new webhook."""

    url: Annotated[str, Meta(min_length=1, max_length=2000, description="Begins with `https://`.")]
    events: Annotated[list[EventType], Meta(min_length=1)]
    description: Annotated[str, Meta(max_length=200)] = ""


class WebhookChange(Page, frozen=True, kw_only=True):
    """What is to change of a webhook."""

    url: Annotated[str, Meta(min_length=1, max_length=2000)] | UnsetType = UNSET
    events: Annotated[list[EventType], Meta(min_length=1)] | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET
    enabled: Annotated[bool, Meta(description="True also forgets its failures.")] | UnsetType = UNSET


class WebhookPage(Page, frozen=True, kw_only=True):
    """A webhook, without its secret."""

    id: str
    url: str
    events: list[EventType]
    description: str
    enabled: bool
    disabled_reason: str | None
    created_at: Time


class WebhookSecret(WebhookPage, frozen=True, kw_only=True):
    """A webhook, and the secret that signs its deliveries: shown this once."""

    secret: Annotated[str | None, Meta(description="Null where the answer is given again.")]


class WebhookList(Page, frozen=True, kw_only=True):
    """All webhooks of an account."""

    items: list[WebhookPage]
    next_cursor: NextCursor


class DeliveryPage(Page, frozen=True, kw_only=True):
    """One event on its way to one webhook."""

    id: str
    event_id: str
    type: EventType
    state: DeliveryState
    attempts: int
    created_at: Time
    next_attempt_at: Time | None
    finished_at: Time | None
    last_status: int | None
    last_error: str | None


class DeliveryList(Page, frozen=True, kw_only=True):
    """Deliveries, the latest first."""

    items: list[DeliveryPage]
    next_cursor: NextCursor


class JobRequest(TranslateRequest, frozen=True, kw_only=True):
    """The fields of an asynchronous translation beside its audio."""

    callback_url: Annotated[
        str | None, Meta(description="URL of a webhook of yours that is told when it is done.")
    ] = None


class JobCreated(Page, frozen=True, kw_only=True):
    """A translation that was taken on."""

    job_id: str
    status: JobStatus


class JobError(Struct, frozen=True, kw_only=True):
    """Why a translation failed."""

    code: str
    message: str
    status: int
    retryable: bool


class JobPage(Page, frozen=True, kw_only=True):
    """An asynchronous translation."""

    job_id: str
    status: JobStatus
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    result: Annotated[Translated | None, Meta(description="Once it has succeeded.")] = None
    error: Annotated[JobError | None, Meta(description="Once it has failed.")] = None


_TENANT: list[tuple[str, Any]] = [
    ("tenant_id", str),
    *((name, kind) for name, kind, _ in member_types()),
    ("enabled", Annotated[bool, Meta(description="Whether its status is `active`.")]),
    ("created_at", Time),
    ("updated_at", Time),
]
TenantPage = defstruct("TenantPage", _TENANT, bases=(Page,), frozen=True, kw_only=True)


def _said(allowed: str) -> Meta:
    return Meta(description=f"Allowed is {allowed}.")


_CHANGES: list[tuple[str, Any, Any]] = [
    (name, Annotated[kind if name == "name" else kind | None, _said(allowed)] | UnsetType, UNSET)
    for name, kind, allowed in member_types()
]
TenantChange = defstruct("TenantChange", _CHANGES, bases=(Page,), frozen=True, kw_only=True)
TenantWish = defstruct(
    "TenantWish",
    [
        ("name", Annotated[str, Meta(min_length=1, max_length=100)]),
        *(change for change in _CHANGES if change[0] != "name"),
        ("create_key", Annotated[bool, Meta(description="Whether it gets a first key.")], True),
    ],
    bases=(Page,),
    frozen=True,
    kw_only=True,
)


class TenantList(Page, frozen=True, kw_only=True):
    """Tenants, the oldest first."""

    items: list[TenantPage]  # type: ignore[valid-type]
    next_cursor: NextCursor


class KeyPage(Page, frozen=True, kw_only=True):
    """A key, without its secret."""

    key_id: str
    tenant_id: str
    prefix: str
    label: str
    scopes: list[Scope]
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None
    last_used_at: Time | None


class IssuedKeyPage(KeyPage, frozen=True, kw_only=True):
    """A key with its secret, which is shown this once."""

    key: Annotated[str | None, Meta(description="Null where the answer is given again.")]


class KeyList(Page, frozen=True, kw_only=True):
    """All keys that a tenant ever had."""

    items: list[KeyPage]


class KeyCreated(Page, frozen=True, kw_only=True):
    """A new key."""

    api_key: IssuedKeyPage


TenantCreated = defstruct(
    "TenantCreated",
    [*_TENANT, ("api_key", IssuedKeyPage, None)],
    bases=(Page,),
    frozen=True,
    kw_only=True,
)


class KeyWishPage(Page, frozen=True, kw_only=True):
    """A key that is to be made."""

    label: Annotated[str, Meta(max_length=100)] = ""
    scopes: Annotated[list[Scope] | None, Meta(description="Left out: everything but administration.")] = None
    expires_at: Time | None = None
    env: Annotated[str, Meta(pattern="^(live|test)$")] = "live"


class Rotation(Page, frozen=True, kw_only=True):
    """How a key is replaced."""

    grace_seconds: Annotated[
        float, Meta(ge=0, le=604800, description="How long the old one goes on working.")
    ] = 86400


class AuditPage(Page, frozen=True, kw_only=True):
    """One change that was made."""

    audit_id: int
    actor_type: str
    actor_id: str
    action: str
    target: str
    tenant_id: str | None
    request_id: str | None
    payload: dict[str, Any]
    created_at: Time


class AuditList(Page, frozen=True, kw_only=True):
    """Changes, the latest first."""

    items: list[AuditPage]
    next_cursor: NextCursor


class LedgerLine(Page, frozen=True, kw_only=True):
    """A line of a ledger; it never changes."""

    ledger_id: int
    tenant_id: str
    session_id: str | None
    change_seconds: int
    balance_before: int
    balance_after: int
    reason: str
    actor_type: str
    actor_id: str
    request_id: str
    created_at: Time


class LedgerPage(Page, frozen=True, kw_only=True):
    """Lines of a ledger, the latest first."""

    items: list[LedgerLine]
    next_cursor: NextCursor
    balance_seconds: int


class NodeCredit(Page, frozen=True, kw_only=True):
    """What an owner of nodes earned."""

    owner: str
    credited_seconds: int
    transferred_seconds: int
    balance_seconds: int


class NodeCreditDetail(NodeCredit, frozen=True, kw_only=True):
    """What an owner of nodes earned, and where it went."""

    transfers: list[LedgerLine]


class NodeCredits(Page, frozen=True, kw_only=True):
    """Owners of nodes, in order of their names."""

    items: list[NodeCredit]
    next_cursor: NextCursor


class Transferred(Page, frozen=True, kw_only=True):
    """What a transfer led to."""

    account: NodeCredit
    line: LedgerLine
