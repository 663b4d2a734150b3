"""Locks: who owns one, when it is nobody's, and that two never own it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from linguad.models.errors import DownloadInProgressError, LockLostError
from linguad.models.holding import Holding
from linguad.models.layout import Layout
from linguad.models.locks import TIMEOUT_MS, Held, Locks, Owner, is_dead, start_of
from linguad.models.names import Key
from linguad.models.registry import Record, Registry, Status

ONE = Key("m", "1.0.0")


def rewrite(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def a_dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.fixture
def locks(tmp_path: Path) -> Locks:
    return Locks(tmp_path)


class TestLocks:
    def test_the_file_is_the_one_of_the_old_client(self, locks: Locks) -> None:
        lock = locks.take(ONE)
        assert lock.path.name == "m_1.0.0.lock"
        said = json.loads(lock.path.read_text())
        assert (said["pid"], said["modelId"], said["version"]) == (os.getpid(), "m", "1.0.0")
        assert said["timeout"] == 1_800_000
        assert abs(said["timestamp"] - time.time() * 1000) < 60_000

    def test_one_owner_at_a_time(self, locks: Locks) -> None:
        lock = locks.take(ONE)
        with pytest.raises(Held):
            locks.take(ONE)
        other = locks.take(Key("m", "2.0.0"))
        locks.release(lock)
        locks.release(locks.take(ONE))
        assert [owner.key for owner in locks.owners()] == [other.owner.key]

    def test_a_lock_of_a_dead_process_is_taken_over(self, locks: Locks) -> None:
        lock = locks.take(ONE)
        rewrite(lock.path, pid=a_dead_pid())
        taken = locks.take(ONE)
        with pytest.raises(LockLostError):
            locks.check(lock)
        locks.release(lock)
        locks.check(taken)

    def test_a_process_of_the_same_id_is_not_the_owner(self, locks: Locks) -> None:
        lock = locks.take(ONE)
        rewrite(lock.path, start_time="earlier")
        assert locks.owner(ONE) is None
        locks.take(ONE)

    def test_a_lock_of_the_old_client_counts(self, locks: Locks, tmp_path: Path) -> None:
        path = tmp_path / "m_1.0.0.lock"
        said = {
            "pid": os.getpid(),
            "timestamp": locks.now_ms(),
            "modelId": "m",
            "version": "1.0.0",
            "timeout": 1800000,
        }
        path.write_text(json.dumps(said))
        with pytest.raises(Held):
            locks.take(ONE)
        rewrite(path, timestamp=locks.now_ms() - TIMEOUT_MS - 1)
        locks.take(ONE)

    def test_another_machine_keeps_its_lock_until_its_time_is_over(self, locks: Locks) -> None:
        lock = locks.take(ONE)
        rewrite(lock.path, host="elsewhere", pid=a_dead_pid())
        with pytest.raises(Held):
            locks.take(ONE)
        assert locks.sweep() == []
        rewrite(lock.path, timestamp=0, renewed_at=1)
        assert locks.sweep() == ["m_1.0.0"]

    def test_what_a_dead_process_left_of_a_lock_is_swept(self, locks: Locks, tmp_path: Path) -> None:
        lock = locks.take(ONE)
        for name in ("m_2.0.0.fresh", "m_2.0.0.abc.renewed"):
            (tmp_path / name).touch()
        assert locks.sweep() == []
        assert [path.name for path in tmp_path.glob("m_*")] == [lock.path.name]

    def test_an_unreadable_lock_counts_for_ten_seconds(self, locks: Locks, tmp_path: Path) -> None:
        path = tmp_path / "m_1.0.0.lock"
        path.write_text("{")
        with pytest.raises(Held):
            locks.take(ONE)
        os.utime(path, (time.time() - 11, time.time() - 11))
        locks.take(ONE)

    def test_a_lock_is_never_there_without_its_content(
        self, locks: Locks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process that dies while it takes a lock leaves nothing that would count."""
        with monkeypatch.context() as dying:
            dying.delattr(os, "link")
            with pytest.raises(AttributeError):
                locks.take(ONE)
        assert list(tmp_path.glob("*.lock")) == []
        locks.take(ONE)

    def test_a_download_of_31_minutes_keeps_its_lock(self, tmp_path: Path) -> None:
        now = 1_700_000_000_000
        locks = Locks(tmp_path, now_ms=lambda: now)
        lock = locks.take(ONE)
        for _ in range(31):
            now += 60_000
            locks.renew(lock)
        with pytest.raises(Held):
            locks.take(ONE)
        locks.check(lock)
        now += TIMEOUT_MS + 1
        locks.take(ONE)
        with pytest.raises(LockLostError):
            locks.renew(lock)

    def test_two_versions_of_one_name_on_disk_have_two_locks(self, locks: Locks) -> None:
        first, second = Key("a_b", "1"), Key("a", "b_1")
        one, two = locks.take(first), locks.take(second)
        assert one.stem != two.stem
        assert (locks.owner(first), locks.owner(second)) == (one.owner, two.owner)
        locks.release(one)
        # The plain name is free now, but the version is not.
        with pytest.raises(Held):
            locks.take(second)

    def test_of_many_threads_one_gets_it(self, locks: Locks) -> None:
        got: list[object] = []
        start = threading.Barrier(8)

        def take() -> None:
            start.wait()
            for _ in range(20):
                try:
                    got.append(locks.take(ONE))
                except Held:
                    continue

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1

    @given(
        st.integers(0, 10**13),
        st.integers(0, 10**13),
        st.integers(0, 10**13) | st.none(),
        st.booleans(),
        st.booleans(),
    )
    def test_who_is_dead(self, now: int, taken: int, renewed: int | None, here: bool, lives: bool) -> None:
        owner = Owner(
            pid=1, timestamp=taken, model_id="m", version="1", host="h", start_time="s", renewed_at=renewed
        )
        dead = is_dead(owner, now, "h" if here else "elsewhere", "s" if lives else None)
        late = now - max(taken, renewed or 0) > TIMEOUT_MS
        assert dead == (late or (here and not lives))

    def test_this_process_has_a_start(self) -> None:
        assert start_of(os.getpid()) == start_of(os.getpid()) is not None
        assert start_of(a_dead_pid()) is None


class TestHolding:
    async def test_a_cancelled_task_lets_go_within_a_second(self, tmp_path: Path) -> None:
        locks = Locks(tmp_path)
        holding = Holding(locks, locks)
        with trio.CancelScope() as scope:
            async with holding.task(ONE, wait=False) as lock:
                assert locks.owners() == [lock.owner]
                scope.cancel()
                await trio.sleep_forever()
        assert locks.owners() == []

    async def test_whoever_does_not_wait_is_told_the_owner(self, tmp_path: Path) -> None:
        locks = Locks(tmp_path)
        holding = Holding(locks, locks)
        async with holding.task(ONE, wait=False) as lock:
            with pytest.raises(DownloadInProgressError) as told:
                async with holding.task(ONE, wait=False):
                    pass
            assert told.value.owner_pid == os.getpid()
            await holding.renew()
            await holding.check(lock)
            rewrite(lock.path, token="another")
            await holding.renew()
            with pytest.raises(LockLostError):
                await holding.check(lock)


def test_changes_of_several_writers_are_all_kept(tmp_path: Path) -> None:
    """Twelve threads with a registry each write one record each, as many processes would."""
    layout = Layout(tmp_path)
    layout.prepare()

    def write(number: int) -> None:
        registry = Registry(layout)
        for version in range(3):
            registry.put(Key(f"m{number}", f"{version}"), Record(Status.READY, "", 0, ""))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = msgspec.json.decode(layout.registry.read_bytes(), type=dict[str, dict[str, Record]])
    assert {name: sorted(versions) for name, versions in kept.items()} == {
        f"m{number}": ["0", "1", "2"] for number in range(12)
    }
