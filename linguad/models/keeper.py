"""What is done with installed versions: change over, go back, verify, remove (model-manager 5, 6)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import msgspec
import trio

from linguad import log
from linguad.errors import ErrorCode
from linguad.models import trees
from linguad.models.errors import (
    DownloadInProgressError,
    InUseError,
    ModelNotAvailableError,
    NoPreviousVersionError,
    Reason,
    Stage,
    disk_error,
)
from linguad.models.holding import Holding
from linguad.models.layout import Layout
from linguad.models.locks import Locks
from linguad.models.names import Key, by_age, check_id, key
from linguad.models.progress import Changed, Events, Happened
from linguad.models.registry import (
    Active,
    Failure,
    Pointers,
    Record,
    Records,
    Registry,
    Status,
    forget,
    stamp,
)

FORCED_SECONDS = 30.0
"""How long a forced removal waits for those who use the version."""

logger = log.get(__name__)


@dataclass(slots=True, kw_only=True)
class Keeper:
    """Changes to what is installed in one data directory, all of which other processes see at once."""

    layout: Layout
    registry: Registry
    holding: Holding
    leases: Locks
    events: Events
    settling: dict[Key, trio.Event] = field(default_factory=dict)
    """What this process verifies at the moment; set when that is done."""

    async def activate(self, model_id: str, version: str, reason: str = "asked for") -> None:
        """Make an installed version the one that is used. Raises ModelNotAvailableError, RegistryError."""
        one = key(model_id, version)

        def point(records: Records, pointers: Pointers) -> None:
            _ready(one, records)
            now = pointers.get(model_id)
            if now is None or now.version != version:
                previous = now.version if now else None
                pointers[model_id] = Active(version, previous, stamp(), reason)

        await trio.to_thread.run_sync(self.registry.change, point)
        self._tell(one, "activated")

    async def rollback(self, model_id: str, reason: str = "asked for") -> str:
        """Use the version again that was used before; its name. Raises NoPreviousVersionError."""
        check_id(model_id)

        def point(records: Records, pointers: Pointers) -> str:
            now = pointers.get(model_id)
            if now is None or now.previous is None:
                raise NoPreviousVersionError(f"{model_id} was never changed over from another version")
            try:
                _ready(Key(model_id, now.previous), records)
            except ModelNotAvailableError as error:
                raise NoPreviousVersionError(
                    f"the version of {model_id} before, {now.previous}, is not usable any more"
                ) from error
            pointers[model_id] = Active(now.previous, now.version, stamp(), reason)
            return now.previous

        version = await trio.to_thread.run_sync(self.registry.change, point)
        logger.warning("model_rolled_back", model=model_id, version=version, reason=reason)
        self._tell(Key(model_id, version), "rolled_back")
        return version

    async def pin(self, model_id: str, version: str, pinned: bool = True) -> None:
        """Keep a version from being pruned, or not any more. Raises ModelNotAvailableError, RegistryError."""
        one = key(model_id, version)

        def mark(records: Records, _: Pointers) -> None:
            record = _ready(one, records)
            extra = msgspec.structs.replace(record.extra, pinned=pinned)
            records[model_id][version] = msgspec.structs.replace(record, extra=extra)

        await trio.to_thread.run_sync(self.registry.change, mark)

    async def uninstall(self, model_id: str, version: str | None = None, *, force: bool = False) -> bool:
        """Remove a version, or all; True also if there was none.

        Raises InUseError while somebody downloads or uses it (`force` waits for him for a while),
        RegistryError, DiskError.
        """
        check_id(model_id)
        if version:
            versions = {version}
        else:
            # Also those that were only begun: their parts may fill the disk.
            versions = await trio.to_thread.run_sync(trees.begun, self.layout, model_id)
            versions |= self.registry.records().get(model_id, {}).keys()
        for each in sorted(versions):
            one = key(model_id, each)
            if (settled := self.settling.get(one)) is not None:
                # Nobody else's task: no reason to refuse.
                await settled.wait()
            try:
                async with self.holding.task(one, wait=False):
                    await self._unused(one, FORCED_SECONDS if force else 0.0)
                    with trio.CancelScope(shield=True):
                        await trio.to_thread.run_sync(trees.remove, self.layout, one)
                        await trio.to_thread.run_sync(trees.drop_parts, self.layout, one)
            except DownloadInProgressError as error:
                raise InUseError(f"{one} is being downloaded by process {error.owner_pid}") from error
            except OSError as error:
                raise disk_error(error) from error
            logger.info("model_removed", model=model_id, version=each)
            self._tell(one, "removed")
            self.events.tell(Changed(model_id=model_id, version=each, status=Reason.NOT_INSTALLED))
        return True

    async def _unused(self, one: Key, seconds: float) -> None:
        """Forget a version as soon as nobody uses it. Raises InUseError."""

        def forget_unused(records: Records, pointers: Pointers) -> bool:
            users = [owner.pid for owner in self.leases.owners() if owner.key == one]
            if users and not seconds:
                raise InUseError(
                    f"{one} is in use by process {users[0]}; stop that, or wait for it with force"
                )
            if not users:
                forget(one, records, pointers)
            return not users

        with trio.move_on_after(seconds or float("inf")):
            while not await trio.to_thread.run_sync(  # noqa: ASYNC110 - other processes tell no event
                self.registry.change, forget_unused
            ):
                await trio.sleep(1)
            return
        raise InUseError(f"{one} is still in use after {seconds:g} s; stop who uses it")

    async def verify(self, model_id: str | None = None) -> dict[Key, str | None]:
        """Read all that is installed; for each version its first damaged file, None if it is whole."""
        found = {}
        for each, versions in sorted(self.registry.records().items()):
            if model_id in (None, each):
                for version in sorted(versions, key=by_age):
                    one = Key(each, version)
                    found[one] = await self.settle(one)
        return found

    async def settle(self, one: Key) -> str | None:
        """Verify one version and record what came of it; its first damaged file.

        Somebody who changes it is waited for. Raises RegistryError, DiskError.
        """
        settled = self.settling.setdefault(one, trio.Event())
        try:
            return await self._settle(one)
        except OSError as error:
            raise disk_error(error) from error
        finally:
            self.settling.pop(one, None)
            settled.set()

    async def _settle(self, one: Key) -> str | None:
        async with self.holding.task(one, wait=True):
            record = self.registry.record(one)
            if record is None:
                return None
            tree = self.layout.tree(one)
            bad = await trio.to_thread.run_sync(trees.damaged, tree, record.files)
            there = await trio.to_thread.run_sync(tree.is_dir)
            await trio.to_thread.run_sync(
                partial(self.registry.put, one, _verified(record, bad))
                if there
                else partial(self.registry.drop, one)
            )
        if bad is not None and record.status is not Status.ERROR:
            logger.error("model_corrupt", model=one.model_id, version=one.version, file=bad)
            self._tell(one, "corrupt")
        status = Reason.ERROR if bad else Status.READY
        self.events.tell(Changed(model_id=one.model_id, version=one.version, status=status))
        return bad

    async def prune(self, keep: int = 2) -> list[Key]:
        """Remove old versions: not the newest `keep`, not pinned, active or previous ones, none in use."""
        removed = []
        for model_id, versions in list(self.registry.records().items()):
            pointer = self.registry.active().get(model_id)
            kept = {pointer.version, pointer.previous} if pointer else set()
            ready = [version for version, record in versions.items() if record.status is Status.READY]
            kept |= set(sorted(ready, key=by_age)[-keep:])
            for version in ready:
                if version in kept or versions[version].extra.pinned:
                    continue
                try:
                    await self.uninstall(model_id, version)
                except InUseError:
                    continue
                removed.append(Key(model_id, version))
        return removed

    def _tell(self, one: Key, what: str) -> None:
        self.events.tell(Happened(model_id=one.model_id, version=one.version, what=what))


def _ready(one: Key, records: Records) -> Record:
    record = records.get(one.model_id, {}).get(one.version)
    if record is None or record.status is not Status.READY:
        raise ModelNotAvailableError(*one, Reason.ERROR if record else Reason.NOT_INSTALLED)
    return record


def _verified(record: Record, bad: str | None) -> Record:
    now = stamp()
    if bad is None:
        extra = msgspec.structs.replace(record.extra, verified_at=now, error=None)
        size = sum(file.size_bytes for file in record.files)
        return msgspec.structs.replace(record, status=Status.READY, size_bytes=size, extra=extra)
    text = f"{bad} is damaged or missing; download it again"
    failure = Failure(Stage.CHECKSUM, ErrorCode.MODEL_CORRUPTED, text, now)
    extra = msgspec.structs.replace(record.extra, error=failure)
    return msgspec.structs.replace(record, status=Status.ERROR, extra=extra)
