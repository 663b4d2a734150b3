"""One version from the hub into its place, under its task lock (model-manager 4.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import trio

from linguad import log
from linguad.models import trees
from linguad.models.catalog import Wanted, WantedFile
from linguad.models.errors import FileMissingError, SignatureError, VersionNotFoundError, disk_error
from linguad.models.fetch import LIMITS
from linguad.models.holding import Holding
from linguad.models.hub import Hub
from linguad.models.layout import Layout
from linguad.models.locks import Lock
from linguad.models.names import Key
from linguad.models.progress import Gate, Meter, State
from linguad.models.registry import Extra, InstalledFile, Record, Registry, Status, stamp
from linguad.models.signing import Trust
from linguad.models.transfer import Transfer, check_space
from linguad.net.http_client import Limits

FILES_PER_PROCESS = 6
"""Files on their way at once, all models together (model-manager 14)."""

logger = log.get(__name__)


@dataclass(slots=True, kw_only=True)
class Installer:
    """What every installation of one data directory needs."""

    layout: Layout
    registry: Registry
    holding: Holding
    hub: Hub
    trust: Trust
    require_signature: bool
    allow_unverified: bool
    gate: Gate
    slots: trio.CapacityLimiter
    note: Callable[[str, Key], object]
    limits: Limits = LIMITS

    async def install(self, one: Key, meter: Meter, *, force: bool, wait: bool) -> None:
        """Have a version installed and recorded; nothing is asked for one that already is, unless forced.

        Raises ModelError of every kind.
        """
        meter.state(State.CHECKING)
        if not force and self._is_ready(one):
            return
        try:
            async with self.holding.task(one, wait=wait) as lock:
                if force or not self._is_ready(one):
                    await self._install(one, lock, meter, force=force)
        except OSError as error:
            raise disk_error(error) from error

    def _is_ready(self, one: Key) -> bool:
        record = self.registry.record(one)
        return record is not None and record.status is Status.READY and self.layout.tree(one).is_dir()

    async def _install(self, one: Key, lock: Lock, meter: Meter, *, force: bool) -> None:
        wanted = await self._wanted(one, force=force)
        try:
            digests = await self._transfer(wanted, lock, meter)
        except FileMissingError:
            # The hub may have just published the version anew; the same list twice is its last word.
            again = await self._wanted(one, force=force)
            if again == wanted:
                raise
            wanted = again
            digests = await self._transfer(wanted, lock, meter)
        meter.state(State.INSTALLING)
        # Whoever took the lock over would install into the same place.
        await self.holding.check(lock)
        parts = {file.path: self.layout.part(lock.stem, file.path) for file in wanted.files}
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(trees.install, self.layout, one, parts, digests)
            await trio.to_thread.run_sync(self.registry.put, one, self._record(wanted, digests))
            await trio.to_thread.run_sync(trees.drop_parts, self.layout, one)
        self.note("install", one)
        logger.info("model_installed", model=one.model_id, version=one.version, bytes=wanted.size_bytes)

    async def _wanted(self, one: Key, *, force: bool) -> Wanted:
        """What the hub says the version is, and who vouches for it."""
        model = await self.hub.model(one.model_id)
        listed = model.find(one.version)
        if listed is not None and listed.status == "yanked" and not force:
            raise VersionNotFoundError(f"{one} was withdrawn by its publisher; take another version")
        wanted = await self.hub.wanted(one, model, allow_unverified=self.allow_unverified)
        if wanted.signature is None and not self.require_signature:
            return wanted
        if not self.trust:
            if self.require_signature:
                raise SignatureError("signatures are required and no key is trusted; name one to trust")
            return wanted
        payload = {
            "manifest_sha256": wanted.manifest_sha256 or "",
            "model_id": one.model_id,
            "version": one.version,
        }
        self.trust.check(payload, wanted.signature, self.hub.url)
        return wanted

    async def _transfer(self, wanted: Wanted, lock: Lock, meter: Meter) -> dict[str, str]:
        await trio.to_thread.run_sync(check_space, self.layout, wanted, lock.stem)
        meter.state(State.DOWNLOADING)
        transfer = Transfer(
            wanted=wanted,
            layout=self.layout,
            stem=lock.stem,
            url_of=self.hub.file_url,
            reuse=partial(self._installed_copy, wanted.key),
            slots=self.slots,
            meter=meter,
            gate=self.gate,
            limits=self.limits,
            token=self.hub.token,
        )
        digests = await transfer.run()
        meter.state(State.VERIFYING)
        self.note("download", wanted.key)
        return digests

    def _installed_copy(self, one: Key, file: WantedFile) -> Path | None:
        """A file of the same content in another version, or in this one's own tree, to be mended."""
        inside = self.layout.tree(one) / file.path
        if inside.is_file() and inside.stat().st_size == file.size_bytes:
            return inside
        for model_id, versions in self.registry.records().items():
            for version, record in versions.items():
                for installed in record.files:
                    if (installed.sha256, installed.size_bytes) == (file.sha256, file.size_bytes):
                        return self.layout.tree(Key(model_id, version)) / installed.path
        return None

    def _record(self, wanted: Wanted, digests: dict[str, str]) -> Record:
        now = stamp()
        old = self.registry.record(wanted.key)
        return Record(
            status=Status.READY,
            installed_at=now,
            size_bytes=wanted.size_bytes,
            checksum_sha256=wanted.checksum_sha256,
            files=[InstalledFile(file.path, digests[file.path], file.size_bytes) for file in wanted.files],
            extra=msgspec.structs.replace(
                old.extra if old else Extra(),
                manifest_sha256=wanted.manifest_sha256,
                source=self.hub.url,
                verified_at=now,
                error=None,
                task=wanted.task or None,
                languages=wanted.languages,
            ),
        )
