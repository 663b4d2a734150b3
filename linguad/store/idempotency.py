"""The table of requests that may be sent again, and their answers (gateway 11.8)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Integer,
    LargeBinary,
    Table,
    Text,
    and_,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from linguad.core.idempotency import Answer, Asked, Standing
from linguad.store.database import Database, locked
from linguad.store.schema import Json, Moment, metadata

FAST = 1
"""Level of compression: speech in base64 shrinks by a third, at a hundred MB/s."""

idempotency = Table(
    "idempotency",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("route", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("attempt", Text, nullable=False),
    Column("running_until", Moment, nullable=False),
    Column("kept_until", Moment, nullable=False, index=True),
    # NULL while it runs
    Column("status", Integer),
    Column("content_type", Text),
    Column("headers", Json),
    Column("body", LargeBinary),
)


class IdempotencyRecords:
    """The `Records` of the gateway in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(
        self, asked: Asked, attempt: str, now: float, running_until: float, kept_until: float
    ) -> Answer | Standing:
        """What is known of a request; if it is NEW it is noted as running, by this attempt."""
        first = {
            "fingerprint": asked.fingerprint,
            "attempt": attempt,
            "running_until": running_until,
            "kept_until": kept_until,
            **dict.fromkeys(("status", "content_type", "headers", "body")),
        }

        def work(connection: Connection) -> Answer | Standing:
            return _begin(connection, asked, now, first)

        try:
            return await self._database.write(work)
        except IntegrityError:
            # Another process, on PostgreSQL, was first; its row is there now.
            return await self._database.write(work)

    async def keep(self, asked: Asked, attempt: str, answer: Answer, kept_until: float) -> None:
        """The attempt is done; nothing happens if another one has taken over."""

        def work(connection: Connection) -> None:
            connection.execute(
                update(idempotency)
                .where(_is(asked), idempotency.c.attempt == attempt)
                .values(
                    kept_until=kept_until,
                    status=answer.status,
                    content_type=answer.content_type,
                    headers=dict(answer.headers),
                    body=zlib.compress(answer.body, FAST),
                )
            )

        await self._database.write(work)

    async def drop(self, asked: Asked, attempt: str) -> None:
        """The attempt came to nothing that is kept; the next one is NEW."""

        def work(connection: Connection) -> None:
            connection.execute(delete(idempotency).where(_is(asked), idempotency.c.attempt == attempt))

        await self._database.write(work)

    async def forget(self, now: float) -> None:
        """Delete what is no longer kept."""

        def work(connection: Connection) -> None:
            connection.execute(delete(idempotency).where(idempotency.c.kept_until <= now))

        await self._database.write(work)


def _begin(
    connection: Connection, asked: Asked, now: float, first: Mapping[str, object]
) -> Answer | Standing:
    row = connection.execute(locked(select(idempotency).where(_is(asked)))).first()
    if row is None:
        own = {"tenant_id": asked.tenant_id, "route": asked.route, "key": asked.key}
        connection.execute(insert(idempotency).values(**own, **first))
        return Standing.NEW
    is_lost = row.status is None and row.running_until <= now
    if is_lost or row.kept_until <= now:
        connection.execute(update(idempotency).where(_is(asked)).values(**first))
        return Standing.NEW
    if row.fingerprint != asked.fingerprint:
        return Standing.OTHER_INPUT
    if row.status is None:
        return Standing.RUNNING
    return Answer(
        status=row.status,
        content_type=row.content_type,
        body=zlib.decompress(row.body),
        headers=row.headers,
    )


def _is(asked: Asked) -> ColumnElement[bool]:
    columns = idempotency.c
    return and_(columns.tenant_id == asked.tenant_id, columns.route == asked.route, columns.key == asked.key)
