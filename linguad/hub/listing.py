"""Lists of models and packages by what was asked for, and what changed since. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from linguad.hub.answers import HubProblem, OldProblem
from linguad.hub.entries import ModelEntry, ServiceEntry, VersionEntry
from linguad.hub.names import newest_first
from linguad.hub.records import ModelInfo, ServiceInfo, VersionInfo
from linguad.hub.snapshot import Change, Snapshot

MAX_LIMIT = 1000


def list_models(snapshot: Snapshot, asked: Mapping[str, str]) -> tuple[list[ModelInfo], str]:
    """Models that fit the query of `/api/models`, and the cursor of what follows ("" for none).

    Raises HubProblem for a limit that is none.
    """
    limit = _limit(asked.get("limit"))
    found: list[ModelInfo] = []
    for name, entry in snapshot.models.items():
        if name <= asked.get("cursor", ""):
            continue
        info = _chosen(entry, asked)
        if info is None or not _fits(info, asked):
            continue
        if limit is not None and len(found) == limit:
            return found, found[-1].id
        found.append(info)
    return found, ""


def list_services(snapshot: Snapshot, asked: Mapping[str, str]) -> list[ServiceInfo]:
    """Services that fit the query of `/api/services`; those without a fitting package are left out."""
    found = []
    for name, entry in snapshot.services.items():
        if asked.get("service_id", name) != name:
            continue
        info = entry.info
        if any(key in asked for key in ("platform", "version", "status")):
            variants = tuple(
                one
                for one in info.variants
                if asked.get("platform", one.platform) == one.platform
                and asked.get("version", one.version) == one.version
                and asked.get("status", one.status) == one.status
            )
            if not variants:
                continue
            info = msgspec.structs.replace(info, variants=variants)
        found.append(info)
    return found


def encoded(snapshot: Snapshot, *, models: bool, asked: Mapping[str, str]) -> tuple[bytes, str]:
    """The answer of `/api/models` or `/api/services` to a query, and the cursor of what follows.

    Raises HubProblem.
    """
    if not models:
        return msgspec.json.encode({"services": list_services(snapshot, asked)}), ""
    found, cursor = list_models(snapshot, asked)
    return msgspec.json.encode(found), cursor


def model(snapshot: Snapshot, model_id: str) -> ModelEntry:
    """A model. Raises OldProblem as the hub always did."""
    entry = snapshot.models.get(model_id)
    if entry is None:
        raise OldProblem(404, "model_not_found", "Model not found")
    return entry


def version(snapshot: Snapshot, model_id: str, name: str) -> VersionEntry:
    """A version by its name, a channel, `default` or `latest`. Raises HubProblem."""
    entry = snapshot.models.get(model_id)
    if entry is None:
        raise HubProblem(404, "model_not_found", "Model not found")
    found = entry.resolve(name)
    if found is None:
        raise HubProblem(404, "version_not_found", "Version not found")
    return found


def versions(entry: ModelEntry, status: str | None) -> list[VersionInfo]:
    """All versions of a model, also those that are not offered, newest first."""
    infos = (entry.versions[name].info for name in newest_first(entry.versions))
    return [info for info in infos if status in (None, info.status)]


def service(snapshot: Snapshot, service_id: str) -> ServiceEntry:
    """A service. Raises OldProblem."""
    entry = snapshot.services.get(service_id)
    if entry is None:
        raise OldProblem(404, "service_not_found", "Service not found")
    return entry


def delta(old: VersionEntry, new: VersionEntry) -> dict[str, Any]:
    """What to do to make the files of `new` out of those of `old`, file by file. Raises HubProblem."""
    if not (old.hashed and new.hashed):
        raise HubProblem(409, "no_block_index", "Not all digests are known yet; download the whole version.")
    unchanged, renamed, changed = [], [], []
    spare = {file.sha256: path for path, file in old.files.items() if path not in new.files}
    for path, file in new.files.items():
        if path in old.files and old.files[path].sha256 == file.sha256:
            unchanged.append(path)
        elif file.sha256 in spare:
            renamed.append({"from": spare.pop(file.sha256), "to": path})
        else:
            size = file.stamp.size
            ranges = [{"offset": 0, "length": size}] if size else []
            changed.append(
                {"path": path, "size_bytes": size, "sha256": file.sha256, "ranges": ranges, "reuse": []}
            )
    moved = {one["from"] for one in renamed}
    return {
        "from": old.info.version,
        "to": new.info.version,
        "unchanged": unchanged,
        "renamed": renamed,
        "removed": [path for path in old.files if path not in new.files and path not in moved],
        "changed": changed,
        "download_bytes": sum(one["size_bytes"] for one in changed),
    }


def sync(snapshot: Snapshot, changes: list[Change] | None, asked: Mapping[str, str]) -> dict[str, Any]:
    """What a copy of the hub needs to know; only what `changes` name, or everything if that is None."""
    task, platform = asked.get("task"), asked.get("platform")
    full = changes is None
    models = {name for change in changes or () for name in change.models}
    services = {name for change in changes or () for name in change.services}
    return {
        "revision": snapshot.revision,
        "cursor": str(snapshot.revision),
        "full": full,
        "models": [
            {
                "id": name,
                "default_version": entry.info.default_version,
                "versions": [
                    {
                        "version": one.version,
                        "status": one.status,
                        "manifest_sha256": one.manifest_sha256 or None,
                        "total_size": one.size_bytes,
                    }
                    for one in entry.info.versions
                ],
            }
            for name, entry in snapshot.models.items()
            if (full or name in models) and entry.listed and task in (None, entry.info.task)
        ],
        "services": [
            {
                "service_id": name,
                "latest_version": entry.info.latest_version,
                "variants": [
                    {
                        "version": one.version,
                        "platform": one.platform,
                        "status": one.status,
                        "sha256": one.artifact.sha256,
                        "total_size": one.artifact.size_bytes,
                    }
                    for one in entry.info.variants
                    if platform in (None, one.platform)
                ],
            }
            for name, entry in snapshot.services.items()
            if full or name in services
        ],
        "removed": [
            {"kind": kind, "id": name, "version": gone, **({"platform": where} if where else {})}
            for change in changes or ()
            for kind, name, gone, where in change.removed
        ],
    }


def _chosen(entry: ModelEntry, asked: Mapping[str, str]) -> ModelInfo | None:
    """A model with the versions that are asked for; None if it has none of them."""
    status = asked.get("status")
    everything = asked.get("include_yanked", "").lower() in ("1", "true", "yes") or status == "yanked"
    if not everything and status is None:
        return entry.info if entry.listed else None
    shown = [info for info in versions(entry, status) if info.status != "corrupt" or status == "corrupt"]
    if not everything and status != "corrupt":
        shown = [info for info in shown if info.status != "yanked"]
    return msgspec.structs.replace(entry.info, versions=tuple(shown)) if shown else None


def _fits(info: ModelInfo, asked: Mapping[str, str]) -> bool:
    words = asked.get("q", "").lower()
    return (
        asked.get("task", info.task).lower() == info.task
        and ("language" not in asked or asked["language"] in info.languages)
        and (not words or words in info.id.lower() or words in info.name.lower() or words in info.tags)
    )


def _limit(given: str | None) -> int | None:
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and 1 <= int(given[:9]) <= MAX_LIMIT):
        raise HubProblem.wrong_field("limit", f"must be 1 to {MAX_LIMIT}")
    return int(given)
