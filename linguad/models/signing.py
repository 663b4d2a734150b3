"""Ed25519 signatures of versions and packages (model-hub 11.4, model-manager 5, 10.4)."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping, Sequence

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from linguad import log
from linguad.models.catalog import Signature, canonical
from linguad.models.errors import SignatureError

VARIABLE = "SERVICE_PACKAGE_PUBLIC_KEYS"
"""Environment variable with trusted keys: a JSON array of {key_id, public_key, algorithm}."""

KEY_BYTES, SIGNATURE_BYTES = 32, 64

logger = log.get(__name__)


class TrustedKey(msgspec.Struct, frozen=True):
    """A key whose owner may say what is installed here; `public_key` is base64 of 32 bytes."""

    key_id: str
    public_key: str
    algorithm: str = "ed25519"


class Trust:
    """The keys this node believes; what a hub says about keys is never believed."""

    def __init__(self, keys: Sequence[TrustedKey] = ()) -> None:
        """Raises SignatureError for a key that is none."""
        self._keys = {one.key_id: _public(one) for one in keys}

    @classmethod
    def from_environment(cls) -> Trust:
        """The keys of $SERVICE_PACKAGE_PUBLIC_KEYS. Raises SignatureError with the cure."""
        text = os.environ.get(VARIABLE)
        if not text:
            return cls()
        try:
            return cls(msgspec.json.decode(text, type=list[TrustedKey]))
        except msgspec.MsgspecError as error:
            raise SignatureError(
                f'${VARIABLE} is not a JSON list like [{{"key_id": "…", "public_key": "…"}}]: {error}'
            ) from error

    def __bool__(self) -> bool:
        """Whether any key is trusted."""
        return bool(self._keys)

    def knows(self, key_id: str) -> bool:
        """Whether a key is trusted now."""
        return key_id in self._keys

    def check(self, payload: Mapping[str, str], signature: Signature | None, source: str) -> None:
        """Whether `signature` is by a trusted key and over exactly `payload`, which was computed here.

        `source` is where it came from, for the log. Raises SignatureError.
        """
        try:
            self._check(payload, signature)
        except SignatureError as error:
            logger.error(
                "model_signature_refused",
                signer=signature.key_id if signature else None,
                sha256=payload.get("sha256") or payload.get("manifest_sha256"),
                source=source,
                reason=str(error),
            )
            raise

    def _check(self, payload: Mapping[str, str], signature: Signature | None) -> None:
        what = " ".join(str(payload[name]) for name in sorted(payload) if "sha256" not in name)
        if signature is None:
            raise SignatureError(f"{what} is not signed; ask its publisher to sign it")
        if signature.alg != "ed25519":
            raise SignatureError(f"{what} is signed with {signature.alg!r}; only ed25519 is known")
        public = self._keys.get(signature.key_id)
        if public is None:
            raise SignatureError(f"{what} is signed by {signature.key_id!r}, which is not trusted here")
        if signature.signed_payload and signature.signed_payload != dict(payload):
            raise SignatureError(f"the signature of {what} is over something else")
        try:
            public.verify(_decoded(signature.value_b64, SIGNATURE_BYTES), canonical(dict(payload)))
        except InvalidSignature as error:
            raise SignatureError(f"the signature of {what} is wrong; it was changed on its way") from error


def _public(one: TrustedKey) -> Ed25519PublicKey:
    if one.algorithm != "ed25519":
        raise SignatureError(f"key {one.key_id!r} is for {one.algorithm!r}; only ed25519 is known")
    return Ed25519PublicKey.from_public_bytes(_decoded(one.public_key, KEY_BYTES))


def _decoded(text: str, length: int) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureError("a key or signature is not base64") from error
    if len(data) != length:
        raise SignatureError(f"a key or signature has {len(data)} bytes, not {length}")
    return data
