"""Hashes files in the background: those without a digest, and all of a model when asked to verify them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from linguad import log
from linguad.hub.catalog import Catalog
from linguad.hub.hashes import hash_file
from linguad.hub.records import Record
from linguad.hub.scan import File

APPLY_SECONDS = 2.0
"""While many files are hashed, how often those that are done are shown."""

logger = log.get(__name__)
Done = tuple[str, str, File, str | None]


class Hasher:
    """Reads one file at a time, so that downloads keep the disk."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._limiter = trio.CapacityLimiter(1)

    async def run(self) -> None:
        """Hash what has no digest, for ever."""
        while True:
            await self._catalog.wait_unhashed()
            await self.once()

    async def once(self) -> None:
        """Hash what has no digest now."""
        done: list[Done] = []
        shown_at = trio.current_time()
        waiting = await trio.to_thread.run_sync(self._catalog.unhashed)
        for kind, name, file in waiting:
            done += await self._hash(kind, name, file)
            if trio.current_time() >= shown_at + APPLY_SECONDS:
                await self._catalog.hashed(done, last=False)
                done, shown_at = [], trio.current_time()
        if waiting:
            await self._catalog.hashed(done, last=True)

    async def verify(self, model_ids: Sequence[str]) -> None:
        """Hash published files again; a version with a wrong one is told to be corrupt."""
        for model_id in model_ids:
            entry = self._catalog.current.models.get(model_id)
            for name, version in entry.versions.items() if entry else ():
                if not await self._sound(list(version.files.values())):
                    logger.warning("hub_version_corrupt", model=model_id, version=name)
                    await self._catalog.edit("model", model_id, _corrupt(name))

    async def _hash(self, kind: str, name: str, file: File) -> list[Done]:
        """The digest of a file that has not changed since it was seen."""
        try:
            result = await trio.to_thread.run_sync(
                hash_file, self._catalog.root, file.where, limiter=self._limiter
            )
        except OSError as error:
            logger.warning("hub_file_unreadable", path=file.where, reason=error.strerror)
            return [(kind, name, file, None)]
        if result is None or result[0] != file.stamp:
            # it is still being written; it is seen again when it has settled
            return []
        return [(kind, name, file, result[1])]

    async def _sound(self, files: Sequence[File]) -> bool:
        for file in files:
            for _, _, _, digest in await self._hash("model", "", file):
                if file.sha256 and digest != file.sha256:
                    return False
        return True


def _corrupt(version: str) -> Callable[[Record], None]:
    def mark(record: Record) -> None:
        record.version(version).status = "corrupt"
        record.version(version).message = "its files are not what was published"

    return mark
