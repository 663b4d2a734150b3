"""The JSON routes: what old clients read, to the byte where they do, and what is new."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from shop import ADMIN, Shop, checksums, open_shop, package, put, sha

from linguad.core.tenant import Scope
from linguad.hub import openapi

PACKAGE = "/storage/services/x/1/linux-x64/service.zip"
FILES = {"model.bin": b"model", "config.json": b"{}"}


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    root = tmp_path / "models"
    for version in ("1.9.0", "1.10.0"):
        for path, data in FILES.items():
            put(root, f"storage/whisper/{version}/{path}", data)
        put(root, f"storage/whisper/{version}/checksum.sha256", checksums(FILES))
    put(root, "nmt/marian-zh/model.bin", b"m")
    package(root / "services/nmt-m2m100/1.0.0/windows-x64/service.zip", "nmt-m2m100", "1.0.0")
    package(root / "services/nmt-m2m100/1.0.0/linux-x64/service.zip", "nmt-m2m100", "1.0.0", "linux-x64")
    async with open_shop(root) as opened:
        await opened.hashed()
        yield opened


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/", 200, b'{"message":"Lingua Model Hub Service v3","version":"3.0.0"}'),
        ("GET", "/health", 200, b'{"status":"OK"}'),
        ("GET", "/api/models/none", 404, b'{"detail":"Model not found"}'),
        ("GET", "/api/services/none/1.0.0/windows-x64", 404, b'{"detail":"Service not found"}'),
        ("GET", "/api/services/nmt-m2m100/1.0.0/darwin-x64", 404, b'{"detail":"Service not found"}'),
        ("GET", "/api/services/nmt-m2m100/2.0.0/linux-x64", 404, b'{"detail":"Service variant not found"}'),
        ("GET", "/storage/models/whisper/1.9.0/none", 404, b'{"detail":"File not found"}'),
        ("GET", "/storage/models/none/1.9.0/none", 404, b'{"detail":"File not found"}'),
        (
            "GET",
            "/storage/services/x/1/linux-x64/service.zip",
            404,
            b'{"detail":"Service package not found"}',
        ),
        ("GET", "/api/services?platform=linux-x64&version=9.9.9", 200, b'{"services":[]}'),
        ("GET", "/api/model-usage/ranking", 200, b"[]"),
        ("GET", "/none", 404, b'{"detail":"Not Found"}'),
        ("POST", "/", 405, b'{"detail":"Method Not Allowed"}'),
        ("HEAD", "/health", 405, b""),
    ],
)
async def test_answers_that_never_changed(
    shop: Shop, method: str, path: str, status: int, body: bytes
) -> None:
    answer = await shop.ask(method, path)
    assert (answer.status, answer.body) == (status, body)
    if status == 405:
        assert answer.headers["allow"] == "GET"
    if body:
        assert answer.headers["content-type"] == "application/json"


OLD_MODEL = {
    "id": str,
    "name": str,
    "task": str,
    "languages": [str],
    "default_version": str,
    "versions": [
        {
            "version": str,
            "size_bytes": int,
            "files": [{"path": str, "size_bytes": int}],
            "checksum_sha256": str,
            "updated_at": str,
        }
    ],
}
OLD_SERVICE = {
    "service_id": str,
    "name": str,
    "latest_version": str,
    "variants": [
        {
            "version": str,
            "platform": str,
            "artifact": {"type": str, "url": str, "sha256": str, "size_bytes": int, "etag": str},
        }
    ],
}


def fits(value: Any, shape: Any) -> None:
    """Raises if an old client, which ignores what it does not know, could not read a value."""
    if isinstance(shape, dict):
        for name, inner in shape.items():
            fits(value[name], inner)
    elif isinstance(shape, list):
        assert value
        for one in value:
            fits(one, shape[0])
    else:
        assert isinstance(value, shape)


async def test_old_clients_can_read_lists_and_index(shop: Shop) -> None:
    models = (await shop.get("/api/models")).json
    fits(models, [OLD_MODEL])
    assert [model["id"] for model in models] == ["marian-zh", "whisper"]
    assert json.loads(models[1]["versions"][0]["checksum_sha256"]) == json.loads(checksums(FILES))
    assert (await shop.get("/api/models/whisper")).json == models[1]
    services = (await shop.get("/api/services?platform=windows-x64")).json["services"]
    fits(services, [OLD_SERVICE])
    assert [variant["signature"] for variant in services[0]["variants"]] == [None]
    variant = (await shop.get("/api/services/nmt-m2m100/1.0.0/windows-x64")).json
    assert variant == services[0]["variants"][0]
    index = json.loads((shop.root / "services/services_index.json").read_text())
    fits(list(index.values()), [OLD_SERVICE])


async def test_what_a_node_does_to_install_a_model(shop: Shop) -> None:
    """As the old downloader and verifier do it (model-hub 9)."""
    model = next(one for one in (await shop.get("/api/models")).json if one["id"] == "whisper")
    version = next(one for one in model["versions"] if one["version"] == model["default_version"])
    base = f"/storage/models/whisper/{version['version']}"
    digests = (await shop.get(f"{base}/checksum.sha256")).json
    for file in version["files"]:
        answer = await shop.get(f"{base}/{file['path']}")
        assert len(answer.body) == file["size_bytes"]
        assert digests[file["path"]] == sha(answer.body)


async def test_lists_can_be_narrowed(shop: Shop) -> None:
    async def ids(query: str) -> list[str]:
        return [model["id"] for model in (await shop.get(f"/api/models?{query}")).json]

    assert await ids("task=nmt") == ["marian-zh"]
    assert await ids("language=en") == ["whisper"]
    assert await ids("q=MARI") == ["marian-zh"]
    assert await ids("status=yanked") == []
    page = await shop.get("/api/models?limit=1")
    assert [model["id"] for model in page.json] == ["marian-zh"]
    assert await ids(f"limit=1&cursor={page.headers['x-next-cursor']}") == ["whisper"]
    refused = await shop.get("/api/models?limit=0")
    assert refused.status == 422
    assert refused.json["error"]["code"] == "invalid_field"
    assert refused.json["detail"].startswith("limit: ")
    assert len((await shop.get("/api/services?service_id=nmt-m2m100")).json["services"]) == 1
    assert (await shop.get("/api/services?service_id=x")).json == {"services": []}


async def test_lists_are_not_sent_again(shop: Shop) -> None:
    for path in ("/api/models", "/api/services", "/api/models/whisper", "/api/models?task=nmt"):
        first = await shop.get(path)
        assert first.headers["cache-control"] == "public, max-age=10"
        assert int(first.headers["x-catalog-revision"])
        again = await shop.get(path, If_None_Match=first.headers["etag"])
        assert (again.status, again.body) == (304, b"")
        assert (await shop.get(path, If_None_Match='"other"')).status == 200
    head = await shop.ask("HEAD", "/api/models")
    assert (head.status, head.body) == (200, b"")


async def test_versions(shop: Shop) -> None:
    told = (await shop.get("/api/models/whisper/versions")).json
    assert [one["version"] for one in told["versions"]] == ["1.10.0", "1.9.0"]
    assert (told["default_version"], told["latest_version"]) == ("1.10.0", "1.10.0")
    latest = await shop.get("/api/models/whisper/versions/latest")
    assert latest.headers["content-location"] == "/api/models/whisper/versions/1.10.0"
    assert latest.json == told["versions"][0]
    for path in ("none/versions/latest", "whisper/versions/3.0.0", "whisper/versions/beta"):
        assert (await shop.get(f"/api/models/{path}")).status == 404
    manifest = (await shop.get("/api/models/whisper/versions/1.9.0/manifest")).json
    assert {file["path"] for file in manifest["files"]} == FILES.keys()
    assert manifest["total_size"] == sum(map(len, FILES.values()))
    checksum = await shop.get("/api/services/nmt-m2m100/1.0.0/checksum?platform=linux-x64")
    assert checksum.json["sha256"]
    assert (await shop.get("/api/services/nmt-m2m100/latest/linux-x64")).json["version"] == "1.0.0"


async def test_what_to_fetch_for_another_version(shop: Shop) -> None:
    old = {"same": b"1", "moved": b"2", "changed": b"3", "gone": b"4"}
    new = {"same": b"1", "there": b"2", "changed": b"33", "fresh": b"555"}
    for version, files in (("1.0.0", old), ("2.0.0", new)):
        for path, data in files.items():
            put(shop.root, f"storage/d/{version}/{path}", data)
    await shop.hub.catalog.rescan()
    await shop.hashed()
    delta = (await shop.get("/api/models/d/versions/2.0.0/delta?from=1.0.0")).json
    made = {path: old[path] for path in delta["unchanged"]}
    made |= {one["to"]: old[one["from"]] for one in delta["renamed"]}
    fetched = 0
    for one in delta["changed"]:
        answer = await shop.get(f"/storage/models/d/2.0.0/{one['path']}")
        fetched += len(answer.body)
        made[one["path"]] = answer.body
    assert made == new
    assert fetched == delta["download_bytes"] == 5
    assert delta["removed"] == ["gone"]
    assert (await shop.get("/api/models/d/versions/2.0.0/delta?from=0.0.1")).status == 404


async def test_copies_ask_what_changed(shop: Shop) -> None:
    everything = (await shop.get("/api/sync/manifest")).json
    assert everything["full"]
    assert [model["id"] for model in everything["models"]] == ["marian-zh", "whisper"]
    cursor = everything["cursor"]
    nothing = (await shop.get(f"/api/sync/manifest?since={cursor}")).json
    assert (nothing["full"], nothing["models"], nothing["services"]) == (False, [], [])
    answers: list[Any] = []

    async def wait() -> None:
        answers.append((await shop.get(f"/api/sync/manifest?since={cursor}&wait=20")).json)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        put(shop.root, "storage/new/1.0.0/a.bin")
        (shop.root / "storage/whisper/1.9.0/model.bin").unlink()
        (shop.root / "storage/whisper/1.9.0/config.json").unlink()
        await trio.testing.wait_all_tasks_blocked(0.01)
        await shop.hub.catalog.rescan()
    assert not answers[0]["full"]
    assert {model["id"] for model in answers[0]["models"]} == {"new", "whisper"}
    assert answers[0]["removed"] == [{"kind": "model", "id": "whisper", "version": "1.9.0"}]
    assert (await shop.get("/api/sync/manifest?since=5")).json["full"]


def event(**given: Any) -> dict[str, Any]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    told = {"event_id": str(uuid.uuid4()), "type": "request", "version": "1.9.0", "at": now}
    return {**told, "model_id": "whisper", **given}


async def test_use_is_counted_once_and_ranked(shop: Shop) -> None:
    first = event(count=2)
    sent = [
        first,
        event(model_id="marian-zh", count=5),
        event(model_id=None, service_id="nmt-m2m100"),
        {"x": 1},
    ]
    sent += [event(at="2020-01-01T00:00:00Z"), event(count=0), event(type="stolen"), event(model_id="../x")]
    answer = await shop.ask("POST", "/api/model-usage/events", {"events": sent})
    assert answer.status == 202
    assert (answer.json["accepted"], answer.json["duplicates"]) == (3, 0)
    assert [one["index"] for one in answer.json["rejected"]] == [3, 4, 5, 6, 7]
    again = await shop.ask("POST", "/api/model-usage/events", {"events": [first, event(count=3)]})
    assert (again.json["accepted"], again.json["duplicates"]) == (1, 1)
    ranking = (await shop.get("/api/model-usage/ranking")).json
    assert ranking == [
        {"model_id": "marian-zh", "request_count": 5, "rank": 1},
        {"model_id": "whisper", "request_count": 5, "rank": 2},
    ]
    assert (await shop.get("/api/model-usage/ranking?task=asr&window=all")).json[0]["model_id"] == "whisper"
    assert (await shop.get("/api/model-usage/ranking?metric=load")).json == []
    assert (await shop.get("/api/service-usage/ranking")).json[0]["service_id"] == "nmt-m2m100"
    series = (await shop.get("/api/model-usage/whisper")).json
    assert [point["request"] for point in series["points"]] == [5]
    assert (await shop.get("/api/model-usage/ranking?window=2d")).status == 422
    many = await shop.ask("POST", "/api/model-usage/events", {"events": [{}] * 501})
    assert many.status == 422
    broken = await shop.ask("POST", "/api/model-usage/events", b"{")
    assert broken.json["error"]["code"] == "invalid_json"


async def test_the_hub_counts_whole_downloads(shop: Shop) -> None:
    base = "/storage/models/whisper/1.9.0"
    for path in FILES:
        await shop.ask("HEAD", f"{base}/{path}")
    await shop.get(f"{base}/model.bin", Range="bytes=0-2")
    await shop.get(f"{base}/config.json")
    await shop.hub._usage.flush()
    assert (await shop.get("/api/model-usage/ranking?metric=download")).json == []
    for _ in range(2):
        await shop.get(f"{base}/model.bin", Range="bytes=2-")
        await shop.hub._usage.flush()
        ranking = (await shop.get("/api/model-usage/ranking?metric=download")).json
        assert ranking == [{"model_id": "whisper", "request_count": 1, "rank": 1}]


async def test_use_may_need_a_key(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "models", anonymous_usage=False) as shop:
        shop.keyring.add("node", Scope.HUB_USAGE)
        for key, status in (("", 401), ("node", 202)):
            answer = await shop.ask("POST", "/api/model-usage/events", {"events": [event()]}, key=key)
            assert answer.status == status


async def test_too_many_lists_are_refused(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "models", requests_per_second=0.25) as shop:
        assert (await shop.get("/api/models")).status == 200
        refused = await shop.get("/api/models")
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert (await shop.get("/api/models", X_Node_Id="n1")).status == 200


@pytest.mark.parametrize(("allowed", "told"), [("https://a.example", "https://a.example"), ("*", "*")])
async def test_pages_that_may_read(tmp_path: Path, allowed: str, told: str) -> None:
    put(tmp_path / "models", "storage/m/1.0.0/a.bin")
    async with open_shop(tmp_path / "models", cors=(allowed,)) as shop:
        for path in ("/api/models", "/health", "/storage/models/m/1.0.0/a.bin"):
            answer = await shop.get(path, Origin="https://a.example")
            assert answer.headers["access-control-allow-origin"] == told
            assert "ETag" in answer.headers["access-control-expose-headers"]
            assert "access-control-allow-credentials" not in answer.headers
            assert "access-control-allow-origin" not in (await shop.get(path)).headers
        asked = {"Origin": "https://a.example", "Access_Control_Request_Method": "GET"}
        preflight = await shop.ask("OPTIONS", "/api/models", **asked)
        assert preflight.status == 204
        assert "GET" in preflight.headers["access-control-allow-methods"]


async def test_other_pages_may_not_read(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "models", cors=("https://a.example",)) as shop:
        answer = await shop.get("/api/models", Origin="https://b.example")
        assert "access-control-allow-origin" not in answer.headers


async def test_the_description_has_every_route(shop: Shop) -> None:
    document = (await shop.get("/openapi.json")).json
    assert b"openapi.json" in (await shop.get("/docs")).body
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    answered = set()
    for rule in shop.hub.app.url_map.iter_rules():
        path = str(rule).replace("<path:", "{").replace("<", "{").replace(">", "}")
        methods = (rule.methods or set()) - {"OPTIONS"}
        answered |= {(method, path) for method in methods if method != "HEAD" or "GET" not in methods}
    names = {"{name}": {"{model_id}", "{service_id}"}}
    for method, path in answered - described:
        options = {path.replace("{name}", other) for other in names["{name}"]}
        assert (
            path in ("/openapi.json", "/docs")
            or "/files/" in path
            or any((method, option) in described for option in options)
        ), (method, path)
    assert len(described) == len(openapi.ROUTES)


async def test_readiness(shop: Shop) -> None:
    assert (await shop.get("/health/ready")).json == {"ready": True, "reasons": []}
    (shop.root / "storage").rename(shop.root / "elsewhere")
    answer = await shop.get("/health/ready")
    assert (answer.status, answer.json["reasons"]) == (503, ["storage_unreadable"])
    assert len((await shop.get("/api/models")).json) == 2, "the last good list stays"


async def test_metrics(shop: Shop) -> None:
    for name in (b"revision", b"read_timestamp_seconds", b"disk_free_bytes"):
        assert re.search(rb"^linguad_hub_%s [1-9]" % name, (await shop.get("/metrics")).body, re.MULTILINE)


async def test_problems_are_for_operators(shop: Shop) -> None:
    put(shop.root, "storage/bad name/1.0.0/x")
    assert (await shop.ask("POST", "/api/admin/rescan")).status == 401
    assert (await shop.ask("POST", "/api/admin/rescan", key=ADMIN)).status == 202
    told = (await shop.ask("GET", "/api/admin/problems", key=ADMIN)).json
    assert [one["path"] for one in told] == ["storage/bad name"]
