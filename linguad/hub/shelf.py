"""The disk behind the catalogue: walks it, keeps digests and records, makes entries of what is there.

Everything here runs in a worker thread, one call at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

import msgspec

from linguad import log
from linguad.hub.answers import HubProblem
from linguad.hub.checksums import CHECKSUM, checksum_json
from linguad.hub.disk import make_directories, put_file
from linguad.hub.entries import (
    ModelEntry,
    ServiceEntry,
    model_entry,
    problems_of,
    service_entry,
    services_index,
)
from linguad.hub.hashes import Hashes, Stamp
from linguad.hub.metadata import Described, read_metadata
from linguad.hub.records import Record
from linguad.hub.scan import MAX_RECORD_BYTES, RECORD, File, Scanner, Tree
from linguad.hub.signing import Keys
from linguad.hub.snapshot import Change, Snapshot, follow

Done = tuple[str, str, File, str]
"""Kind and id, a file of it, and its digest; else UNREADABLE or GROWING."""

UNREADABLE = "it cannot be read"
GROWING = "it changed while it was hashed; it is hashed again once it has been seen as it is now"

DIRECTORIES = ("storage", "services", "_uploads", "_trash", "_hub")

_HOUR_NS = 3600 * 10**9

logger = log.get(__name__)


class Shelf:
    """What is known of one models directory."""

    def __init__(self, root: Path, keys: Keys, *, signed_only: bool, export: bool) -> None:
        self.root = root
        self._keys = keys
        self._signed_only = signed_only
        self._exports = export
        self._hashes = Hashes(root)
        self._scanner = Scanner(root, self._hashes)
        self._tree = Tree()
        self._described: dict[str, Described] = {}
        self._metadata = b""
        self._metadata_problems: list[str] = []
        self._passed_over: dict[str, Done] = {}
        """What could not be hashed, by path; it is not tried again while it looks the same."""
        self._composed = Tree()
        self._composed_words: dict[str, Described] = {}
        self.read_at = 0.0
        """When the whole disk was last looked at, Unix seconds."""

    def prepare(self) -> None:
        """Make the directories and read what was known before. Raises OSError."""
        for name in DIRECTORIES:
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self._hashes.load()
        self._keys.load()

    def scan(self, *, full: bool) -> None:
        """Look at the disk; with `full` also at files in directories that did not change. Raises OSError."""
        if full:
            self._passed_over.clear()
        self._tree = self._scanner.scan(self._tree, time.time_ns(), full=full)
        growing = [(kind, name) for kind, name, _, why in self._passed_over.values() if why == GROWING]
        if growing:
            self._tree = self._scanner.some(self._tree, growing, time.time_ns())
        self._passed_over = {
            file.where: self._passed_over[file.where]
            for _, _, file in self._without_digest()
            if self._is_passed_over(file)
        }
        self._read_metadata()
        self.read_at = time.time()

    def look(self, kind: str, name: str) -> None:
        """Look at one model or service in full. Raises OSError."""
        self._tree = self._scanner.some(self._tree, [(kind, name)], time.time_ns())

    def edit(self, kind: str, name: str, work: Callable[[Record], None]) -> None:
        """Change the record of a model or service. Raises OSError, HubProblem, and what `work` raises."""
        known = self._tree.services.get(name) if kind == "service" else self._tree.models.get(name)
        where = known.where if known else f"{'services' if kind == 'service' else 'storage'}/{name}"
        record = msgspec.json.decode(msgspec.json.encode(known.record if known else Record()), type=Record)
        work(record)
        data = msgspec.json.format(msgspec.json.encode(record))
        if len(data) > MAX_RECORD_BYTES:
            raise HubProblem(413, "too_large", "All that is said about it together has become too long.")
        make_directories(self.root, self.root / where)
        put_file(self.root / where / RECORD, data)
        self.look(kind, name)

    def unhashed(self) -> list[tuple[str, str, File]]:
        """Kind and id with each file that is to be hashed: the newest first, of one hour the smallest."""
        found = [one for one in self._without_digest() if not self._is_passed_over(one[2])]
        return sorted(found, key=lambda one: (-(one[2].stamp.mtime_ns // _HOUR_NS), one[2].stamp.size))

    def take(self, done: Sequence[Done], *, last: bool) -> None:
        """Remember digests; at the `last` of a run forget those of files that are gone."""
        which: dict[tuple[str, str], None] = {}
        for one in done:
            kind, name, file, digest = one
            if digest in (UNREADABLE, GROWING):
                self._passed_over[file.where] = one
            else:
                self._hashes.put(file.where, file.stamp, digest)
                which[kind, name] = None
        self._tree = self._scanner.some(self._tree, which, time.time_ns())
        for kind, name in which:
            if kind == "model":
                self._write_checksums(name)
        try:
            self._hashes.save(self._alive() if last else None)
        except OSError as error:
            logger.warning("hub_hashes_unwritable", reason=str(error))

    def know(self, where: str, stamp: Stamp, digest: str) -> None:
        """Remember the digest of a file that is about to lie there."""
        self._hashes.put(where, stamp, digest)

    def compose(self, before: Snapshot, *, afresh: bool = False) -> tuple[Snapshot, Change | None]:
        """The snapshot of what is known now; with `afresh` no entry is taken from the one before."""
        revoked = self._keys.revoked()
        models: dict[str, ModelEntry] = {}
        services: dict[str, ServiceEntry] = {}
        for name, model in sorted(self._tree.models.items()):
            entry = before.models.get(name)
            described = self._described.get(name)
            same = self._composed.models.get(name) is model
            if afresh or entry is None or not same or self._composed_words.get(name) != described:
                made = model_entry(model, described, revoked)
                entry = entry if made == entry else made
            models[name] = entry
        for name, service in sorted(self._tree.services.items()):
            known = before.services.get(name)
            if afresh or known is None or self._composed.services.get(name) is not service:
                fresh = service_entry(service, self._signed_only, revoked)
                known = known if fresh == known else fresh
            services[name] = known
        self._composed, self._composed_words = self._tree, self._described
        now_ms = time.time_ns() // 1_000_000
        snapshot, change = follow(before, models, services, tuple(self._problems()), now_ms)
        if self._exports and change is not None and (change.services or not before.revision):
            self._export(snapshot)
        return snapshot, change

    def _is_passed_over(self, file: File) -> bool:
        known = self._passed_over.get(file.where)
        return known is not None and known[2].stamp == file.stamp

    def _without_digest(self) -> Iterator[tuple[str, str, File]]:
        for model in self._tree.models.values():
            for version in model.versions.values():
                for file in version.files:
                    if not file.sha256:
                        yield "model", model.id, file
        for service in self._tree.services.values():
            for file in service.packages.values():
                if not file.sha256:
                    yield "service", service.id, file

    def _write_checksums(self, model_id: str) -> None:
        """Give versions below `storage` the file that clients ask for, so that other tools have it too."""
        model = self._tree.models.get(model_id)
        for version in model.versions.values() if model and not model.task else ():
            if not version.has_checksum and all(file.sha256 for file in version.files):
                digests = {file.path: file.sha256 for file in version.files}
                with suppress(OSError):
                    # a directory that is mounted read-only has its digests in memory only
                    put_file(self.root / version.where / CHECKSUM, checksum_json(digests))

    def _alive(self) -> frozenset[str]:
        versions = chain.from_iterable(model.versions.values() for model in self._tree.models.values())
        files = chain.from_iterable(version.files for version in versions)
        packages = chain.from_iterable(service.packages.values() for service in self._tree.services.values())
        return frozenset(file.where for file in chain(files, packages))

    def _read_metadata(self) -> None:
        try:
            data = (self.root / "metadata.json").read_bytes()
        except FileNotFoundError:
            data = b""
        except OSError as error:
            self._metadata, self._metadata_problems = b"", [f"{UNREADABLE}: {error.strerror}"]
            return
        if data == self._metadata:
            return
        self._metadata = data
        described, self._metadata_problems = read_metadata(data) if data else ({}, [])
        if described or not self._metadata_problems:
            # of a file that became unreadable, what it said last holds
            self._described = described

    def _problems(self) -> Iterator[tuple[str, str]]:
        yield from self._tree.problems
        for problem in self._metadata_problems:
            yield "metadata.json", problem
        for model in self._tree.models.values():
            yield from problems_of(model, self._described.get(model.id))
        for name, described in self._described.items():
            if name not in self._tree.models and described.versions:
                yield f"metadata.json: {name}", "no files of this model are on the disk"
        for where, (*_, why) in self._passed_over.items():
            yield where, why

    def _export(self, snapshot: Snapshot) -> None:
        """Keep the file that old programs read where they cannot reach the hub."""
        path = self.root / "services" / "services_index.json"
        data = services_index(snapshot.services)
        try:
            if not path.exists() or path.read_bytes() != data:
                put_file(path, data)
        except OSError as error:
            logger.warning("hub_index_unwritable", reason=str(error))
