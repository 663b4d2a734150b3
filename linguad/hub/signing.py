"""Ed25519 signatures of what is published: which bytes are signed, and by which keys (model-hub 11.4)."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from linguad import log
from linguad.errors import LinguadError
from linguad.hub.disk import put_file
from linguad.hub.records import Signature

logger = log.get(__name__)


class BadSignature(LinguadError):
    """A signature that proves nothing; the text says why."""


class SigningKey(Struct, frozen=True, omit_defaults=True):
    """A public key whose signatures are accepted; times are RFC 3339."""

    key_id: str
    public_key_b64: str
    """32 bytes in standard base64."""
    status: Literal["active", "retired", "revoked"] = "active"
    not_before: str = ""
    not_after: str | None = None
    alg: Literal["ed25519"] = "ed25519"


class Keys:
    """The public keys, kept in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: dict[str, SigningKey] = {}

    def load(self) -> None:
        """Read the keys; for a worker thread. Raises LinguadError if the file is broken."""
        try:
            keys = msgspec.json.decode(self._path.read_bytes(), type=list[SigningKey])
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            raise LinguadError(
                f"The signing keys in {self._path} cannot be read: {error}; repair the file."
            ) from error
        self._keys = {key.key_id: key for key in keys}

    def put(self, key: SigningKey) -> None:
        """Add or change a key; for a worker thread. Raises BadSignature for what is no key, OSError."""
        _public(key)
        keys = {**self._keys, key.key_id: key}
        put_file(self._path, msgspec.json.encode(list(keys.values())))
        self._keys = keys

    def listed(self) -> list[dict[str, str | None]]:
        """All keys, with every member."""
        return [
            {
                "key_id": key.key_id,
                "alg": key.alg,
                "public_key_b64": key.public_key_b64,
                "status": key.status,
                "not_before": key.not_before,
                **({"not_after": key.not_after} if key.not_after else {}),
            }
            for key in self._keys.values()
        ]

    def revoked(self) -> frozenset[str]:
        """Ids of keys whose signatures no longer count."""
        return frozenset(key.key_id for key in self._keys.values() if key.status == "revoked")

    def check(self, signature: Signature, expected: dict[str, str]) -> None:
        """Raises BadSignature unless it is an active key's signature of exactly `expected`."""
        key = self._keys.get(signature.key_id)
        if key is None or key.status != "active":
            raise BadSignature(f"key_id {signature.key_id!r} is no active key; register it first")
        if signature.signed_payload != expected:
            raise BadSignature("signed_payload is not what is stored here; sign the published digest")
        value = _decode(signature.value_b64, 64, "value_b64")
        try:
            _public(key).verify(value, signed_bytes(expected))
        except InvalidSignature:
            raise BadSignature("value_b64 does not sign these bytes with this key") from None


def signed_bytes(payload: dict[str, str]) -> bytes:
    """What is signed: compact JSON with sorted keys, the form that old verifiers build."""
    return msgspec.json.encode(payload, order="sorted")


def package_payload(service_id: str, version: str, platform: str, sha256: str) -> dict[str, str]:
    """What the signature of a package speaks of."""
    return {"platform": platform, "service_id": service_id, "sha256": sha256, "version": version}


def model_payload(model_id: str, version: str, manifest_sha256: str) -> dict[str, str]:
    """What the signature of a model's version speaks of."""
    return {"manifest_sha256": manifest_sha256, "model_id": model_id, "version": version}


def _public(key: SigningKey) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(_decode(key.public_key_b64, 32, "public_key_b64"))


def _decode(text: str, size: int, field: str) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if len(value) != size:
        raise BadSignature(f"{field} must be {size} bytes in standard base64")
    return value
