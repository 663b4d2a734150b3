"""All that is published at one moment, and how one moment differs from the one before. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from linguad.hub.entries import ModelEntry, ServiceEntry, VersionEntry

Removed = tuple[str, str, str, str]
"""Kind, id, version and platform ("" for models) of what is no longer offered."""


class Snapshot(Struct, frozen=True):
    """The catalogue; never changed, only replaced."""

    revision: int = 0
    """Grows with every change, also over restarts: Unix time in ms of the last change."""
    models: Mapping[str, ModelEntry] = {}
    services: Mapping[str, ServiceEntry] = {}
    problems: tuple[tuple[str, str], ...] = ()
    models_json: bytes = b"[]"
    """The answer of `/api/models`."""
    services_json: bytes = b'{"services":[]}'
    """The answer of `/api/services`."""

    @property
    def etag(self) -> str:
        """Of every list made of it."""
        return f'"{self.revision:x}"'

    def version(self, model_id: str, name: str) -> VersionEntry | None:
        """A version by its own name."""
        model = self.models.get(model_id)
        return model.versions.get(name) if model else None


class Change(Struct, frozen=True):
    """What is different since the revision before."""

    revision: int
    models: frozenset[str]
    services: frozenset[str]
    removed: tuple[Removed, ...]


def follow(
    before: Snapshot,
    models: Mapping[str, ModelEntry],
    services: Mapping[str, ServiceEntry],
    problems: tuple[tuple[str, str], ...],
    now_ms: int,
) -> tuple[Snapshot, Change | None]:
    """The snapshot after `before`, and what changed; entries that did not are the same objects.

    If nothing at all changed it is `before` itself.
    """
    changed = frozenset(name for name, entry in models.items() if before.models.get(name) is not entry)
    other = frozenset(name for name, entry in services.items() if before.services.get(name) is not entry)
    gone_models = before.models.keys() - models.keys()
    gone_services = before.services.keys() - services.keys()
    if not (changed or other or gone_models or gone_services) and before.revision:
        if problems == before.problems:
            return before, None
        return msgspec.structs.replace(before, problems=problems), None
    removed: list[Removed] = []
    for name in sorted((changed | gone_models) & before.models.keys()):
        kept = {one.version for one in models[name].info.versions} if name in models else set()
        versions = (one.version for one in before.models[name].info.versions)
        removed += [("model", name, version, "") for version in versions if version not in kept]
    for name in sorted((other | gone_services) & before.services.keys()):
        here = services[name].info.variants if name in services else ()
        stay = {(one.version, one.platform) for one in here}
        pairs = ((one.version, one.platform) for one in before.services[name].info.variants)
        removed += [("service", name, *pair) for pair in pairs if pair not in stay]
    revision = max(before.revision + 1, now_ms)
    snapshot = Snapshot(
        revision=revision,
        models=models,
        services=services,
        problems=problems,
        models_json=b"[%s]" % b",".join(entry.encoded for entry in models.values() if entry.listed),
        services_json=msgspec.json.encode({"services": [entry.info for entry in services.values()]}),
    )
    return snapshot, Change(revision, changed | gone_models, other | gone_services, tuple(removed))
