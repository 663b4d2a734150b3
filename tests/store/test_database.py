"""Transactions of the store on both databases, and what it says when it cannot be used."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import threading
from pathlib import Path

import pytest
import trio
import trio.testing
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from patience import PATIENCE_S
from sqlalchemy import BigInteger, Column, Connection, MetaData, Table, func, insert, select, update
from sqlalchemy.exc import DBAPIError

import linguad.store
from linguad.errors import ConfigError, LinguadError, StoreError
from linguad.store.database import READERS, Database, locked, store_url
from linguad.store.schema import metadata

TASKS, ROUNDS = 16, 20

counter = Table("counter", MetaData(), Column("value", BigInteger, nullable=False))


def make_counter(connection: Connection) -> None:
    counter.create(connection)
    connection.execute(insert(counter).values(value=0))


def counted(connection: Connection) -> int:
    return connection.execute(select(counter.c.value)).scalar_one()


def count_up(connection: Connection) -> None:
    """Read, then write what follows from it: what is lost if two do it at once."""
    value = connection.execute(locked(select(counter.c.value))).scalar_one()
    connection.execute(update(counter).values(value=value + 1))


async def count_up_often(database: Database) -> None:
    for _ in range(ROUNDS):
        await database.write(count_up)


async def test_no_update_is_lost(database: Database, url: str) -> None:
    """Sixteen tasks, eight of them of another process, which a second `Database` is as good as."""
    await database.write(make_counter)
    other = Database(url)
    async with trio.open_nursery() as nursery:
        for number in range(TASKS):
            nursery.start_soon(count_up_often, database if number % 2 else other)
    await other.close()
    assert await database.read(counted) == TASKS * ROUNDS


async def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    await database.write(make_counter)

    def fail(connection: Connection) -> None:
        count_up(connection)
        raise LookupError

    with pytest.raises(LookupError):
        await database.write(fail)
    assert await database.read(counted) == 0
    await database.write(count_up)
    assert await database.read(counted) == 1


async def test_a_cancelled_caller_waits_for_the_end_of_its_transaction(database: Database) -> None:
    await database.write(make_counter)
    with trio.CancelScope() as scope:

        def cancelled_within(connection: Connection) -> None:
            count_up(connection)
            trio.from_thread.run_sync(scope.cancel)
            count_up(connection)

        await database.write(cancelled_within)
    assert await database.read(counted) == 2


async def test_a_cancelled_reader_does_not_wait_for_a_database_that_hangs(database: Database) -> None:
    goes_on = threading.Event()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.read, lambda _connection: goes_on.wait())
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert not goes_on.is_set()
    finally:
        goes_on.set()
    # in the end its connection is there for others again
    together = threading.Barrier(READERS)
    async with trio.open_nursery() as nursery:
        for _ in range(READERS):
            nursery.start_soon(database.read, lambda _connection: together.wait(PATIENCE_S))


async def test_nobody_waits_for_ever_for_a_database_that_hangs(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, goes_on, ended = threading.Event(), threading.Event(), list[bool]()

    def work(_connection: Connection) -> bool:
        begun.set()
        return goes_on.wait(PATIENCE_S)

    async def hang() -> None:
        ended.append(await database.write(work))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hang)
        assert await trio.to_thread.run_sync(begun.wait, PATIENCE_S)
        monkeypatch.setattr("linguad.store.database.BUSY_SECONDS", 0.1)
        with pytest.raises(StoreError, match="does not answer"):
            await database.write(counted)
        with pytest.raises(StoreError, match="does not answer"):
            await database.read(lambda _connection: goes_on.wait(PATIENCE_S))
        monkeypatch.undo()
        goes_on.set()
    # what had begun has come to its end
    assert ended == [True]
    together = threading.Barrier(READERS)
    async with trio.open_nursery() as nursery:
        for _ in range(READERS):
            nursery.start_soon(database.read, lambda _connection: together.wait(PATIENCE_S))


async def test_what_only_reads_cannot_write(database: Database) -> None:
    await database.write(make_counter)
    with pytest.raises((StoreError, DBAPIError)):
        await database.read(count_up)
    assert await database.read(counted) == 0


async def test_a_read_sees_one_moment(database: Database, url: str) -> None:
    await database.write(make_counter)
    writer = Database(url)

    def read_twice(connection: Connection) -> tuple[int, int]:
        before = counted(connection)
        trio.from_thread.run(writer.write, count_up)
        return before, counted(connection)

    assert await database.read(read_twice) == (0, 0)
    assert await database.read(counted) == 1
    await writer.close()


async def test_all_may_open_a_new_database_at_once(url: str) -> None:
    databases = [Database(url) for _ in range(4)]
    async with trio.open_nursery() as nursery:
        for one in databases:
            nursery.start_soon(one.open)
    for one in databases:
        await one.close()


async def test_the_steps_lead_to_the_declared_tables(database: Database) -> None:
    for module in pkgutil.iter_modules(linguad.store.__path__, "linguad.store."):
        importlib.import_module(module.name)

    def differences(connection: Connection) -> list[object]:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    assert await database.read(differences) == []


async def test_a_database_of_a_newer_version_is_refused(database: Database, url: str) -> None:
    version = Table("alembic_version", MetaData(), Column("version_num"))
    await database.write(lambda connection: connection.execute(update(version).values(version_num="9999")))
    old = Database(url)
    with pytest.raises(LinguadError, match=r"9999.*newer version"):
        await old.open()
    await old.close()


async def test_the_file_is_private(tmp_path: Path) -> None:
    database = Database(store_url("", tmp_path / "state"))
    await database.open()
    await database.write(make_counter)
    files = sorted((tmp_path / "state").iterdir())
    assert [file.name for file in files] == ["linguad.db", "linguad.db-shm", "linguad.db-wal"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    await database.close()


async def test_a_file_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot be kept in .*server\.state_dir"):
        await Database(store_url("", tmp_path / "file")).open()


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "linguad.db").write_bytes(b"not a database" * 100)
    database = Database(store_url("", tmp_path))
    with pytest.raises(StoreError, match="not a database"):
        await database.open()
    await database.close()


async def test_passwords_are_not_told() -> None:
    database = Database("postgres://me:sesame1@127.0.0.1:1/name?password=sesame2")
    assert database.shown == "postgresql://me@127.0.0.1:1/name"
    with pytest.raises(StoreError) as caught:
        await database.open()
    assert "sesame" not in str(caught.value)
    with pytest.raises(ConfigError) as wrong:
        Database("postgresql//me:sesame@host/name")
    assert "sesame" not in str(wrong.value)


async def test_a_driver_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"pip install 'linguad\[postgres\]'"):
        Database("postgresql://me@127.0.0.1/name")


@pytest.mark.parametrize("url", ["nonsense", "mysql://x/y", "sqlite://", "sqlite:///:memory:"])
def test_urls_that_cannot_be(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Database(url)
    (problem,) = caught.value.problems
    assert problem[0] == "store.url"


async def test_reads_go_on_beside_a_write(database: Database) -> None:
    await database.write(make_counter)

    def write(connection: Connection) -> int:
        count_up(connection)
        return trio.from_thread.run(database.read, counted)

    assert await database.write(write) == 0
    assert await database.read(lambda connection: connection.execute(select(func.count())).scalar()) == 1
