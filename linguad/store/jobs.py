"""Asynchronous translations in the store, and their recordings as files of this instance (gateway 11.6).

The recording is written before the row and removed after the job has ended, so that an open job of this
instance always has its file. A job belongs to the instance that has the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import trio
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
    insert,
    select,
    update,
)

from linguad.core.speech_job import OPEN, SpeechJob
from linguad.files import replace_file
from linguad.store.database import Database, locked
from linguad.store.schema import Json, Moment, metadata

FILES_AT_ONCE = 4
"""Recordings read or written at once; they are large, and a disk does not get faster by more."""

_NAME = re.compile(r"sj_[0-9a-f]{24}")

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("fields", Json, nullable=False),
    Column("address", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("webhook_id", Text),
    Column("status", Text, nullable=False),
    Column("runs", Integer, nullable=False),
    Column("started_at", Moment),
    Column("finished_at", Moment),
    Column("result", LargeBinary),
    Column("error", Json),
    Index("ix_jobs_status", "status"),
    Index("ix_jobs_finished_at", "finished_at"),
)

_IS_OPEN = jobs.c.status.in_([status.value for status in OPEN])


class JobStore:
    """Jobs of all tenants. Every method raises StoreError when the store is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, job: SpeechJob) -> None:
        """Keep a new job."""
        await self._database.write(
            lambda connection: connection.execute(insert(jobs).values(_values(job))).close()
        )

    async def find(self, job_id: str) -> SpeechJob | None:
        """A job, None if there is none."""
        if not _NAME.fullmatch(job_id):
            return None
        return await self._database.read(lambda connection: _find(connection, job_id))

    async def move(self, job_id: str, step: Callable[[SpeechJob], SpeechJob | None]) -> SpeechJob | None:
        """Take a job one step further; None if there is no such job or the step is not possible any more."""

        def work(connection: Connection) -> SpeechJob | None:
            job = _find(connection, job_id, lock=True)
            moved = None if job is None else step(job)
            if moved is not None:
                connection.execute(update(jobs).where(jobs.c.id == job_id).values(_values(moved)))
            return moved

        return await self._database.write(work)

    async def remove(self, job_id: str) -> None:
        """Forget a job."""
        await self._database.write(
            lambda connection: connection.execute(delete(jobs).where(jobs.c.id == job_id)).close()
        )

    async def unfinished(self) -> list[SpeechJob]:
        """Every open job, the oldest first."""
        query = select(jobs).where(_IS_OPEN).order_by(jobs.c.created_at, jobs.c.id)
        return await self._database.read(lambda connection: [_job(row) for row in connection.execute(query)])

    async def sweep(self, before: float) -> int:
        """Remove what ended before a moment (Unix s); returns how many."""
        query = delete(jobs).where(jobs.c.finished_at < before)
        return await self._database.write(lambda connection: connection.execute(query).rowcount)


class JobFiles:
    """Recordings of open jobs, one file each, readable for nobody else. Methods raise OSError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._limiter = trio.CapacityLimiter(FILES_AT_ONCE)

    async def write(self, job_id: str, audio: bytes) -> None:
        """Keep a recording; when this returns, a crash does not lose it."""
        await trio.to_thread.run_sync(replace_file, self._path(job_id), audio, limiter=self._limiter)

    async def read(self, job_id: str) -> bytes:
        """The recording of a job."""
        return await trio.to_thread.run_sync(self._path(job_id).read_bytes, limiter=self._limiter)

    async def remove(self, job_id: str) -> None:
        """Remove a recording, if it is there."""
        await trio.to_thread.run_sync(lambda: self._path(job_id).unlink(missing_ok=True))

    async def sizes(self) -> dict[str, int]:
        """The bytes of every recording that is there, by the id of its job."""

        def look() -> dict[str, int]:
            if not self._directory.exists():
                return {}
            found = [path for path in self._directory.iterdir() if _NAME.fullmatch(path.name)]
            return {path.name: path.stat().st_size for path in found}

        return await trio.to_thread.run_sync(look)

    async def sweep_halves(self) -> None:
        """Remove what a crash left half written; only before anything is written."""

        def sweep() -> None:
            for path in self._directory.glob("*.new"):
                path.unlink(missing_ok=True)

        await trio.to_thread.run_sync(sweep)

    def _path(self, job_id: str) -> Path:
        if not _NAME.fullmatch(job_id):
            raise ValueError(f"{job_id!r} is not the id of a job")
        return self._directory / job_id


def _find(connection: Connection, job_id: str, *, lock: bool = False) -> SpeechJob | None:
    query = select(jobs).where(jobs.c.id == job_id)
    row = connection.execute(locked(query) if lock else query).first()
    return None if row is None else _job(row)


def _values(job: SpeechJob) -> dict[str, Any]:
    return {name: getattr(job, name) for name in SpeechJob.__struct_fields__} | {"status": job.status.value}


def _job(row: Row[Any]) -> SpeechJob:
    members = {name: getattr(row, name) for name in SpeechJob.__struct_fields__}
    return msgspec.convert(members, SpeechJob, builtin_types=(bytes,))
