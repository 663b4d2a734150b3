"""Files over real sockets: the direct way, the way through ASGI, and what both must never give."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from patience import PATIENCE_S
from shop import ADMIN, Answer, Shop, open_shop, package, put, read_all, sha

from linguad.core.tenant import Scope
from linguad.hub import asgi

BODY = bytes(range(256)) * 4096 * 3
FILE = "/storage/models/m/1.0.0/model.bin"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    root = tmp_path / "models"
    put(root, "storage/m/1.0.0/model.bin", BODY)
    put(root, "storage/m/1.0.0/sub/vocab v1.txt", b"a b c")
    put(root, "storage/m/1.0.0/empty.txt", b"")
    put(root, "vad/silero/model.onnx", b"loose")
    package(root / "services/s/1.0.0/windows-x64/service.zip", "s", "1.0.0")
    async with open_shop(root) as opened:
        await opened.hashed()
        yield opened


async def through_asgi(shop: Shop, method: str, path: str, **headers: str) -> Answer:
    """The same request as the second one of a connection that Hypercorn has."""
    lines = [f"{method} {path} HTTP/1.1", "Host: hub", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    async with await shop.connect() as stream:
        await stream.send_all(b"GET /health HTTP/1.1\r\nHost: hub\r\n\r\n")
        got = b""
        with trio.fail_after(PATIENCE_S):
            while b'{"status":"OK"}' not in got:
                got += await stream.receive_some()
        await stream.send_all("\r\n".join([*lines, "", ""]).encode())
        return Answer(await read_all(stream))


async def test_a_whole_file_with_all_that_is_known_of_it(shop: Shop) -> None:
    for answer in (await shop.get(FILE), await through_asgi(shop, "GET", FILE)):
        assert answer.status == 200
        assert answer.body == BODY
        told = {
            name: answer.headers[name]
            for name in answer.headers
            if name not in ("x-request-id", "date", "connection")
        }
        digest = hashlib.sha256(BODY)
        assert told == {
            "content-type": "application/octet-stream",
            "content-length": str(len(BODY)),
            "accept-ranges": "bytes",
            "etag": f'"{digest.hexdigest()}"',
            "last-modified": "Tue, 14 Nov 2023 22:13:20 GMT",
            "cache-control": "public, max-age=31536000, immutable",
            "x-content-type-options": "nosniff",
            "repr-digest": answer.headers["repr-digest"],
        }
        assert answer.headers["repr-digest"].startswith("sha-256=:")


@pytest.mark.parametrize(
    ("text", "status", "body"),
    [
        ("bytes=0-9", 206, BODY[:10]),
        ("bytes=1000000-", 206, BODY[1_000_000:]),
        ("bytes=-5", 206, BODY[-5:]),
        ("bytes=5-99999999", 206, BODY[5:]),
        (f"bytes={len(BODY)}-", 416, b'{"detail":"Range Not Satisfiable"}'),
        ("bytes=0-1,5-6", 200, BODY),
        ("bytes=abc", 200, BODY),
    ],
)
async def test_ranges(shop: Shop, text: str, status: int, body: bytes) -> None:
    for answer in (await shop.get(FILE, Range=text), await through_asgi(shop, "GET", FILE, Range=text)):
        assert (answer.status, answer.body) == (status, body)
        assert answer.headers["content-length"] == str(len(body))
        assert answer.headers["etag"] == f'"{sha(BODY)}"'
    for head in (
        await shop.ask("HEAD", FILE, Range=text),
        await through_asgi(shop, "HEAD", FILE, Range=text),
    ):
        assert (head.status, head.body) == (status, b"")
        assert head.headers["content-length"] == str(len(body))
        assert head.headers.get("content-range") == answer.headers.get("content-range")


async def test_conditions(shop: Shop) -> None:
    tag = f'"{sha(BODY)}"'
    for ask in (shop.ask, lambda *given, **headers: through_asgi(shop, *given, **headers)):
        same = await ask("GET", FILE, If_None_Match=tag)
        assert (same.status, same.body, same.headers["etag"]) == (304, b"", tag)
        assert (await ask("GET", FILE, If_Match='"x"')).status == 412
        assert (await ask("GET", FILE, Range="bytes=3-", If_Range='"x"')).status == 200
        assert (await ask("GET", FILE, Range="bytes=3-", If_Range=tag)).body == BODY[3:]


async def test_empty_files(shop: Shop) -> None:
    path = "/storage/models/m/1.0.0/empty.txt"
    assert (await shop.get(path)).body == b""
    ranged = await shop.get(path, Range="bytes=0-")
    assert (ranged.status, ranged.headers["content-range"]) == (416, "bytes */0")


async def test_every_listed_file_can_be_had(shop: Shop) -> None:
    for model in (await shop.get("/api/models")).json:
        for version in model["versions"]:
            for file in version["files"]:
                path = f"/storage/models/{model['id']}/{version['version']}/{file['path']}"
                answer = await shop.get(path.replace(" ", "%20"))
                assert sha(answer.body) == file["sha256"]
    assert (await shop.get("/storage/models/silero/1.0.0/model.onnx")).body == b"loose"


async def test_checksums_and_manifest_are_made(shop: Shop) -> None:
    loose = await shop.get("/storage/models/silero/1.0.0/checksum.sha256")
    assert loose.json == {"model.onnx": sha(b"loose")}
    assert loose.headers["content-type"] == "application/octet-stream"
    text = await shop.get("/storage/models/silero/1.0.0/checksum.sha256?format=text")
    assert text.body == f"{sha(b'loose')}  model.onnx\n".encode()
    manifest = (await shop.get("/storage/models/silero/1.0.0/manifest.json")).json
    assert manifest["files"][0]["sha256"] == sha(b"loose")
    assert manifest == (await shop.get("/api/models/silero/versions/latest/manifest")).json


async def test_packages(shop: Shop) -> None:
    answer = await shop.get("/storage/services/s/1.0.0/windows-x64/service.zip")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["etag"] == f'"{sha(answer.body)[:16]}"'
    assert answer.headers["content-disposition"] == 'attachment; filename="s-1.0.0-windows-x64.zip"'
    short = await shop.get("/storage/services/s/1.0.0.zip?platform=windows-x64")
    assert (short.status, short.headers["location"]) == (
        302,
        "/storage/services/s/1.0.0/windows-x64/service.zip",
    )
    missing = await shop.get("/storage/services/s/2.0.0/windows-x64/service.zip")
    assert (missing.status, missing.body) == (404, b'{"detail":"Service package not found"}')


@pytest.mark.parametrize(
    "path",
    [
        "m/1.0.0/../../secret",
        "m/1.0.0/%2e%2e/%2e%2e/secret",
        "m/%2e%2e/m/1.0.0/model.bin",
        "../m/1.0.0/model.bin",
        "m/1.0.0/..%2f..%2fsecret",
        "m/1.0.0/%252e%252e/secret",
        "m/1.0.0/..%5c..%5csecret",
        "m/1.0.0/model.bin%00.txt",
        "m/1.0.0//model.bin",
        "m/1.0.0/./model.bin",
        "m/1.0.0/NUL",
        "m/1.0.0/%ff%fe",
        "m/1.0.0/C:/secret",
        "m/1.0.0/sub",
        "m/1.0.0",
        "m/1.0.0/",
        "m/1.0.0/link",
        "m/1.0.0/dir/secret",
        "m/1.0.0/_hub.json",
        "m/1.0.0/half.part",
        "_uploads/1.0.0/x",
        "m/1.0.0/" + "a/" * 20 + "b",
    ],
)
async def test_nothing_outside_a_version_is_ever_given(shop: Shop, path: str) -> None:
    put(shop.root, "secret", b"SECRET")
    put(shop.root, "storage/m/1.0.0/half.part", b"SECRET")
    put(shop.root, "storage/m/1.0.0/_hub.json", b"SECRET")
    os.symlink(shop.root / "secret", shop.root / "storage/m/1.0.0/link")
    os.symlink(shop.root, shop.root / "storage/m/1.0.0/dir")
    await shop.hub.catalog.rescan(full=True)
    for method in ("GET", "HEAD"):
        for answer in (
            await shop.ask(method, f"/storage/models/{path}"),
            await through_asgi(shop, method, f"/storage/models/{path}"),
        ):
            assert answer.status in (400, 404)
            assert b"SECRET" not in answer.body


async def test_a_file_that_became_a_link_is_not_followed(shop: Shop) -> None:
    put(shop.root, "secret", b"SECRET")
    path = shop.root / "storage/m/1.0.0/model.bin"
    path.unlink()
    path.symlink_to(shop.root / "secret")
    answer = await shop.get(FILE)
    assert (answer.status, answer.body) == (404, b'{"detail":"File not found"}')


async def test_other_methods(shop: Shop) -> None:
    refused = await shop.ask("DELETE", FILE)
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    options = await shop.ask("OPTIONS", FILE)
    assert (options.status, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")


async def test_a_connection_may_ask_on_and_ahead_and_change_sides(shop: Shop) -> None:
    head = b"GET %s HTTP/1.1\r\nHost: hub\r\nRange: bytes=%d-%d\r\n\r\n"
    requests = [head % (FILE.encode(), start, start + 9) for start in range(0, 50, 10)]
    last = b"GET /health HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n"
    async with await shop.connect() as stream:
        await stream.send_all(b"".join(requests) + last)
        got = await read_all(stream)
    assert got.count(b"HTTP/1.1 206") == 5
    for start in range(0, 50, 10):
        assert b"\r\n\r\n" + BODY[start : start + 10] + b"HTTP/1.1" in got
    assert got.endswith(b'{"status":"OK"}')


async def test_old_and_bad_requests(shop: Shop) -> None:
    async with await shop.connect() as stream:
        await stream.send_all(f"GET {FILE} HTTP/1.0\r\nRange: bytes=0-1\r\n\r\n".encode())
        assert (await read_all(stream)).endswith(b"\r\n\r\n" + BODY[:2])
    async with await shop.connect() as stream:
        await stream.send_all(f"GET {FILE} HTTP/1.1\r\nBad Header: 1\r\nHost: x\r\n\r\n".encode())
        assert (await read_all(stream)).startswith(b"HTTP/1.1 400 ")


async def test_a_body_in_a_request_for_a_file_is_not_taken_for_the_next_one(shop: Shop) -> None:
    smuggled = b"GET /health HTTP/1.1\r\nHost: hub\r\n\r\n"
    head = f"GET {FILE} HTTP/1.1\r\nHost: hub\r\nRange: bytes=0-1\r\nConnection: close\r\n"
    async with await shop.connect() as stream:
        await stream.send_all(f"{head}Content-Length: {len(smuggled)}\r\n\r\n".encode() + smuggled)
        assert (await read_all(stream)).count(b"HTTP/1.1 ") == 1


async def test_a_broken_download_is_resumed(shop: Shop) -> None:
    async with await shop.connect() as stream:
        await stream.send_all(f"GET {FILE} HTTP/1.1\r\nHost: hub\r\n\r\n".encode())
        got = b""
        while len(got) < len(BODY) * 4 // 10:
            got += await stream.receive_some(65536)
    part = got.partition(b"\r\n\r\n")[2]
    rest = await shop.get(FILE, Range=f"bytes={len(part)}-", If_Range=f'"{sha(BODY)}"')
    assert rest.status == 206
    assert sha(part + rest.body) == sha(BODY)
    stale = await shop.get(FILE, Range=f"bytes={len(part)}-", If_Range='"other"')
    assert (stale.status, stale.body) == (200, BODY)


async def test_a_file_replaced_during_its_download_is_not_mixed(shop: Shop) -> None:
    async with await shop.connect() as stream:
        stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 65536)
        await stream.send_all(f"GET {FILE} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n".encode())
        got = await stream.receive_some(1024)
        fresh = put(shop.root, "storage/m/1.0.0/.fresh", bytes(len(BODY)))
        os.replace(fresh, shop.root / "storage/m/1.0.0/model.bin")
        got += await read_all(stream)
    assert got.partition(b"\r\n\r\n")[2] == BODY
    changed = await shop.get(FILE)
    assert changed.body == bytes(len(BODY))
    assert changed.headers["etag"] != f'"{sha(BODY)}"', "nobody may join it to what he has"
    assert changed.headers["cache-control"] == "no-cache"


async def test_a_huge_file_takes_no_memory(shop: Shop) -> None:
    path = put(shop.root, "storage/huge/1.0.0/a.bin", b"", at=None)
    os.truncate(path, 5 * 1024**3)
    await shop.hub.catalog.rescan()
    for ask in (shop.ask, lambda *given, **headers: through_asgi(shop, *given, **headers)):
        last = await ask("GET", "/storage/models/huge/1.0.0/a.bin", Range="bytes=5368709000-")
        assert (last.status, last.body) == (206, bytes(120))
        assert last.headers["content-range"] == "bytes 5368709000-5368709119/5368709120"
    # What follows a request of Hypercorn's stays there, so that both ways are seen.
    for first in (b"", b"GET /health HTTP/1.1\r\nHost: hub\r\n\r\n"):
        async with await shop.connect() as stream:
            request = b"GET /storage/models/huge/1.0.0/a.bin HTTP/1.1\r\nHost: hub\r\n\r\n"
            await stream.send_all(first + request)
            await stream.receive_some(1024**2)
            before = memory()
            taken = 0
            while taken < 128 * 1024**2:
                taken += len(await stream.receive_some(1024**2))
            assert memory() - before < 32 * 1024**2


def memory() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_reading_may_need_a_key(tmp_path: Path) -> None:
    put(tmp_path / "models", "storage/m/1.0.0/a.bin", b"a")
    async with open_shop(tmp_path / "models", public_read=False) as shop:
        shop.keyring.add("reads", Scope.HUB_READ)
        shop.keyring.add("writes", Scope.HUB_PUBLISH)
        shop.keyring.add("old", Scope.HUB_READ, expires_at=1.0)
        for path in ("/storage/models/m/1.0.0/a.bin", "/api/models", "/api/models/m"):
            refused = await shop.get(path)
            assert (refused.status, refused.json["error"]["code"]) == (401, "unauthorized")
            assert refused.headers["www-authenticate"].startswith("Bearer")
            for key, status in (("reads", 200), (ADMIN, 200), ("writes", 403), ("old", 401), ("none", 401)):
                assert (await shop.ask("GET", path, key=key)).status == status


async def test_downloads_are_redirected_after_access_was_checked(tmp_path: Path) -> None:
    put(tmp_path / "models", "storage/m/1.0.0/a.bin", b"a")
    async with open_shop(tmp_path / "models", redirect_base="https://cdn.example/x/") as shop:
        path = "/storage/models/m/1.0.0/a.bin"
        answer = await shop.get(path)
        assert (answer.status, answer.headers["location"]) == (302, f"https://cdn.example/x{path}")
        assert (await shop.get(f"{path}?direct=1")).body == b"a"
        assert (await shop.get("/storage/models/m/1.0.0/b.bin")).status == 404


async def test_downloads_are_limited_and_places_come_back(tmp_path: Path) -> None:
    put(tmp_path / "models", "storage/m/1.0.0/a.bin", bytes(64 * 1024 * 1024))
    path = "/storage/models/m/1.0.0/a.bin"
    async with open_shop(
        tmp_path / "models", max_downloads_per_address=2, max_downloads_per_caller=1
    ) as shop:
        request = f"GET {path} HTTP/1.1\r\nHost: hub\r\nX-Node-Id: n1\r\n\r\n".encode()
        async with await shop.connect() as stream:
            await stream.send_all(request)
            await stream.receive_some(100)
            refused = await shop.get(path, X_Node_Id="n1")
            assert (refused.status, refused.headers["retry-after"]) == (503, "2")
            assert (await shop.get(path, X_Node_Id="n2", Range="bytes=0-1")).status == 206
            assert (await shop.ask("HEAD", path, X_Node_Id="n1")).status == 200
        with trio.fail_after(PATIENCE_S):
            while (await shop.get(path, X_Node_Id="n1", Range="bytes=0-1")).status != 206:  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_two_hundred_nodes_behind_one_address(tmp_path: Path) -> None:
    files = {f"f{number}.bin": os.urandom(20_000) for number in range(3)}
    for path, data in files.items():
        put(tmp_path / "models", f"storage/m/1.0.0/{path}", data)
    async with open_shop(tmp_path / "models") as shop:
        statuses: list[int] = []

        async def node() -> None:
            listed = await shop.get("/api/models")
            statuses.append(listed.status)
            async with trio.open_nursery() as nursery:
                for path, data in files.items():
                    nursery.start_soon(fetch, path, data)

        async def fetch(path: str, data: bytes) -> None:
            answer = await shop.get(f"/storage/models/m/1.0.0/{path}", Range="bytes=100-")
            statuses.append(answer.status)
            assert answer.body == data[100:]

        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(node)
        assert sorted(statuses) == [200] * 200 + [206] * 600


async def test_drain_closes_idle_connections_and_lets_answers_out(shop: Shop) -> None:
    idle, busy = await shop.connect(), await shop.connect()
    for stream in (idle, busy):
        await stream.send_all(f"GET {FILE} HTTP/1.1\r\nHost: hub\r\n\r\n".encode())
    got = b""
    while not got.endswith(BODY[-1000:]) or len(got) < len(BODY):
        got += await idle.receive_some()
    first = await busy.receive_some(100)
    await shop.hub.drain()
    assert await read_all(idle) == b""
    assert len(first + await read_all(busy)) == len(got)
    await idle.aclose()
    await busy.aclose()


async def test_a_client_that_takes_nothing_is_cut(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(shop.root, "storage/huge/1.0.0/a.bin", b"", at=None)
    os.truncate(path, 1024**3)
    await shop.hub.catalog.rescan()
    shop.hub.direct._write_seconds = 0.2
    async with await shop.connect() as stream:
        await stream.send_all(b"GET /storage/models/huge/1.0.0/a.bin HTTP/1.1\r\nHost: hub\r\n\r\n")
        await stream.receive_some(10)
        with trio.fail_after(PATIENCE_S):
            while shop.connections.child_tasks:  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_blocks_are_small(shop: Shop) -> None:
    assert asgi.BLOCK_BYTES <= 1024 * 1024
