"""From what lies on the disk to what is told about it: models, packages, manifests. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from linguad.hub.checksums import CHECKSUM, checksum_json
from linguad.hub.metadata import Described
from linguad.hub.names import TASKS, is_version, newest, newest_first, title
from linguad.hub.records import (
    Artifact,
    FileInfo,
    ModelInfo,
    Record,
    ServiceInfo,
    Signature,
    Status,
    VariantInfo,
    VersionInfo,
    VersionRecord,
)
from linguad.hub.scan import MANIFEST, File, Model, Service, Version

BLOCK_BYTES = 4 * 1024 * 1024
"""Size of the blocks that manifests speak of."""

OFFERED = ("published", "deprecated")
NOTHING_HASHED = "{}"
"""`checksum_sha256` of a version without digests: the text of an empty checksum.sha256, which is what the
original answers, so that who stores or parses it meets nothing new (model-hub 3, resolution 43)."""

_TASK_WORDS = {
    "tts": ("tts", "piper", "vits"),
    "nmt": ("nmt", "m2m", "nllb", "marian", "opus-mt", "translat"),
    "vad": ("vad",),
    "emotion": ("emotion",),
    "persona": ("persona",),
    "speaker_embedding": ("speaker", "ecapa"),
}


class VersionEntry(Struct, frozen=True):
    """A version as it is told and served."""

    info: VersionInfo
    files: Mapping[str, File]
    checksum: bytes
    """Its checksum.sha256; empty until all files are hashed."""
    blocked: bool
    """Its files may not be downloaded."""

    @property
    def hashed(self) -> bool:
        """All digests are known."""
        return bool(self.checksum)


class ModelEntry(Struct, frozen=True):
    """A model as it is told and served."""

    info: ModelInfo
    versions: Mapping[str, VersionEntry]
    """All of them, also those that are not offered."""
    listed: bool
    """At least one version is offered."""
    encoded: bytes
    record: Record

    def resolve(self, name: str) -> VersionEntry | None:
        """The version that a name, a channel, `default` or `latest` means."""
        if name == "default":
            name = self.info.default_version
        elif name == "latest":
            name = self.info.latest_version
        elif name not in self.versions:
            name = self.info.channels.get(name, name)
        return self.versions.get(name)


class VariantEntry(Struct, frozen=True):
    """A package as it is told and served."""

    info: VariantInfo
    file: File
    blocked: bool
    offered: bool


class ServiceEntry(Struct, frozen=True):
    """A service as it is told and served."""

    info: ServiceInfo
    variants: Mapping[tuple[str, str], VariantEntry]
    record: Record


def model_entry(model: Model, described: Described | None, revoked: frozenset[str]) -> ModelEntry:
    """What is told about a model; signatures by `revoked` keys are left out."""
    record = model.record
    versions = {
        name: _version_entry(model.id, version, record.versions.get(name), described, revoked)
        for name, version in model.versions.items()
    }
    offered = [name for name in newest_first(model.versions) if versions[name].info.status in OFFERED]
    said = described or Described()
    own = _own_words(model, offered)
    channels = {
        name: version for name, version in {**said.channels, **record.channels}.items() if version in offered
    }
    latest = newest(offered) or ""
    chosen = next((one for one in (record.default, said.default) if one in offered), None)
    info = ModelInfo(
        id=model.id,
        name=record.name or said.name or _text(own, "name") or title(model.id),
        task=record.task or said.task or _task(own, model),
        languages=record.languages or said.languages or _languages(own, model),
        default_version=chosen or latest,
        versions=tuple(versions[name].info for name in offered),
        latest_version=latest,
        channels=channels,
        tags=record.tags or _texts(own, "tags"),
        description=record.description or _text(own, "description") or UNSET,
        license=record.license or _text(own, "license") or UNSET,
    )
    return ModelEntry(info, versions, bool(offered), msgspec.json.encode(info), record)


def service_entry(service: Service, signed_only: bool, revoked: frozenset[str]) -> ServiceEntry:
    """What is told about a service; packages that are not hashed yet cannot be verified and are left out."""
    variants: dict[tuple[str, str], VariantEntry] = {}
    order = newest_first({version: None for version, _ in service.packages})
    for version in order:
        record = service.record.versions.get(version, VersionRecord())
        for (own, platform), file in sorted(service.packages.items()):
            if own == version and file.sha256:
                signature = _valid(record.signatures.get(platform), revoked)
                variants[version, platform] = _variant(
                    service.id, version, platform, file, record, signature, signed_only
                )
    offered = [entry.info for entry in variants.values() if entry.offered]
    wanted = service.record.default
    latest = newest(list(dict.fromkeys(info.version for info in offered))) or ""
    info = ServiceInfo(
        service_id=service.id,
        name=service.record.name or title(service.id),
        latest_version=wanted if wanted in {one.version for one in offered} and wanted else latest,
        variants=tuple(offered),
    )
    return ServiceEntry(info, variants, service.record)


def services_index(services: Mapping[str, ServiceEntry]) -> bytes:
    """services_index.json: what old programs read where the hub cannot be reached (model-hub 7.1)."""
    index = {
        name: {
            "service_id": name,
            "name": entry.info.name,
            "latest_version": entry.info.latest_version,
            "variants": [_plain_variant(variant) for variant in entry.info.variants],
            "updated_at": max(
                _moment(entry.variants[one.version, one.platform].file.stamp.mtime_ns)
                for one in entry.info.variants
            ),
        }
        for name, entry in sorted(services.items())
        if entry.info.variants
    }
    return msgspec.json.format(msgspec.json.encode(index), indent=2) + b"\n"


def manifest(model_id: str, entry: VersionEntry) -> dict[str, Any]:
    """The manifest of a version that is hashed (model-hub 11.2); files that describe others are left out."""
    return _with_digest(_manifest(model_id, entry.info.version, entry.files, entry.info.updated_at))


def published_manifest(model_id: str, version: str, files: Mapping[str, tuple[int, str]], now: str) -> bytes:
    """The manifest that is written with a new version; size and digest by path."""
    listed = [
        _manifest_file(model_id, version, path, size, digest)
        for path, (size, digest) in sorted(files.items())
    ]
    return canonical(_with_digest(_manifest_of(model_id, version, now, listed)))


def canonical(value: object) -> bytes:
    """JSON with sorted keys and no spaces: what digests and signatures are taken over."""
    return msgspec.json.encode(value, order="sorted")


def _manifest(model_id: str, version: str, files: Mapping[str, File], created: str) -> dict[str, Any]:
    listed = [
        _manifest_file(model_id, version, file.path, file.stamp.size, file.sha256)
        for file in files.values()
        if file.path != MANIFEST
    ]
    return _manifest_of(model_id, version, created, listed)


def _manifest_of(model_id: str, version: str, created: str, files: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "schema": 1,
        "model_id": model_id,
        "version": version,
        "created_at": created,
        "total_size": sum(file["size_bytes"] for file in files),
        "block_size": BLOCK_BYTES,
        "files": files,
    }


def _manifest_file(model_id: str, version: str, path: str, size: int, digest: str) -> dict[str, Any]:
    return {
        "path": path,
        "size_bytes": size,
        "sha256": digest,
        "etag": f'"{digest}"',
        "url": f"/storage/models/{model_id}/{version}/{path}",
    }


def _with_digest(manifest: dict[str, Any]) -> dict[str, Any]:
    return {**manifest, "manifest_sha256": hashlib.sha256(canonical(manifest)).hexdigest()}


def _version_entry(
    model_id: str,
    version: Version,
    record: VersionRecord | None,
    described: Described | None,
    revoked: frozenset[str],
) -> VersionEntry:
    record = record or VersionRecord()
    files = {file.path: file for file in version.files}
    updated = _text(version.own, "created_at") or _moment(max(f.stamp.mtime_ns for f in version.files))
    digests = {file.path: file.sha256 for file in version.files}
    checksum = checksum_json(digests) if all(digests.values()) else b""
    digest: str | Any = UNSET
    if checksum:
        whole = _with_digest(_manifest(model_id, version.name, files, updated))
        digest = whole["manifest_sha256"]
    status: Status = record.status
    if any(said != digests[path] for path, said in version.declared.items() if digests.get(path)):
        status = "corrupt"
    elif status == "published" and described and version.name in described.deprecated:
        status = "deprecated"
    signature = _valid(record.signatures.get(""), revoked)
    info = VersionInfo(
        version=version.name,
        size_bytes=sum(file.stamp.size for file in version.files),
        files=tuple(FileInfo(file.path, file.stamp.size, file.sha256 or UNSET) for file in version.files),
        checksum_sha256=checksum.decode().strip() or NOTHING_HASHED,
        updated_at=updated,
        status=status,
        manifest_sha256=digest,
        signature=signature or UNSET,
        license=_text(version.own, "license") or UNSET,
        min_client=record.min_client or _text(version.own, "min_client") or UNSET,
        notes=record.notes or UNSET,
        message=record.message or UNSET,
        replacement=record.replacement or UNSET,
    )
    return VersionEntry(info, files, checksum, record.block_downloads)


def _variant(
    service_id: str,
    version: str,
    platform: str,
    file: File,
    record: VersionRecord,
    signature: Signature | None,
    signed_only: bool,
) -> VariantEntry:
    unsigned = signed_only and signature is None and record.status in OFFERED
    info = VariantInfo(
        version=version,
        platform=platform,
        artifact=Artifact(
            url=f"/storage/services/{service_id}/{version}/{platform}/service.zip",
            sha256=file.sha256,
            size_bytes=file.stamp.size,
            etag=file.sha256[:16],
        ),
        signature=signature,
        status="unsigned" if unsigned else record.status,
        published_at=_moment(file.stamp.mtime_ns),
        message=record.message or UNSET,
    )
    return VariantEntry(info, file, record.block_downloads, not unsigned and record.status in OFFERED)


def _plain_variant(variant: VariantInfo) -> dict[str, Any]:
    """The members in the order that the old tool wrote; without a signature there is no such member."""
    plain: dict[str, Any] = msgspec.to_builtins(variant)
    artifact = {name: plain["artifact"][name] for name in ("type", "url", "sha256", "size_bytes", "etag")}
    rest = {name: value for name, value in plain.items() if name not in ("artifact", "signature")}
    signature = {"signature": plain["signature"]} if plain["signature"] else {}
    return {**rest, "artifact": artifact, **signature}


def _valid(signature: Signature | None, revoked: frozenset[str]) -> Signature | None:
    return None if signature is None or signature.key_id in revoked else signature


def _own_words(model: Model, offered: list[str]) -> Mapping[str, Any]:
    """What the manifest.json of the newest version with one says."""
    return next((model.versions[name].own for name in offered if model.versions[name].own), {})


def _task(own: Mapping[str, Any], model: Model) -> str:
    said = _text(own, "task")
    if said:
        return said.lower()
    if model.task:
        return model.task
    words = model.id.lower()
    guesses: Iterator[str] = (
        task for task, parts in _TASK_WORDS.items() if any(part in words for part in parts)
    )
    return next(guesses, TASKS[0])


def _languages(own: Mapping[str, Any], model: Model) -> tuple[str, ...]:
    said = _texts(own, "languages")
    if said:
        return said
    words = model.id.lower()
    if model.task and ("zh" in words or "chinese" in words):
        return ("zh",)
    if model.task and ("en" in words or "english" in words):
        return ("en",)
    return ("zh", "en")


def _text(own: Mapping[str, Any], name: str) -> str:
    value = own.get(name)
    return value if isinstance(value, str) else ""


def _texts(own: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = own.get(name)
    return tuple(one for one in value if isinstance(one, str) and one) if isinstance(value, list) else ()


def _moment(mtime_ns: int) -> str:
    return datetime.fromtimestamp(mtime_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def problems_of(model: Model, described: Described | None) -> Iterator[tuple[str, str]]:
    """What is wrong between the words about a model and its files."""
    for version in model.versions.values():
        for path in version.declared.keys() - {file.path for file in version.files} - {CHECKSUM}:
            yield f"{version.where}/{path}", "checksum.sha256 names it, but it does not exist"
        for file in version.files:
            said = version.declared.get(file.path)
            if said and file.sha256 and said != file.sha256:
                yield file.where, "it is not the file whose digest checksum.sha256 has"
    for name in described.versions if described else ():
        if name not in model.versions:
            shown = name if is_version(name) else repr(name)
            yield f"metadata.json: {model.id} {shown}", "no files of this version are on the disk"
