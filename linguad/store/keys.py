"""The table of keys; no secret is in it, only what recognises one."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, LargeBinary, Table, Text

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
