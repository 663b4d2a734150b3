"""Requests that may be sent again: the same key and the same input give the same answer (gateway 11.8)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum

import msgspec
from msgspec import Struct

KEPT_S = 24 * 3600.0
"""How long an answer is kept."""

NOT_KEPT = frozenset({402, 408, 429})
"""Statuses after which, as after 5xx, the same request runs anew: who has paid or waited has its turn."""


class Asked(Struct, frozen=True, kw_only=True):
    """A request that has an idempotency key; the key counts for one tenant and one route."""

    tenant_id: str
    route: str
    """Method and path with names in place of values."""
    key: str
    """Hash of the key: what callers make up may hold secrets."""
    fingerprint: str
    """Hash of the input."""


class Answer(Struct, frozen=True, kw_only=True):
    """An answer as it is given again."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = {}
    """Those that belong to the body, such as `Location`."""


class Standing(StrEnum):
    """What is known of a request for which there is no answer."""

    NEW = "new"
    """Nothing; whoever asked first is to run it."""
    RUNNING = "running"
    """It was sent before and is not done."""
    OTHER_INPUT = "other_input"
    """Its key was used for something else."""


def may_be_key(text: str) -> bool:
    """Whether this can be an idempotency key: 1 to 255 visible ASCII characters."""
    return 1 <= len(text) <= 255 and all("!" <= char <= "~" for char in text)


def is_kept(status: int) -> bool:
    """Whether an answer with this status is given again."""
    return status < 500 and status not in NOT_KEPT


def hash_of_key(key: str) -> str:
    """What stands for an idempotency key in the store."""
    return hashlib.sha256(key.encode()).hexdigest()


def fingerprint(*parts: object) -> str:
    """SHA-256 of the input in its canonical form: bytes as they are, all else as JSON with sorted names."""
    digest = hashlib.sha256()
    for part in parts:
        kind, data = (b"b", part) if isinstance(part, bytes) else (b"j", _json(part))
        digest.update(kind + len(data).to_bytes(8))
        digest.update(data)
    return digest.hexdigest()


def _json(part: object) -> bytes:
    return msgspec.json.encode(part, order="deterministic")
