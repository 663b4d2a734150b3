"""Keeps the books: what was used reaches the store within a fraction of a second, whatever the store does.

Rules:
- Nobody waits for the books. Rows gather for FLUSH_SECONDS and are written in one transaction with the holds
  of their sessions, the counters and the settlements that came due, so that a crash loses the same of all.
- While the store is away everything goes on and is counted in memory; the same batch is tried again. Beyond
  MAX_WAITING rows the newest are lost, which is logged and counted: nobody is charged nor credited for them.
- A batch has a name that is written with it. One whose commit failed on the way back is not written twice.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import trio
from msgspec import Struct, field
from sqlalchemy import Connection, select

from linguad import log, metrics
from linguad.core.accounts import Actor
from linguad.core.ledger import Line, NodeAccount, Step
from linguad.core.metering import Usage
from linguad.errors import StoreError
from linguad.store import audit, ledger, usage
from linguad.store.database import Database
from linguad.store.totals import OpenSession, Totals, month_start
from linguad.store.usage import HOUR_S, Slot, metered_sessions

FLUSH_SECONDS = 0.2
"""So much is lost by kill -9, from tenants and owners of nodes alike (resolution 42)."""

RETRY_SECONDS = 1.0
"""After a failure; a database server that was started anew is back in about this time."""

REFRESH_SECONDS = 30.0
"""How often it is looked what other instances wrote, and for abandoned sessions."""

ABANDONED_SECONDS = 5 * 3600
"""Without speech for so long a session is settled: longer than any stream may last (4 h) with its grace."""

CLOSE_SECONDS = 5.0
"""How long the last usage may wait for its turn when the daemon ends."""

MAX_BATCH = 2000
"""Rows of one transaction; it takes well under a second."""

MAX_WAITING = 50_000
"""Rows that wait for the store, about 40 MiB: a quarter of an hour of 50 utterances a second."""

logger = log.get(__name__)


class _Batch(Struct):
    rows: list[Usage] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    requests: dict[Slot, tuple[int, int]] = field(default_factory=dict)
    name: str = field(default_factory=lambda: uuid.uuid4().hex)


class Bookkeeper:
    """Usage, settlements and balances; `open` before anything else, `run` beside it, `close` at the end."""

    def __init__(
        self,
        database: Database,
        is_billed: Callable[[str], bool],
        *,
        instance: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`is_billed` tells whether a tenant has a ledger; `instance` is the name of this process's place."""
        self._database = database
        self._is_billed = is_billed
        self._instance = instance
        self._clock = clock
        self._next = _Batch()
        self._writing: _Batch | None = None
        self._away = self._full = False
        self._lock = trio.Lock()
        self._came = trio.Event()
        self._totals = Totals()
        self._told: Callable[[str], object] = _nothing
        metrics.USAGE_WAITING.set_function(lambda: self.waiting)

    # What came

    def record(self, row: Usage) -> None:
        """An attempt ended."""
        self._totals.add(row, billed=self._is_billed(row.tenant))
        metrics.CHARGED_SECONDS.inc(row.charged_ms / 1000)
        if self.waiting >= MAX_WAITING:
            metrics.child(metrics.USAGE_ROWS, "lost").inc()
            if not self._full:
                self._full = True
                logger.error("usage_dropped", waiting=self.waiting)
        else:
            self._next.rows.append(row)
            self._came.set()
        if row.charged_ms:
            self._told(row.tenant)

    def session_ended(self, session_id: str) -> None:
        """A session is over; nothing more will be recorded of it."""
        if self.waiting < MAX_WAITING:
            self._next.ended.append(session_id)
            self._came.set()

    def request(self, tenant_id: str, key_id: str, *, failed: bool = False) -> None:
        """A request to the public API was answered."""
        slot = tenant_id, key_id, int(self._clock() // HOUR_S)
        all_, bad = self._next.requests.get(slot, (0, 0))
        self._next.requests[slot] = all_ + 1, bad + failed
        self._came.set()

    def when_charged(self, tell: Callable[[str], object]) -> None:
        """Say what is to be called with the id of each tenant that is charged, at once."""
        self._told = tell

    @property
    def waiting(self) -> int:
        """Rows and settlements that are not written yet."""
        batches = [self._next] if self._writing is None else [self._next, self._writing]
        return sum(len(batch.rows) + len(batch.ended) for batch in batches)

    # What is known

    def session_ms(self, session_id: str) -> int:
        """What a session was charged so far; 0 when it is settled."""
        return self._totals.session_ms(session_id)

    def today_ms(self, tenant_id: str) -> int:
        """What a tenant was charged since 00:00 UTC."""
        return self._totals.today_ms(tenant_id, self._clock())

    def month_ms(self, tenant_id: str) -> int:
        """What a tenant was charged since the first of the month, UTC."""
        return self._totals.month_ms(tenant_id, self._clock())

    def balance_seconds(self, tenant_id: str) -> int:
        """What a tenant owns, less what its open sessions cost so far."""
        return self._totals.balance_seconds(tenant_id)

    # Service

    async def open(self) -> None:
        """Settle what the process before could not, and read what tenants used and own.

        Raises StoreError if the store cannot be used.
        """
        now = self._clock()

        def settle_left(connection: Connection) -> int:
            left = usage.open_sessions(connection, now - ABANDONED_SECONDS, self._instance)
            ledger.settle(connection, left, now)
            return len(left)

        if settled := await self._database.write(settle_left):
            logger.info("sessions_settled", sessions=settled, why="restart")
        await self._refresh()

    async def run(self) -> None:
        """Write for ever what comes, and look now and then what other instances wrote."""
        refresh_at = trio.current_time() + REFRESH_SECONDS
        while True:
            with trio.move_on_at(refresh_at):
                await self._came.wait()
                await trio.sleep(FLUSH_SECONDS)
            try:
                await self.flush()
                if trio.current_time() >= refresh_at:
                    await self._sweep()
                    await self._refresh()
            except StoreError as error:
                self._trouble(error)
                await trio.sleep(RETRY_SECONDS)
            if trio.current_time() >= refresh_at:
                refresh_at = trio.current_time() + REFRESH_SECONDS

    async def flush(self) -> None:
        """Write everything that waits; raises StoreError if the store cannot take it now."""
        async with self._lock:
            while self._writing is not None or self._next.rows or self._next.ended or self._next.requests:
                if self._writing is None:
                    self._writing = self._cut()
                await self._write(self._writing)

    async def close(self) -> None:
        """Write what waits, for the last time; what the store does not take is lost, and told."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_SECONDS):
            try:
                await self.flush()
            except StoreError as error:
                rows = sum(len(batch.rows) for batch in (self._next, self._writing) if batch is not None)
                metrics.child(metrics.USAGE_ROWS, "lost").inc(rows)
                logger.error("usage_lost", rows=rows, reason=str(error))

    def _cut(self) -> _Batch:
        """What is written next; the rest waits, and so do the ends of sessions until all rows are out."""
        batch, self._came = self._next, trio.Event()
        self._next = _Batch()
        if len(batch.rows) > MAX_BATCH:
            self._next = _Batch(batch.rows[MAX_BATCH:], batch.ended)
            batch.rows, batch.ended = batch.rows[:MAX_BATCH], []
            self._came.set()
        return batch

    async def _write(self, batch: _Batch) -> None:
        now = self._clock()
        billed = frozenset(tenant for tenant in {row.tenant for row in batch.rows} if self._is_billed(tenant))

        def write(connection: Connection) -> None:
            if not usage.is_new_batch(connection, self._instance, batch.name):
                return
            usage.write(connection, batch.rows, billed, self._instance)
            usage.count_requests(connection, batch.requests)
            ledger.settle(connection, batch.ended, now)

        try:
            await self._database.write(write)
        except StoreError:
            raise
        except Exception as error:
            metrics.child(metrics.USAGE_ROWS, "lost").inc(len(batch.rows))
            logger.error("usage_lost", rows=len(batch.rows), exc_info=error)
        else:
            metrics.child(metrics.USAGE_ROWS, "written").inc(len(batch.rows))
            for session_id in batch.ended:
                self._totals.settled(session_id)
        self._writing = None
        if self._away:
            self._away = self._full = False
            logger.info("usage_written_again", waiting=self.waiting)

    def _trouble(self, error: StoreError) -> None:
        if not self._away:
            self._away = True
            logger.warning("usage_unwritten", waiting=self.waiting, reason=str(error))

    async def _sweep(self) -> None:
        """Settle sessions whose instance did not come back."""
        now = self._clock()

        def settle_idle(connection: Connection) -> int:
            idle = usage.open_sessions(connection, now - ABANDONED_SECONDS)
            ledger.settle(connection, idle, now)
            return len(idle)

        if settled := await self._database.write(settle_idle):
            logger.info("sessions_settled", sessions=settled, why="abandoned")

    async def _refresh(self) -> None:
        """Know what the store knows, and what is not written yet."""
        since = month_start(self._clock())

        def read(connection: Connection) -> Totals:
            rows = connection.execute(
                select(
                    metered_sessions.c.session_id,
                    metered_sessions.c.tenant_id,
                    metered_sessions.c.billed,
                    metered_sessions.c.charged_ms,
                ).where(metered_sessions.c.settled_at.is_(None))
            )
            sessions = {session_id: OpenSession(*members) for session_id, *members in rows}
            return Totals(usage.days(connection, since), ledger.all_balances(connection), sessions)

        async with self._lock:
            totals = await self._database.read(read)
            batches = [self._next] if self._writing is None else [self._writing, self._next]
            for row in (row for batch in batches for row in batch.rows):
                totals.add(row, billed=self._is_billed(row.tenant))
            self._totals = totals

    # Questions and changes of tenants and operators

    async def report(self, tenant_id: str, begin: int, end: int, width: int) -> tuple[list[Step], int]:
        """Counters of the hours [begin, end) since 1970 in steps of `width`, and the seconds billed."""

        def read(connection: Connection) -> tuple[list[Step], int]:
            seconds = usage.billed_seconds(connection, tenant_id, begin * HOUR_S, end * HOUR_S)
            return usage.report(connection, tenant_id, begin, end, width), seconds

        return await self._database.read(read)

    async def lines(self, account: str, before_id: int | None, limit: int) -> list[Line]:
        """The ledger of a tenant, or of an owner as `node:OWNER`; the latest line first."""
        return await self._database.read(
            lambda connection: ledger.lines(connection, account, before_id=before_id, limit=limit)
        )

    async def credit(self, tenant_id: str, seconds: int, reason: str, actor: Actor, request_id: str) -> Line:
        """Change a balance by hand; the same request again changes nothing. May raise ConflictError."""
        now = self._clock()

        def write(connection: Connection) -> Line:
            line = ledger.append(connection, tenant_id, seconds, reason, actor, request_id, now)
            payload = {"seconds": seconds, "reason": reason, "ledger_id": line.ledger_id}
            audit.note(connection, actor, "credit", tenant_id, now, tenant_id=tenant_id, payload=payload)
            return line

        line = await self._database.write(write)
        await self._refresh()
        return line

    async def node_accounts(self, after: str, limit: int) -> list[NodeAccount]:
        """What owners of nodes have, in order of their names."""
        return await self._database.read(lambda connection: ledger.node_accounts(connection, after, limit))

    async def node_account(self, owner: str) -> NodeAccount:
        """What one owner of nodes has; NotFoundError if that is nothing."""
        return await self._database.read(lambda connection: ledger.node_account(connection, owner))

    async def transfer(
        self, owner: str, tenant_id: str, seconds: int, actor: Actor, request_id: str
    ) -> tuple[NodeAccount, Line]:
        """Give what an owner of nodes earned to a tenant; may raise NotFoundError or ConflictError."""
        now = self._clock()

        def write(connection: Connection) -> tuple[NodeAccount, Line]:
            account, line = ledger.transfer(connection, owner, tenant_id, seconds, actor, request_id, now)
            payload = {"seconds": seconds, "owner": owner, "ledger_id": line.ledger_id}
            audit.note(connection, actor, "transfer", owner, now, tenant_id=tenant_id, payload=payload)
            return account, line

        moved = await self._database.write(write)
        await self._refresh()
        return moved


def _nothing(_tenant_id: str) -> None:
    """Nobody asked to be told."""
