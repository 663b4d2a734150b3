"""The table of keys; no secret is in it, only what recognises one."""

from __future__ import annotations

import secrets
from base64 import b32encode
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    LargeBinary,
    Row,
    Table,
    Text,
    insert,
    select,
    update,
)

from linguad.core.api_key import ID_CHARS, ApiKey, Env
from linguad.core.tenant import Key, Scope
from linguad.store.schema import Json, Moment, metadata

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenants.id"), nullable=False, index=True),
    Column("lookup", Text, nullable=False, index=True),
    Column("verifier", LargeBinary, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("scopes", Json, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("revoked_at", Moment),
    Column("last_used_at", Moment),
    Column("revision", BigInteger, nullable=False, index=True),
)

_COLUMNS = tuple(name for name in Key.__struct_fields__ if name != "scopes")
_SCOPES = frozenset(Scope)


class KeyRow(Struct, frozen=True, kw_only=True):
    """A key as it is kept."""

    key: Key
    lookup: str
    verifier: bytes
    revision: int

    @property
    def id(self) -> str:
        """Id of the key."""
        return self.key.id


def fresh_id() -> str:
    """The id of a new key."""
    return b32encode(secrets.token_bytes(8)).decode().lower()[:ID_CHARS]


def fresh(env: Env) -> ApiKey:
    """A new key."""
    return ApiKey(env, fresh_id(), secrets.token_urlsafe(32))


def add(connection: Connection, row: KeyRow) -> None:
    """Keep a new key."""
    connection.execute(insert(api_keys).values(_values(row)))


def save(connection: Connection, row: KeyRow) -> None:
    """Keep a key that has changed."""
    connection.execute(update(api_keys).where(api_keys.c.id == row.id).values(_values(row)))


def find(connection: Connection, key_id: str) -> KeyRow | None:
    """A key by its id."""
    row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).first()
    return None if row is None else _row(row)


def of_tenant(connection: Connection, tenant_id: str) -> list[KeyRow]:
    """Every key of a tenant."""
    return [
        _row(row) for row in connection.execute(select(api_keys).where(api_keys.c.tenant_id == tenant_id))
    ]


def alike(connection: Connection, lookup: str) -> list[KeyRow]:
    """The keys with this index, hardly ever more than one."""
    return [_row(row) for row in connection.execute(select(api_keys).where(api_keys.c.lookup == lookup))]


def unrevoked(connection: Connection) -> list[KeyRow]:
    """Every key of all tenants that nobody has revoked; some may have expired."""
    return [_row(row) for row in connection.execute(select(api_keys).where(api_keys.c.revoked_at.is_(None)))]


def newer(connection: Connection, revision: int) -> list[KeyRow]:
    """All that has changed after a revision."""
    return [_row(row) for row in connection.execute(select(api_keys).where(api_keys.c.revision > revision))]


def _values(row: KeyRow) -> dict[str, Any]:
    return {name: getattr(row.key, name) for name in _COLUMNS} | {
        "scopes": sorted(row.key.scopes),
        "lookup": row.lookup,
        "verifier": row.verifier,
        "revision": row.revision,
    }


def _row(row: Row[Any]) -> KeyRow:
    members = {name: getattr(row, name) for name in _COLUMNS}
    # a newer version may know scopes that this one does not
    members["scopes"] = _SCOPES.intersection(row.scopes)
    return KeyRow(
        key=msgspec.convert(members, Key), lookup=row.lookup, verifier=row.verifier, revision=row.revision
    )
