"""What lies in the models directory: a walk that looks again only where something changed (model-hub 2, 4.2).

All of it runs in a worker thread. Names that are hidden are skipped, links are never followed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from linguad.hub.checksums import CHECKSUM, parse_checksums
from linguad.hub.hashes import Hashes, Stamp
from linguad.hub.names import PLATFORMS, TASKS, BadName, check_path, is_hidden, is_id, is_version
from linguad.hub.records import Record

RECORD = "_hub.json"
MANIFEST = "manifest.json"
PACKAGE = "service.zip"
LOOSE_VERSION = "1.0.0"
"""The version that files lying directly in an old model directory make."""

SETTLED_NS = 120 * 10**9
"""A file written more recently than this may still grow without its directory showing it."""

_OLD_VERSION = re.compile(r"[vV]?\d[A-Za-z0-9.+_-]{0,62}")
MAX_RECORD_BYTES = 4 * 1024 * 1024
"""Most bytes read of a file that describes others."""

T = TypeVar("T")


class File(Struct, frozen=True, gc=False):
    """A file that can be had."""

    path: str
    """Below its version."""
    where: str
    """Below the models directory."""
    stamp: Stamp
    sha256: str = ""


class Version(Struct, frozen=True):
    """The files of one version, and how to see whether they are still the same."""

    name: str
    where: str
    files: tuple[File, ...]
    seen: tuple[tuple[str, int], ...]
    """Its directories with their times (ns)."""
    settled: bool
    own: Mapping[str, Any]
    """What its manifest.json says."""
    declared: Mapping[str, str]
    """Digests that its checksum.sha256 says, by path."""
    has_checksum: bool
    problems: tuple[tuple[str, str], ...]


class Model(Struct, frozen=True):
    """A model as it lies on the disk."""

    id: str
    where: str
    task: str
    """Of the old directory it lies in; "" in `storage`."""
    record: Record
    record_seen: int
    versions: Mapping[str, Version]


class Service(Struct, frozen=True):
    """A service as it lies on the disk; packages by version and platform."""

    id: str
    where: str
    record: Record
    record_seen: int
    packages: Mapping[tuple[str, str], File]


class Tree(Struct, frozen=True):
    """All that was found."""

    models: Mapping[str, Model] = {}
    services: Mapping[str, Service] = {}
    problems: tuple[tuple[str, str], ...] = ()
    """Path and what is wrong with it."""


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


class Scanner:
    """Walks below one models directory."""

    def __init__(self, root: Path, hashes: Hashes) -> None:
        self._root = root
        self._hashes = hashes
        self._problems: list[tuple[str, str]] = []
        self._now_ns = 0

    def scan(self, before: Tree, now_ns: int, *, full: bool = False) -> Tree:
        """Everything; what has not changed is the same object as `before`, unless `full`. Raises OSError."""
        self._problems, self._now_ns = [], now_ns
        models: dict[str, Model] = {}
        for top, task in (("storage", ""), *((task, task) for task in TASKS)):
            for entry in self._directories(top, required=top == "storage"):
                if not is_id(entry.name):
                    self._problem(f"{top}/{entry.name}", "the name cannot be the id of a model")
                elif entry.name not in models:
                    known = None if full else before.models.get(entry.name)
                    found = self.model(entry.name, f"{top}/{entry.name}", task, known)
                    if found is not None:
                        models[entry.name] = found
        services: dict[str, Service] = {}
        for entry in self._directories("services"):
            if not is_id(entry.name):
                self._problem(f"services/{entry.name}", "the name cannot be the id of a service")
            elif (service := self.service(entry.name, before.services.get(entry.name))) is not None:
                services[entry.name] = service
        return Tree(models, services, tuple(self._problems))

    def some(self, before: Tree, which: Iterable[tuple[str, str]], now_ns: int) -> Tree:
        """The same tree with some looked at anew, in full: pairs of kind and id. Raises OSError."""
        self._problems, self._now_ns = [], now_ns
        models, services = {**before.models}, {**before.services}
        for kind, name in which:
            if kind == "service":
                services.pop(name, None)
                if (service := self.service(name, None)) is not None:
                    services[name] = service
                continue
            old = models.pop(name, None)
            # as in a whole scan: what lies in `storage` hides an old directory
            model = self.model(name, f"storage/{name}", "", None)
            if model is None and old is not None and old.task:
                model = self.model(name, old.where, old.task, None)
            if model is not None:
                models[name] = model
        return msgspec.structs.replace(before, models=models, services=services)

    def model(self, name: str, where: str, task: str, known: Model | None) -> Model | None:
        """A model directory; None if there is nothing in it."""
        if known is not None and known.where != where:
            known = None
        record_seen, record = self._record(where, known)
        old = known.versions if known else {}
        versions: dict[str, Version] = {}
        loose: list[os.DirEntry[str]] = []
        for entry in self._entries(where):
            if task and not (entry.is_dir(follow_symlinks=False) and _OLD_VERSION.fullmatch(entry.name)):
                loose.append(entry)
            elif entry.is_dir(follow_symlinks=False):
                if not is_version(entry.name):
                    self._problem(f"{where}/{entry.name}", "the name cannot be a version")
                    continue
                version = self._version(entry.name, f"{where}/{entry.name}", old.get(entry.name))
                if version is not None:
                    versions[entry.name] = version
        if loose and LOOSE_VERSION not in versions:
            names = frozenset(entry.name for entry in loose)
            version = self._version(LOOSE_VERSION, where, old.get(LOOSE_VERSION), names)
            if version is not None:
                versions[LOOSE_VERSION] = version
        if not versions and record_seen == 0:
            return None
        if (
            known is not None
            and record_seen == known.record_seen
            and versions.keys() == old.keys()
            and all(version is old[key] for key, version in versions.items())
        ):
            return known
        return Model(name, where, task, record, record_seen, versions)

    def service(self, name: str, known: Service | None) -> Service | None:
        """A directory of packages; None if there is nothing in it."""
        where = f"services/{name}"
        record_seen, record = self._record(where, known)
        packages: dict[tuple[str, str], File] = {}
        for version in self._directories(where):
            if not is_version(version.name):
                self._problem(f"{where}/{version.name}", "the name cannot be a version")
                continue
            for platform in self._directories(f"{where}/{version.name}"):
                if platform.name not in PLATFORMS:
                    self._problem(f"{where}/{version.name}/{platform.name}", "there is no such platform")
                    continue
                path = f"{where}/{version.name}/{platform.name}/{PACKAGE}"
                file = self._file(PACKAGE, path)
                if file is not None:
                    packages[version.name, platform.name] = file
        if not packages and record_seen == 0:
            return None
        if known is not None and record_seen == known.record_seen and packages == known.packages:
            return known
        return Service(name, where, record, record_seen, packages)

    def _version(
        self, name: str, where: str, known: Version | None, loose: frozenset[str] | None = None
    ) -> Version | None:
        if known is not None and known.where == where and known.settled and self._same(known.seen):
            self._problems += known.problems
            return known
        first_problem = len(self._problems)
        seen: list[tuple[str, int]] = []
        files = list(self._walk(where, "", seen, loose))
        own = self._json(f"{where}/{MANIFEST}")
        text = self._small(f"{where}/{CHECKSUM}") or b""
        declared, has_checksum = {}, bool(text)
        if text:
            try:
                declared = parse_checksums(text, [file.path for file in files])
            except ValueError as error:
                self._problem(f"{where}/{CHECKSUM}", str(error))
        if declared:
            checked_ns = self._time(f"{where}/{CHECKSUM}")
            files = [self._believe(file, declared.get(file.path, ""), checked_ns) for file in files]
        if not files:
            return None
        newest = max(file.stamp.mtime_ns for file in files)
        files.sort(key=lambda file: file.path)
        version = Version(
            name=name,
            where=where,
            files=tuple(files),
            seen=tuple(seen),
            settled=newest < self._now_ns - SETTLED_NS,
            own=own if isinstance(own, dict) else {},
            declared=declared,
            has_checksum=has_checksum,
            problems=tuple(self._problems[first_problem:]),
        )
        return known if version == known else version

    def _believe(self, file: File, declared: str, checked_ns: int) -> File:
        """A file with the digest that was published with it, unless it was written after that."""
        if file.sha256 or not declared or file.stamp.mtime_ns > checked_ns:
            return file
        return msgspec.structs.replace(file, sha256=declared)

    def _walk(
        self, where: str, below: str, seen: list[tuple[str, int]], only: frozenset[str] | None = None
    ) -> Iterator[File]:
        seen.append((where, self._time(where)))
        for entry in self._entries(where):
            if only is not None and entry.name not in only:
                continue
            path = f"{below}{entry.name}"
            try:
                check_path(path)
            except BadName as error:
                self._problem(f"{where}/{entry.name}", f"the name cannot be served: {error}")
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(f"{where}/{entry.name}", f"{path}/", seen)
            elif path != CHECKSUM:
                file = self._file(path, f"{where}/{entry.name}")
                if file is not None:
                    yield file

    def _file(self, path: str, where: str) -> File | None:
        try:
            stat = os.lstat(self._root / where)
        except OSError:
            return None
        if stat.st_mode & 0o170000 != 0o100000:
            self._problem(where, "it is no ordinary file")
            return None
        stamp = Stamp.of(stat)
        return File(path, where, stamp, self._hashes.get(where, stamp))

    def _directories(self, where: str, *, required: bool = False) -> Iterator[os.DirEntry[str]]:
        return (
            entry for entry in self._entries(where, required=required) if entry.is_dir(follow_symlinks=False)
        )

    def _entries(self, where: str, *, required: bool = False) -> list[os.DirEntry[str]]:
        """What is in a directory and may be shown, sorted by name."""
        try:
            with os.scandir(self._root / where) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            if required:
                raise
            return []
        except OSError as error:
            if required:
                raise
            self._problem(where, f"it cannot be read: {error.strerror}")
            return []
        shown = []
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if entry.is_symlink():
                self._problem(f"{where}/{entry.name}", "it is a symbolic link; links are never served")
                continue
            shown.append(entry)
        return shown

    def _record(self, where: str, known: Model | Service | None) -> tuple[int, Record]:
        """When the record was written (ns; 0 if there is none), and the record."""
        seen = self._time(f"{where}/{RECORD}")
        if known is not None and known.record_seen == seen:
            return seen, known.record
        data = self._small(f"{where}/{RECORD}")
        if data is None:
            return 0, Record()
        try:
            return seen, msgspec.json.decode(data, type=Record)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            self._problem(f"{where}/{RECORD}", str(error))
            return seen, known.record if known else Record()

    def _json(self, where: str) -> Any:
        data = self._small(where)
        if data is None:
            return None
        try:
            return msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"))
        except msgspec.DecodeError as error:
            self._problem(where, str(error))
            return None

    def _small(self, where: str) -> bytes | None:
        try:
            # neither through a link, nor waiting for who writes into a FIFO
            with open(self._root / where, "rb", opener=_no_link) as file:
                return file.read(MAX_RECORD_BYTES)
        except OSError:
            return None

    def _same(self, seen: tuple[tuple[str, int], ...]) -> bool:
        return all(self._time(where) == time_ns for where, time_ns in seen)

    def _time(self, where: str) -> int:
        try:
            return os.lstat(self._root / where).st_mtime_ns
        except OSError:
            return 0

    def _problem(self, where: str, what: str) -> None:
        self._problems.append((where, what))
