"""Changing tenants and keys: who does it, what may be asked for, and how it is refused (gateway 11.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

from linguad.core.tenant import DEFAULT_SCOPES, BillingMode, Key, Scope, Status, Tenant
from linguad.errors import LinguadError
from linguad.wire.common import FeatureFlags
from linguad.wire.language import normalize

DEFAULT_TENANT = "default"
"""Id of the tenant that every store has; it cannot be deleted."""

MAX_ACTIVE_KEYS = 20
"""Usable keys of one tenant; while keys are rotated, the old ones may come on top of that."""

MAX_GRACE_S = 7 * 86400
"""Longest time that a rotated key goes on working."""

MAX_METADATA_BYTES = 4096
"""Most that a tenant's metadata may take as JSON."""

MAX_LABEL_CHARS = 100

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*")
_ORIGIN = re.compile(r"https?://(\[[0-9a-f:]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?")


class NotFoundError(LinguadError):
    """There is no such tenant or key."""


class ConflictError(LinguadError):
    """What is asked for cannot be done in the state things are in."""


class FieldsError(LinguadError):
    """Input cannot be used; `problems` holds (field, what is allowed)."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{field}: {reason}" for field, reason in self.problems))


class Actor(Struct, frozen=True, kw_only=True):
    """Who changes something, for the audit trail."""

    type: str
    """`system` for the daemon itself, `operator` for a person at its machine, `key` for a caller."""
    id: str
    request_id: str | None = None


SYSTEM = Actor(type="system", id="linguad")


class AuditRecord(Struct, frozen=True, kw_only=True):
    """One change that was made."""

    audit_id: int
    created_at: float
    """Unix seconds."""
    actor_type: str
    actor_id: str
    action: str
    """`tenant.create` and the like."""
    target: str
    """Id of the tenant or key."""
    tenant_id: str | None
    request_id: str | None
    payload: dict[str, Any]
    """What was asked for; never a key."""


class KeyWish(Struct, frozen=True, kw_only=True):
    """What a new key shall be."""

    label: str = ""
    scopes: frozenset[Scope] = DEFAULT_SCOPES
    expires_at: float | None = None
    """Unix seconds; None: never."""
    test: bool = False
    """Whether it begins with `lk_test_`, which means nothing else."""


class IssuedKey(Struct, frozen=True):
    """A new key with its text, which nobody can ask for again."""

    key: Key
    text: str

    def __repr__(self) -> str:
        return f"IssuedKey({self.key.id})"


class _Rule(NamedTuple):
    type: Any
    allowed: str


_NAME = Annotated[str, Meta(min_length=1, max_length=100)]
_COUNT = Annotated[int, Meta(ge=0, le=2**53)]
_ABOVE_0 = Annotated[int, Meta(ge=1, le=2**53)]

_RULES: dict[str, _Rule] = {
    "name": _Rule(_NAME, "1 to 100 printable characters"),
    "status": _Rule(Status, '"active", "disabled" or "suspended"'),
    "max_requests_per_second": _Rule(
        Annotated[float, Meta(gt=0, le=1_000_000)], "a number above 0, up to 1000000"
    ),
    "burst": _Rule(Annotated[int, Meta(ge=1, le=1_000_000)], "a whole number from 1 to 1000000"),
    "max_concurrent_sessions": _Rule(
        Annotated[int, Meta(ge=0, le=1_000_000)], "a whole number from 0 to 1000000"
    ),
    "max_audio_seconds_per_day": _Rule(_COUNT, "a whole number from 0 on"),
    "max_audio_seconds_per_month": _Rule(_COUNT, "a whole number from 0 on"),
    "max_upload_bytes": _Rule(_ABOVE_0, "a whole number from 1 on"),
    "allowed_origins": _Rule(
        Annotated[tuple[str, ...], Meta(max_length=100)],
        'up to 100 origins like "https://app.example.com", without a path',
    ),
    "default_src_lang": _Rule(str, 'a language code like "zh", or "auto"'),
    "default_tgt_lang": _Rule(str, 'a language code like "en"'),
    "allowed_languages": _Rule(
        Annotated[tuple[str, ...], Meta(max_length=200)], 'up to 200 language codes like "zh"'
    ),
    "allowed_features": _Rule(tuple[str, ...], f"some of {', '.join(FeatureFlags.__struct_fields__)}"),
    "billing_mode": _Rule(BillingMode, '"none", "postpaid" or "prepaid"'),
    "pool_id": _Rule(_NAME, "the name of a capability pool, 1 to 100 printable characters"),
    "metadata": _Rule(dict[str, Any], f"an object of at most {MAX_METADATA_BYTES} bytes as JSON"),
}
CHANGEABLE = tuple(_RULES)
"""What may be said about a tenant, in the order of the documents."""

_BLANK = Tenant(id="", name="", created_at=0.0, updated_at=0.0)
_DEFAULTS: dict[str, Any] = {name: getattr(_BLANK, name) for name in _RULES if name != "name"}


def member_types() -> list[tuple[str, Any, str]]:
    """Name, type and what is allowed of each changeable member, None included where it means the default."""
    return [
        (name, rule.type if getattr(_BLANK, name) is not None else rule.type | None, rule.allowed)
        for name, rule in _RULES.items()
    ]


def tenant_members(given: Mapping[str, object]) -> dict[str, Any]:
    """Members of a tenant from plain data, checked; null stands for the default (a JSON merge patch).

    Raises FieldsError with every member that cannot be used.
    """
    members, problems = {}, []
    for name, value in given.items():
        if name not in _RULES:
            problems.append((name, f"is not known; there are {', '.join(_RULES)}"))
        elif value is None and name in _DEFAULTS:
            members[name] = _DEFAULTS[name]
        else:
            try:
                members[name] = _checked(name, value)
            except ValueError:
                problems.append((name, f"allowed is {_RULES[name].allowed}"))
    if problems:
        raise FieldsError(problems)
    return members


def checked_wish(wish: KeyWish, now: float) -> KeyWish:
    """The wish, if it can be granted. Raises FieldsError."""
    problems = []
    if len(wish.label) > MAX_LABEL_CHARS or not wish.label.isprintable():
        problems.append(("label", f"allowed is up to {MAX_LABEL_CHARS} printable characters"))
    if not wish.scopes:
        problems.append(("scopes", f"name at least one of {', '.join(Scope)}"))
    if wish.expires_at is not None and not now < wish.expires_at < 2**53:
        problems.append(("expires_at", "must lie in the future"))
    if problems:
        raise FieldsError(problems)
    return wish


def checked_grace(grace_s: float) -> float:
    """The seconds, if a rotated key may go on for so long. Raises FieldsError."""
    if not 0 <= grace_s <= MAX_GRACE_S:
        raise FieldsError([("grace_seconds", f"allowed is a number from 0 to {MAX_GRACE_S}")])
    return grace_s


def _checked(name: str, given: object) -> Any:
    """The value as the tenant holds it. Raises ValueError, as msgspec.ValidationError is."""
    value: Any = msgspec.convert(given, _RULES[name].type)
    match name:
        case "name" | "pool_id":
            _require(value.isprintable() and bool(value.strip()))
        case "default_src_lang" | "default_tgt_lang":
            code = normalize(value)
            _require(_LANGUAGE.fullmatch(code) is not None or (code == "auto" and name == "default_src_lang"))
            return code
        case "allowed_languages" | "allowed_origins" | "allowed_features":
            return tuple(dict.fromkeys(_item(name, item) for item in value))
        case "metadata":
            # lone surrogates raise UnicodeEncodeError, which is a ValueError
            _require(len(msgspec.json.encode(value)) <= MAX_METADATA_BYTES)
    return value


def _item(name: str, item: str) -> str:
    match name:
        case "allowed_languages":
            item = normalize(item)
            _require(_LANGUAGE.fullmatch(item) is not None)
        case "allowed_origins":
            item = item.lower()
            _require(len(item) <= 300 and _ORIGIN.fullmatch(item) is not None)
        case "allowed_features":
            _require(item in FeatureFlags.__struct_fields__)
    return item


def _require(fine: bool) -> None:
    if not fine:
        raise ValueError
