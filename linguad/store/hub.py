"""How often models and packages were used, and what was decided about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    update,
)

from linguad.core.accounts import Actor, AuditRecord
from linguad.core.hub_usage import HOUR_S, KEPT_S, Kind, UsageEvent, UsageHour, ranked
from linguad.store.audit import note, trail
from linguad.store.database import Database
from linguad.store.schema import Count, Moment, metadata

hub_events = Table(
    "hub_events",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("at", Moment, nullable=False, index=True),
    Column("type", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("node_id", Text, nullable=False),
    Column("platform", Text, nullable=False),
    Column("count", Count, nullable=False),
)

hub_hours = Table(
    "hub_hours",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("count", Count, nullable=False),
    Index("ix_hub_hours_hour", "hour"),
)

PREFIX = "hub."
"""Actions of the hub in the audit trail begin so."""


class HubRecords:
    """Statistics and audit trail of the hub, in the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self, events: Sequence[UsageEvent]) -> int:
        """Count events, each id once; how many of them were new. Raises StoreError."""
        return await self._database.write(lambda connection: _count(connection, events))

    async def ranking(self, kind: Kind, metric: str, since: float) -> list[tuple[str, int]]:
        """Ids with how often they were used from `since` (Unix s) on, most first. Raises StoreError."""
        query = (
            select(hub_hours.c.name, func.sum(hub_hours.c.count))
            .where(hub_hours.c.kind == kind, hub_hours.c.type == metric, hub_hours.c.hour >= _hour(since))
            .group_by(hub_hours.c.name)
        )
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return ranked([(name, int(total)) for name, total in rows])

    async def series(self, kind: Kind, name: str, since: float, until: float) -> list[UsageHour]:
        """Use of one model or service hour by hour, between two times (Unix s). Raises StoreError."""
        query = (
            select(hub_hours.c.hour, hub_hours.c.type, hub_hours.c.count)
            .where(hub_hours.c.kind == kind, hub_hours.c.name == name)
            .where(hub_hours.c.hour >= _hour(since), hub_hours.c.hour < until)
            .order_by(hub_hours.c.hour, hub_hours.c.type)
        )
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [UsageHour(hour, metric, count) for hour, metric, count in rows]

    async def forget(self, now: float) -> None:
        """Drop single events that are too old to be needed. Raises StoreError."""
        old = delete(hub_events).where(hub_events.c.at < now - KEPT_S)
        await self._database.write(lambda connection: connection.execute(old))

    async def note(
        self, actor: Actor, action: str, target: str, payload: Mapping[str, object], now: float
    ) -> None:
        """Keep who decided what about a model or service (Unix s). Raises StoreError."""
        await self._database.write(
            lambda connection: note(connection, actor, PREFIX + action, target, now, payload=payload)
        )

    async def trail(self, since: float | None, limit: int) -> list[AuditRecord]:
        """What was decided, the latest first. Raises StoreError."""
        return await self._database.read(
            lambda connection: trail(connection, since=since, prefix=PREFIX, limit=limit)
        )


def _count(connection: Connection, events: Sequence[UsageEvent]) -> int:
    by_id = {event.event_id: event for event in events}
    known = select(hub_events.c.event_id).where(hub_events.c.event_id.in_(by_id))
    for (event_id,) in connection.execute(known):
        del by_id[event_id]
    totals: dict[tuple[str, str, str, int], int] = {}
    for event in by_id.values():
        key = (event.kind, event.name, event.type, _hour(event.at))
        totals[key] = totals.get(key, 0) + event.count
    if by_id:
        rows = [
            {
                "event_id": event.event_id,
                "at": event.at,
                "type": event.type,
                "kind": event.kind,
                "name": event.name,
                "version": event.version,
                "node_id": event.node_id,
                "platform": event.platform,
                "count": event.count,
            }
            for event in by_id.values()
        ]
        connection.execute(insert(hub_events), rows)
    for (kind, name, metric, hour), count in totals.items():
        table = hub_hours.c
        same = (table.kind == kind, table.name == name, table.type == metric, table.hour == hour)
        changed = connection.execute(update(hub_hours).where(*same).values(count=table.count + count))
        if not changed.rowcount:
            row = {"kind": kind, "name": name, "type": metric, "hour": hour, "count": count}
            connection.execute(insert(hub_hours).values(row))
    return len(by_id)


def _hour(at: float) -> int:
    return int(at // HOUR_S * HOUR_S)
