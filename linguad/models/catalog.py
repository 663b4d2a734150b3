"""What the hub says about models and packages, as far as a client needs it (model-hub 3, 5, 7, 11.2, 11.4).

Fields of newer hubs are optional, so that the original's hub is understood too; unknown ones are ignored.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import msgspec

from linguad.models.errors import ChecksumMissingError, HubProtocolError, InvalidIdentifierError
from linguad.models.names import CHECKSUMS, Key, by_age, check_path, is_prerelease

MAX_FILES = 100_000
"""More files than any model has; a longer list is refused."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")


class Signature(msgspec.Struct, frozen=True):
    """Who vouches for a version or package; 64 bytes of Ed25519 in base64."""

    key_id: str
    value_b64: str
    alg: str = "ed25519"
    signed_payload: dict[str, str] = {}


class ListedFile(msgspec.Struct, frozen=True):
    """A file of a version; `sha256` only from newer hubs."""

    path: str
    size_bytes: int
    sha256: str | None = None


class ListedVersion(msgspec.Struct, frozen=True):
    """A version in the hub's list."""

    version: str
    size_bytes: int = 0
    files: list[ListedFile] = []
    checksum_sha256: str = ""
    updated_at: str = ""
    manifest_sha256: str | None = None
    status: str = "published"
    signature: Signature | None = None


class ListedModel(msgspec.Struct, frozen=True):
    """A model in the hub's list."""

    id: str
    name: str = ""
    task: str = ""
    languages: list[str] = []
    default_version: str = ""
    versions: list[ListedVersion] = []
    latest_version: str | None = None
    channels: dict[str, str] = {}

    def find(self, version: str) -> ListedVersion | None:
        """The entry of that version."""
        return next((one for one in self.versions if one.version == version), None)

    def choose(self, asked: str | None) -> str | None:
        """The version somebody means: a version, a channel, `latest`, or nothing for the hub's default."""
        if asked is None or asked == "default":
            offered = [one.version for one in self.versions if one.status != "yanked"]
            return self.default_version or newest(offered)
        if asked == "latest" and self.find(asked) is None:
            return self.latest_version or newest([one.version for one in self.versions])
        return self.channels.get(asked, asked)


class Rank(msgspec.Struct, frozen=True):
    """A row of the usage ranking."""

    model_id: str
    request_count: int
    rank: int


class Artifact(msgspec.Struct, frozen=True):
    """Where a package lies on its hub, and what it must be."""

    url: str
    sha256: str
    size_bytes: int
    type: str = "zip"
    etag: str | None = None
    unpacked_bytes: int | None = None


class Variant(msgspec.Struct, frozen=True):
    """A package for one platform."""

    version: str
    platform: str
    artifact: Artifact
    signature: Signature | None = None
    status: str = "published"


class ListedService(msgspec.Struct, frozen=True):
    """A service in the hub's list."""

    service_id: str
    name: str = ""
    latest_version: str = ""
    variants: list[Variant] = []


class ListedServices(msgspec.Struct, frozen=True):
    """Answer of /api/services."""

    services: list[ListedService] = []


class WantedFile(msgspec.Struct, frozen=True):
    """A file to be had: its checked path, size in bytes and lower-case sha256 (None: nobody tells it)."""

    path: str
    size_bytes: int
    sha256: str | None


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """All that must be true of a version before it is installed."""

    key: Key
    files: list[WantedFile]
    checksum_sha256: str
    manifest_sha256: str | None
    signature: Signature | None = None
    task: str = ""
    languages: list[str] = []

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(file.size_bytes for file in self.files)


class SyncVersion(msgspec.Struct, frozen=True):
    """A version in the sync manifest."""

    version: str
    status: str = "published"
    manifest_sha256: str | None = None
    total_size: int = 0


class SyncModel(msgspec.Struct, frozen=True):
    """A model in the sync manifest."""

    id: str
    default_version: str = ""
    versions: list[SyncVersion] = []


class SyncRemoval(msgspec.Struct, frozen=True):
    """Something the hub no longer has."""

    kind: str
    id: str
    version: str | None = None


class SyncAnswer(msgspec.Struct, frozen=True):
    """What is new at the hub since a cursor."""

    cursor: str | int = ""
    full: bool = True
    models: list[SyncModel] = []
    removed: list[SyncRemoval] = []


def newest(versions: list[str]) -> str | None:
    """The newest release; the newest of all if there is no release."""
    releases = [version for version in versions if not is_prerelease(version)]
    return max(releases or versions, key=by_age, default=None)


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and without spaces: the bytes that digests and signatures are made of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def checksum_text(files: dict[str, str]) -> bytes:
    """The file of a version that names the digests of the others, in its canonical form."""
    return json.dumps(files, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def parse_checksums(data: bytes) -> dict[str, str]:
    """Path → sha256 of a checksum file, as JSON or as `sha256sum` writes. Raises HubProtocolError."""
    try:
        text = data.decode()
        found = json.loads(text) if text.lstrip().startswith("{") else _lines(text)
        digests = {str(path): str(digest).lower() for path, digest in found.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise HubProtocolError(f"{CHECKSUMS} of the hub is neither JSON nor a list of digests") from error
    for path, digest in digests.items():
        check_path(path)
        _check_digest(path, digest)
    return digests


def _lines(text: str) -> dict[str, str]:
    found = {}
    for line in filter(None, map(str.rstrip, text.splitlines())):
        if (row := _LINE.fullmatch(line)) is None:
            raise ValueError(line[:80])
        found[row[2]] = row[1]
    return found


def _check_digest(path: str, digest: str) -> None:
    if not _DIGEST.fullmatch(digest):
        raise HubProtocolError(f"the hub's sha256 of {path} is no sha256: {digest[:80]!r}")


def from_manifest(one: Key, data: bytes, model: ListedModel, listed: ListedVersion | None) -> Wanted:
    """What a manifest asks for. Raises HubProtocolError if it is not whole or of something else."""
    try:
        manifest = json.loads(data)
        stated = manifest.pop("manifest_sha256")
        named = Key(manifest["model_id"], manifest["version"])
        files = [
            WantedFile(str(file["path"]), int(file["size_bytes"]), str(file["sha256"]).lower())
            for file in manifest["files"]
        ]
        actual = hashlib.sha256(canonical(manifest)).hexdigest()
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise HubProtocolError(f"the hub's manifest of {one} cannot be used: {error!r}") from error
    if named != one:
        raise HubProtocolError(f"the hub sent the manifest of {named} for {one}")
    if actual != stated:
        raise HubProtocolError(f"the hub's manifest of {one} does not have the digest it states")
    if listed is not None and listed.manifest_sha256 not in (None, stated):
        raise HubProtocolError(
            f"the hub lists another manifest of {one} than it sends; try again in a minute"
        )
    return Wanted(
        key=one,
        files=_checked(one, files),
        checksum_sha256=listed.checksum_sha256 if listed else "",
        manifest_sha256=stated,
        signature=listed.signature if listed else None,
        task=model.task,
        languages=model.languages,
    )


def from_list(
    one: Key, model: ListedModel, checksums: dict[str, str] | None, *, allow_unverified: bool = False
) -> Wanted:
    """What an old hub's list and its checksum file ask for, `None` if it has none.

    Raises ChecksumMissingError, HubProtocolError.
    """
    listed = model.find(one.version)
    if listed is None:
        raise HubProtocolError(f"the hub's list does not have {one}")
    digests = checksums or {}
    files = [
        WantedFile(file.path, file.size_bytes, (file.sha256 or digests.get(file.path) or "").lower() or None)
        for file in listed.files
        if file.path != CHECKSUMS
    ]
    for file in files:
        if file.sha256 is None and not allow_unverified:
            raise ChecksumMissingError(f"the hub tells no checksum of {file.path} in {one}; ask its operator")
    return Wanted(
        key=one,
        files=_checked(one, files),
        checksum_sha256=listed.checksum_sha256,
        manifest_sha256=listed.manifest_sha256,
        signature=listed.signature,
        task=model.task,
        languages=model.languages,
    )


def _checked(one: Key, files: list[WantedFile]) -> list[WantedFile]:
    """The files, if all can lie side by side below one directory. Raises HubProtocolError and the like."""
    kept = [file for file in files if file.path != CHECKSUMS]
    if not 0 < len(kept) <= MAX_FILES:
        raise HubProtocolError(f"the hub lists {len(kept)} files of {one}")
    folded = set()
    for file in kept:
        check_path(file.path)
        if file.sha256 is not None:
            _check_digest(file.path, file.sha256)
        if not 0 <= file.size_bytes < 2**53:
            raise HubProtocolError(f"the hub says that {file.path} has {file.size_bytes} bytes")
        folded.add(file.path.casefold())
    if len(folded) < len(kept):
        raise InvalidIdentifierError(f"two files of {one} have the same name, but for its capitals")
    for file in kept:
        parents = file.path.casefold().split("/")[:-1]
        if any("/".join(parents[:depth]) in folded for depth in range(1, len(parents) + 1)):
            raise InvalidIdentifierError(f"a file of {one} is a directory of another: {file.path!r}")
    return kept
