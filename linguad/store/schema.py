"""What all tables share; each area declares its own tables on `metadata` in `store/<area>.py`.

A table is made by a step in `migrations/versions`, never by `metadata.create_all`; a test compares both.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, Double, Integer, MetaData, Table, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""Every table of the store."""

meta = Table(
    "meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Facts about the store itself: `revision` of tenants and keys, `pepper_check`."""

Moment = Double
"""A time, Unix seconds."""

Count = BigInteger
"""Whole numbers that may grow: milliseconds, bytes."""

Serial = BigInteger().with_variant(Integer, "sqlite")
"""A primary key that the database counts up; SQLite does so only for plain integers."""


class Json(TypeDecorator[Any]):
    """Plain data as JSON text, the same on every database; None is NULL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """The text that is stored."""
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """What was given."""
        return None if value is None else msgspec.json.decode(value)
