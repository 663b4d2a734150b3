"""The table of tenants: what is asked for often has a column, all other settings are one JSON text.

So a new setting of a tenant needs no new column (decision 7).
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import BigInteger, Column, Connection, Row, Table, Text, insert, select, update

from linguad.core.tenant import Tenant
from linguad.store.schema import Json, Moment, metadata

tenants = Table(
    "tenants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("deleted_at", Moment),
    Column("revision", BigInteger, nullable=False, index=True),
    Column("settings", Json, nullable=False),
)

_COLUMNS = ("id", "name", "status", "created_at", "updated_at")
_DEFAULTS = {
    field.name: field.default if field.default_factory is msgspec.NODEFAULT else {}
    for field in msgspec.structs.fields(Tenant)
}


class TenantRow(Struct, frozen=True, kw_only=True):
    """A tenant as it is kept."""

    tenant: Tenant
    revision: int
    deleted_at: float | None = None

    @property
    def id(self) -> str:
        """Id of the tenant."""
        return self.tenant.id


def add(connection: Connection, row: TenantRow) -> None:
    """Keep a new tenant."""
    connection.execute(insert(tenants).values(_values(row)))


def save(connection: Connection, row: TenantRow) -> None:
    """Keep a tenant that has changed."""
    connection.execute(update(tenants).where(tenants.c.id == row.id).values(_values(row)))


def find(connection: Connection, tenant_id: str) -> TenantRow | None:
    """A tenant that was not deleted."""
    query = select(tenants).where(tenants.c.id == tenant_id, tenants.c.deleted_at.is_(None))
    row = connection.execute(query).first()
    return None if row is None else _row(row)


def newer(connection: Connection, revision: int) -> list[TenantRow]:
    """All that has changed after a revision, deleted ones too."""
    return [_row(row) for row in connection.execute(select(tenants).where(tenants.c.revision > revision))]


def _values(row: TenantRow) -> dict[str, Any]:
    members: dict[str, Any] = msgspec.to_builtins(row.tenant)
    settings = {
        name: value
        for name, value in members.items()
        if name not in _COLUMNS and getattr(row.tenant, name) != _DEFAULTS[name]
    }
    columns = {name: members[name] for name in _COLUMNS}
    return columns | {"revision": row.revision, "deleted_at": row.deleted_at, "settings": settings}


def _row(row: Row[Any]) -> TenantRow:
    members = row.settings | {name: getattr(row, name) for name in _COLUMNS}
    return TenantRow(
        tenant=msgspec.convert(members, Tenant), revision=row.revision, deleted_at=row.deleted_at
    )
