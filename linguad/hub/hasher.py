"""Hashes files in the background: those without a digest, and all of a model when asked to verify them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from linguad import log
from linguad.hub.catalog import Catalog
from linguad.hub.hashes import hash_file
from linguad.hub.records import Record
from linguad.hub.scan import File
from linguad.hub.shelf import GROWING, UNREADABLE, Done

APPLY_SECONDS = 2.0
"""While many files are hashed, how often those that are done are shown."""

logger = log.get(__name__)


class Hasher:
    """Reads one file at a time, so that downloads keep the disk."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._limiter = trio.CapacityLimiter(1)
        self.verifying = False

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
            done.append((kind, name, file, await self._digest(file)))
            if trio.current_time() >= shown_at + APPLY_SECONDS:
                await self._catalog.hashed(done, last=False)
                done, shown_at = [], trio.current_time()
        if waiting:
            await self._catalog.hashed(done, last=True)

    async def verify(self, model_ids: Sequence[str]) -> None:
        """Hash published files again; a version with a wrong one is told to be corrupt."""
        self.verifying = True
        try:
            for model_id in model_ids:
                await self._verify(model_id)
        except OSError as error:
            logger.warning("hub_disk_failed", path="", reason=str(error))
        finally:
            self.verifying = False

    async def _verify(self, model_id: str) -> None:
        entry = self._catalog.current.models.get(model_id)
        for name, version in entry.versions.items() if entry else ():
            if not await self._sound(list(version.files.values())):
                logger.warning("hub_version_corrupt", model=model_id, version=name)
                await self._catalog.edit("model", model_id, _corrupt(name))

    async def _digest(self, file: File) -> str:
        """The digest of a file as it was seen; else UNREADABLE or GROWING."""
        try:
            result = await trio.to_thread.run_sync(
                hash_file, self._catalog.root, file.where, limiter=self._limiter
            )
        except OSError as error:
            logger.warning("hub_file_unreadable", path=file.where, reason=error.strerror)
            return UNREADABLE
        return GROWING if result is None or result[0] != file.stamp else result[1]

    async def _sound(self, files: Sequence[File]) -> bool:
        for file in files:
            if file.sha256 and await self._digest(file) not in (file.sha256, GROWING):
                return False
        return True


def _corrupt(version: str) -> Callable[[Record], None]:
    def mark(record: Record) -> None:
        record.version(version).status = "corrupt"
        record.version(version).message = "its files are not what was published"

    return mark
