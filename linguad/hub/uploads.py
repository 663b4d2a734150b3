"""Uploads: parts of files that come one after the other until the whole can be published at once.

An upload is a directory below `_uploads` that outlives a restart: `upload.json` says what is to come, `tree`
holds what has come. The size of a file there is its offset (model-hub 11.1).
"""

from __future__ import annotations

import os
import re
import shutil
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import trio
from msgspec import Struct

from linguad import log
from linguad.hub.answers import HubProblem, disk_problem
from linguad.hub.catalog import Catalog
from linguad.hub.checksums import CHECKSUM
from linguad.hub.disk import open_below, put_file
from linguad.hub.names import PLATFORMS, BadName, check_path, is_hidden, is_id, is_semver
from linguad.hub.records import Signature
from linguad.hub.scan import MANIFEST, PACKAGE
from linguad.hub.snapshot import Snapshot

SPACE_FACTOR = 1.2
"""Free space that an upload needs, as a multiple of its size."""

MAX_FILES = 10_000
MAX_NOTES = 16 * 1024

_DIGEST = re.compile(r"[0-9a-f]{64}")

logger = log.get(__name__)


class NewFile(Struct, frozen=True):
    """A file that is to come."""

    path: str
    size_bytes: int
    sha256: str


class NewVersion(Struct, kw_only=True):
    """What somebody wants to publish; of a service, one package for `platform`."""

    version: str
    files: list[NewFile]
    notes: str | None = None
    channel: str | None = None
    signature: Signature | None = None
    platform: str = ""
    created_at: str | None = None
    """Of the manifest (RFC 3339), for who signs that beforehand. None: the moment of publication."""


class Failure(Struct, frozen=True):
    """Why a version was not published; on the wire as it is."""

    file: str
    """Path of the file that is not as it should be; "" for the whole."""
    reason: str


class AlreadyPublished(Failure, frozen=True):
    """The version is there, with other content."""

    file: str = ""
    reason: str = "the version is published with other content"


class Upload(Struct, kw_only=True):
    """The state of an upload; times are Unix seconds."""

    id: str
    kind: Literal["model", "service"]
    name: str
    wanted: NewVersion
    expires_at: float
    state: Literal["open", "verifying", "committed", "failed"] = "open"
    failed: Failure | None = None
    """Of the last commit that failed."""

    @property
    def size(self) -> int:
        """All of it, bytes."""
        return sum(file.size_bytes for file in self.wanted.files)

    @property
    def committed(self) -> bool:
        """Whether it is published."""
        return self.state == "committed"

    def file(self, path: str) -> NewFile:
        """A file that is to come. Raises HubProblem."""
        for file in self.wanted.files:
            if file.path == path:
                return file
        raise HubProblem(404, "file_not_found", "The upload has no such file.")


class UploadRules(Struct, frozen=True, kw_only=True):
    """Limits of uploads."""

    max_bytes: int
    keep_s: float
    allowed_programs: tuple[str, ...]


class Uploads:
    """All uploads of one models directory."""

    def __init__(self, catalog: Catalog, rules: UploadRules) -> None:
        self._catalog = catalog
        self._rules = rules
        self._root = catalog.root / "_uploads"
        self._uploads: dict[str, Upload] = {}
        self._busy: set[tuple[str, str]] = set()
        self._disk = trio.CapacityLimiter(8)

    async def open(self) -> None:
        """Know the uploads that a process before left. Raises OSError."""
        self._uploads = await trio.to_thread.run_sync(self._load)

    async def begin(
        self, kind: Literal["model", "service"], name: str, wanted: NewVersion
    ) -> tuple[Upload, list[str]]:
        """A new upload, and the paths whose bytes the hub does not have yet. Raises HubProblem."""
        self._check(kind, name, wanted)
        if published_as(self._catalog, kind, name, wanted) is False:
            raise HubProblem(409, "version_exists", "This version is published with other content.")
        upload = Upload(
            id=uuid.uuid4().hex,
            kind=kind,
            name=name,
            wanted=wanted,
            expires_at=time.time() + self._rules.keep_s,
        )
        held = await self._catalog.ask(partial(_held, wanted=wanted))
        size = sum(file.size_bytes for file in wanted.files if file.path not in held)
        await self.room_for(size)
        try:
            await trio.to_thread.run_sync(self._create, upload, held, limiter=self._disk)
        except OSError as error:
            logger.warning("hub_disk_failed", path=f"_uploads/{upload.id}", reason=str(error))
            await self.clear(upload)
            raise disk_problem(error) from error
        self._uploads[upload.id] = upload
        return upload, [file.path for file in wanted.files if file.size_bytes and file.path not in held]

    def get(self, upload_id: str) -> Upload:
        """An upload. Raises HubProblem."""
        upload = self._uploads.get(upload_id)
        if upload is None:
            raise HubProblem(404, "upload_not_found", "There is no such upload; it may have expired.")
        return upload

    async def offset(self, upload: Upload, path: str) -> int:
        """How many bytes of a file have come."""
        upload.file(path)
        return await trio.to_thread.run_sync(_size, self.tree(upload) / path, limiter=self._disk)

    async def offsets(self, upload: Upload) -> dict[str, int]:
        """How many bytes of each file have come."""
        files = upload.wanted.files
        if upload.committed:
            return {file.path: file.size_bytes for file in files}
        tree = self.tree(upload)
        return await trio.to_thread.run_sync(
            lambda: {file.path: _size(tree / file.path) for file in files}, limiter=self._disk
        )

    async def part(self, upload: Upload, path: str, offset: int) -> Part:
        """Take the file for one more part, which begins at `offset`; it must be closed. Raises HubProblem."""
        file = upload.file(path)
        key = (upload.id, path)
        if upload.state not in ("open", "failed"):
            raise HubProblem(409, "upload_closed", f"The upload is {upload.state}.")
        if key in self._busy:
            raise HubProblem(409, "upload_busy", "Another request is writing this file.")
        self._busy.add(key)
        try:
            target = self.tree(upload) / path
            descriptor, size = await trio.to_thread.run_sync(_append_to, target, limiter=self._disk)
        except OSError as error:
            self._busy.discard(key)
            logger.warning("hub_disk_failed", path=f"_uploads/{upload.id}", reason=str(error))
            raise disk_problem(error) from error
        except BaseException:
            self._busy.discard(key)
            raise
        part = Part(descriptor, size, file.size_bytes, self._disk, lambda: self._busy.discard(key))
        if size != offset:
            part.close()
            raise HubProblem(
                409,
                "wrong_offset",
                f"Upload-Offset must be {size}, where the file ends now.",
                headers={"Upload-Offset": str(size)},
            )
        return part

    async def abort(self, upload: Upload) -> None:
        """Forget an upload and its bytes. Raises HubProblem while it is being published."""
        if self.in_use(upload):
            raise HubProblem(409, "upload_busy", "The upload is in use.")
        self._uploads.pop(upload.id, None)
        await self.clear(upload)

    async def expire(self, now: float) -> None:
        """Remove uploads that were left behind (Unix s)."""
        for upload in list(self._uploads.values()):
            if upload.expires_at < now and not self.in_use(upload):
                await self.abort(upload)

    async def room_for(self, size: int) -> None:
        """Raises HubProblem 507 unless so many bytes have room."""
        free = (await trio.to_thread.run_sync(shutil.disk_usage, self._catalog.root)).free
        if free < size * SPACE_FACTOR:
            raise HubProblem(
                507,
                "insufficient_storage",
                f"{size} bytes need {SPACE_FACTOR} times their size free; {free} bytes are.",
                retryable=True,
            )

    def _check(self, kind: str, name: str, wanted: NewVersion) -> None:
        problems: list[dict[str, str]] = []
        if not is_id(name):
            problems.append({"field": "id", "reason": "must be letters, digits, . _ - (128 at most)"})
        if not is_semver(wanted.version) or len(wanted.version) > 64:
            problems.append({"field": "version", "reason": "must be a version like 1.2.3 (semver.org)"})
        if kind == "service" and wanted.platform not in PLATFORMS:
            problems.append({"field": "platform", "reason": f"must be one of {', '.join(PLATFORMS)}"})
        if not 1 <= len(wanted.files) <= MAX_FILES:
            problems.append({"field": "files", "reason": f"must be 1 to {MAX_FILES} files"})
        if sum(file.size_bytes for file in wanted.files) > self._rules.max_bytes:
            raise HubProblem(413, "too_large", f"At most {self._rules.max_bytes} bytes can be published.")
        paths: set[str] = set()
        for number, file in enumerate(wanted.files):
            reason = _wrong(file) or ("is there twice" if file.path.casefold() in paths else "")
            paths.add(file.path.casefold())
            if kind == "service" and file.path != PACKAGE:
                reason = f"must be {PACKAGE}, the only file"
            if reason:
                problems.append({"field": f"files[{number}]", "reason": reason})
        for path in paths:
            parents = (path.rsplit("/", depth)[0] for depth in range(1, path.count("/") + 1))
            if any(parent in paths for parent in parents):
                problems.append({"field": "files", "reason": f"{path} lies in another file"})
        if len(wanted.notes or "") > MAX_NOTES:
            problems.append({"field": "notes", "reason": f"must be at most {MAX_NOTES} characters"})
        if wanted.created_at is not None and not _is_moment(wanted.created_at):
            problems.append({"field": "created_at", "reason": "must be a time like 2026-01-31T12:00:00Z"})
        if problems:
            raise HubProblem(422, "invalid_version", "The version cannot be published.", details=problems)

    def _load(self) -> dict[str, Upload]:
        found = {}
        for directory in self._root.iterdir():
            if not (directory / "upload.json").exists():
                # the process before ended while it made this
                _remove(directory)
        for path in self._root.glob("*/upload.json"):
            try:
                upload = msgspec.json.decode(path.read_bytes(), type=Upload)
            except (OSError, msgspec.DecodeError) as error:
                logger.warning("hub_upload_unreadable", upload=path.parent.name, reason=str(error))
                continue
            found[upload.id] = upload
        return found

    def _create(self, upload: Upload, held: dict[str, str]) -> None:
        tree = self.tree(upload)
        for file in upload.wanted.files:
            target = tree / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.path in held:
                _link(self._catalog.root, held[file.path], target)
            elif file.size_bytes == 0:
                target.touch()
        put_file(self._root / upload.id / "upload.json", msgspec.json.encode(upload))

    def tree(self, upload: Upload) -> Path:
        """Where the files of an upload are."""
        return self._root / upload.id / "tree"

    def in_use(self, upload: Upload) -> bool:
        """Whether somebody is writing to it or publishing it."""
        return upload.state == "verifying" or any(key[0] == upload.id for key in self._busy)

    async def spoil(self, upload: Upload, path: str) -> None:
        """Throw away what has come of a file, so that it can be sent again."""
        await trio.to_thread.run_sync(_remove, self.tree(upload) / path, limiter=self._disk)

    async def clear(self, upload: Upload) -> None:
        """Throw away the bytes of an upload; its state stays known."""
        await trio.to_thread.run_sync(_remove, self._root / upload.id, limiter=self._disk)


class Part:
    """A file that is being written to; blocks are as large as they come."""

    def __init__(
        self,
        descriptor: int,
        size: int,
        most: int,
        disk: trio.CapacityLimiter,
        when_closed: Callable[[], object],
    ) -> None:
        self.size = size
        self._descriptor = descriptor
        self._most = most
        self._disk = disk
        self._when_closed = when_closed

    async def write(self, data: bytes) -> None:
        """Append. Raises HubProblem when it would be more than was announced, or the disk is full."""
        if self.size + len(data) > self._most:
            raise HubProblem(413, "too_large", f"The file was announced with {self._most} bytes.")
        try:
            await trio.to_thread.run_sync(_write, self._descriptor, data, limiter=self._disk)
        except OSError as error:
            logger.warning("hub_disk_failed", path="_uploads", reason=str(error))
            raise disk_problem(error) from error
        self.size += len(data)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._descriptor)
        self._when_closed()


def published_as(catalog: Catalog, kind: str, name: str, wanted: NewVersion) -> bool | None:
    """Whether the version is published with just this content; None if it is not published."""
    snapshot = catalog.current
    asked = {file.path: file.sha256 for file in wanted.files}
    if kind == "service":
        service = snapshot.services.get(name)
        variant = service.variants.get((wanted.version, wanted.platform)) if service else None
        return None if variant is None else asked == {PACKAGE: variant.file.sha256}
    entry = snapshot.version(name, wanted.version)
    if entry is None:
        return None
    return asked == {path: file.sha256 for path, file in entry.files.items() if path != MANIFEST}


def _held(snapshot: Snapshot, wanted: NewVersion) -> dict[str, str]:
    """Where the hub already has the bytes of files, by path of the new version."""
    asked = {(file.sha256, file.size_bytes) for file in wanted.files if file.size_bytes}
    found: dict[tuple[str, int], str] = {}
    for model in snapshot.models.values():
        for version in model.versions.values():
            for file in version.files.values():
                key = (file.sha256, file.stamp.size)
                if key in asked and version.info.status != "corrupt":
                    found[key] = file.where
    return {
        file.path: found[file.sha256, file.size_bytes]
        for file in wanted.files
        if (file.sha256, file.size_bytes) in found
    }


def _is_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return len(text) <= 64


def _wrong(file: NewFile) -> str:
    try:
        check_path(file.path)
    except BadName as error:
        return f"path: {error}"
    if any(is_hidden(segment) for segment in file.path.split("/")):
        return "path: hidden and unfinished files are never served"
    if file.path in (CHECKSUM, MANIFEST):
        return "path: the hub makes this file itself"
    if file.size_bytes < 0:
        return "size_bytes: must not be negative"
    if not _DIGEST.fullmatch(file.sha256):
        return "sha256: must be 64 lower-case hexadecimal digits"
    return ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _append_to(path: Path) -> tuple[int, int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    return descriptor, os.fstat(descriptor).st_size


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _link(root: Path, where: str, target: Path) -> None:
    try:
        os.link(root / where, target, follow_symlinks=False)
    except OSError:
        # another disk, or one that cannot link
        with open(open_below(root, where), "rb") as source, open(target, "wb") as copy:
            shutil.copyfileobj(source, copy)
