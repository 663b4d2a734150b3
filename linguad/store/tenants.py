"""The table of tenants: what is asked for often has a column, all other settings are one JSON text.

So a new setting of a tenant needs no new column (decision 7).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Table, Text

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
