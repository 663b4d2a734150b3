"""Usage, settlements and balances on both databases, through failures and kill -9."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patience import PATIENCE_S
from postgres import Postgres
from prometheus_client import REGISTRY
from sqlalchemy import Connection, func, select, update

from linguad.core.accounts import Actor, ConflictError, NotFoundError
from linguad.core.ledger import SETTLEMENT
from linguad.core.metering import Usage
from linguad.errors import StoreError
from linguad.store import bookkeeper, ledger, usage
from linguad.store.bookkeeper import Bookkeeper
from linguad.store.database import Database
from linguad.store.totals import Totals, month_start

NOON = 1_767_268_800.0  # 2026-01-01 12:00 UTC
ADMIN = Actor(type="key", id="KEY")
NUMBERS = itertools.count(1)


def row(session: str = "s-1", charged_ms: int = 0, **members: Any) -> Usage:
    """A row with an id of its own."""
    number = next(NUMBERS)
    defaults: dict[str, Any] = {
        "id": f"job-{os.getpid()}-{number}",
        "tenant": "t-1",
        "key": "K1",
        "session": session,
        "job": f"job-{number}",
        "attempt": 1,
        "node": "node-1",
        "owner": "node-1",
        "utterance": number,
        "outcome": "ok",
        "audio_ms": charged_ms,
        "charged_ms": charged_ms,
        "credited_ms": charged_ms,
        "utterances": bool(charged_ms),
        "finished_at": NOON,
    }
    return Usage(**(defaults | members))


def paid(tenant: str) -> bool:
    return tenant != "direct"


class Office:
    """Bookkeepers of one database, one after the other."""

    def __init__(self, database: Database, now: float = NOON) -> None:
        self.database = database
        self.now = now

    async def bookkeeper(self, **members: Any) -> Bookkeeper:
        made = Bookkeeper(self.database, paid, clock=lambda: self.now, **members)
        await made.open()
        return made


@pytest.fixture
def office(database: Database) -> Office:
    return Office(database)


def check(connection: Connection, *, settled: bool) -> None:
    """Ledger, balances and counters say what the rows say."""
    rows = connection.execute(select(usage.usage)).all()
    sessions: dict[tuple[str, str], int] = defaultdict(int)
    for one in rows:
        sessions[one.tenant_id, one.session_id] += one.charged_ms
    holds: dict[tuple[str, str], int] = defaultdict(int)
    owed: dict[str, int] = defaultdict(int)
    for hold in connection.execute(select(usage.metered_sessions)):
        holds[hold.tenant_id, hold.session_id] += hold.charged_ms
        if hold.settled_at is not None and hold.billed:
            owed[hold.tenant_id] -= -(-hold.charged_ms // 1000)
        assert not settled or hold.settled_at is not None
        assert hold.billed == paid(hold.tenant_id)
    assert holds == sessions
    written: dict[str, int] = defaultdict(int)
    for line in connection.execute(select(ledger.ledger).order_by(ledger.ledger.c.id)):
        assert line.balance_before == written[line.account]
        written[line.account] += line.change_seconds
        assert line.balance_after == written[line.account]
    assert ledger.all_balances(connection) == dict(written)
    settlements = select(ledger.ledger.c.account, func.sum(ledger.ledger.c.change_seconds)).where(
        ledger.ledger.c.reason == SETTLEMENT
    )
    by_account = dict(connection.execute(settlements.group_by(ledger.ledger.c.account)).all())
    assert {account: int(seconds) for account, seconds in by_account.items()} == {
        tenant: seconds for tenant, seconds in owed.items() if seconds
    }
    before = cached(connection)
    usage.rebuild(connection)
    assert cached(connection) == before


def cached(connection: Connection) -> tuple[list[Any], list[Any]]:
    """The counters, but for those that are 0."""
    hours = [one for one in connection.execute(select(usage.hours)).all() if any(one[3:])]
    credits = [one for one in connection.execute(select(usage.node_credits)).all() if any(one[1:])]
    return sorted(hours), sorted(credits)


async def lines(database: Database, account: str = "t-1") -> list[tuple[int, int, str]]:
    found = await database.read(lambda connection: ledger.lines(connection, account))
    return [(line.change_seconds, line.balance_after, line.reason) for line in found]


async def test_a_session_is_rounded_up_once(office: Office) -> None:
    books = await office.bookkeeper()
    for charged_ms in (1100, 0, 1200, 701):
        books.record(row("s-1", charged_ms))
    assert (books.session_ms("s-1"), books.balance_seconds("t-1")) == (3001, -4)
    books.session_ended("s-1")
    await books.flush()
    assert (books.session_ms("s-1"), books.balance_seconds("t-1")) == (0, -4)
    assert await lines(office.database) == [(-4, -4, "session_settlement")]
    books.session_ended("s-1")
    await books.flush()
    assert await lines(office.database) == [(-4, -4, "session_settlement")]
    await office.database.write(lambda connection: check(connection, settled=True))


async def test_direct_sessions_are_metered_and_not_billed(office: Office) -> None:
    books = await office.bookkeeper()
    books.record(row("s-1", 1500, tenant="direct"))
    books.session_ended("s-1")
    await books.flush()
    assert (books.balance_seconds("direct"), books.today_ms("direct")) == (0, 1500)
    assert await lines(office.database, "direct") == []
    await office.database.write(lambda connection: check(connection, settled=True))


async def test_who_comes_after_a_crash_settles_what_was_written(office: Office) -> None:
    books = await office.bookkeeper()
    books.record(row("s-1", 2500))
    await books.flush()
    books.record(row("s-1", 9000))  # lost
    heir = await office.bookkeeper()
    assert (heir.balance_seconds("t-1"), heir.today_ms("t-1")) == (-3, 2500)
    await office.database.write(lambda connection: check(connection, settled=True))


async def test_others_settle_what_was_abandoned(office: Office) -> None:
    books = await office.bookkeeper(instance="a")
    books.record(row("s-1", 2500))
    await books.flush()
    office.now += 60
    assert (await office.bookkeeper(instance="b")).balance_seconds("t-1") == -3
    assert await lines(office.database) == []
    office.now += bookkeeper.ABANDONED_SECONDS
    await office.bookkeeper(instance="b")
    assert len(await lines(office.database)) == 1
    books.record(row("s-1", 100))
    books.session_ended("s-1")
    await books.flush()
    assert await lines(office.database) == [(-1, -4, "session_settlement"), (-3, -3, "session_settlement")]
    await office.database.write(lambda connection: check(connection, settled=True))


class Forgetful(Database):
    """The way back of a commit is cut, as often as asked."""

    forgets = 0

    async def write(self, work: Any) -> Any:
        result = await super().write(work)
        if self.forgets:
            self.forgets -= 1
            raise StoreError("the connection was cut")
        return result


async def test_a_batch_is_written_once_though_its_commit_was_not_heard_of(url: str) -> None:
    database = Forgetful(url)
    await database.open()
    books = await Office(database).bookkeeper()
    books.record(row("s-1", 1500))
    books.request("t-1", "K1", failed=True)
    books.session_ended("s-1")
    database.forgets = 1
    with pytest.raises(StoreError):
        await books.flush()
    await books.flush()
    assert await lines(database) == [(-2, -2, "session_settlement")]
    ((_, _, counts), (_, _, requests)) = (await books.report("t-1", 0, 10**6, 1))[0] * 2
    assert (counts["charged_ms"], counts["requests"], requests["errors"]) == (1500, 1, 1)
    await database.close()


async def test_the_end_without_a_store_is_told(postgres: Postgres, caplog: pytest.LogCaptureFixture) -> None:
    database = Database(postgres.make_database())
    await database.open()
    books = await Office(database).bookkeeper()
    books.record(row("s-1", 2000))
    await trio.to_thread.run_sync(postgres.stop)
    try:
        await books.close()
        await database.close()
    finally:
        await trio.to_thread.run_sync(postgres.start)
    assert "usage_lost" in caplog.text


async def test_while_the_store_is_away_all_goes_on(postgres: Postgres) -> None:
    database = Database(postgres.make_database())
    await database.open()
    books = await Office(database).bookkeeper()
    await trio.to_thread.run_sync(postgres.stop)
    try:
        books.record(row("s-1", 1500))
        with pytest.raises(StoreError):
            await books.flush()
        books.record(row("s-2", 1500))
        assert (books.waiting, books.balance_seconds("t-1"), books.today_ms("t-1")) == (2, -4, 3000)
        assert REGISTRY.get_sample_value("linguad_usage_waiting") == 2
    finally:
        await trio.to_thread.run_sync(postgres.start)
    await books.flush()
    assert books.waiting == 0
    await database.write(lambda connection: check(connection, settled=False))
    await database.close()


async def test_no_more_waits_than_may(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bookkeeper, "MAX_WAITING", 3)
    books = await office.bookkeeper()
    for _ in range(5):
        books.record(row("s-1", 1000))
    assert books.waiting == 3
    await books.flush()
    assert (await office.bookkeeper()).today_ms("t-1") == 3000


async def test_a_large_batch_is_written_in_parts(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bookkeeper, "MAX_BATCH", 2)
    books = await office.bookkeeper()
    for number in range(5):
        books.record(row(f"s-{number}", 100))
        books.session_ended(f"s-{number}")
    await books.flush()
    assert books.balance_seconds("t-1") == -5
    await office.database.write(lambda connection: check(connection, settled=True))


class Watched(Database):
    """Tells of the next write."""

    written = trio.Event()

    async def write(self, work: Any) -> Any:
        result = await super().write(work)
        self.written.set()
        return result


async def test_run_writes_by_itself(url: str) -> None:
    database = Watched(url)
    await database.open()
    books = await Office(database).bookkeeper()
    database.written = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(books.run)
        books.record(row("s-1", 1000))
        with trio.fail_after(PATIENCE_S):
            await database.written.wait()
        nursery.cancel_scope.cancel()
    assert (await Office(database).bookkeeper()).today_ms("t-1") == 1000
    await database.close()


async def test_names_that_nodes_made_up(office: Office) -> None:
    books = await office.bookkeeper()
    books.record(row("s-1", 1000, node="a\0b", owner="a\0b"))
    await books.flush()
    assert (await books.node_account("ab")).credited_seconds == 1


async def test_credit_of_an_owner_of_nodes_goes_to_a_tenant_once(office: Office) -> None:
    books = await office.bookkeeper()
    books.record(row("s-1", 0, credited_ms=10_900, owner="ann", tenant="direct"))
    await books.flush()
    for _ in range(2):
        account, line = await books.transfer("ann", "t-1", 7, ADMIN, "r-1")
        assert (account.balance_seconds, line.change_seconds, line.balance_after) == (3, 7, 7)
    assert books.balance_seconds("t-1") == 7
    with pytest.raises(ConflictError, match="3 s"):
        await books.transfer("ann", "t-1", 4, ADMIN, "r-2")
    for other in (("t-2", 7), ("t-1", 6)):
        with pytest.raises(ConflictError, match="r-1"):
            await books.transfer("ann", *other, ADMIN, "r-1")
    with pytest.raises(NotFoundError):
        await books.transfer("bob", "t-1", 1, ADMIN, "r-3")
    assert [one.owner for one in await books.node_accounts("", 10)] == ["ann"]
    assert await lines(office.database, "node:ann") == [(-7, -7, "transfer")]
    await office.database.write(lambda connection: check(connection, settled=False))


async def test_a_credit_is_given_once(office: Office) -> None:
    books = await office.bookkeeper()
    for _ in range(2):
        line = await books.credit("t-1", 600, "credit", ADMIN, "s-1")
        assert (line.change_seconds, line.balance_after) == (600, 600)
    with pytest.raises(ConflictError, match="used for credit of 600 s"):
        await books.credit("t-1", 60, "credit", ADMIN, "s-1")
    books.record(row("s-1", 1000))
    books.session_ended("s-1")
    await books.flush()
    assert books.balance_seconds("t-1") == 599


async def test_counters_by_hour_and_day(office: Office) -> None:
    books = await office.bookkeeper()
    for hour, key in ((0, "K1"), (1, "K1"), (1, "K2"), (30, "K1")):
        books.record(row(f"s-{hour}{key}", 500, finished_at=NOON + hour * 3600, key=key, chars_asr=3))
    books.request("t-1", "K1")
    await books.flush()
    first = int(NOON // 3600)
    hourly, billed = await books.report("t-1", first, first + 2, 1)
    shown = [(key, hour - first, one.get("chars_asr"), one.get("requests")) for key, hour, one in hourly]
    assert shown == [("K1", 0, 3, 1), ("K1", 1, 3, None), ("K2", 1, 3, None)]
    assert billed == 3
    daily, _ = await books.report("t-1", 0, 10**6, 24)
    assert [(key, one["sessions"], one["charged_ms"]) for key, _, one in daily] == [
        ("K1", 2, 1000),
        ("K2", 1, 500),
        ("K1", 1, 500),
    ]
    assert await books.report("t-2", 0, 10**6, 24) == ([], 0)


async def test_wrong_counters_are_put_right(office: Office) -> None:
    books = await office.bookkeeper()
    books.record(row("s-1", 500))
    await books.flush()
    await office.database.write(
        lambda connection: connection.execute(update(usage.hours).values(charged_ms=9))
    )
    await office.database.write(usage.rebuild)
    ((_, _, counts),) = (await books.report("t-1", 0, 10**6, 1))[0]
    assert (counts["charged_ms"], counts["sessions"]) == (500, 1)


def test_days_and_months_end_at_midnight_utc() -> None:
    totals = Totals()
    totals.add(row("s-1", 1000), billed=True)
    assert (totals.today_ms("t-1", NOON + 43199), totals.today_ms("t-1", NOON + 43200)) == (1000, 0)
    assert totals.month_ms("t-1", NOON + 30 * 86400) == 1000
    assert totals.month_ms("t-1", NOON + 31 * 86400) == 0
    assert month_start(NOON) == NOON - 43200


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("row"), st.integers(0, 2), st.sampled_from([0, 1, 999, 1000, 1001, 12_345])),
        st.tuples(st.sampled_from(["end", "settle"]), st.integers(0, 2), st.just(0)),
        st.tuples(st.sampled_from(["flush", "unheard", "crash", "rebuild"]), st.just(0), st.just(0)),
    ),
    max_size=25,
)


@pytest.fixture
def forgetful(url: str) -> Any:
    database = Forgetful(url)
    trio.run(database.open)
    yield database
    trio.run(database.close)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=STEPS)
def test_whatever_happens_the_ledger_is_the_sum_of_the_records(
    forgetful: Forgetful, steps: list[tuple[str, int, int]]
) -> None:
    trio.run(play, forgetful, steps)


async def play(database: Forgetful, steps: list[tuple[str, int, int]]) -> None:
    office, names = Office(database), [f"s-{next(NUMBERS)}" for _ in range(3)]
    books = await office.bookkeeper()
    for what, number, charged_ms in steps:
        name = names[number]
        if what == "row":
            tenant = "direct" if number == 2 else f"t-{number}"
            books.record(row(name, charged_ms, tenant=tenant))
        elif what == "end":
            books.session_ended(name)
        elif what == "settle":
            await database.write(lambda connection, name=name: ledger.settle(connection, [name], NOON))
        elif what == "rebuild":
            await database.write(usage.rebuild)
        elif what == "crash":
            books = await office.bookkeeper()
        else:
            database.forgets = what == "unheard"
            try:
                await books.flush()
            except StoreError:
                await books.flush()
            database.forgets = 0
    await books.flush()
    await office.bookkeeper()
    await database.write(lambda connection: check(connection, settled=True))


CHILD = """
import itertools, random, sys, trio
sys.path.insert(0, {tests!r})
from store.test_books import Office, row
from linguad.store.database import Database

async def main(url):
    database = Database(url)
    await database.open()
    books = await Office(database).bookkeeper()
    chance = random.Random({seed})
    for number in itertools.count():
        tenant = chance.choice(["t-1", "t-2", "direct"])
        session = f"s-{{tenant}}-{seed}-{{number // 20}}"
        books.record(row(session, chance.randrange(5000), tenant=tenant))
        if chance.random() < 0.1:
            books.session_ended(session)
        if chance.random() < 0.2:
            await books.flush()
            print(number, flush=True)

trio.run(main, sys.argv[1])
"""


async def test_kill_9_loses_the_same_of_all(office: Office, url: str) -> None:
    """A child writes as fast as it can and is killed, twice, at any moment."""
    tests = str(Path(__file__).parents[1])
    for seed in range(2):
        await trio.to_thread.run_sync(killed_child, CHILD.format(tests=tests, seed=seed), url, seed)
        await office.bookkeeper()
        await office.database.write(lambda connection: check(connection, settled=True))
    count = await office.database.read(
        lambda connection: connection.execute(select(func.count()).select_from(ledger.ledger)).scalar()
    )
    assert count


def killed_child(program: str, url: str, seed: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", program, url], stdout=subprocess.PIPE, env=os.environ | {"PYTHONDEVMODE": "0"}
    )
    assert process.stdout is not None
    with process.stdout:
        for _ in range(random.Random(seed).randrange(3, 30)):
            assert process.stdout.readline(), "the child ended by itself"
        process.send_signal(signal.SIGKILL)
        process.wait()
