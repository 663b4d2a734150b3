"""Publishing, signing and taking back, over real sockets."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE_S
from shop import ADMIN, Answer, Shop, open_shop, package, put, sha

from linguad.core.accounts import Actor, KeyWish
from linguad.core.tenant import Scope
from linguad.hub.packages import problems_of_package
from linguad.store.database import Database
from linguad.store.pepper import load_pepper
from linguad.store.registry import Registry

PYTHON = {"type": "argv", "program": "python"}
FILES = {"model.bin": os.urandom(300_000), "sub/vocab.txt": b"a b", "empty.txt": b""}


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path / "models") as opened:
        yield opened


def wanted(version: str, files: dict[str, bytes], **more: Any) -> dict[str, Any]:
    listed = [{"path": path, "size_bytes": len(data), "sha256": sha(data)} for path, data in files.items()]
    return {"version": version, "files": listed, **more}


async def begin(shop: Shop, version: str, files: dict[str, bytes], **more: Any) -> Answer:
    return await shop.ask("POST", "/api/admin/models/m/versions", wanted(version, files, **more), key=ADMIN)


async def test_a_version_is_published_and_never_changes(shop: Shop) -> None:
    described = {"name": "M", "task": "nmt", "languages": ["de", "fr"], "tags": ["small"], "license": "MIT"}
    assert (await shop.ask("PUT", "/api/admin/models/m", described, key=ADMIN)).status == 201
    assert (await shop.get("/api/models")).json == []
    answer = await shop.publish("m", "1.0.0", FILES, notes="first", channel="stable")
    assert (answer.status, answer.json["state"]) == (201, "committed")
    model = (await shop.get("/api/models/m")).json
    assert {name: model[name] for name in described} == described
    assert (model["default_version"], model["channels"]) == ("1.0.0", {"stable": "1.0.0"})
    (version,) = model["versions"]
    assert version["notes"] == "first"
    digests = {path: sha(data) for path, data in FILES.items()}
    said = json.loads(version["checksum_sha256"])
    assert {path: said[path] for path in FILES} == digests
    manifest = (await shop.get("/storage/models/m/1.0.0/manifest.json")).json
    assert manifest == (await shop.get("/api/models/m/versions/1.0.0/manifest")).json
    assert {file["path"]: file["sha256"] for file in manifest["files"]} == digests
    assert version["manifest_sha256"] == manifest["manifest_sha256"]
    for path, data in FILES.items():
        assert (await shop.get(f"/storage/models/m/1.0.0/{path}")).body == data
    same = await shop.publish("m", "1.0.0", FILES)
    assert same.status == 200
    other = await shop.publish("m", "1.0.0", {"model.bin": b"other"})
    assert (other.status, other.json["error"]["code"]) == (409, "version_exists")
    audit = (await shop.ask("GET", "/api/admin/audit", key=ADMIN)).json
    assert [record["action"] for record in audit] == ["hub.model.publish", "hub.model.describe"]


async def test_bytes_the_hub_has_are_not_sent_again(shop: Shop) -> None:
    await shop.publish("m", "1.0.0", FILES)
    answer = await begin(shop, "1.1.0", {**FILES, "new.bin": b"new"})
    assert answer.json["missing"] == ["new.bin"]
    assert (await shop.publish("m", "1.1.0", {**FILES, "new.bin": b"new"})).status == 201
    assert (await shop.get("/storage/models/m/1.1.0/model.bin")).body == FILES["model.bin"]


async def test_an_interrupted_upload_goes_on_even_after_a_restart(shop: Shop) -> None:
    begun = await begin(shop, "1.0.0", {"model.bin": FILES["model.bin"]})
    file = f"/api/admin/uploads/{begun.json['upload_id']}/files/model.bin"
    data = FILES["model.bin"]
    head = f"PATCH {file} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\nUpload-Offset: 0\r\n"
    async with await shop.connect() as stream:
        await stream.send_all(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data[:100_000])
    with trio.fail_after(PATIENCE_S):
        while (await shop.ask("HEAD", file, key=ADMIN)).headers["upload-offset"] != "100000":  # noqa: ASYNC110
            await trio.sleep(0.01)
    wrong = await shop.ask("PATCH", file, data, key=ADMIN, Upload_Offset="0")
    assert (wrong.status, wrong.headers["upload-offset"]) == (409, "100000")
    early = await shop.ask("POST", f"{file.rsplit('/', 2)[0]}/commit?wait=60", key=ADMIN)
    assert (early.status, early.json["error"]["details"]["file"]) == (422, "model.bin")
    async with open_shop(shop.root) as again:
        sent = await again.ask("PATCH", file, data[100_000:], key=ADMIN, Upload_Offset="100000")
        assert (sent.status, sent.headers["upload-offset"]) == (204, str(len(data)))
        too_much = await again.ask("PATCH", file, b"x", key=ADMIN, Upload_Offset=str(len(data)))
        assert too_much.status == 413
        done = await again.ask("POST", f"{file.rsplit('/', 2)[0]}/commit?wait=60", key=ADMIN)
        assert done.status == 201
        assert (await again.get("/storage/models/m/1.0.0/model.bin")).body == data


async def test_wrong_bytes_are_refused_and_can_be_sent_again(shop: Shop) -> None:
    begun = await begin(shop, "1.0.0", {"a.bin": b"right"})
    upload = f"/api/admin/uploads/{begun.json['upload_id']}"
    await shop.ask("PATCH", f"{upload}/files/a.bin", b"wrong", key=ADMIN, Upload_Offset="0")
    refused = await shop.ask("POST", f"{upload}/commit?wait=60", key=ADMIN)
    assert (refused.status, refused.json["error"]["code"]) == (422, "upload_invalid")
    assert (await shop.get("/api/models/m")).status == 404
    told = (await shop.ask("GET", upload, key=ADMIN)).json
    assert (told["state"], told["failed"]["file"]) == ("failed", "a.bin")
    await shop.ask("PATCH", f"{upload}/files/a.bin", b"right", key=ADMIN, Upload_Offset="0")
    accepted = await shop.ask("POST", f"{upload}/commit", key=ADMIN)
    assert (accepted.status, accepted.json) == (202, {"status_url": upload})
    with trio.fail_after(PATIENCE_S):
        while (await shop.ask("GET", upload, key=ADMIN)).json["state"] != "committed":  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_of_two_at_the_same_time_one_wins_and_nobody_sees_a_part(shop: Shop) -> None:
    statuses: list[int] = []
    seen: set[tuple[int, int]] = set()
    done = trio.Event()

    async def publish(number: int) -> None:
        files = {f"{path}-{number}": data for path, data in FILES.items()}
        statuses.append((await shop.publish("m", "1.0.0", files)).status)

    async def read() -> None:
        while not done.is_set():
            for model in (await shop.get("/api/models")).json:
                (version,) = model["versions"]
                seen.add((len(version["files"]), version["size_bytes"]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        async with trio.open_nursery() as publishers:
            for number in range(4):
                publishers.start_soon(publish, number)
        done.set()
    assert sorted(statuses) == [201, 409, 409, 409]
    assert len(seen) <= 1


@pytest.mark.parametrize(
    ("version", "file", "field"),
    [
        ("1.0", {"path": "a", "size_bytes": 1, "sha256": "0" * 64}, "version"),
        ("1.0.0", {"path": "../a", "size_bytes": 1, "sha256": "0" * 64}, "files[0]"),
        ("1.0.0", {"path": "a/_b", "size_bytes": 1, "sha256": "0" * 64}, "files[0]"),
        ("1.0.0", {"path": "manifest.json", "size_bytes": 1, "sha256": "0" * 64}, "files[0]"),
        ("1.0.0", {"path": "a", "size_bytes": -1, "sha256": "0" * 64}, "files[0]"),
        ("1.0.0", {"path": "a", "size_bytes": 1, "sha256": "x"}, "files[0]"),
    ],
)
async def test_versions_that_cannot_be(shop: Shop, version: str, file: dict[str, Any], field: str) -> None:
    asked = {"version": version, "files": [file]}
    answer = await shop.ask("POST", "/api/admin/models/m/versions", asked, key=ADMIN)
    assert answer.status == 422
    assert [one["field"] for one in answer.json["error"]["details"]] == [field]


async def test_without_room_nothing_begins(shop: Shop) -> None:
    free = shutil.disk_usage(shop.root).free
    asked = {"version": "1.0.0", "files": [{"path": "a", "size_bytes": free, "sha256": "0" * 64}]}
    answer = await shop.ask("POST", "/api/admin/models/m/versions", asked, key=ADMIN)
    assert answer.status in (413, 507)
    async with open_shop(shop.root, max_package_bytes=1024**4) as roomy:
        answer = await roomy.ask("POST", "/api/admin/models/m/versions", asked, key=ADMIN)
        assert (answer.status, answer.json["error"]["code"]) == (507, "insufficient_storage")


async def test_large_bodies_are_refused_and_do_not_fill_the_memory(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "models", max_chunk_bytes=1024 * 1024) as shop:
        begun = await begin(shop, "1.0.0", {"a.bin": bytes(3_000_000)})
        file = f"/api/admin/uploads/{begun.json['upload_id']}/files/a.bin"
        refused = await shop.ask("PATCH", file, bytes(2_000_000), key=ADMIN, Upload_Offset="0")
        assert refused.status == 413
        at = 0
        while at < 3_000_000:
            part = bytes(min(1_000_000, 3_000_000 - at))
            sent = await shop.ask("PATCH", file, part, key=ADMIN, Upload_Offset=str(at))
            at = int(sent.headers["upload-offset"])
        assert (await shop.ask("POST", f"{file.rsplit('/', 2)[0]}/commit?wait=60", key=ADMIN)).status == 201


async def test_uploads_that_were_left_expire(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "models") as shop:
        begun = await begin(shop, "1.0.0", {"a.bin": b"1"})
        upload = f"/api/admin/uploads/{begun.json['upload_id']}"
        await shop.hub._uploads.expire(0)
        assert (await shop.ask("GET", upload, key=ADMIN)).status == 200
        await shop.hub._uploads.expire(10**12)
        assert (await shop.ask("GET", upload, key=ADMIN)).status == 404
        assert list((shop.root / "_uploads").iterdir()) == []
        begun = await begin(shop, "1.0.0", {"a.bin": b"1"})
        gone = await shop.ask("DELETE", f"/api/admin/uploads/{begun.json['upload_id']}", key=ADMIN)
        assert gone.status == 204


async def test_each_route_asks_for_its_scope(shop: Shop) -> None:
    scopes = {
        Scope.HUB_PUBLISH: ("POST", "/api/admin/models/m/versions"),
        Scope.HUB_VERSIONS: ("PUT", "/api/admin/models/m/default"),
        Scope.HUB_SIGN: ("PUT", "/api/admin/models/m/versions/1.0.0/signature"),
        Scope.HUB_ADMIN: ("GET", "/api/admin/problems"),
    }
    for scope in scopes:
        shop.keyring.add(scope.value, scope)
    for needed, (method, path) in scopes.items():
        assert (await shop.ask(method, path, {})).status == 401
        for scope in scopes:
            status = (await shop.ask(method, path, {}, key=scope.value)).status
            assert (status in (401, 403)) == (scope != needed), (path, scope)


async def test_keys_of_tenants_open_the_hub(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'tenants.db'}")
    await database.open()
    registry, operator = Registry(database, load_pepper("", tmp_path)), Actor(type="operator", id="o")
    await registry.load()
    await registry.change(operator, lambda change: change.add_tenant("t", "T", {}))
    wish = KeyWish(scopes=frozenset({Scope.HUB_PUBLISH}))
    issued = await registry.create_key(operator, "t", wish)
    described, path = {"task": "asr"}, "/api/admin/models/m"
    async with open_shop(tmp_path / "models", registry) as shop:
        assert (await shop.ask("PUT", path, described, key=issued.text)).status == 201
        (record,) = (await shop.ask("GET", "/api/admin/audit", key=ADMIN)).json
        assert (record["actor_type"], record["actor_id"]) == ("key", issued.key.id)
        assert (await shop.ask("GET", "/api/admin/problems", key=issued.text)).status == 403
        await registry.revoke_key(operator, issued.key.id)
        assert (await shop.ask("PUT", path, described, key=issued.text)).status == 401
    await database.close()


async def test_a_program_on_this_machine_is_the_operator_but_a_page_is_not(shop: Shop) -> None:
    assert (await shop.ask("POST", "/api/admin/rescan", X_Forwarded_For="")).status == 202
    page = await shop.ask("POST", "/api/admin/rescan", X_Forwarded_For="", Origin="https://evil.example")
    assert page.status == 401
    named = await shop.ask("POST", "/api/admin/rescan", X_Forwarded_For="", Host="evil.example")
    assert named.status == 401


async def test_a_version_of_a_model_in_an_old_directory(shop: Shop) -> None:
    put(shop.root, "vad/m/1.0.0/a.bin", b"old")
    await shop.hub.catalog.rescan()
    assert (await shop.publish("m", "2.0.0", {"a.bin": b"new"})).status == 201
    for _ in range(2):
        model = (await shop.get("/api/models/m")).json
        assert [version["version"] for version in model["versions"]] == ["2.0.0"]
        await shop.hub.catalog.rescan(full=True)


async def test_decisions_about_versions(shop: Shop) -> None:
    for version in ("1.0.0", "1.1.0", "2.0.0-rc.1"):
        await shop.publish("m", version, {"a.bin": version.encode()})
    admin = "/api/admin/models/m"

    async def told() -> tuple[str, str, dict[str, str]]:
        model = (await shop.get("/api/models/m")).json
        return model["default_version"], model["latest_version"], model["channels"]

    assert await told() == ("1.1.0", "1.1.0", {})
    assert (
        await shop.ask("PUT", f"{admin}/channels/beta", {"version": "2.0.0-rc.1"}, key=ADMIN)
    ).status == 200
    assert (await shop.ask("PUT", f"{admin}/default", {"version": "1.0.0"}, key=ADMIN)).status == 200
    assert await told() == ("1.0.0", "1.1.0", {"beta": "2.0.0-rc.1"})
    assert (await shop.get("/api/models/m/versions/beta")).json["version"] == "2.0.0-rc.1"
    stale = await shop.ask("PUT", f"{admin}/default", {"version": "1.1.0"}, key=ADMIN, If_Match='"0"')
    assert stale.status == 412
    in_use = await shop.ask("DELETE", f"{admin}/versions/1.0.0", key=ADMIN)
    assert in_use.status == 409

    say = {"message": "slow", "replacement": "1.1.0"}
    assert (await shop.ask("POST", f"{admin}/versions/1.0.0/deprecate", say, key=ADMIN)).status == 200
    version = (await shop.get("/api/models/m/versions/1.0.0")).json
    assert (version["status"], version["message"], version["replacement"]) == ("deprecated", "slow", "1.1.0")

    assert (
        await shop.ask("POST", f"{admin}/versions/1.0.0/yank", {"reason": "bad"}, key=ADMIN)
    ).status == 200
    assert await told() == ("1.1.0", "1.1.0", {"beta": "2.0.0-rc.1"})
    assert len((await shop.get("/api/models")).json[0]["versions"]) == 2
    assert len((await shop.get("/api/models?include_yanked=1")).json[0]["versions"]) == 3
    assert (await shop.get("/storage/models/m/1.0.0/a.bin")).status == 200
    again = await shop.ask("PUT", f"{admin}/default", {"version": "1.0.0"}, key=ADMIN)
    assert again.status == 409
    block = {"reason": "bad", "block_downloads": True}
    await shop.ask("POST", f"{admin}/versions/1.0.0/yank", block, key=ADMIN)
    blocked = await shop.get("/storage/models/m/1.0.0/a.bin")
    assert (blocked.status, blocked.json["error"]["code"]) == (403, "version_yanked")

    assert (await shop.ask("DELETE", f"{admin}/versions/1.0.0", key=ADMIN)).status == 204
    assert (await shop.get("/storage/models/m/1.0.0/a.bin")).status == 404
    assert len(list((shop.root / "_trash").iterdir())) == 1
    audit = (await shop.ask("GET", "/api/admin/audit?limit=3", key=ADMIN)).json
    assert [record["action"] for record in audit] == ["hub.model.delete", "hub.model.yank", "hub.model.yank"]
    assert audit[1]["payload"]["after"]["versions"]["1.0.0"]["status"] == "yanked"


async def test_verifying_takes_damaged_versions_away(shop: Shop) -> None:
    await shop.publish("m", "1.0.0", {"a.bin": b"good"})
    path = shop.root / "storage/m/1.0.0/a.bin"
    times = path.stat()
    path.write_bytes(b"evil")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    revision = shop.hub.catalog.current.revision
    assert (await shop.ask("POST", "/api/admin/verify?model_id=m", key=ADMIN)).status == 202
    with trio.fail_after(PATIENCE_S):
        await shop.hub.catalog.wait_change(revision)
    assert (await shop.get("/storage/models/m/1.0.0/a.bin")).status == 503
    assert (await shop.get("/api/models")).json == []


class Signer:
    """An independent holder of a key."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()

    @property
    def public(self) -> str:
        raw = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return base64.b64encode(raw).decode()

    def sign(self, payload: dict[str, str], signed: str) -> dict[str, Any]:
        """`signed` is the exact text that is signed."""
        value = base64.b64encode(self._key.sign(signed.encode())).decode()
        return {"alg": "ed25519", "key_id": "k1", "value_b64": value, "signed_payload": payload}


async def post_package(shop: Shop, data: bytes, version: str = "1.0.0", **headers: str) -> Answer:
    path = f"/api/admin/services/s/{version}/windows-x64"
    return await shop.ask("POST", path, data, key=ADMIN, X_Content_Sha256=sha(data), **headers)


async def test_a_package_is_published_signed_and_taken_back(shop: Shop, tmp_path: Path) -> None:
    data = package(tmp_path / "s.zip", "s", "1.0.0")
    published = await post_package(shop, data)
    assert published.status == 201
    assert published.json["artifact"]["sha256"] == sha(data)
    assert (await post_package(shop, data)).status == 200
    assert (await post_package(shop, package(tmp_path / "t.zip", "s", "1.0.0", extra=1))).status == 409
    assert (await shop.get("/storage/services/s/1.0.0/windows-x64/service.zip")).body == data
    assert list((shop.root / "_uploads").iterdir()) == []

    signer = Signer()
    payload = {"service_id": "s", "version": "1.0.0", "platform": "windows-x64", "sha256": sha(data)}
    text = f'{{"platform":"windows-x64","service_id":"s","sha256":"{sha(data)}","version":"1.0.0"}}'
    path = "/api/admin/services/s/1.0.0/windows-x64/signature"
    unknown = await shop.ask("PUT", path, signer.sign(payload, text), key=ADMIN)
    assert (unknown.status, unknown.json["error"]["code"]) == (422, "signature_invalid")
    key = {"public_key_b64": signer.public}
    assert (await shop.ask("PUT", "/api/admin/keys/k1", key, key=ADMIN)).status == 200
    assert (await shop.get("/api/keys")).json[0]["public_key_b64"] == signer.public
    for wrong in (
        signer.sign({**payload, "sha256": "0" * 64}, text),
        signer.sign(payload, text.replace("1.0.0", "1.0.1")),
        Signer().sign(payload, text),
    ):
        assert (await shop.ask("PUT", path, wrong, key=ADMIN)).status == 422
    right = signer.sign(payload, text)
    assert (await shop.ask("PUT", path, right, key=ADMIN)).status == 200
    assert (await shop.get("/api/services")).json["services"][0]["variants"][0]["signature"] == right
    index = json.loads((shop.root / "services/services_index.json").read_text())
    assert index["s"]["variants"][0]["signature"] == right
    await shop.ask("PUT", "/api/admin/keys/k1", {**key, "status": "revoked"}, key=ADMIN)
    assert (await shop.get("/api/services")).json["services"][0]["variants"][0]["signature"] is None

    audit = (await shop.ask("GET", "/api/admin/audit", key=ADMIN)).json
    assert {record["action"] for record in audit} == {"hub.service.publish", "hub.service.sign", "hub.key"}
    yanked = await shop.ask("POST", "/api/admin/services/s/1.0.0/yank", {"reason": "x"}, key=ADMIN)
    assert yanked.json["variants"] == []
    assert (await shop.ask("DELETE", "/api/admin/services/s/1.0.0/windows-x64", key=ADMIN)).status == 204
    assert (await shop.get("/storage/services/s/1.0.0/windows-x64/service.zip")).status == 404


async def test_where_signatures_are_required_the_others_are_not_offered(tmp_path: Path) -> None:
    data = package(tmp_path / "s.zip", "s", "1.0.0")
    async with open_shop(tmp_path / "models", signing_required=True) as shop:
        await post_package(shop, data)
        assert (await shop.get("/api/services")).json["services"][0]["variants"] == []
        assert (await shop.get("/storage/services/s/1.0.0/windows-x64/service.zip")).status == 403
        signer = Signer()
        await shop.ask("PUT", "/api/admin/keys/k1", {"public_key_b64": signer.public}, key=ADMIN)
        payload = {"platform": "windows-x64", "service_id": "s", "sha256": sha(data), "version": "1.0.0"}
        text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
        signature = signer.sign(payload, text)
        path = "/api/admin/services/s/1.0.0/windows-x64/signature"
        assert (await shop.ask("PUT", path, signature, key=ADMIN)).status == 200
        assert (await shop.get("/storage/services/s/1.0.0/windows-x64/service.zip")).body == data
        second = package(tmp_path / "t.zip", "s", "1.1.0")
        payload = {**payload, "version": "1.1.0", "sha256": sha(second)}
        text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
        signed = json.dumps(signer.sign(payload, text))
        assert (await post_package(shop, second, "1.1.0", X_Signature=signed)).status == 201
        assert len((await shop.get("/api/services")).json["services"][0]["variants"]) == 2


async def test_a_version_is_signed(shop: Shop) -> None:
    await shop.publish("m", "1.0.0", {"a.bin": b"1"})
    signer = Signer()
    await shop.ask("PUT", "/api/admin/keys/k1", {"public_key_b64": signer.public}, key=ADMIN)
    digest = (await shop.get("/api/models/m/versions/1.0.0")).json["manifest_sha256"]
    payload = {"manifest_sha256": digest, "model_id": "m", "version": "1.0.0"}
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    path = "/api/admin/models/m/versions/1.0.0/signature"
    assert (await shop.ask("PUT", path, signer.sign(payload, text), key=ADMIN)).status == 200
    assert (await shop.get("/api/models/m/versions/1.0.0")).json["signature"]["key_id"] == "k1"


async def test_packages_that_are_none_are_refused(shop: Shop, tmp_path: Path) -> None:
    refused = await post_package(shop, b"no zip at all")
    assert (refused.status, refused.json["error"]["code"]) == (422, "package_invalid")
    data = package(tmp_path / "s.zip", "s", "1.0.0")
    tampered = await shop.ask(
        "POST", "/api/admin/services/s/1.0.0/windows-x64", data, key=ADMIN, X_Content_Sha256="0" * 64
    )
    assert tampered.status == 422
    assert (await shop.get("/api/services")).json == {"services": []}
    assert list((shop.root / "_uploads").iterdir()) == []


def problems(path: Path, version: str = "1.0.0") -> list[str]:
    return problems_of_package(path, "s", version, "windows-x64", ("python",))


def test_a_good_package(tmp_path: Path) -> None:
    package(tmp_path / "s.zip", "s", "1.0.0")
    with zipfile.ZipFile(tmp_path / "s.zip", "a") as file, file.open("large", "w", force_zip64=True) as entry:
        entry.write(b"as in a package of more than 4 GiB")
    assert problems(tmp_path / "s.zip") == []


@pytest.mark.parametrize("name", ["../x", "/x", "C:/x", "a\\..\\x", "MAIN.py", "con"])
def test_entries_that_are_dangerous(tmp_path: Path, name: str) -> None:
    package(tmp_path / "s.zip", "s", "1.0.0")
    with zipfile.ZipFile(tmp_path / "s.zip", "a") as file:
        file.writestr(name, "x")
    assert len(problems(tmp_path / "s.zip")) == 1


def test_links_and_bombs(tmp_path: Path) -> None:
    package(tmp_path / "s.zip", "s", "1.0.0")
    with zipfile.ZipFile(tmp_path / "s.zip", "a", zipfile.ZIP_DEFLATED) as file:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")
        file.writestr("bomb", bytes(10_000_000))
    assert len(problems(tmp_path / "s.zip")) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"service_id": "other"},
        {"version": "9.9.9"},
        {"platforms": {}},
        {"platforms": {"windows-x64": {"exec": {"type": "shell", "program": "python"}}}},
        {"platforms": {"windows-x64": {"exec": {"type": "argv", "program": "rm"}}}},
        {"platforms": {"windows-x64": {"exec": PYTHON, "files": {"requires": ["x"]}}}},
    ],
)
def test_descriptors_that_do_not_fit(tmp_path: Path, changes: dict[str, Any]) -> None:
    package(tmp_path / "s.zip", "s", "1.0.0", **changes)
    assert len(problems(tmp_path / "s.zip")) == 1


def _zip() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("service.json", "{}")
    return data.getvalue()


@given(st.integers(0, len(_zip()) - 1), st.binary(max_size=4))
def test_any_bytes_are_judged(tmp_path_factory: pytest.TempPathFactory, place: int, junk: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.zip"
    data = _zip()
    path.write_bytes(data[:place] + junk + data[place + len(junk) :])
    assert problems(path)
