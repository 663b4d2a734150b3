"""One database behind worker threads: SQLite or PostgreSQL, transactions that cannot lose updates.

Writes: one at a time in this process. On SQLite each begins with BEGIN IMMEDIATE, so that no other process
writes between its reads and its writes; on PostgreSQL rows that are read to be changed are read `locked`.
Reads: a few at a time, each in one snapshot, on connections that cannot write. (resolution 38)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import trio
from sqlalchemy import Connection, Engine, Select, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, InterfaceError, OperationalError

from linguad.errors import ConfigError, StoreError
from linguad.store.migrate import migrate

READERS = 4
"""Reads at once: nothing on the hot path reads, and more threads would not make one disk faster."""

BUSY_SECONDS = 10
"""How long a write waits for others, a reader for its answer, a connection to PostgreSQL for its server."""

NOTICE_LOSS = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 20_000,
}
"""A server that is cut off from us is noticed after 20 s; the system would wait for a quarter of an hour."""

SETTING = "store.url"

TROUBLE = frozenset({OperationalError, InterfaceError, DatabaseError})
"""What means that the database is away or broken; the more special errors are bugs of ours."""

T = TypeVar("T")
S = TypeVar("S", bound=Select[Any])


def locked(select: S) -> S:
    """The same question for rows that this transaction is going to change (`FOR UPDATE` on PostgreSQL).

    On SQLite a writing transaction is alone anyway, and nothing is added.
    """
    return select.with_for_update()


def upsert(dialect: str, table: Table) -> Any:
    """An INSERT that can say what is to be done if there is such a row."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def store_url(configured: str, state_dir: Path) -> str:
    """The database that `store.url` means; "" is the file `linguad.db` in the state directory."""
    return configured or f"sqlite:///{state_dir.absolute() / 'linguad.db'}"


class Database:
    """A database by URL: `sqlite:///path` or `postgresql://user@host/name`.

    Raises ConfigError for a URL that cannot be one.
    """

    def __init__(self, url: str) -> None:
        self._url = _understood(url)
        self.is_sqlite = self._url.drivername == "sqlite"
        self.shown = shown(self._url)
        """The URL without its password."""
        self.file = Path(self._url.database or "") if self.is_sqlite else None
        """The file, if it is one."""
        self._writer = self._engine(write=True)
        self._reader = self._engine(write=False)
        self._writing = trio.CapacityLimiter(1)
        self._reading = trio.CapacityLimiter(READERS)

    async def open(self) -> None:
        """Make the database what this version needs; only after that it may be used.

        Raises StoreError with the cure.
        """
        if self.file is not None:
            await trio.to_thread.run_sync(_make_file, self.file)
        await self.write(migrate)

    async def close(self) -> None:
        """Close every connection."""
        for engine in (self._reader, self._writer):
            await trio.to_thread.run_sync(engine.dispose)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in a thread as one transaction: all of it is kept, or nothing if it raises.

        Once it returns, the change survives a crash. A cancelled caller waits for the end of a transaction
        that has begun. Raises StoreError when the database cannot do it, or those before do not come to
        their end, and whatever `work` raises.
        """
        # only its turn is waited for so long: what has begun is not cancelled
        with trio.move_on_after(BUSY_SECONDS):
            return await trio.to_thread.run_sync(self._run, self._writer, work, limiter=self._writing)
        raise StoreError(self._unusable("it does not answer"))

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in a thread on one snapshot; it cannot change anything. Raises as `write` does.

        A database that hangs must not hold up who only asks: neither a cancelled caller, nor others for long.
        """
        with trio.move_on_after(BUSY_SECONDS):
            return await trio.to_thread.run_sync(
                self._run, self._reader, work, abandon_on_cancel=True, limiter=self._reading
            )
        raise StoreError(self._unusable("it does not answer"))

    def _run(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        try:
            with engine.begin() as connection:
                return work(connection)
        except DBAPIError as error:
            if type(error) in TROUBLE:
                raise StoreError(self._trouble(error)) from error
            raise

    def _trouble(self, error: DBAPIError) -> str:
        return self._unusable(str(error.orig).strip().splitlines()[0] if error.orig else "no reason given")

    def _unusable(self, reason: str) -> str:
        cure = (
            "see that its disk has room and that linguad may write there"
            if self.is_sqlite
            else f"see that the server runs and {SETTING} is right"
        )
        return f"The store {self.shown} cannot be used: {reason}; {cure}."

    def _engine(self, *, write: bool) -> Engine:
        size = 1 if write else READERS
        try:
            if self.is_sqlite:
                engine = create_engine(
                    self._url,
                    pool_size=size,
                    max_overflow=0,
                    hide_parameters=True,
                    connect_args={"timeout": BUSY_SECONDS},
                )
                event.listen(engine, "connect", _set_up_writing if write else _set_up_reading)
                event.listen(engine, "begin", _begin_writing if write else _begin_reading)
                return engine
            return create_engine(
                self._url,
                pool_size=size,
                max_overflow=0,
                # tracebacks are logged
                hide_parameters=True,
                # a server that was started anew must not cost the first caller an error
                pool_pre_ping=True,
                connect_args={
                    "connect_timeout": BUSY_SECONDS,
                    "application_name": "linguad",
                    **NOTICE_LOSS,
                },
                execution_options={}
                if write
                else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True},
            )
        except ModuleNotFoundError as error:
            raise StoreError(
                f"{SETTING} names PostgreSQL, but its driver is not installed; "
                "install it with: pip install 'linguad[postgres]'"
            ) from error


def shown(url: URL) -> str:
    """A URL for people and logs: without its password, wherever that stands."""
    return URL.create(
        url.drivername.partition("+")[0],
        username=url.username,
        host=url.host,
        port=url.port,
        database=url.database,
        query={key: value for key, value in url.query.items() if key in ("host", "port", "dbname")},
    ).render_as_string()


def _understood(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        problem = 'is not a URL like "postgresql://user@host/name" or "sqlite:////var/lib/linguad/linguad.db"'
        # The URL may hold a password, which the library's error would show.
        raise ConfigError([(SETTING, problem)]) from None
    match url.drivername:
        case "sqlite" if url.database and not url.database.startswith((":memory:", "file:")):
            return url
        case "sqlite":
            raise ConfigError([(SETTING, "must name a file, or nothing would outlive the process")])
        case "postgres" | "postgresql" | "postgresql+psycopg":
            return url.set(drivername="postgresql+psycopg")
    raise ConfigError([(SETTING, f"names {url.drivername}; linguad can use sqlite and postgresql")])


def _make_file(path: Path) -> None:
    """The file, readable for nobody else; SQLite gives its companions the same mode."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StoreError(
            f"The store cannot be kept in {path}: {error.strerror}; set server.state_dir to a directory "
            f"linguad may write to, or {SETTING} to another database."
        ) from error


def _set_up_writing(connection: Any, _record: object) -> None:
    # The driver would begin transactions by itself, and too late: after the first reads.
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _set_up_reading(connection: Any, record: object) -> None:
    _set_up_writing(connection, record)
    connection.execute("PRAGMA query_only = ON")


def _begin_writing(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_reading(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")
