"""What a request for a file gets: path safety, access, limits, conditions and ranges (model-hub 8)."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from stat import S_ISREG
from typing import Protocol
from urllib.parse import unquote_to_bytes

import msgspec
import trio

from linguad import log
from linguad.core.hub_usage import Kind
from linguad.hub.access import Access, Downloads, Who
from linguad.hub.answers import Answer, HubProblem, Lines, OldProblem, Request, Span
from linguad.hub.catalog import Catalog
from linguad.hub.checksums import CHECKSUM, checksum_text
from linguad.hub.disk import open_below
from linguad.hub.entries import VersionEntry, canonical, manifest
from linguad.hub.hashes import Stamp
from linguad.hub.names import PLATFORMS, BadName, check_path, is_id, is_version
from linguad.hub.ranges import Facts, Outcome, decide, http_date
from linguad.hub.scan import MANIFEST, PACKAGE, File
from linguad.metrics import HUB_SENT_BYTES

PREFIX = "/storage/"
ALLOW = "GET, HEAD, OPTIONS"

OPENERS = 16
"""Files opened at once in threads: an open may wait for a slow disk."""

FOREVER = b"public, max-age=31536000, immutable"

logger = log.get(__name__)


class Completed(Protocol):
    """Hears of what was sent, to count downloads."""

    def sent(
        self,
        who: Who,
        kind: Kind,
        name: str,
        version: str,
        path: str,
        span: tuple[int, int],
        sizes: Mapping[str, int],
    ) -> None:
        """Bytes from `span[0]` up to `span[1]` of a file; `sizes` are all files of the version."""


class Storage:
    """Answers requests below `/storage/`."""

    def __init__(
        self,
        catalog: Catalog,
        access: Access,
        downloads: Downloads,
        completed: Completed,
        redirect_base: str = "",
    ) -> None:
        self._catalog = catalog
        self._access = access
        self._downloads = downloads
        self._completed = completed
        self._redirect_base = redirect_base.rstrip("/")
        self._openers = trio.CapacityLimiter(OPENERS)

    async def answer(self, request: Request) -> Answer:
        """The answer; its `finish` must be called. Raises Problem."""
        if request.method not in ("GET", "HEAD"):
            raise HubProblem(405, "method_not_allowed", "Files can only be read.", headers={"Allow": ALLOW})
        who = self._access.reader(request.headers, request.peer)
        try:
            segments = unquote_to_bytes(request.path.removeprefix(PREFIX)).decode().split("/")
        except UnicodeDecodeError:
            raise _invalid("it is no UTF-8") from None
        match segments:
            case ["models", name, version, *rest] if rest:
                return await self._model(request, who, name, version, "/".join(rest))
            case ["services", name, version, platform, "service.zip"]:
                return await self._package(request, who, name, version, platform)
            case ["services", name, archive] if archive.endswith(".zip"):
                return self._variant(request, name, archive.removesuffix(".zip"))
        raise OldProblem(404, "not_found", "Not Found")

    async def _model(self, request: Request, who: Who, name: str, version: str, path: str) -> Answer:
        if not is_id(name) or not is_version(version):
            raise _invalid("the id or the version is none")
        try:
            check_path(path)
        except BadName as error:
            raise _invalid(str(error)) from None
        entry = self._catalog.current.version(name, version)
        if entry is None:
            raise _missing()
        _check_status(entry.info.status, blocked=entry.blocked)
        head = [(b"content-type", b"application/octet-stream")]
        made = _made(request, name, entry, path)
        if made is not None:
            return _bytes_answer(request, made, _newest(entry), head)
        file = entry.files.get(path)
        if file is None:
            raise _missing()
        sizes = {path: file.stamp.size for path, file in entry.files.items()}
        return await self._file(request, who, ("model", name, version), file, head, None, sizes)

    async def _package(self, request: Request, who: Who, name: str, version: str, platform: str) -> Answer:
        if not is_id(name) or not is_version(version) or platform not in PLATFORMS:
            raise _invalid("the id, the version or the platform is none")
        service = self._catalog.current.services.get(name)
        entry = service.variants.get((version, platform)) if service else None
        if entry is None:
            raise OldProblem(404, "file_not_found", "Service package not found")
        if entry.info.status == "unsigned":
            raise HubProblem(403, "unsigned", "The package has no valid signature.")
        _check_status(entry.info.status, blocked=entry.blocked)
        saved_as = f'attachment; filename="{name}-{version}-{platform}.zip"'
        head = [(b"content-type", b"application/zip"), (b"content-disposition", saved_as.encode())]
        tag = f'"{entry.info.artifact.etag}"'
        sizes = {PACKAGE: entry.file.stamp.size}
        return await self._file(request, who, ("service", name, version), entry.file, head, tag, sizes)

    def _variant(self, request: Request, name: str, version: str) -> Answer:
        """The short address of a package: 302 to the one for a platform."""
        service = self._catalog.current.services.get(name)
        platform = request.asked("platform")
        if service is not None and version == "latest":
            version = service.info.latest_version
        if service is None or (version, platform) not in service.variants:
            raise OldProblem(404, "file_not_found", "Service package not found")
        url = f"/storage/services/{name}/{version}/{platform}/service.zip"
        return Answer(302, [(b"location", url.encode()), (b"cache-control", b"no-cache")])

    async def _file(
        self,
        request: Request,
        who: Who,
        version: tuple[Kind, str, str],
        file: File,
        head: Lines,
        tag: str | None,
        sizes: Mapping[str, int],
    ) -> Answer:
        if self._redirect_base and request.asked("direct") != "1":
            target = f"{self._redirect_base}{request.path}"
            return Answer(302, [(b"location", target.encode()), (b"cache-control", b"no-cache")])
        end = self._downloads.begin(who) if request.method == "GET" else _nothing
        try:
            descriptor, stamp = await trio.to_thread.run_sync(
                _open, self._catalog.root, file.where, limiter=self._openers
            )
        except OSError as error:
            end()
            logger.warning("hub_file_unreadable", path=file.where, reason=error.strerror)
            raise _missing() from None
        except BaseException:
            end()
            raise
        known = file.sha256 if stamp == file.stamp else ""
        if not known:
            tag = f'"{stamp.size}-{stamp.mtime_ns}"'
        facts = Facts(stamp.size, tag or f'"{known}"', stamp.mtime_ns // 10**9)
        outcome = decide(request.headers, facts)

        def done(sent: int) -> None:
            end()
            HUB_SENT_BYTES.inc(sent)
            if sent:
                covered = (outcome.start, outcome.start + sent)
                self._completed.sent(who, *version, file.path, covered, sizes)

        lines = [*head, *_common(facts, outcome, known)]
        if outcome.status in (200, 206):
            span = Span(descriptor, outcome.start, outcome.length)
            return Answer(outcome.status, lines, span, when_done=done)
        os.close(descriptor)
        return _without_file(outcome, lines, done)


def _open(root: Path, where: str) -> tuple[int, Stamp]:
    """A descriptor of an ordinary file, and its stamp. Raises OSError."""
    descriptor = open_below(root, where)
    stat = os.fstat(descriptor)
    if not S_ISREG(stat.st_mode):
        os.close(descriptor)
        raise FileNotFoundError(where)
    return descriptor, Stamp.of(stat)


def _nothing() -> None:
    """Where nothing is to be given back."""


def _made(request: Request, name: str, entry: VersionEntry, path: str) -> bytes | None:
    """The files that the hub makes of what it knows."""
    if path == CHECKSUM and entry.hashed:
        if request.asked("format") == "text":
            return checksum_text({file.path: file.sha256 for file in entry.files.values()})
        return entry.checksum
    if path == MANIFEST and entry.hashed and MANIFEST not in entry.files:
        return canonical(manifest(name, entry))
    return None


def _bytes_answer(request: Request, data: bytes, modified: int, head: Lines) -> Answer:
    digest = hashlib.sha256(data).hexdigest()
    facts = Facts(len(data), f'"{digest}"', modified)
    outcome = decide(request.headers, facts)
    # what is made can be made differently once the version has another file
    lines = [*head, *_common(facts, outcome, digest, b"no-cache")]
    if outcome.status in (200, 206):
        return Answer(outcome.status, lines, data[outcome.start : outcome.start + outcome.length])
    return _without_file(outcome, lines, lambda _sent: None)


def _without_file(outcome: Outcome, lines: Lines, done: Callable[[int], object]) -> Answer:
    body = b""
    if outcome.status in (412, 416):
        words = "Range Not Satisfiable" if outcome.status == 416 else "Precondition Failed"
        body = msgspec.json.encode({"detail": words})
        lines = [line for line in lines if line[0] not in (b"content-type", b"content-disposition")]
        lines = [(b"content-type", b"application/json"), *lines]
    return Answer(outcome.status, lines, body, when_done=done)


def _common(facts: Facts, outcome: Outcome, digest: str, caching: bytes | None = None) -> Lines:
    """The headers that every answer about a file has."""
    lines = [
        (b"accept-ranges", b"bytes"),
        (b"etag", facts.etag.encode()),
        (b"last-modified", http_date(facts.modified).encode()),
        (b"cache-control", caching or (FOREVER if digest else b"no-cache")),
        (b"x-content-type-options", b"nosniff"),
    ]
    if digest:
        value = base64.b64encode(bytes.fromhex(digest))
        lines.append((b"repr-digest", b"sha-256=:%s:" % value))
    if outcome.content_range:
        lines.append((b"content-range", outcome.content_range.encode()))
    return lines


def _check_status(status: str, *, blocked: bool) -> None:
    if status == "corrupt":
        raise HubProblem(503, "version_corrupt", "Its files are not what was published.", retryable=False)
    if blocked:
        raise HubProblem(403, "version_yanked", "This version was taken back; ask for another.")


def _newest(entry: VersionEntry) -> int:
    return max(file.stamp.mtime_ns for file in entry.files.values()) // 10**9


def _invalid(why: str) -> HubProblem:
    return HubProblem(400, "invalid_path", f"Invalid file path: {why}")


def _missing() -> OldProblem:
    return OldProblem(404, "file_not_found", "File not found")
