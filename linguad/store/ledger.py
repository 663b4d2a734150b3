"""The ledger: seconds that accounts owe or own, append-only (gateway 11.7, decision 8).

An account is a tenant by its id, or the owner of nodes as `node:OWNER`. Every line names the request it
fulfils; the same request a second time changes nothing. `balances` is the cache of the last line of each
account, and its row is locked by whoever appends.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Row,
    Select,
    Table,
    Text,
    UniqueConstraint,
    insert,
    select,
    update,
)

from linguad.core.accounts import SYSTEM, Actor, ConflictError, NotFoundError
from linguad.core.ledger import SETTLEMENT, TRANSFER, Line, NodeAccount
from linguad.store.database import locked
from linguad.store.schema import Count, Moment, Serial, metadata
from linguad.store.usage import add_up, in_pieces, metered_sessions, node_credits, that_part

ADMIN = "admin"
"""Origin of lines that somebody asked for."""

ledger = Table(
    "ledger",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("account", Text, nullable=False),
    Column("session_id", Text),
    Column("change_seconds", Count, nullable=False),
    Column("balance_before", Count, nullable=False),
    Column("balance_after", Count, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor_type", Text, nullable=False),
    Column("actor_id", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("origin", Text, nullable=False),
    UniqueConstraint("account", "origin", "request_id", name="uq_ledger_request"),
    Index("ix_ledger_account_id", "account", "id"),
)
"""`origin` keeps the names of requests of sessions, of admins and of transfers apart."""

balances = Table(
    "balances",
    metadata,
    Column("account", Text, primary_key=True),
    Column("balance_seconds", BigInteger, nullable=False),
)


def settle(connection: Connection, session_ids: Iterable[str], now: float) -> None:
    """Write what sessions cost, each once and rounded up to seconds; those that are settled stay so."""
    columns = metered_sessions.c
    for ids in in_pieces(session_ids):
        query = select(metered_sessions).where(columns.session_id.in_(ids), columns.settled_at.is_(None))
        found = connection.execute(locked(query.order_by(columns.session_id, columns.part))).all()
        if not found:
            continue
        connection.execute(
            that_part(update(metered_sessions)).values(settled_at=now),
            [{"the_session": row.session_id, "the_part": row.part} for row in found],
        )
        for row in found:
            seconds = -(-row.charged_ms // 1000)
            if row.billed and seconds:
                request_id = row.session_id if row.part == 1 else f"{row.session_id}/{row.part}"
                append(
                    connection,
                    row.tenant_id,
                    -seconds,
                    SETTLEMENT,
                    SYSTEM,
                    request_id,
                    now,
                    session_id=row.session_id,
                )


def append(
    connection: Connection,
    account: str,
    change_seconds: int,
    reason: str,
    actor: Actor,
    request_id: str,
    now: float,
    *,
    session_id: str | None = None,
) -> Line:
    """Write a line, or return that of the same request.

    Raises ConflictError if a request of that id asked for something else.
    """
    add_up(connection, balances, [{"account": account, "balance_seconds": 0}])
    before = connection.execute(
        locked(select(balances.c.balance_seconds).where(balances.c.account == account))
    ).scalar_one()
    origin = reason if reason in (SETTLEMENT, TRANSFER) else ADMIN
    known = _known(connection, account, origin, request_id)
    if known is not None:
        if (known.change_seconds, known.reason) != (change_seconds, reason):
            raise _used(known)
        return known
    values: dict[str, Any] = {
        "account": account,
        "session_id": session_id,
        "change_seconds": change_seconds,
        "balance_before": before,
        "balance_after": before + change_seconds,
        "reason": reason,
        "actor_type": actor.type,
        "actor_id": actor.id,
        "request_id": request_id,
        "created_at": now,
        "origin": origin,
    }
    (line_id,) = connection.execute(insert(ledger).values(values)).inserted_primary_key or (0,)
    connection.execute(
        update(balances).where(balances.c.account == account).values(balance_seconds=before + change_seconds)
    )
    values.pop("origin")
    return Line(ledger_id=line_id, **values)


def lines(
    connection: Connection, account: str, *, before_id: int | None = None, limit: int = 50
) -> list[Line]:
    """The lines of an account, the latest first; `before_id` is the id of the last one of the page before."""
    query = select(ledger).where(ledger.c.account == account).order_by(ledger.c.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(ledger.c.id < before_id)
    return [_line(row) for row in connection.execute(query)]


def all_balances(connection: Connection) -> dict[str, int]:
    """The balance of each account that has one, seconds."""
    found = connection.execute(select(balances.c.account, balances.c.balance_seconds))
    return {account: int(seconds) for account, seconds in found}


def node_account(connection: Connection, owner: str) -> NodeAccount:
    """What an owner of nodes has; NotFoundError if nothing was ever earned."""
    return _account(_credits(connection, select(node_credits), owner))


def node_accounts(connection: Connection, after: str = "", limit: int = 50) -> list[NodeAccount]:
    """Owners of nodes in order of their names, from the one after `after`."""
    query = select(node_credits).where(node_credits.c.owner_id > after.replace("\0", ""))
    return [_account(row) for row in connection.execute(query.order_by(node_credits.c.owner_id).limit(limit))]


def transfer(
    connection: Connection,
    owner: str,
    tenant_id: str,
    seconds: int,
    actor: Actor,
    request_id: str,
    now: float,
) -> tuple[NodeAccount, Line]:
    """Give seconds an owner of nodes earned to a tenant; the same request again changes nothing.

    Raises NotFoundError, and ConflictError if there is not so much or the request was another one.
    """
    row = _credits(connection, locked(select(node_credits)), owner)
    name, account = f"node:{owner}", _account(row)
    given_as = f"{name}/{request_id}"
    if (known := _known(connection, name, TRANSFER, request_id)) is not None:
        got = _known(connection, tenant_id, TRANSFER, given_as)
        if got is None or got.change_seconds != seconds:
            raise _used(known)
        return account, got
    if account.balance_seconds < seconds:
        raise ConflictError(f"{owner} has {account.balance_seconds} s, {seconds} s cannot be given away")
    connection.execute(
        update(node_credits)
        .where(node_credits.c.owner_id == owner)
        .values(transferred_seconds=node_credits.c.transferred_seconds + seconds)
    )
    append(connection, name, -seconds, TRANSFER, actor, request_id, now)
    got = append(connection, tenant_id, seconds, TRANSFER, actor, given_as, now)
    return node_account(connection, owner), got


def _credits(connection: Connection, query: Select[Any], owner: str) -> Row[Any]:
    """The row of an owner; no name that is kept has the character that PostgreSQL cannot take."""
    row = None
    if "\0" not in owner:
        row = connection.execute(query.where(node_credits.c.owner_id == owner)).first()
    if row is None:
        raise NotFoundError(f"no node of {owner!r} has earned anything")
    return row


def _known(connection: Connection, account: str, origin: str, request_id: str) -> Line | None:
    query = select(ledger).where(
        ledger.c.account == account, ledger.c.origin == origin, ledger.c.request_id == request_id
    )
    row = connection.execute(query).first()
    return None if row is None else _line(row)


def _used(line: Line) -> ConflictError:
    return ConflictError(
        f"request_id {line.request_id} was used for {line.reason} of {line.change_seconds} s; "
        "give a new one for a new change"
    )


def _account(row: Any) -> NodeAccount:
    return NodeAccount(
        owner=row.owner_id,
        credited_seconds=row.credited_ms // 1000,
        transferred_seconds=row.transferred_seconds,
    )


def _line(row: Any) -> Line:
    return Line(
        ledger_id=row.id,
        **{name: getattr(row, name) for name in Line.__struct_fields__ if name != "ledger_id"},
    )
