"""Who changed what: one row per change, written in the same transaction (gateway 11.1)."""

from __future__ import annotations

from sqlalchemy import Column, Index, Table, Text

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
