"""Tables of usage: rows of attempts, the sessions they add up to, and counters by hour.

The rows and the sessions are the records; the counters are a cache that `rebuild` makes anew from them. All
of a batch of rows goes into one transaction, so that a crash loses the same from rows, sums and counters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    Table,
    Text,
    Update,
    bindparam,
    cast,
    delete,
    func,
    insert,
    select,
    update,
)

from linguad.core.ledger import Counts, Step
from linguad.core.metering import Usage
from linguad.store.database import locked, upsert
from linguad.store.schema import Count, Moment, meta, metadata

MAX_IDS = 500
"""Ids in one statement; SQLite takes some thousand parameters."""

HOUR_S = 3600
DAY_HOURS = 24

usage = Table(
    "usage",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("session_id", Text, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("node_id", Text, nullable=False),
    Column("owner_id", Text, nullable=False),
    Column("utterance", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("utterances", Integer, nullable=False),
    *(
        Column(name, Count, nullable=False)
        for name in ("audio_ms", "charged_ms", "credited_ms", "asr_ms", "nmt_ms", "tts_ms", "total_ms")
    ),
    *(Column(name, Count, nullable=False) for name in ("chars_asr", "chars_translated", "audio_ms_out")),
    Column("finished_at", Moment, nullable=False),
    Index("ix_usage_tenant_id_finished_at", "tenant_id", "finished_at"),
    Index("ix_usage_session_id", "session_id"),
)
"""One immutable row per attempt that ended."""

metered_sessions = Table(
    "metered_sessions",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("instance", Text, nullable=False),
    Column("billed", Boolean, nullable=False),
    Column("charged_ms", Count, nullable=False),
    Column("began_at", Moment, nullable=False),
    Column("changed_at", Moment, nullable=False),
    Column("settled_at", Moment),
    Index("ix_metered_sessions_tenant_id_began_at", "tenant_id", "began_at"),
    Index("ix_metered_sessions_settled_at", "settled_at"),
)
"""The running hold of every session with speech; `settled_at` is NULL until its ledger line is written.

A session that goes on after it was settled, because it seemed abandoned, gets another part.
"""

requests = Table(
    "usage_requests",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("key_id", Text, primary_key=True),
    Column("hour", BigInteger, primary_key=True),
    Column("requests", Count, nullable=False),
    Column("errors", Count, nullable=False),
)
"""Requests to the public API, by hours since 1970: there is no other record of them."""

SUMS = (
    "utterances",
    "charged_ms",
    "audio_ms_out",
    "chars_asr",
    "chars_translated",
    "asr_ms",
    "nmt_ms",
    "tts_ms",
    "total_ms",
)
"""What is added up by hour."""

hours = Table(
    "usage_hours",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("key_id", Text, primary_key=True),
    Column("hour", BigInteger, primary_key=True),
    Column("sessions", Count, nullable=False),
    *(Column(name, Count, nullable=False) for name in SUMS),
)
"""The cache: sums of `usage`, and sessions that began, by hours since 1970."""

node_credits = Table(
    "node_credits",
    metadata,
    Column("owner_id", Text, primary_key=True),
    Column("credited_ms", Count, nullable=False),
    Column("transferred_seconds", Count, nullable=False),
)
"""The cache of what owners of nodes earned, and what of it was given to tenants."""

Slot = tuple[str, str, int]
"""Tenant, key, hour."""


def add_up(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Add each row's numbers to the row with the same primary key, or make it."""
    if not rows:
        return
    keys = [column.name for column in table.primary_key]
    # always in the same order, or two processes could wait for each other
    rows = sorted(rows, key=lambda row: [row[key] for key in keys])
    connection.execute(_adding(table, connection.dialect.name), rows)


@cache
def _adding(table: Table, dialect: str) -> Any:
    """The statement of `add_up`, which takes longer to make than to execute."""
    statement = upsert(dialect, table)
    keys = [column.name for column in table.primary_key]
    sums = {
        column.name: table.c[column.name] + statement.excluded[column.name]
        for column in table.columns
        if column.name not in keys
    }
    return statement.on_conflict_do_update(index_elements=keys, set_=sums)


def is_new_batch(connection: Connection, instance: str, name: str) -> bool:
    """Whether the last batch of an instance was another one; from now on it is this."""
    place = f"usage_batch:{instance}"
    last = connection.execute(select(meta.c.value).where(meta.c.name == place)).scalar()
    statement = upsert(connection.dialect.name, meta).values(name=place, value=name)
    set_ = {"value": statement.excluded.value}
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=set_))
    return last != name


def write(connection: Connection, rows: Sequence[Usage], billed: frozenset[str], instance: str) -> None:
    """Write rows of attempts with all that is summed of them; `billed` are the tenants that pay."""
    if not rows:
        return
    connection.execute(insert(usage), [_values(row) for row in rows])
    sums: dict[Slot, dict[str, int]] = {}
    credits: dict[str, int] = {}
    for row in rows:
        slot = row.tenant, row.key, int(row.finished_at // HOUR_S)
        total = sums.setdefault(slot, dict.fromkeys(("sessions", *SUMS), 0))
        for name in SUMS:
            total[name] += getattr(row, name)
        if row.credited_ms:
            owner = _kept(row.owner)
            credits[owner] = credits.get(owner, 0) + row.credited_ms
    for slot in _hold(connection, rows, billed, instance):
        sums.setdefault(slot, dict.fromkeys(("sessions", *SUMS), 0))["sessions"] += 1
    add_up(connection, hours, [_slotted(slot, total) for slot, total in sums.items()])
    earned = [
        {"owner_id": owner, "credited_ms": ms, "transferred_seconds": 0} for owner, ms in credits.items()
    ]
    add_up(connection, node_credits, earned)


def _hold(connection: Connection, rows: Iterable[Usage], billed: frozenset[str], instance: str) -> list[Slot]:
    """Add rows to the holds of their sessions; returns the slots of sessions that are new."""
    sessions: dict[str, list[Usage]] = {}
    for row in rows:
        sessions.setdefault(row.session, []).append(row)
    before = _parts(connection, sessions)
    begun: list[Slot] = []
    grown: list[dict[str, Any]] = []
    new: list[dict[str, Any]] = []
    for session_id, parts in sorted(sessions.items()):
        first, (last, is_open) = parts[0], before.get(session_id, (0, False))
        sums = {
            "charged_ms": sum(row.charged_ms for row in parts),
            "changed_at": max(row.finished_at for row in parts),
        }
        if is_open:
            grown.append({"the_session": session_id, "the_part": last, **sums})
            continue
        new.append(
            {
                "session_id": session_id,
                "part": last + 1,
                "tenant_id": first.tenant,
                "key_id": first.key,
                "instance": instance,
                "billed": first.tenant in billed,
                "began_at": first.finished_at,
                **sums,
            }
        )
        if not last:
            begun.append((first.tenant, first.key, int(first.finished_at // HOUR_S)))
    if grown:
        statement = that_part(update(metered_sessions)).values(
            charged_ms=metered_sessions.c.charged_ms + bindparam("charged_ms"),
            changed_at=bindparam("changed_at"),
            instance=instance,
        )
        connection.execute(statement, grown)
    if new:
        connection.execute(insert(metered_sessions), new)
    return begun


def that_part(change: Update) -> Update:
    """Only of the part `the_part` of the session `the_session`, which are parameters."""
    columns = metered_sessions.c
    return change.where(columns.session_id == bindparam("the_session"), columns.part == bindparam("the_part"))


def in_pieces(session_ids: Iterable[str]) -> Iterator[list[str]]:
    """Ids of sessions in order, so many at a time as one statement takes."""
    ordered = sorted(session_ids)
    return (ordered[start : start + MAX_IDS] for start in range(0, len(ordered), MAX_IDS))


def _parts(connection: Connection, session_ids: Iterable[str]) -> dict[str, tuple[int, bool]]:
    """The last part of each session that is known, and whether it is open; nobody changes them meanwhile."""
    columns = metered_sessions.c
    found: dict[str, tuple[int, bool]] = {}
    for ids in in_pieces(session_ids):
        query = (
            select(columns.session_id, columns.part, columns.settled_at.is_(None))
            .where(columns.session_id.in_(ids))
            .order_by(columns.session_id, columns.part)
        )
        for session_id, part, is_open in connection.execute(locked(query)):
            found[session_id] = part, bool(is_open)
    return found


def count_requests(connection: Connection, counts: dict[Slot, tuple[int, int]]) -> None:
    """Add requests and errors of tenants and keys in hours."""
    rows = [_slotted(slot, {"requests": all_, "errors": bad}) for slot, (all_, bad) in counts.items()]
    add_up(connection, requests, rows)


def open_sessions(connection: Connection, idle_since: float, instance: str | None = None) -> list[str]:
    """Sessions without settlement that had no speech for long: their instance died, or forgot them.

    With `instance` those of that one too, however short ago: it has just started, and knows none of them.
    """
    abandoned = metered_sessions.c.changed_at < idle_since
    if instance is not None:
        abandoned |= metered_sessions.c.instance == instance
    query = select(metered_sessions.c.session_id).where(metered_sessions.c.settled_at.is_(None), abandoned)
    return list(connection.execute(query.order_by(metered_sessions.c.session_id)).scalars())


def days(connection: Connection, since: float) -> list[tuple[str, int, int]]:
    """Charged ms of each tenant by days since 1970, from that day on."""
    day = hours.c.hour // DAY_HOURS
    query = (
        select(hours.c.tenant_id, day, func.sum(hours.c.charged_ms))
        .where(hours.c.hour >= int(since // HOUR_S))
        .group_by(hours.c.tenant_id, day)
    )
    return [(tenant, int(number), int(ms)) for tenant, number, ms in connection.execute(query)]


def billed_seconds(connection: Connection, tenant_id: str, begin: float, end: float) -> int:
    """Seconds of a tenant's sessions that began in [begin, end), Unix s, each rounded up once."""
    query = select(func.coalesce(func.sum((metered_sessions.c.charged_ms + 999) // 1000), 0)).where(
        metered_sessions.c.tenant_id == tenant_id,
        metered_sessions.c.began_at >= begin,
        metered_sessions.c.began_at < end,
    )
    return int(connection.execute(query).scalar_one())


def report(connection: Connection, tenant_id: str, begin: int, end: int, width: int) -> list[Step]:
    """Counters of a tenant's keys in the hours [begin, end), added up in steps of `width` hours since 1970.

    Each with its key and the first hour of its step, in order of time.
    """
    found: dict[tuple[int, str], Counts] = {}
    for table in (hours, requests):
        step = table.c.hour // width
        names = [column.name for column in table.columns if not column.primary_key]
        query = (
            select(step, table.c.key_id, *(func.sum(table.c[name]) for name in names))
            .where(table.c.tenant_id == tenant_id, table.c.hour >= begin, table.c.hour < end)
            .group_by(step, table.c.key_id)
        )
        for number, key_id, *sums in connection.execute(query):
            counts = found.setdefault((int(number) * width, key_id), {})
            counts.update(zip(names, map(int, sums), strict=True))
    return [(key_id, hour, counts) for (hour, key_id), counts in sorted(found.items())]


def rebuild(connection: Connection) -> None:
    """Make the counters anew from the records; what they say does not change unless they were wrong."""
    connection.execute(delete(hours))
    hour = cast(func.floor(usage.c.finished_at / HOUR_S), BigInteger)
    sums = connection.execute(
        select(usage.c.tenant_id, usage.c.key_id, hour, *(func.sum(usage.c[name]) for name in SUMS)).group_by(
            usage.c.tenant_id, usage.c.key_id, hour
        )
    )
    add_up(
        connection,
        hours,
        [
            _slotted((tenant, key, number), {"sessions": 0, **dict(zip(SUMS, map(int, values), strict=True))})
            for tenant, key, number, *values in sums
        ],
    )
    began = cast(func.floor(metered_sessions.c.began_at / HOUR_S), BigInteger)
    sessions = connection.execute(
        select(metered_sessions.c.tenant_id, metered_sessions.c.key_id, began, func.count())
        .where(metered_sessions.c.part == 1)
        .group_by(metered_sessions.c.tenant_id, metered_sessions.c.key_id, began)
    )
    add_up(
        connection,
        hours,
        [
            _slotted((tenant, key, number), {**dict.fromkeys(SUMS, 0), "sessions": count})
            for tenant, key, number, count in sessions
        ],
    )
    connection.execute(update(node_credits).values(credited_ms=0))
    earned = connection.execute(
        select(usage.c.owner_id, func.sum(usage.c.credited_ms))
        .where(usage.c.credited_ms > 0)
        .group_by(usage.c.owner_id)
    )
    add_up(
        connection,
        node_credits,
        [{"owner_id": owner, "credited_ms": int(ms), "transferred_seconds": 0} for owner, ms in earned],
    )


def _slotted(slot: Slot, numbers: dict[str, int]) -> dict[str, Any]:
    tenant_id, key_id, hour = slot
    return {"tenant_id": tenant_id, "key_id": key_id, "hour": hour, **numbers}


_RENAMED = {"tenant": "tenant_id", "key": "key_id", "session": "session_id", "job": "job_id"} | {
    "node": "node_id",
    "owner": "owner_id",
}


def _values(row: Usage) -> dict[str, Any]:
    """A row as its columns."""
    members = ((name, getattr(row, name)) for name in row.__struct_fields__)
    return {
        _RENAMED.get(name, name): _kept(value) if isinstance(value, str) else value for name, value in members
    }


def _kept(text: str) -> str:
    """A name that a node may have made up, without what PostgreSQL cannot keep."""
    return text.replace("\0", "")
