"""An upload whose bytes are all there becomes a version that never changes (model-hub 11.1, 11.3)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import trio

from linguad import log
from linguad.hub.answers import HubProblem
from linguad.hub.catalog import Catalog
from linguad.hub.checksums import CHECKSUM, checksum_json
from linguad.hub.disk import move_into_place, put_file, sync_tree
from linguad.hub.entries import published_manifest
from linguad.hub.hashes import Stamp, hash_file
from linguad.hub.packages import problems_of_package
from linguad.hub.records import Record
from linguad.hub.scan import MANIFEST, PACKAGE
from linguad.hub.signing import BadSignature, model_payload, package_payload
from linguad.hub.uploads import AlreadyPublished, Failure, NewFile, NewVersion, Upload, Uploads, published_as

logger = log.get(__name__)


class Publisher:
    """Verifies uploads and puts them into their place."""

    def __init__(self, catalog: Catalog, uploads: Uploads, allowed_programs: tuple[str, ...]) -> None:
        self._catalog = catalog
        self._uploads = uploads
        self._allowed_programs = allowed_programs
        self._turn = trio.Lock()
        """Commits in turn: the first of two with the same version wins."""
        self._disk = trio.CapacityLimiter(1)

    def begin(self, upload: Upload) -> None:
        """Have no more parts come. Raises HubProblem."""
        if self._uploads.in_use(upload):
            raise HubProblem(409, "upload_busy", "The upload is in use.")
        if not upload.committed:
            upload.state, upload.failed = "verifying", None

    def is_published(self, upload: Upload) -> bool:
        """Whether just this is published already."""
        return published_as(self._catalog, upload.kind, upload.name, upload.wanted) is True

    async def commit(self, upload: Upload) -> None:
        """Verify all files and publish them at once; the outcome is in `upload`."""
        try:
            async with self._turn:
                upload.failed = await self._publish(upload)
            upload.state = "failed" if upload.failed else "committed"
        except OSError as error:
            logger.warning("hub_commit_failed", upload=upload.id, reason=str(error))
            upload.state, upload.failed = "failed", Failure("", error.strerror or "disk error")
        except HubProblem as problem:
            upload.state, upload.failed = "failed", Failure("", problem.message)
        finally:
            if upload.state == "verifying":
                upload.state = "open"
        if upload.committed:
            logger.info("hub_published", kind=upload.kind, id=upload.name, version=upload.wanted.version)
            await self._uploads.clear(upload)

    async def _publish(self, upload: Upload) -> Failure | None:
        """Verify and publish; what failed, if anything did. Raises OSError."""
        wanted, name = upload.wanted, upload.name
        same = published_as(self._catalog, upload.kind, name, wanted)
        if same is not None:
            return None if same else AlreadyPublished()
        stamps: dict[str, Stamp] = {}
        for file in wanted.files:
            reason = await self._verify(upload, file, stamps)
            if reason:
                return Failure(file.path, reason)
        tree = self._uploads.tree(upload)
        if upload.kind == "service":
            problems = await trio.to_thread.run_sync(
                problems_of_package,
                tree / PACKAGE,
                name,
                wanted.version,
                wanted.platform,
                self._allowed_programs,
                limiter=self._disk,
            )
            if problems:
                return Failure(PACKAGE, "; ".join(problems))
            where = f"services/{name}/{wanted.version}/{wanted.platform}"
        else:
            where = f"storage/{name}/{wanted.version}"
            await trio.to_thread.run_sync(self._describe, upload, tree, limiter=self._disk)
        digest = wanted.files[0].sha256
        if upload.kind == "model":
            digest = await trio.to_thread.run_sync(_manifest_digest, tree)
        reason = self._check_signature(upload, digest)
        if reason:
            return Failure("", reason)
        await trio.to_thread.run_sync(sync_tree, tree, limiter=self._disk)
        known = [(f"{where}/{file.path}", stamps[file.path], file.sha256) for file in wanted.files]
        target = self._catalog.root / where
        try:
            await self._catalog.place(
                upload.kind, name, lambda: move_into_place(tree, target, self._catalog.root), known
            )
        except FileExistsError:
            return AlreadyPublished()
        if wanted.signature or wanted.channel or wanted.notes:
            await self._catalog.edit(upload.kind, name, _note_wishes(wanted))
        return None

    async def _verify(self, upload: Upload, file: NewFile, stamps: dict[str, Stamp]) -> str:
        """Why a file is not the one that was announced; "" if it is."""
        path = f"_uploads/{upload.id}/tree/{file.path}"
        size = await self._uploads.offset(upload, file.path)
        if size != file.size_bytes:
            return f"{size} of {file.size_bytes} bytes have come"
        result = await trio.to_thread.run_sync(hash_file, self._catalog.root, path, limiter=self._disk)
        if result is None or result[1] != file.sha256:
            # the bytes are of no use; the file can be sent again
            await self._uploads.spoil(upload, file.path)
            return "its bytes do not have the announced sha256"
        stamps[file.path] = result[0]
        return ""

    def _describe(self, upload: Upload, tree: Path) -> None:
        wanted = upload.wanted
        files = {file.path: (file.size_bytes, file.sha256) for file in wanted.files}
        created = wanted.created_at or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        text = published_manifest(upload.name, wanted.version, files, created)
        put_file(tree / MANIFEST, text)
        digests = {file.path: file.sha256 for file in wanted.files}
        put_file(tree / CHECKSUM, checksum_json({**digests, MANIFEST: hashlib.sha256(text).hexdigest()}))

    def _check_signature(self, upload: Upload, digest: str) -> str:
        wanted = upload.wanted
        if wanted.signature is None:
            return ""
        expected = (
            package_payload(upload.name, wanted.version, wanted.platform, digest)
            if upload.kind == "service"
            else model_payload(upload.name, wanted.version, digest)
        )
        try:
            self._catalog.keys.check(wanted.signature, expected)
        except BadSignature as error:
            return f"signature: {error}"
        return ""


def _manifest_digest(tree: Path) -> str:
    return str(msgspec.json.decode((tree / MANIFEST).read_bytes())["manifest_sha256"])


def _note_wishes(wanted: NewVersion) -> Callable[[Record], None]:
    def note(record: Record) -> None:
        own = record.version(wanted.version)
        own.notes = wanted.notes or own.notes
        if wanted.signature is not None:
            own.signatures[wanted.platform] = wanted.signature
        if wanted.channel is not None:
            record.channels[wanted.channel] = wanted.version

    return note
