"""The one kind of lock: a JSON file that names its owner and is renewed while the owner lives.

It serves as the exclusive task lock of a version and as one of many leases on it (model-manager 3.1,
resolution 60). Every look at a lock file that may change it happens under a kernel lock on the directory, so
that reading, judging and replacing it are one step. All functions block for well under a millisecond; they
are for worker threads.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from linguad import log
from linguad.models.errors import LockLostError, ModelError
from linguad.models.names import Key, stem

TIMEOUT_MS = 1_800_000
"""A lock not renewed for so long has no owner any more, ms (model-manager 14)."""

RENEW_SECONDS = 60.0
"""How often an owner renews; thirty renewals may fail before anybody doubts it."""

UNREADABLE_SECONDS = 10.0
"""An unreadable lock file may be one that is being written, but not for longer than this."""

logger = log.get(__name__)


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """What a lock file says; the first five fields are those of the old client."""

    pid: int
    timestamp: int
    """When it was taken, ms since the epoch."""
    model_id: str = msgspec.field(name="modelId")
    version: str
    timeout: int = TIMEOUT_MS
    """Without renewal the lock ends after so long, ms."""
    token: str | None = None
    """Proof of ownership; the old client writes none."""
    host: str | None = None
    start_time: str | None = None
    """When its process started, as `start_of` tells: a later process of the same id is another one."""
    renewed_at: int | None = None

    @property
    def key(self) -> Key:
        """What is locked."""
        return Key(self.model_id, self.version)


class Held(ModelError):
    """Somebody else holds the lock."""

    code = "locked"

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        super().__init__(f"{owner.key} is locked by process {owner.pid} on {owner.host or 'this machine'}")


@dataclass(slots=True, eq=False)
class Lock:
    """A lock that this process holds."""

    path: Path
    owner: Owner

    @property
    def stem(self) -> str:
        """The name of the locked version on disk."""
        return self.path.stem


def start_of(pid: int) -> str | None:
    """What tells this process from any other that has had or will have its id; None if there is none now."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return _without_proc(pid)
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else f"{boot_id()}/{rest[18]}"


def _without_proc(pid: int) -> str | None:
    """Where the kernel has no /proc, whether the process lives is all that is known."""
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return ""
    return ""


def boot_id() -> str:
    """An id of this run of the machine; empty where the kernel tells none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def is_dead(owner: Owner, now_ms: int, host: str, started: str | None) -> bool:
    """Whether a lock has outlived its owner; `started` is `start_of` its pid on this machine."""
    if now_ms - max(owner.timestamp, owner.renewed_at or 0) > owner.timeout:
        return True
    if owner.host not in (None, host):
        # Shared storage: only time tells whether another machine's process lives.
        return False
    return started is None or owner.start_time not in (None, started)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Keep all other processes and threads out; the kernel lets go when this process dies. Raises OSError."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def wall_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Locks:
    """The locks in one directory, which exists."""

    directory: Path
    now_ms: Callable[[], int] = wall_ms
    host: str = field(default_factory=socket.gethostname)

    def take(self, key: Key) -> Lock:
        """Take the task lock of a version, from its dead owner if need be. Raises Held, OSError.

        Two versions may have the same plain name on disk; the later one uses its other name then.
        """
        names = [stem(key), stem(key, apart=True)]
        with self._alone():
            living = {name: owner for name in names if (owner := self._living(self._path(name)))}
            for owner in living.values():
                if owner.key in (key, _UNREADABLE.key):
                    raise Held(owner)
            return self._make(next(name for name in names if name not in living), key)

    def lease(self, key: Key) -> Lock:
        """One of many locks on a version, which says that it is in use. Raises OSError."""
        with self._alone():
            return self._make(f"{stem(key)}.{secrets.token_hex(6)}", key)

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.lock"

    def _make(self, name: str, key: Key) -> Lock:
        now = self.now_ms()
        owner = Owner(
            pid=os.getpid(),
            timestamp=now,
            model_id=key.model_id,
            version=key.version,
            token=secrets.token_hex(16),
            host=self.host,
            start_time=start_of(os.getpid()),
            renewed_at=now,
        )
        path = self._path(name)
        path.unlink(missing_ok=True)
        # With its content, so that no death leaves an empty one that would count for a while.
        fresh = path.with_suffix(".fresh")
        fresh.write_bytes(msgspec.json.encode(owner))
        try:
            # Not over another, because an old client does not know about `_alone`.
            os.link(fresh, path)
        except FileExistsError:
            raise Held(_UNREADABLE) from None
        finally:
            fresh.unlink()
        return Lock(path, owner)

    def renew(self, lock: Lock) -> None:
        """Say that the owner lives. Raises LockLostError if the lock is somebody else's now, OSError."""
        with self._alone():
            self._check(lock)
            lock.owner = msgspec.structs.replace(lock.owner, renewed_at=self.now_ms())
            fresh = lock.path.with_suffix(".renewed")
            fresh.write_bytes(msgspec.json.encode(lock.owner))
            fresh.replace(lock.path)

    def check(self, lock: Lock) -> None:
        """Raises LockLostError if the lock is not held any more, OSError."""
        with self._alone():
            self._check(lock)

    def _check(self, lock: Lock) -> None:
        found = _read(lock.path)
        if found is None or found.token != lock.owner.token:
            raise LockLostError(f"{lock.owner.key} was taken over by another process; try it again")

    def release(self, lock: Lock) -> None:
        """Let go; nothing happens if the lock is somebody else's now. Raises OSError."""
        with self._alone(), suppress(LockLostError):
            self._check(lock)
            lock.path.unlink(missing_ok=True)

    def owner(self, key: Key) -> Owner | None:
        """Who holds the task lock of a version, if its owner lives. Raises OSError."""
        found = (self._living(self._path(name)) for name in (stem(key), stem(key, apart=True)))
        return next((owner for owner in found if owner and owner.key == key), None)

    def owners(self) -> list[Owner]:
        """All that hold a lock here and live. Raises OSError."""
        found = map(self._living, self._files())
        return [owner for owner in found if owner is not None]

    def sweep(self) -> list[str]:
        """Remove the locks of dead owners, and say which (model-manager 3.3). Raises OSError."""
        swept = []
        with self._alone():
            for path in self._files():
                if self._living(path) is None:
                    path.unlink(missing_ok=True)
                    swept.append(path.stem)
            # What a process that died while it took or renewed a lock has left.
            for path in (*self.directory.glob("*.fresh"), *self.directory.glob("*.renewed")):
                path.unlink(missing_ok=True)
        for name in swept:
            logger.warning("model_lock_swept", lock=name)
        return swept

    def _files(self) -> list[Path]:
        return sorted(self.directory.glob("*.lock"))

    def _living(self, path: Path) -> Owner | None:
        """The owner of a lock file, if it may be alive; a file that may be half written has one too."""
        owner = _read(path)
        if owner is None:
            return _UNREADABLE if _is_fresh(path) else None
        return None if is_dead(owner, self.now_ms(), self.host, start_of(owner.pid)) else owner

    def _alone(self) -> AbstractContextManager[None]:
        return exclusive(self.directory / ".guard")


_UNREADABLE = Owner(pid=0, timestamp=0, model_id="", version="")
"""Whoever is writing a lock file at this moment."""


def _read(path: Path) -> Owner | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Owner, strict=False)
    except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _is_fresh(path: Path) -> bool:
    """Whether a file that cannot be read may still be in the making."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return _read(path) is None and time.time() - status.st_mtime < UNREADABLE_SECONDS
