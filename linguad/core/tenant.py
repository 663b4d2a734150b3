"""Tenants of the public API, their keys, and who speaks in one request (gateway 3, 4).

A tenant is a customer: limits, defaults and bills are its own. Keys are its credentials; each has scopes.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Scope(StrEnum):
    """What a key may be used for (gateway 3.2)."""

    TRANSLATE = "speech:translate"
    STREAM = "speech:stream"
    JOBS = "jobs:read"
    USAGE = "usage:read"
    WEBHOOKS = "webhooks:manage"
    TICKETS = "tickets:create"
    ADMIN_TENANTS = "admin:tenants"
    ADMIN_KEYS = "admin:keys"
    ADMIN_USAGE = "admin:usage"
    ADMIN_BILLING = "admin:billing"
    HUB_READ = "hub:read"
    HUB_USAGE = "hub:usage"
    HUB_PUBLISH = "hub:publish"
    HUB_SIGN = "hub:sign"
    HUB_VERSIONS = "hub:versions"
    HUB_ADMIN = "hub:admin"


DEFAULT_SCOPES = frozenset(
    {Scope.TRANSLATE, Scope.STREAM, Scope.JOBS, Scope.USAGE, Scope.WEBHOOKS, Scope.TICKETS}
)
"""Scopes of a key that was made without naming any."""

ADMIN_SCOPES = frozenset({Scope.ADMIN_TENANTS, Scope.ADMIN_KEYS, Scope.ADMIN_USAGE, Scope.ADMIN_BILLING})


class Status(StrEnum):
    """Whether a tenant may use the API."""

    ACTIVE = "active"
    DISABLED = "disabled"
    SUSPENDED = "suspended"


class BillingMode(StrEnum):
    """Whether usage costs something, and when it is paid."""

    NONE = "none"
    POSTPAID = "postpaid"
    PREPAID = "prepaid"


class Tenant(Struct, frozen=True, kw_only=True):
    """One customer (gateway 4.1); times are Unix seconds, None for a limit means that there is none."""

    id: str
    name: str
    created_at: float
    updated_at: float
    status: Status = Status.ACTIVE
    max_requests_per_second: float = 100.0
    burst: int | None = None
    """Requests that may come at once; None: as many as in a second."""
    max_concurrent_sessions: int = 10
    max_audio_seconds_per_day: int | None = None
    max_audio_seconds_per_month: int | None = None
    max_upload_bytes: int | None = None
    allowed_origins: tuple[str, ...] = ()
    """Origins of web pages that may call with its keys or tickets."""
    default_src_lang: str = "zh"
    default_tgt_lang: str = "en"
    allowed_languages: tuple[str, ...] | None = None
    allowed_features: tuple[str, ...] | None = None
    billing_mode: BillingMode = BillingMode.NONE
    pool_id: str | None = None
    """The capability pool its jobs prefer, by name."""
    metadata: dict[str, object] = {}

    @property
    def active(self) -> bool:
        """Whether it may use the API."""
        return self.status is Status.ACTIVE


class Key(Struct, frozen=True, kw_only=True):
    """One credential of a tenant, without its secret; times are Unix seconds."""

    id: str
    """Public name, 12 base32 characters."""
    tenant_id: str
    prefix: str
    """The first 16 characters, for display; "" for keys that operators made up."""
    scopes: frozenset[Scope]
    created_at: float
    label: str = ""
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None

    def usable(self, now: float) -> bool:
        """Whether it opens anything at this moment (Unix s)."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class Caller(Struct, frozen=True, kw_only=True):
    """Who speaks in one request or on one socket."""

    tenant: Tenant
    key_id: str
    scopes: frozenset[Scope]
