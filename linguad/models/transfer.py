"""All files of a version into their parts, three at a time (model-manager 4.1, 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import trio

from linguad.models.catalog import Wanted, WantedFile
from linguad.models.errors import InsufficientSpaceError, ModelError, disk_error
from linguad.models.fetch import LIMITS, Fetch
from linguad.models.layout import Layout
from linguad.models.names import Key
from linguad.models.part import BLOCK_BYTES, Journal, Part, unless_cancelled
from linguad.models.progress import Gate, Meter
from linguad.net.http_client import Limits

FILES_PER_MODEL = 3
"""Files of a version that are on their way at once (model-manager 4.1)."""

RESERVE = 1.05, 64 << 20
"""Free disk to be had beyond the missing bytes: a factor, and bytes."""

Reuse = Callable[[WantedFile], Path | None]
"""Where a file of the same content is installed already; for a worker thread."""


@dataclass(slots=True, kw_only=True)
class Transfer:
    """How a version comes; `run` once."""

    wanted: Wanted
    layout: Layout
    stem: str
    """Name of the version's lock and parts."""
    url_of: Callable[[Key, str], str]
    """Address of a file at the hub."""
    reuse: Reuse
    slots: trio.CapacityLimiter
    """Files on their way in this process, all models together."""
    meter: Meter
    gate: Gate
    limits: Limits = LIMITS
    token: str | None = None

    async def run(self) -> dict[str, str]:
        """Have every file in its part; their digests by path.

        After the first failure no further file is begun and those under way stop at the next block; nothing
        that came is thrown away. Raises as `Fetch.run` does.
        """
        self.meter.expect(len(self.wanted.files), self.wanted.size_bytes)
        waiting = iter(self.wanted.files)
        digests: dict[str, str] = {}
        failures: list[ModelError] = []
        async with trio.open_nursery() as nursery:
            for _ in range(min(FILES_PER_MODEL, len(self.wanted.files))):
                nursery.start_soon(self._lane, waiting, digests, failures, nursery.cancel_scope)
        if failures:
            raise failures[0]
        return digests

    async def _lane(
        self,
        waiting: Iterator[WantedFile],
        digests: dict[str, str],
        failures: list[ModelError],
        scope: trio.CancelScope,
    ) -> None:
        for file in waiting:
            try:
                async with self.slots:
                    digests[file.path] = await self._one(file)
            except ModelError as error:
                failures.append(error)
                scope.cancel()
                return
            self.meter.finished()

    async def _one(self, file: WantedFile) -> str:
        url = self.url_of(self.wanted.key, file.path)
        path = self.layout.part(self.stem, file.path)
        try:
            await trio.to_thread.run_sync(self._copy, file, url, path)
        except OSError as error:
            raise disk_error(error) from error
        fetch = Fetch(
            url,
            self.wanted.key.version,
            file,
            path,
            self.meter,
            self.gate,
            limits=self.limits,
            token=self.token,
        )
        return await fetch.run()

    def _copy(self, file: WantedFile, url: str, path: Path) -> None:
        """Take a file from another installed version, if one has it; for a worker thread."""
        if path.exists() or file.sha256 is None or (source := self.reuse(file)) is None:
            return
        part = Part(path, Journal(url, self.wanted.key.version, file.size_bytes, file.sha256))
        part.open()
        try:
            part.note(None)
            with open(source, "rb", buffering=0) as found:
                while block := found.read(BLOCK_BYTES):
                    part.append(block)
                    unless_cancelled()
            # What is damaged there is damaged here, and fetched instead.
            if part.sha256() != file.sha256:
                part.empty()
        except OSError:
            part.empty()
        finally:
            part.close()


def check_space(layout: Layout, wanted: Wanted, stem: str) -> None:
    """Whether the disk holds what is still missing; for a worker thread.

    Raises InsufficientSpaceError before the first byte comes, OSError.
    """
    missing = 0
    for file in wanted.files:
        path = layout.part(stem, file.path)
        there = path.stat().st_size if path.exists() else 0
        missing += max(0, file.size_bytes - there)
    factor, reserve = RESERVE
    needed, free = int(missing * factor) + (reserve if missing else 0), layout.free()
    if needed > free:
        raise InsufficientSpaceError(needed, free)
