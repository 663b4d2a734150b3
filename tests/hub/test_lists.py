"""The two lists, on both ways into the hub, and beside each other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from patience import PATIENCE_S
from shop import Answer, Shop, open_shop, package, put, read_all

NODES = 1000
FIRST = b"GET /health HTTP/1.1\r\nHost: hub\r\n\r\n"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    root = tmp_path / "models"
    put(root, "storage/m/1.0.0/model.bin", bytes(16 * 1024 * 1024))
    put(root, "nmt/n/model.bin")
    package(root / "services/s/1.0.0/windows-x64/service.zip", "s", "1.0.0")
    async with open_shop(root, requests_per_second=100_000) as opened:
        await opened.hashed()
        yield opened


async def second(shop: Shop, method: str, path: str, headers: str = "") -> Answer:
    """The second request of a connection, which Hypercorn has then."""
    async with await shop.connect() as stream:
        await stream.send_all(FIRST)
        got = b""
        with trio.fail_after(PATIENCE_S):
            while b'{"status":"OK"}' not in got:
                got += await stream.receive_some()
        text = f"{method} {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n{headers}\r\n"
        await stream.send_all(text.encode())
        return Answer(await read_all(stream))


@pytest.mark.parametrize("path", ["/api/models", "/api/services", "/api/models?task=nmt&task=asr"])
async def test_both_ways_answer_the_same(shop: Shop, path: str) -> None:
    direct, other = await shop.get(path), await second(shop, "GET", path)
    assert (other.status, other.body) == (200, direct.body)
    names = ("content-type", "etag", "cache-control", "x-catalog-revision", "content-length")
    assert [other.headers[name] for name in names] == [direct.headers[name] for name in names]
    known = f"If-None-Match: {direct.headers['etag']}\r\n"
    assert (await second(shop, "GET", path, known)).status == 304
    assert (await second(shop, "HEAD", path)).body == b""


async def test_lists_can_only_be_read(shop: Shop) -> None:
    for path in ("/api/models", "/api/services"):
        refused = await shop.ask("POST", path, {})
        assert (refused.status, refused.body) == (405, b'{"detail":"Method Not Allowed"}')
        assert "GET" in refused.headers["allow"]


async def test_a_flood_of_lists_leaves_others_their_turn(shop: Shop) -> None:
    taken, begun = 0, trio.Event()

    async def flood() -> None:
        nonlocal taken
        request, status, rest = b"GET /api/models HTTP/1.1\r\nHost: hub\r\n\r\n", b"HTTP/1.1 200", b""
        async with await shop.connect() as stream, trio.open_nursery() as sending:
            sending.start_soon(stream.send_all, request * NODES)
            while taken < NODES:
                rest += await stream.receive_some(65536)
                taken += rest.count(status)
                rest = rest[-len(status) + 1 :]
                begun.set()

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            await begun.wait()
            part = await shop.get("/storage/models/m/1.0.0/model.bin", Range="bytes=0-1048575")
            others = taken
    assert part.status == 206
    assert others < NODES, "the download had to wait for all lists"
    assert taken == NODES


async def test_nobody_waits_while_the_disk_is_read(shop: Shop) -> None:
    async def read_for_ever(*, task_status: trio.TaskStatus[None]) -> None:
        async with shop.hub.catalog._turn:
            task_status.started()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(read_for_ever)
        for path in ("/api/models", "/api/models/m", "/api/services", "/api/services/s", "/health/ready"):
            assert (await shop.get(path)).status == 200
        assert (await shop.get("/storage/models/n/1.0.0/model.bin")).body == b"x"
        nursery.cancel_scope.cancel()


async def test_what_a_cache_keeps_for_pages(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "models", cors=("https://a.example",)) as shop:
        answer = await shop.get("/api/models")
        assert answer.headers["vary"] == "Origin"
        assert "access-control-allow-origin" not in answer.headers
