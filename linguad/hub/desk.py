"""Decisions about what is published: made on the disk, noted in the audit trail (model-hub 11.5)."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
from quart import Response, request

from linguad import log
from linguad.core.accounts import Actor
from linguad.errors import StoreError
from linguad.hub import listing
from linguad.hub.access import Who
from linguad.hub.answers import HubProblem
from linguad.hub.app import HubApp, plain
from linguad.hub.disk import sync_directory
from linguad.hub.entries import OFFERED, ModelEntry, ServiceEntry
from linguad.hub.records import Record
from linguad.web.app import request_id

Kind = Literal["model", "service"]
logger = log.get(__name__)


class Desk:
    """Changes records of models and services for those who may."""

    def __init__(self, hub: HubApp) -> None:
        self._hub = hub
        self._catalog = hub.catalog

    async def decided(
        self, who: Who, kind: Kind, name: str, version: str, action: str, work: Callable[[Record], None]
    ) -> Response:
        """Decide, and answer with what the model or service is now."""
        await self.decide(who, kind, name, version, action, work, {})
        snapshot = self._catalog.current
        return plain(snapshot.services[name].info if kind == "service" else snapshot.models[name].info)

    async def decide(
        self,
        who: Who,
        kind: Kind,
        name: str,
        version: str,
        action: str,
        work: Callable[[Record], None],
        payload: dict[str, object],
    ) -> None:
        """Change a record and note who did it, with what was before and what is after."""
        before = _told(self._record(kind, name), version)
        await self._catalog.edit(kind, name, work)
        after = _told(self._record(kind, name), version)
        target = f"{name}@{version}" if version else name
        revision = self._catalog.current.revision
        told = {**payload, "before": before, "after": after, "revision": revision}
        await self.note(who, f"{kind}.{action}", target, told)

    async def note(self, who: Who, action: str, target: str, payload: dict[str, object]) -> None:
        """Write into the audit trail who did what; into the log where the store is away."""
        kind = "key" if who.key_id else "operator"
        actor = Actor(type=kind, id=who.key_id or who.name, request_id=request_id() if request else None)
        try:
            await self._hub.records.note(actor, action, target, payload, time.time())
        except StoreError as error:
            # it is done already, and must not look as if it were not
            logger.warning(
                "hub_audit_unwritten", actor=actor.id, action=action, target=target, reason=str(error)
            )

    async def trash(self, who: Who, kind: Kind, name: str, version: str, where: str) -> None:
        """Move a directory out of sight, from where it can be taken back for some days."""
        root = self._catalog.root
        target = root / "_trash" / f"{time.time_ns()}-{where.replace('/', '-')}"
        await self._catalog.place(kind, name, lambda: _move_away(root / where, target))
        await self._forget(kind, name, version)
        await self.note(who, f"{kind}.delete", f"{name}@{version}", {})

    async def _forget(self, kind: Kind, name: str, version: str) -> None:
        """What was decided about a version that is gone must not hold for another one of its name."""
        entry = self._entry(kind, name)
        if entry is None or version not in entry.record.versions:
            return
        if isinstance(entry, ServiceEntry) and any(own == version for own, _ in entry.variants):
            return

        def work(record: Record) -> None:
            record.versions.pop(version, None)

        await self._catalog.edit(kind, name, work)

    def _entry(self, kind: Kind, name: str) -> ModelEntry | ServiceEntry | None:
        snapshot = self._catalog.current
        return snapshot.services.get(name) if kind == "service" else snapshot.models.get(name)

    def _record(self, kind: Kind, name: str) -> Record | None:
        entry = self._entry(kind, name)
        return entry.record if entry else None

    def offered(self, kind: Kind, name: str, version: str) -> None:
        """Raises HubProblem unless the version is published and not taken back."""
        if self.known(kind, name, version) not in OFFERED:
            raise HubProblem(409, "version_not_offered", "The version is yanked or corrupt; choose another.")

    def known(self, kind: Kind, name: str, version: str) -> str:
        """The status of a version. Raises HubProblem if there is none."""
        snapshot = self._catalog.current
        if kind == "model":
            entry = snapshot.version(name, version)
            if entry is None:
                listing.version(snapshot, name, version)
                raise HubProblem(404, "version_not_found", "Version not found; give its own name.")
            return entry.info.status
        variants = listing.service(snapshot, name).variants
        found = [one.info.status for (own, _), one in variants.items() if own == version]
        if not found:
            raise HubProblem(404, "version_not_found", "Version not found")
        return found[0]


def _move_away(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    shutil.move(source, target)
    sync_directory(source.parent)


def _told(record: Record | None, version: str) -> object:
    if record is None:
        return None
    if version:
        own = record.versions.get(version)
        versions = {version: own} if own else {}
        record = msgspec.structs.replace(record, versions=versions)
    return msgspec.to_builtins(record)
