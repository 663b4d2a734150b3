"""The record of what is installed and in use: registry.json and active.json (model-manager 2, 6.3).

Only what lasts is written: a version is `ready` or in `error`. That one is being downloaded is told by its
task lock, which cannot outlive its owner as a written state would. Every change is read, merged and written
under a kernel lock, so that several processes share the files. All functions are for worker threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from linguad import log
from linguad.files import replace_file
from linguad.models.catalog import parse_checksums
from linguad.models.errors import InvalidIdentifierError, ModelError, RegistryError
from linguad.models.layout import Layout
from linguad.models.locks import exclusive
from linguad.models.names import CHECKSUMS, Key, key

KEPT_BROKEN = 3
"""Damaged registries that are put aside for a person to look at."""

logger = log.get(__name__)


class Status(StrEnum):
    """State of a version (model-manager 2.1); only READY, VERIFYING and ERROR are written here."""

    READY = "ready"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    INSTALLING = "installing"
    ERROR = "error"


class InstalledFile(msgspec.Struct, frozen=True):
    """A file of a version, its path relative to the version's directory."""

    path: str
    sha256: str
    size_bytes: int = 0


class Failure(msgspec.Struct, frozen=True):
    """Why a version cannot be used."""

    stage: str
    code: str
    message: str
    at: str


class Extra(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the old client does not know."""

    schema: int = 1
    manifest_sha256: str | None = None
    source: str | None = None
    """Address of the hub it came from."""
    verified_at: str | None = None
    pinned: bool = False
    error: Failure | None = None
    task: str | None = None
    languages: list[str] = []


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One installed version."""

    status: Status
    installed_at: str
    size_bytes: int
    checksum_sha256: str
    """What the hub lists under this name, unchanged."""
    files: list[InstalledFile] = []
    extra: Extra = Extra()


class Active(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which version of a model is in use, and which was before."""

    version: str
    previous: str | None = None
    activated_at: str = ""
    reason: str = ""


Records = dict[str, dict[str, Record]]
"""Model id → version → record, as in the file."""

Pointers = dict[str, Active]
"""Model id → active version, as in the file."""

V = TypeVar("V")
T = TypeVar("T")


def stamp() -> str:
    """Now, as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class Registry:
    """Both files of one data directory."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._records: _Kept[dict[str, Record]] = _Kept(layout.registry, _records)
        self._pointers: _Kept[Active] = _Kept(layout.active, _pointers)

    def load(self, locked: Collection[Key] = ()) -> list[Key]:
        """Read the files and repair what is damaged; the versions that must be verified before use.

        What somebody has a task lock on is left to him. Raises RegistryError if nothing can be written here.
        """

        def mend(records: Records, pointers: Pointers) -> list[Key]:
            return _mend(self._layout, locked, records, pointers)

        return self.change(mend)

    def records(self) -> Records:
        """All records; read anew if another process has written. Not to be changed."""
        return self._records.latest()

    def record(self, one: Key) -> Record | None:
        """The record of one version."""
        return self.records().get(one.model_id, {}).get(one.version)

    def active(self) -> Pointers:
        """All pointers; read anew if another process has written. Not to be changed."""
        return self._pointers.latest()

    def change(self, work: Callable[[Records, Pointers], T]) -> T:
        """Let `work` change both as they are on disk, then write them; nothing if it raises.

        Raises RegistryError and what `work` raises.
        """
        with self._alone():
            old_records, old_pointers = self._records.current(), self._pointers.current()
            records = {name: dict(versions) for name, versions in old_records.items()}
            pointers = dict(old_pointers)
            result = work(records, pointers)
            # A pointer to a version that has no record yet would be the worse half of an interrupted change.
            if records != old_records or not self._layout.registry.exists():
                self._records.write(records)
            if pointers != old_pointers:
                self._pointers.write(pointers)
        return result

    def put(self, one: Key, record: Record) -> None:
        """Write one record. Raises RegistryError."""
        self.change(lambda records, _: records.setdefault(one.model_id, {}).update({one.version: record}))

    def drop(self, one: Key) -> None:
        """Remove one record, and the pointers to it. Raises RegistryError."""
        self.change(lambda records, pointers: forget(one, records, pointers))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            with exclusive(self._layout.models / "registry.lock"):
                yield
        except OSError as error:
            raise RegistryError(
                f"{self._layout.registry} cannot be written: {error.strerror or error}"
            ) from error


def forget(one: Key, records: Records, pointers: Pointers) -> None:
    """Take a version out of both."""
    versions = records.get(one.model_id, {})
    versions.pop(one.version, None)
    if not versions:
        records.pop(one.model_id, None)
    pointer = pointers.get(one.model_id)
    if pointer is None:
        return
    if pointer.version == one.version:
        del pointers[one.model_id]
    elif pointer.previous == one.version:
        pointers[one.model_id] = msgspec.structs.replace(pointer, previous=None)


class _Kept(Generic[V]):
    """One JSON file, kept in memory until it changes on disk; a damaged one is put aside (2.3)."""

    def __init__(self, path: Path, decode: Callable[[bytes], dict[str, V]]) -> None:
        self._path = path
        self._backup = path.with_name(path.name + ".bak")
        self._decode = decode
        # One tuple, because threads replace it while others read.
        self._kept: tuple[_Identity | None, dict[str, V]] = None, {}

    def current(self) -> dict[str, V]:
        """Raises OSError: a file that cannot be read now is not a damaged one."""
        seen, value = self._kept
        identity = _identity(self._path)
        if identity is None or identity != seen:
            value = self._read()
            self._kept = identity, value
        return value

    def latest(self) -> dict[str, V]:
        """As `current`, or what was read last while the file cannot be read."""
        try:
            return self.current()
        except OSError as error:
            logger.warning("model_registry_unreadable", file=str(self._path), reason=str(error))
            return self._kept[1]

    def write(self, value: dict[str, V]) -> None:
        with suppress(FileNotFoundError):
            replace_file(self._backup, self._path.read_bytes())
        replace_file(self._path, msgspec.json.format(msgspec.json.encode(value)))
        self._kept = _identity(self._path), value

    def _read(self) -> dict[str, V]:
        for path in (self._path, self._backup):
            try:
                return self._decode(path.read_bytes())
            except FileNotFoundError:
                continue
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                logger.warning("model_registry_broken", file=str(path), reason=str(error))
                _put_aside(path)
        return {}


_Identity = tuple[int, int, int]


def _identity(path: Path) -> _Identity | None:
    """What changes with every write of a file; None if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _put_aside(path: Path) -> None:
    """Keep a damaged file for a person, but only the newest few."""
    with suppress(OSError):
        path.rename(path.with_name(f"{path.name}.corrupt-{time.time_ns()}"))
        for old in sorted(path.parent.glob(f"{path.name}.corrupt-*"))[:-KEPT_BROKEN]:
            old.unlink()


def _records(data: bytes) -> dict[str, dict[str, Record]]:
    """The records of a file; one that makes no sense is left out. Raises MsgspecError."""
    found: Records = {}
    for model_id, versions in msgspec.json.decode(data, type=dict[str, dict[str, Any]]).items():
        for version, record in versions.items():
            try:
                one = key(model_id, version)
                found.setdefault(one.model_id, {})[version] = msgspec.convert(record, Record, strict=False)
            except (InvalidIdentifierError, msgspec.MsgspecError) as error:
                logger.warning("model_record_ignored", reason=str(error))
    return found


def _pointers(data: bytes) -> dict[str, Active]:
    return msgspec.json.decode(data, type=dict[str, Active], strict=False)


def _mend(layout: Layout, locked: Collection[Key], records: Records, pointers: Pointers) -> list[Key]:
    """Bring the records in line with the trees on disk; the versions whose files must be looked at."""
    known = [Key(model_id, version) for model_id, versions in records.items() for version in versions]
    trees = set(layout.trees())
    for one in known:
        unfinished = records[one.model_id][one.version].status not in (Status.READY, Status.ERROR)
        if one not in locked and (not layout.tree(one).is_dir() or (unfinished and one not in trees)):
            logger.warning("model_record_dropped", model=one.model_id, version=one.version)
            forget(one, records, pointers)
    doubtful = []
    for one in sorted(trees - set(locked)):
        record = records.get(one.model_id, {}).get(one.version)
        if record is not None and record.status in (Status.READY, Status.ERROR):
            continue
        doubtful.append(one)
        record = record or Record(Status.VERIFYING, stamp(), 0, "", _listed(layout.tree(one)))
        records.setdefault(one.model_id, {})[one.version] = msgspec.structs.replace(
            record, status=Status.VERIFYING
        )
    for model_id, pointer in list(pointers.items()):
        if pointer.version not in records.get(model_id, {}):
            del pointers[model_id]
    return doubtful


def _listed(tree: Path) -> list[InstalledFile]:
    """The files that a tree's own list names; none if the list is damaged, which verification then tells."""
    try:
        digests = parse_checksums((tree / CHECKSUMS).read_bytes())
        return [InstalledFile(path, digest, (tree / path).stat().st_size) for path, digest in digests.items()]
    except (OSError, ModelError):
        return []
