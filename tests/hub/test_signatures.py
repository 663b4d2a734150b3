"""Signatures of packages, made and verified by an implementation that is not the hub's (model-hub 11.4)."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import ed25519
from shop import ADMIN, open_shop, package, sha

SECRET = bytes(range(32))


def test_the_other_implementation_is_right() -> None:
    """RFC 8032 7.1, test 2."""
    secret = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    key = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert ed25519.public(secret) == key
    assert ed25519.sign(secret, b"\x72") == signature
    assert ed25519.verifies(key, b"\x72", signature)
    assert not ed25519.verifies(key, b"\x73", signature)


async def test_a_signed_package_verifies_with_another_implementation(tmp_path: Path) -> None:
    data = package(tmp_path / "s.zip", "s", "1.0.0")
    payload = {"service_id": "s", "version": "1.0.0", "platform": "windows-x64", "sha256": sha(data)}

    def signed(digest: str) -> dict[str, Any]:
        text = f'{{"platform":"windows-x64","service_id":"s","sha256":"{digest}","version":"1.0.0"}}'
        value = base64.b64encode(ed25519.sign(SECRET, text.encode())).decode()
        return {"key_id": "k", "value_b64": value, "signed_payload": {**payload, "sha256": digest}}

    async with open_shop(tmp_path / "models") as shop:
        path = "/api/admin/services/s/1.0.0/windows-x64"
        await shop.ask("POST", path, data, key=ADMIN, X_Content_Sha256=sha(data))
        key = {"public_key_b64": base64.b64encode(ed25519.public(SECRET)).decode()}
        assert (await shop.ask("PUT", "/api/admin/keys/k", key, key=ADMIN)).status == 200
        tampered = await shop.ask("PUT", f"{path}/signature", signed(sha(b"another zip")), key=ADMIN)
        assert (tampered.status, tampered.json["error"]["code"]) == (422, "signature_invalid")
        assert (await shop.ask("PUT", f"{path}/signature", signed(sha(data)), key=ADMIN)).status == 200

        variant = (await shop.get("/api/services/s/1.0.0/windows-x64")).json
        zipped = (await shop.get(variant["artifact"]["url"])).body
        (listed,) = (await shop.get("/api/keys")).json
    told = variant["signature"]
    assert told["signed_payload"] == {**payload, "sha256": sha(zipped)}
    said = (f'"{name}":"{told["signed_payload"][name]}"' for name in sorted(payload))
    message = f"{{{','.join(said)}}}".encode()
    public, value = base64.b64decode(listed["public_key_b64"]), base64.b64decode(told["value_b64"])
    assert ed25519.verifies(public, message, value)
    assert not ed25519.verifies(public, message.replace(b"1.0.0", b"1.0.1"), value)
