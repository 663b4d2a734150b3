"""When the store, the disk or a caller fails: the hub goes on, and says what is wrong."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing
from patience import PATIENCE_S
from shop import ADMIN, Shop, open_shop, package, put, sha

from linguad.commands import hub_client
from linguad.commands.hub_client import HubClient
from linguad.errors import LinguadError
from linguad.hub import catalog, hub
from linguad.hub.catalog import Catalog
from linguad.hub.publishing import Publisher
from linguad.hub.scan import MAX_RECORD_BYTES
from linguad.hub.uploads import MAX_NOTES, NewFile, NewVersion, UploadRules, Uploads

RULES = UploadRules(max_bytes=10**6, keep_s=3600, allowed_programs=())


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path / "models") as opened:
        yield opened


def break_store(shop: Shop, *tables: str) -> None:
    """What the store needs is gone, as when somebody restored another database."""
    with sqlite3.connect(shop.root.parent / "state.db") as connection:
        for table in tables:
            connection.execute(f"ALTER TABLE {table} RENAME TO gone_{table}")
    connection.close()


async def test_without_a_store_everything_but_statistics_goes_on(shop: Shop, tmp_path: Path) -> None:
    break_store(shop, "audit", "hub_events", "hub_hours")
    assert (await shop.publish("m", "1.0.0", {"a.bin": b"1"})).status == 201
    data = package(tmp_path / "s.zip", "s", "1.0.0")
    path = "/api/admin/services/s/1.0.0/windows-x64"
    assert (await shop.ask("POST", path, data, key=ADMIN, X_Content_Sha256=sha(data))).status == 201
    yanked = await shop.ask("POST", "/api/admin/models/m/versions/1.0.0/yank", {}, key=ADMIN)
    assert yanked.status == 200, "it is done, and must not look as if it were not"
    assert (await shop.get("/storage/models/m/1.0.0/a.bin")).body == b"1"
    for path in ("/api/model-usage/ranking", "/api/admin/audit"):
        refused = await shop.ask("GET", path, key=ADMIN)
        assert (refused.status, refused.json["error"]["code"]) == (503, "store_unavailable")
    await shop.hub._usage.flush()
    await shop.hub._usage._forget_old()
    assert (await shop.get("/health")).status == 200


async def test_a_disk_that_hangs_is_not_ready_and_holds_nobody(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = threading.Event()
    monkeypatch.setattr(hub, "DISK_SECONDS", 0.1)
    monkeypatch.setattr(shop.hub, "_free", lambda: 2**40 if disk.wait(PATIENCE_S) else 0)
    try:
        for _ in range(3):
            answer = await shop.get("/health/ready")
            assert (answer.status, answer.json["reasons"]) == (503, ["disk_silent"])
    finally:
        disk.set()
    monkeypatch.setattr(hub, "DISK_SECONDS", PATIENCE_S)
    assert (await shop.get("/health/ready")).json == {"ready": True, "reasons": []}


async def test_a_trash_that_somebody_emptied_is_made_again(shop: Shop) -> None:
    await shop.publish("m", "1.0.0", {"a.bin": b"1"})
    await shop.publish("m", "1.1.0", {"a.bin": b"2"})
    shutil.rmtree(shop.root / "_trash")
    with trio.move_on_after(0.2):
        await shop.hub._clean()
    assert (await shop.ask("DELETE", "/api/admin/models/m/versions/1.0.0", key=ADMIN)).status == 204
    assert len(list((shop.root / "_trash").iterdir())) == 1


async def test_what_was_deleted_goes_for_good_when_its_days_are_over(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "models", trash_days=0) as shop:
        for version in ("1.0.0", "1.1.0"):
            await shop.publish("m", version, {"a.bin": version.encode()})
        assert (await shop.ask("DELETE", "/api/admin/models/m/versions/1.0.0", key=ADMIN)).status == 204
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(shop.hub._clean)
                while list((shop.root / "_trash").iterdir()):  # noqa: ASYNC110 - the disk tells nobody
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()


async def test_a_disk_that_fails_is_told(shop: Shop) -> None:
    put(shop.root, "storage/m/1.0.0/a.bin", b"1")
    await shop.hub.catalog.rescan()
    shutil.move(shop.root / "storage", shop.root / "elsewhere")
    failed = await shop.ask("POST", "/api/admin/rescan", key=ADMIN)
    assert (failed.status, failed.json["error"]["code"]) == (503, "disk_failed")
    assert [model["id"] for model in (await shop.get("/api/models")).json] == ["m"]


async def test_files_are_verified_once_at_a_time(shop: Shop) -> None:
    huge = put(shop.root, "storage/m/1.0.0/a.bin", b"")
    os.truncate(huge, 1024**4)
    os.utime(huge, (1, 1))
    put(shop.root, "storage/m/1.0.0/checksum.sha256", f'{{"a.bin": "{"0" * 64}"}}')
    await shop.hub.catalog.rescan(full=True)
    assert (await shop.ask("POST", "/api/admin/verify", key=ADMIN)).status == 202
    await trio.testing.wait_all_tasks_blocked(0.01)
    again = await shop.ask("POST", "/api/admin/verify", key=ADMIN)
    assert (again.status, again.json["error"]["code"]) == (409, "busy")


async def test_a_version_is_deleted_by_its_own_name_with_what_was_decided_about_it(shop: Shop) -> None:
    for version in ("1.0.0", "1.1.0"):
        await shop.publish("m", version, {"a.bin": version.encode()})
    admin = "/api/admin/models/m/versions"
    assert (await shop.ask("DELETE", f"{admin}/latest", key=ADMIN)).status == 404
    yank = {"reason": "bad", "block_downloads": True}
    assert (await shop.ask("POST", f"{admin}/1.0.0/yank", yank, key=ADMIN)).status == 200
    assert (await shop.ask("DELETE", f"{admin}/1.0.0", key=ADMIN)).status == 204
    assert (await shop.publish("m", "1.0.0", {"a.bin": b"repaired"})).status == 201
    assert (await shop.get("/storage/models/m/1.0.0/a.bin")).body == b"repaired"
    versions = (await shop.get("/api/models/m")).json["versions"]
    assert [version["status"] for version in versions] == ["published", "published"]


async def test_what_is_said_about_a_model_has_a_bound(shop: Shop) -> None:
    listed = [{"path": "a.bin", "size_bytes": 1, "sha256": sha(b"1")}]
    wanted = {"version": "1.0.0", "files": listed, "notes": "x" * (MAX_NOTES + 1), "created_at": "today"}
    refused = await shop.ask("POST", "/api/admin/models/m/versions", wanted, key=ADMIN)
    assert [one["field"] for one in refused.json["error"]["details"]] == ["notes", "created_at"]
    said = {"description": "x" * MAX_RECORD_BYTES}
    assert (await shop.ask("PUT", "/api/admin/models/m", said, key=ADMIN)).status == 413
    assert (await shop.publish("m", "1.0.0", {"a.bin": b"1"})).status == 201


async def test_an_etag_is_of_what_was_told(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "LARGE", 0)
    put(shop.root, "storage/a/1.0.0/a.bin")
    await shop.hub.catalog.rescan()
    askers, answers = shop.hub.catalog._askers, []

    async def ask(path: str) -> None:
        answers.append(await shop.get(path))

    async with trio.open_nursery() as nursery:
        await askers.acquire()
        for path in ("/api/sync/manifest", "/api/models?q="):
            nursery.start_soon(ask, path)
        with trio.fail_after(PATIENCE_S):
            while askers.statistics().tasks_waiting < 2:  # noqa: ASYNC110
                await trio.sleep(0.01)
        put(shop.root, "storage/b/1.0.0/a.bin")
        await shop.hub.catalog.rescan()
        askers.release()
    for answer in answers:
        models = answer.json["models"] if isinstance(answer.json, dict) else answer.json
        assert [model["id"] for model in models] == ["a"]
        assert answer.headers["etag"] != shop.hub.catalog.current.etag


async def started(root: Path) -> tuple[Catalog, Uploads]:
    """What is behind uploads, without a port."""
    known = Catalog(root)
    await known.open()
    uploads = Uploads(known, RULES)
    await uploads.open()
    return known, uploads


async def test_a_commit_that_is_given_up_while_it_waits_leaves_the_upload_open(tmp_path: Path) -> None:
    known, uploads = await started(tmp_path)
    wanted = NewVersion(version="1.0.0", files=[NewFile("a.bin", 1, sha(b"1"))])
    upload, _ = await uploads.begin("model", "m", wanted)
    publisher = Publisher(known, uploads, ())

    async def another(*, task_status: trio.TaskStatus[None]) -> None:
        async with publisher._turn:
            task_status.started()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(another)
        publisher.begin(upload)
        with trio.move_on_after(0.01):
            await publisher.commit(upload)
        nursery.cancel_scope.cancel()
    assert upload.state == "open"
    await uploads.abort(upload)


async def test_half_made_uploads_are_removed_at_the_start(tmp_path: Path) -> None:
    put(tmp_path, "_uploads/half/tree/a.bin")
    await started(tmp_path)
    assert list((tmp_path / "_uploads").iterdir()) == []


async def test_a_file_that_somebody_else_is_sending_is_given_up(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hub_client, "PAUSE_SECONDS", 0.01)
    listed = [{"path": "a.bin", "size_bytes": 100, "sha256": sha(bytes(100))}]
    wanted = {"version": "1.0.0", "files": listed}
    begun = await shop.ask("POST", "/api/admin/models/m/versions", wanted, key=ADMIN)
    path = f"/api/admin/uploads/{begun.json['upload_id']}/files/a.bin"
    head = f"PATCH {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\nUpload-Offset: 0\r\n"
    file = put(tmp_path, "a.bin", bytes(100))
    client = HubClient(f"http://127.0.0.1:{shop.port}", "")
    async with await shop.connect() as stream:
        await stream.send_all(f"{head}Content-Length: 100\r\n\r\n".encode() + bytes(10))
        with trio.fail_after(PATIENCE_S):
            while not shop.hub._uploads._busy:  # noqa: ASYNC110
                await trio.sleep(0.01)
        with pytest.raises(LinguadError, match="Another request is writing"):
            await trio.to_thread.run_sync(client.send_file, path, file, 100, lambda _count: None)
