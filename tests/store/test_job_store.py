"""Asynchronous translations on both databases, and their recordings."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

from linguad.core.speech_job import JobStatus, SpeechJob, begun, cancelled, failed, lost, succeeded
from linguad.store.database import Database
from linguad.store.jobs import JobFiles, JobStore


def job(number: int) -> SpeechJob:
    return SpeechJob(
        id=f"sj_{number:024x}",
        tenant_id="t",
        key_id="k",
        fields={"src_lang": "zh", "dialect": "普通话"},
        address="192.0.2.1",
        created_at=number,
        webhook_id="wh_1",
    )


async def test_the_life_of_jobs(database: Database) -> None:
    store = JobStore(database)
    for number in (2, 1, 3):
        await store.add(job(number))
    assert await store.unfinished() == [job(1), job(2), job(3)]
    one, two, three = (job(number).id for number in (1, 2, 3))
    running = await store.move(one, lambda found: begun(found, 10))
    assert running == replace(job(1), status=JobStatus.RUNNING, runs=1, started_at=10)
    assert await store.move(one, lambda found: begun(found, 11)) is None
    done = await store.move(one, lambda found: succeeded(found, 12, b'{"text":"\xc3\xa4"}'))
    assert done == await store.find(one)
    assert (done and done.result) == b'{"text":"\xc3\xa4"}'
    await store.move(two, lambda found: failed(found, 13, lost("why")))
    found = await store.find(two)
    assert (found and found.error) == lost("why")
    assert await store.unfinished() == [job(3)]
    assert await store.sweep(13) == 1
    assert await store.find(one) is None
    await store.remove(three)
    assert await store.find(three) is None
    assert await store.move(three, lambda found: begun(found, 1)) is None
    for strange in ("", "sj_", "\0", "../x", "sj_" + "g" * 24):
        assert await store.find(strange) is None


async def test_an_end_comes_once(database: Database, url: str) -> None:
    """A job that is done while its owner gives it up has one end, whichever instance does what."""
    second = Database(url)
    stores = [JobStore(database), JobStore(second)]
    await stores[0].add(job(1))
    await stores[0].move(job(1).id, lambda found: begun(found, 1))
    ends: list[JobStatus] = []

    async def end(number: int) -> None:
        step = cancelled if number % 4 < 2 else _succeeded
        moved = await stores[number % 2].move(job(1).id, lambda found: step(found, 2))
        if moved is not None:
            ends.append(moved.status)

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(end, number)
    await second.close()
    assert len(ends) == 1
    found = await stores[0].find(job(1).id)
    assert [found and found.status] == ends


def _succeeded(found: SpeechJob, now: float) -> SpeechJob | None:
    return succeeded(found, now, b"{}")


async def test_recordings(tmp_path: Path) -> None:
    files = JobFiles(tmp_path / "state" / "jobs")
    assert await files.sizes() == {}
    await files.write(job(1).id, b"audio")
    await files.write(job(2).id, bytes(1000))
    path = tmp_path / "state" / "jobs" / job(1).id
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert await files.read(job(1).id) == b"audio"
    (path.parent / f"{job(3).id}.new").write_bytes(b"half")
    (path.parent / "notes.txt").write_text("not ours")
    assert await files.sizes() == {job(1).id: 5, job(2).id: 1000}
    await files.sweep_halves()
    await files.remove(job(1).id)
    await files.remove(job(1).id)
    assert sorted(found.name for found in path.parent.iterdir()) == ["notes.txt", job(2).id]
    with pytest.raises(ValueError, match="not the id"):
        await files.read("../../etc/passwd")
