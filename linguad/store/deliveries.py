"""The table of deliveries to webhooks, and what one transaction does with it (gateway 11.5).

Whoever wants to try a delivery claims it: for a while it is due later, so that nobody else tries it, and if
the process dies meanwhile it is due again at the end of that while. Deliveries that have ended stay for some
days, for their owner to look at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    Row,
    Table,
    Text,
    delete,
    func,
    select,
    update,
)

from linguad.core.webhooks import Delivery, DeliveryState
from linguad.store.database import upsert
from linguad.store.schema import Moment, Serial, metadata

deliveries = Table(
    "deliveries",
    metadata,
    Column("number", Serial, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("webhook_id", Text, nullable=False),
    Column("tenant_id", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("due_at", Moment, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("last_status", Integer),
    Column("last_error", Text, nullable=False),
    Column("finished_at", Moment),
    Index("ix_deliveries_state_due_at", "state", "due_at"),
    Index("ix_deliveries_webhook_id_number", "webhook_id", "number"),
    Index("ix_deliveries_finished_at", "finished_at"),
)

_WAITS = deliveries.c.state == DeliveryState.WAITING.value


def add(connection: Connection, new: Sequence[Delivery]) -> None:
    """Keep new deliveries; those that are kept already stay as they are.

    A transaction may be done although its end was never heard of; then it is tried again.
    """
    statement = upsert(connection.dialect.name, deliveries).on_conflict_do_nothing(index_elements=["id"])
    connection.execute(statement, [msgspec.to_builtins(one, builtin_types=(bytes,)) for one in new])


def save(connection: Connection, delivery: Delivery) -> None:
    """Keep a delivery after a try, unless it has ended meanwhile."""
    connection.execute(
        update(deliveries)
        .where(deliveries.c.id == delivery.id, _WAITS)
        .values(
            due_at=delivery.due_at,
            state=delivery.state.value,
            attempts=delivery.attempts,
            last_status=delivery.last_status,
            last_error=delivery.last_error,
            finished_at=delivery.finished_at,
        )
    )


def claim(
    connection: Connection,
    now: float,
    until: float,
    *,
    most: int,
    per_webhook: int,
    running: Mapping[str, int],
) -> list[Delivery]:
    """At most so many deliveries that are due, the longest due first; to everybody else they are due `until`.

    `running` counts the tries of each webhook that go on; no webhook comes to more than `per_webhook`.
    """
    full = [webhook_id for webhook_id, count in running.items() if count >= per_webhook]
    query = (
        select(deliveries)
        .where(_WAITS, deliveries.c.due_at <= now, deliveries.c.webhook_id.not_in(full))
        .order_by(deliveries.c.due_at, deliveries.c.number)
        .limit(most)
        # what another instance is claiming at this moment is its own
        .with_for_update(skip_locked=True)
    )
    counts = Counter(running)
    claimed = []
    for row in connection.execute(query):
        if counts[row.webhook_id] < per_webhook:
            counts[row.webhook_id] += 1
            claimed.append(_delivery(row))
    if claimed:
        ids = [delivery.id for delivery in claimed]
        connection.execute(update(deliveries).where(deliveries.c.id.in_(ids)).values(due_at=until))
    return claimed


def next_due(connection: Connection, full: Sequence[str]) -> float | None:
    """When the next delivery is due, of other webhooks than these; None if none waits."""
    query = select(func.min(deliveries.c.due_at)).where(_WAITS, deliveries.c.webhook_id.not_in(full))
    return connection.execute(query).scalar()


def waiting(connection: Connection) -> int:
    """How many deliveries wait for a try."""
    return connection.execute(select(func.count()).select_from(deliveries).where(_WAITS)).scalar_one()


def fail_waiting(connection: Connection, webhook_id: str, reason: str, now: float) -> None:
    """End every waiting delivery of a webhook."""
    connection.execute(
        update(deliveries)
        .where(deliveries.c.webhook_id == webhook_id, _WAITS)
        .values(state=DeliveryState.FAILED.value, last_error=reason, finished_at=now)
    )


def forget(connection: Connection, webhook_id: str) -> None:
    """Remove every delivery of a webhook."""
    connection.execute(delete(deliveries).where(deliveries.c.webhook_id == webhook_id))


def sweep(connection: Connection, before: float) -> int:
    """Remove deliveries that ended before a moment; returns how many."""
    return connection.execute(delete(deliveries).where(deliveries.c.finished_at < before)).rowcount


def find(connection: Connection, webhook_id: str, delivery_id: str) -> Delivery | None:
    """A delivery of a webhook."""
    query = select(deliveries).where(deliveries.c.id == delivery_id, deliveries.c.webhook_id == webhook_id)
    row = connection.execute(query).first()
    return None if row is None else _delivery(row)


def page(
    connection: Connection, webhook_id: str, limit: int, before: int | None
) -> list[tuple[int, Delivery]]:
    """Deliveries of a webhook with their numbers, the latest first, from below number `before` on."""
    query = select(deliveries).where(deliveries.c.webhook_id == webhook_id)
    if before is not None:
        query = query.where(deliveries.c.number < before)
    rows = connection.execute(query.order_by(deliveries.c.number.desc()).limit(limit))
    return [(row.number, _delivery(row)) for row in rows]


def _delivery(row: Row[Any]) -> Delivery:
    members = {name: getattr(row, name) for name in Delivery.__struct_fields__}
    return msgspec.convert(members, Delivery, builtin_types=(bytes,))
