"""What the hub tells about models and packages, with the members that old clients read (model-hub 3).

Members that only newer clients know are left out where they say nothing.
"""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

Status = Literal["published", "deprecated", "yanked", "corrupt"]
"""Of a version; `corrupt` is one whose files are not what was published."""


class Signature(Struct, frozen=True):
    """An Ed25519 signature of a published digest (model-hub 11.4)."""

    key_id: str
    value_b64: str
    """64 bytes in standard base64."""
    signed_payload: dict[str, str]
    alg: Literal["ed25519"] = "ed25519"


class FileInfo(Struct, frozen=True, gc=False):
    """One file of a version."""

    path: str
    size_bytes: int
    sha256: str | UnsetType = UNSET


class VersionInfo(Struct, frozen=True, kw_only=True):
    """One version; `checksum_sha256` is the JSON text of its checksum.sha256, `{}` until it is hashed."""

    version: str
    size_bytes: int
    files: tuple[FileInfo, ...]
    checksum_sha256: str
    updated_at: str
    status: Status
    manifest_sha256: str | UnsetType = UNSET
    signature: Signature | UnsetType = UNSET
    license: str | UnsetType = UNSET
    min_client: str | UnsetType = UNSET
    notes: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    """Why it is deprecated or yanked."""
    replacement: str | UnsetType = UNSET


class ModelInfo(Struct, frozen=True, kw_only=True):
    """A model with the versions that are offered, newest first."""

    id: str
    name: str
    task: str
    languages: tuple[str, ...]
    default_version: str
    versions: tuple[VersionInfo, ...]
    latest_version: str
    channels: dict[str, str]
    tags: tuple[str, ...]
    description: str | UnsetType = UNSET
    license: str | UnsetType = UNSET


class Artifact(Struct, frozen=True):
    """The file of a package; `url` is a path on this hub."""

    url: str
    sha256: str
    size_bytes: int
    etag: str
    """The first 16 digits of `sha256`, without quotes."""
    type: str = "zip"


class VariantInfo(Struct, frozen=True, kw_only=True):
    """A package of a service: one version for one platform."""

    version: str
    platform: str
    artifact: Artifact
    signature: Signature | None = None
    status: Status | Literal["unsigned"] = "published"
    published_at: str | UnsetType = UNSET
    message: str | UnsetType = UNSET


class ServiceInfo(Struct, frozen=True, kw_only=True):
    """A service with its packages, newest first."""

    service_id: str
    name: str
    latest_version: str
    variants: tuple[VariantInfo, ...]


class VersionRecord(Struct, kw_only=True, omit_defaults=True):
    """What was decided about one version after it was published."""

    status: Status = "published"
    message: str | None = None
    replacement: str | None = None
    block_downloads: bool = False
    signatures: dict[str, Signature] = {}
    """By platform; of models under ""."""
    notes: str | None = None
    min_client: str | None = None


class Record(Struct, kw_only=True, omit_defaults=True):
    """What was decided about a model or service: the file `_hub.json` in its directory."""

    name: str | None = None
    task: str | None = None
    languages: tuple[str, ...] | None = None
    description: str | None = None
    tags: tuple[str, ...] = ()
    license: str | None = None
    default: str | None = None
    channels: dict[str, str] = {}
    versions: dict[str, VersionRecord] = {}

    def version(self, name: str) -> VersionRecord:
        """The record of a version, made when it is first asked for."""
        return self.versions.setdefault(name, VersionRecord())
