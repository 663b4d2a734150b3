"""Sessions, time lines, paths of old scripts, and who may look at what."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from harness import World, daemon_in_memory
from looking import AWAY, HERE, TOKEN, app_of, get
from test_nodes_api import Instance
from trio.testing import MockClock, wait_all_tasks_blocked

from linguad.ops.nodes import add_node_routes
from linguad.ops.old_paths import MOVED
from linguad.web.admin import VIEWER_COOKIE, viewer_cookie
from linguad.web.app import create_app

BEARER = {"Authorization": f"Bearer {TOKEN}"}
OPERATORS = ("/api/v1/sessions", "/api/v1/utterances/nothing")
VIEWERS = ("/api/v1/history", "/api/v1/metrics")


async def status(world: World, path: str, method: str = "GET", **headers: str) -> int:
    """The status of an answer to somebody elsewhere."""
    client = app_of(world.daemon).test_client()
    answer = await client.open(path, method=method, scope_base=AWAY, headers=headers)
    return int(answer.status_code)


async def test_sessions_and_their_filters(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        first = await world.client()
        second = await world.client(src_lang="zh", tgt_lang="en", platform="ios", trace_id="trace-2")
        await world.node("node-1")
        await first.chunk(b"\x04\x00abcd" * 50)
        await second.leave()
        await wait_all_tasks_blocked()
        app = app_of(world.daemon)
        body = await get(app, "/api/v1/sessions")
        assert (body["total"], body["found"]) == (2, 2)
        told = {one["session_id"]: one for one in body["sessions"]}
        assert told[first.session_id] == {
            "session_id": first.session_id,
            "trace_id": "5b0cf3a2-6a4f-4a44-9d63-0a2f6f6d1f01",
            "state": "attached",
            "platform": "web",
            "tenant": "direct",
            "src": "en",
            "tgt": "es",
            "mode": "one_way",
            "lang_a": None,
            "lang_b": None,
            "room_id": None,
            "paired_node_id": None,
            "can_resume": False,
            "next_index": 0,
            "open_utterances": 0,
            "buffered_bytes": 300,
        }
        for query, found in (
            ("src=zh", [second]),
            ("tgt=es", [first]),
            ("state=attached", [first]),
            ("state=detached", [second]),
            ("q=IOS", [second]),
            ("q=trace-2", [second]),
            (f"q={first.session_id}", [first]),
            ("q=nobody", []),
        ):
            body = await get(app, f"/api/v1/sessions?{query}")
            ids = [one["session_id"] for one in body["sessions"]]
            assert (ids, body["found"], body["total"]) == ([one.session_id for one in found], len(found), 2)
        body = await get(app, "/api/v1/sessions?limit=1")
        assert (len(body["sessions"]), body["found"]) == (1, 2)
        for query in ("limit=0", "limit=1001", "limit=x", "state=lost", "src=_", "colour=red", "q="):
            assert (await get(app, f"/api/v1/sessions?{query}", 400))["error"]["code"] == "invalid_value"


async def test_the_time_line_of_a_conversation(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client, node = await world.client(), await world.node("node-1")
        await client.speak()
        job = await node.job()
        await trio.sleep(0.5)
        await node.answer(job)
        result = await client.result()
        await client.utterance(4)
        app = app_of(world.daemon)
        body = await get(app, f"/api/v1/utterances/{client.session_id}")
        first, second = body["utterances"]
        assert (first["index"], first["outcome"], first["node_id"]) == (0, "completed", "node-1")
        assert first["stages"]["total_ms"] == pytest.approx(result["time_breakdown"]["total_ms"], abs=0.01)
        assert first["stages"]["node_ms"] == result["time_breakdown"]["node_ms"] == 120
        assert (first["duration_ms"], first["bytes"], first["cut_reason"]) == (780, 39 * 62, "manual")
        assert first["delivered_at_ms"] - first["last_audio_at_ms"] == pytest.approx(540, abs=2)
        assert (second["index"], second["outcome"], second["missing_before"]) == (4, "open", [1, 2, 3])
        assert second["stages"]["total_ms"] is None
        assert "oído" not in str(body)
        for name in (result["job_id"], f"{client.session_id}:0"):
            body = await get(app, f"/api/v1/utterances/{name}")
            assert [row["index"] for row in body["utterances"]] == [0]
        body = await get(app, f"/api/v1/utterances/{result['trace_id']}")
        assert [row["index"] for row in body["utterances"]] == [0, 4]
        body = await get(app, "/api/v1/utterances/nothing", 404)
        assert "SESSION:INDEX" in body["error"]["message"]


@pytest.mark.parametrize("path", MOVED)
async def test_old_paths_lead_to_their_successors(path: str, autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        asked = path.replace("<path:node_id>", "bob%2F1")
        answer = await app_of(world.daemon).test_client().get(f"{asked}?src=en&q=a%20b", scope_base=AWAY)
        assert answer.status_code == 307
        successor = MOVED[path] + ("bob%2F1" if "node_id" in path else "")
        assert answer.headers["Location"] == f"{successor}?src=en&q=a%20b"
        assert await answer.get_data() == b""


async def test_operators_need_the_token_wherever_pages_are_shown(autojump_clock: MockClock) -> None:
    for pages in ("loopback", "token", "public"):
        async with daemon_in_memory(server={"pages": pages}) as world:
            for path in OPERATORS:
                assert await status(world, path) == 401
                assert await status(world, path, Authorization="Bearer wrong") == 401
                assert await status(world, path, **BEARER) in (200, 404)


@pytest.mark.parametrize(("pages", "stranger"), [("loopback", 401), ("token", 401), ("public", 200)])
async def test_who_sees_the_pages(pages: str, stranger: int, autojump_clock: MockClock) -> None:
    async with daemon_in_memory(server={"pages": pages}) as world:
        for path in VIEWERS:
            assert await status(world, path) == stranger
            assert await status(world, path, **BEARER) == 200
            assert await status(world, path, Cookie=f"{VIEWER_COOKIE}=wrong") == stranger
        assert await status(world, "/api/v1/stats") == 200
        assert (
            await app_of(world.daemon).test_client().get("/api/v1/history", scope_base=HERE)
        ).status_code == 200


async def test_a_refused_browser_is_told_the_line_to_set(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client = app_of(world.daemon).test_client()
        answer = await client.get("/api/v1/history", scope_base=AWAY)
        assert 'server.pages = "token"' in (await answer.get_json())["error"]["message"]
        answer = await enter(client, TOKEN)
        assert answer.status_code == 403


async def test_the_token_once_then_a_cookie_that_only_looks(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(server={"pages": "token"}) as world:
        client = app_of(world.daemon).test_client()
        assert (await enter(client, "wrong")).status_code == 401
        for body in (b"", b"[]", b'{"token": 3}', b"\xff"):
            answer = await client.post("/api/v1/viewer", scope_base=AWAY, data=body)
            assert answer.status_code == 400
        answer = await enter(client, TOKEN)
        assert answer.status_code == 200
        cookie = answer.headers["Set-Cookie"]
        assert TOKEN not in cookie
        assert {"HttpOnly", "Secure", "SameSite=Strict"} <= set(cookie.split("; "))
        value = cookie.partition("=")[2].partition(";")[0]
        assert value == viewer_cookie(TOKEN)
        given = f"{VIEWER_COOKIE}={value}"
        for path in (*VIEWERS, "/api/v1/sessions"):
            assert await status(world, path, Cookie=given) == 200
        answer = await client.delete("/api/v1/viewer", scope_base=AWAY)
        assert f"{VIEWER_COOKIE}=;" in answer.headers["Set-Cookie"].replace('""', "")


async def test_the_cookie_changes_nothing() -> None:
    instance = Instance()
    instance.desk.node("a")
    app = create_app("test")
    add_node_routes(app, instance, TOKEN)
    headers = {"Cookie": f"{VIEWER_COOKIE}={viewer_cookie(TOKEN)}"}
    client = app.test_client()
    for method, expected in (("GET", 200), ("PATCH", 401)):
        answer = await client.open(
            "/api/v1/nodes/a", method=method, scope_base=AWAY, headers=headers, data=b"{}"
        )
        assert answer.status_code == expected


async def enter(client: Any, token: str) -> Any:
    """Give the token in the form."""
    return await client.post("/api/v1/viewer", scope_base=AWAY, json={"token": token})
