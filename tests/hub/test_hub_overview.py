"""What pages show of the hub: the same from this process and from another, and seldom asked for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import trio
from shop import ADMIN, open_shop
from test_hub_trouble import break_store
from trio.testing import MockClock

from linguad.errors import LinguadError
from linguad.hub.overview import Overview
from linguad.net.http import PEER
from linguad.net.peer import Peer
from linguad.ops.hub import AWAY_S, FRESH_S, RemoteShelf, Shelf, add_hub_route
from linguad.ops.viewers import Viewers
from linguad.store.database import Database
from linguad.store.hub import HubRecords
from linguad.web.app import create_app

HERE = {PEER: Peer("127.0.0.1", 4, "http")}
AWAY = {PEER: Peer("198.51.100.7", 4, "https")}


async def test_here_and_over_http(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "models") as shop:
        for version in ("1.0.0", "1.1.0"):
            done = await shop.publish("whisper", version, {"model.bin": version.encode()}, channel="beta")
            assert done.status == 201, done.body
        yanked = await shop.ask(
            "POST", "/api/admin/models/whisper/versions/1.0.0/yank", {"reason": "bad"}, key=ADMIN
        )
        assert yanked.status == 200, yanked.body
        events = [
            {"event_id": name, "type": "request", "at": time.time(), **what}
            for name, what in (("a", {"model_id": "whisper", "count": 7}), ("b", {"service_id": "nmt"}))
        ]
        await shop.ask("POST", "/api/model-usage/events", {"events": events})

        database = Database(f"sqlite:///{tmp_path / 'state.db'}")
        here: Shelf = Overview(shop.hub.catalog, HubRecords(database))
        told = _plain(await here.told())
        (model,) = told["models"]
        assert (model["id"], model["default_version"]) == ("whisper", "1.1.0")
        assert model["channels"] == {"beta": "1.1.0"}
        assert [(one["version"], one["status"]) for one in model["versions"]] == [
            ("1.1.0", "published"),
            ("1.0.0", "yanked"),
        ]
        assert told["model_ranking"] == [{"id": "whisper", "count": 7, "rank": 1}]
        assert told["service_ranking"] == [{"id": "nmt", "count": 1, "rank": 1}]
        there: Shelf = RemoteShelf(f"http://127.0.0.1:{shop.port}/")
        assert _plain(await there.told()) == told

        break_store(shop, "audit", "hub_events", "hub_hours")
        for shelf in (here, there):
            without = _plain(await shelf.told())
            assert without == told | {"model_ranking": None, "service_ranking": None}
        await database.close()


def _plain(told: Mapping[str, Any]) -> Any:
    return msgspec.json.decode(msgspec.json.encode(told))


async def test_it_is_asked_seldom(autojump_clock: MockClock) -> None:
    asked = 0
    away = True

    class Played:
        async def told(self) -> Mapping[str, Any]:
            nonlocal asked
            asked += 1
            if away:
                await trio.sleep(10)
                raise LinguadError("it is away")
            return {"models": [], "asked": asked}

    shelf: Shelf | None = None
    app = create_app("test")
    add_hub_route(app, lambda: shelf, Viewers("loopback", "token"))
    client = app.test_client()
    assert (await client.get("/api/v1/hub", scope_base=AWAY)).status_code == 401
    answer = await client.get("/api/v1/hub", scope_base=HERE)
    assert (answer.status_code, (await answer.get_json())["error"]["code"]) == (503, "no_hub")
    shelf = Played()
    codes = []

    async def look() -> None:
        answer = await client.get("/api/v1/hub", scope_base=HERE)
        codes.append((answer.status_code, (await answer.get_json())["error"]["code"]))

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(look)
    assert codes == [(503, "hub_away")] * 5
    assert (asked, trio.current_time() - start) == (1, 10), (
        "they wait for it together, not one after the other"
    )
    away = False
    await look()
    assert codes[-1] == (503, "hub_away")
    await trio.sleep(AWAY_S)
    for wanted in (2, 2, 2):
        answer = await client.get("/api/v1/hub", scope_base=HERE)
        assert await answer.get_json() == {"models": [], "asked": wanted}
    await trio.sleep(FRESH_S)
    answer = await client.get("/api/v1/hub", scope_base=HERE)
    assert (await answer.get_json())["asked"] == 3
