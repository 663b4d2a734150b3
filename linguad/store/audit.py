"""Who changed what: one row per change, written in the same transaction (gateway 11.1)."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Column, Connection, Index, Table, Text, insert, select

from linguad.core.accounts import Actor, AuditRecord
from linguad.store.schema import Json, Moment, Serial, metadata

audit = Table(
    "audit",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("created_at", Moment, nullable=False),
    Column("actor_type", Text, nullable=False),
    Column("actor_id", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("tenant_id", Text),
    Column("request_id", Text),
    Column("payload", Json, nullable=False),
    Index("ix_audit_tenant_id_id", "tenant_id", "id"),
)


def note(
    connection: Connection,
    actor: Actor,
    action: str,
    target: str,
    now: float,
    *,
    tenant_id: str | None = None,
    payload: Mapping[str, object] | None = None,
) -> None:
    """Write what is being done; `payload` is plain data without any key."""
    connection.execute(
        insert(audit).values(
            created_at=now,
            actor_type=actor.type,
            actor_id=actor.id,
            action=action,
            target=target,
            tenant_id=tenant_id,
            request_id=actor.request_id,
            payload=dict(payload or {}),
        )
    )


def trail(
    connection: Connection,
    *,
    tenant_id: str | None = None,
    since: float | None = None,
    before_id: int | None = None,
    prefix: str = "",
    limit: int = 50,
) -> list[AuditRecord]:
    """The latest records first; `since` in Unix seconds, `before_id` is the id of the page before's last.

    Only actions that begin with `prefix`.
    """
    if tenant_id is not None and not tenant_id.isprintable():
        return []
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if tenant_id is not None:
        query = query.where(audit.c.tenant_id == tenant_id)
    if since is not None:
        query = query.where(audit.c.created_at >= since)
    if prefix:
        query = query.where(audit.c.action.startswith(prefix, autoescape=True))
    if before_id is not None:
        query = query.where(audit.c.id < before_id)
    return [
        AuditRecord(**({"audit_id": row["id"]} | {name: row[name] for name in row if name != "id"}))
        for row in connection.execute(query).mappings()
    ]
