"""Who sees the pages of operators, how they are served, what they say, and a cluster on a real Redis."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import trio
from accessibility import barriers, wish
from looking_on import AWAY, NAMES, admin_token, looker
from processes import DaemonProcess
from redis_server import RedisServer

from linguad.core.health import Status
from linguad.core.job import AttemptEnd, AttemptState, Chosen, MissingReason
from linguad.core.services import WhyNot
from linguad.core.standing import Reason
from linguad.core.survey import Veto
from linguad.metrics import STAGES
from linguad.ops.gauges import GAUGES

TEST_S = 240.0
Start = Callable[..., DaemonProcess]


DRAWN = "{ visibilityProperty: true }"
"""For `checkVisibility`: what keeps its place without being drawn is not visible."""


@pytest.fixture(autouse=True)
async def patience() -> AsyncIterator[None]:
    """No test waits for ever."""
    with trio.fail_after(TEST_S):
        yield


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a daemon with settings, and kills it after the test."""
    started: list[DaemonProcess] = []

    def begin(name: str = "daemon", **tables: Any) -> DaemonProcess:
        directory = tmp_path / name
        directory.mkdir()
        started.append(DaemonProcess(directory, gateway={"enabled": False}, **tables))
        return started[-1]

    yield begin
    for one in started:
        one.clear_away()


async def test_on_the_server_itself_only(start: Start, tmp_path: Path) -> None:
    daemon = start()
    async with looker(tmp_path / "browser", await daemon.port()) as seen:
        await seen.open("dashboard")
        await seen.from_elsewhere()
        for name in NAMES:
            await seen.go(name)
            await seen.reads("h1", "Only operators see these pages")
            await seen.reads("pre", '[server]\npages = "token"')
            # Nothing is drawn later that would have to be waited for.
            assert await seen.page.run(f"document.querySelector('pre').checkVisibility({DRAWN})")
        assert await barriers(seen.page) == []
        assert await seen.page.run("document.querySelectorAll('input').length") == 0
        seen.quiet("status of 401")
    async with daemon.http() as http:
        for path in ("/api/v1/live", "/api/v1/history", "/api/v1/hub", "/api/v1/nodes"):
            assert (await http.get(path, **AWAY))[0] == 401, path


async def test_with_the_token(start: Start, tmp_path: Path) -> None:
    daemon = start(server={"pages": "token"})
    port = await daemon.port()
    token = await admin_token(daemon)
    async with looker(tmp_path / "browser", port) as seen, daemon.node(node_id="worker"):
        await seen.from_elsewhere()
        await seen.go("cluster")
        await seen.reads("h1", "Only operators see these pages")
        assert await barriers(seen.page) == []
        assert await seen.page.run(f"document.getElementById('gate-token').checkVisibility({DRAWN})")
        await seen.write("#gate-token", "wrong")
        await seen.press("Enter")
        await seen.reads("#gate-problem", "This is not the admin token.")
        await seen.write("#gate-token", token)
        await seen.press("Enter")
        await seen.reads("nav [aria-current]", "Cluster")
        # The cookie is for looking, at everything; no script sees it.
        await seen.open("dashboard")
        await seen.scroll_to("#nodes")
        await seen.reads("#nodes td", "worker")
        assert token not in await seen.page.run("document.cookie + JSON.stringify({ ...localStorage })")
        refused = await seen.page.run(
            """fetch("/api/v1/nodes/worker", { method: "PATCH", body: '{"drain": true}' })
                .then((answer) => answer.status)"""
        )
        assert refused == 401
        await seen.press("worker", "#nodes")
        await seen.press("Give no more work", "#node")
        await seen.give_token(token)
        await seen.reads("#toast", "gets no new jobs")
        # Who may not look any more is told so.
        await seen.page.run("fetch('/api/v1/viewer', { method: 'DELETE' })")
        await seen.go("dashboard")
        await seen.reads("h1", "Only operators see these pages")
        seen.quiet("status of 401", "status of 503")


async def test_for_everybody(start: Start, tmp_path: Path) -> None:
    daemon = start(server={"pages": "public"})
    token = await admin_token(daemon)
    async with (
        looker(tmp_path / "browser", await daemon.port()) as seen,
        daemon.node(node_id="worker"),
        daemon.client() as client,
    ):
        await seen.from_elsewhere()
        await seen.open("dashboard")
        await seen.scroll_to("#sessions")
        await seen.reads("#sessions .hindrance", "Only operators see this.")
        text = await seen.page.run("document.body.innerText")
        assert client.session_id not in text
        assert await barriers(seen.page) == []
        await seen.press("Give the admin token", "#sessions")
        await seen.give_token(token)
        await seen.reads("#sessions td", client.session_id)
        await seen.scroll_to("#nodes")
        await seen.reads("#nodes td", "worker")
        seen.quiet("status of 401")


async def test_a_cluster(start: Start, tmp_path: Path) -> None:
    redis = RedisServer().start()
    try:
        settings = {"redis_url": redis.url, "heartbeat_seconds": 5}
        one = start("one", cluster=settings | {"instance_id": "first"}, hub={"enabled": False})
        other = start("other", cluster=settings | {"instance_id": "second"}, hub={"enabled": False})
        await other.port()
        redis.do("XADD", "lingua:v2:{i:second}:inbox", "*", "rubbish", "1")
        async with looker(tmp_path / "browser", await one.port()) as seen, one.node(node_id="worker"):
            await seen.open("cluster")
            await seen.reads("#instances td", "second")
            await seen.reads("#instances [data-card=instances]", "2")
            await seen.reads("#fleet td", "worker")
            await seen.reads("#fleet .capabilities", "✓ asr")
            await seen.reads("#redis li", "connected")
            await seen.scroll_to("#dead")
            await seen.reads("#dead td", "second/")
            assert await barriers(seen.page) == []
            await seen.press("Drop", "#dead")
            await seen.give_token(await admin_token(one))
            await seen.reads("#toast", "is gone")
            await seen.reads("#dead", "There are no dead letters.")
            # Where there is no hub either, the page says so.
            await seen.open("models")
            await seen.reads("#hub", "There is no hub here.")
            seen.quiet("status of 503")
    finally:
        redis.clear_away()


async def test_no_text_is_missing(start: Start, tmp_path: Path) -> None:
    async with looker(tmp_path / "browser", await start().port()) as seen:
        await seen.go("dashboard")
        texts = await seen.page.run("import('/pages/operate/texts.js').then((module) => module.TEXTS)")
    directory = files("linguad.pages")
    scripts = {one.name: one.read_text() for one in directory.joinpath("operate").iterdir()}
    names = ("operate.html", "gate.html", "closed.html", "token.html")
    pages = [directory.joinpath(name).read_text() for name in names]
    sources = "\n".join(
        [*pages, *(text for name, text in scripts.items() if name not in ("texts.js", "words.js"))]
    )
    assert set(texts) == {"en", "zh"}
    assert texts["en"].keys() == texts["zh"].keys()
    for key, english in texts["en"].items():
        holes, chinese = r"\{\w+\}", texts["zh"][key]
        assert sorted(re.findall(holes, english)) == sorted(re.findall(holes, chinese)), key
        assert re.search(r"[一-鿿]", chinese) or not re.search(r"[A-Za-z]{2}", re.sub(holes, "", english)), (
            key
        )
        plain = f'"{key}"' in sources or f"{key}:" in sources
        assert plain or ":" in key, f"nothing says {key}"
    used = re.findall(r'data-t(?:-\w+)?="([\w-]+)"', sources)
    used += re.findall(r'"data-t(?:-\w+)?": "([\w:-]+)"', sources)
    used += re.findall(r'(?:\bt|section)\(\s*(?:"\w+", )?"([\w:-]+)"', sources)
    assert set(used) <= texts["en"].keys(), set(used) - texts["en"].keys()


async def test_every_word_of_the_server_is_known(start: Start, tmp_path: Path) -> None:
    async with looker(tmp_path / "browser", await start().port()) as seen:
        await seen.go("dashboard")
        words = await seen.page.run(
            "import('/pages/operate/words.js').then((module) => Object.keys(module.WORDS))"
        )
    wanted = {
        "status": [one.value for one in Status],
        "reason": ["offline", *Reason],
        "outcome": ["completed", "open", *MissingReason],
        "end": [*AttemptEnd, *(one.name.lower() for one in AttemptState)],
        "chosen": list(Chosen),
        "veto": [*Veto, "no_nodes", "unknown"],
        "why-not": list(WhyNot),
        "stage": list(STAGES),
        "gauge": list(GAUGES),
    }
    assert [
        f"{kind}:{one}" for kind, some in wanted.items() for one in some if f"{kind}:{one}" not in words
    ] == []


async def test_how_they_are_served(start: Start) -> None:
    daemon = start()
    async with daemon.http() as http:
        for name in NAMES:
            status, page = await http.get(f"/{name}")
            assert status == 200
            assert re.findall(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", page) == []
            for path in re.findall(r'(?:src|href)="([^"]+)"', page):
                assert (await http.get(path))[0] == 200, path
    answer = await daemon.talk(b"GET /dashboard HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head = answer.partition(b"\r\n\r\n")[0].decode().lower()
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in head
    assert "unsafe" not in head
    refused = await daemon.talk(
        b"GET /dashboard HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 198.51.100.7\r\nConnection: close\r\n\r\n"
    )
    assert refused.startswith(b"HTTP/1.1 401")
    assert b"cache-control: no-store" in refused.lower()
    for one in files("linguad.pages").joinpath("operate").iterdir():
        text = one.read_text()
        assert len(text.splitlines()) <= 500, one.name
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|setHTML|DOMParser|srcdoc", text
        ), one.name
        # the name of SVG is no address
        assert re.findall(r"https?://[^\"]+", text) in ([], ["http://www.w3.org/2000/svg"]), one.name


async def test_an_instance_is_stopped(start: Start, tmp_path: Path) -> None:
    daemon = start(hub={"enabled": False}, server={"drain_seconds": 60, "hard_stop_seconds": 70})
    async with looker(tmp_path / "browser", await daemon.port()) as seen:
        async with daemon.node(), daemon.client() as client:
            await client.speak()
            await seen.open("dashboard")
            await seen.reads("#health .facts", "1 node · 1 session")
            await seen.press("Stop this instance …", "#health")
            await seen.reads("#stop h2", "Stop this instance?")
            await seen.reads("#stop li", "1 session and 1 job have 1 min 0 s")
            await seen.reads("#stop li", "It is the only one")
            assert await barriers(seen.page) == []
            await seen.press("Cancel", "#stop")
            await seen.press("Stop this instance …", "#health")
            await seen.press("Stop it", "#stop")
            await seen.give_token(await admin_token(daemon))
            # It goes on telling what is left.
            await seen.reads("#health[data-level=warn] .headline", "Stopping: ")
            await seen.page.until("!document.querySelector('dialog[open]')")
            assert await barriers(seen.page) == []
            assert daemon.running
            assert await seen.page.run("document.querySelector('#health button').hidden")
        assert await daemon.ended() == 0
        await seen.reads("#health .headline", "This instance has stopped")
        assert await barriers(seen.page) == []


async def test_a_server_that_is_gone_is_not_called_well(start: Start, tmp_path: Path) -> None:
    daemon = start(hub={"enabled": False})
    async with looker(tmp_path / "browser", await daemon.port()) as seen, daemon.node(node_id="worker"):
        await seen.open("dashboard")
        await seen.scroll_to("#nodes")
        await seen.reads("#nodes td", "worker")
        daemon.signal(9)
        await seen.reads("#health[data-level=bad] .headline", "The server does not answer")
        await seen.reads("#nodes .hindrance", "cannot be reached")
        # What was known stays to be read.
        await seen.reads("#nodes td", "worker")
        for scheme in ("light", "dark"):
            await wish(seen.page, scheme)
            assert await barriers(seen.page) == [], scheme


async def test_how_to_start_the_first_node(start: Start, tmp_path: Path) -> None:
    port = await start().port()
    async with looker(tmp_path / "browser", port) as seen:
        await seen.open("dashboard")
        await seen.scroll_to("#nodes")
        await seen.reads("#nodes .empty", f"linguad node --server ws://127.0.0.1:{port}/ws/node")
        await seen.click("[data-language-switch]")
        await seen.reads("#nodes .empty", f"ws://127.0.0.1:{port}/ws/node")
        seen.quiet()
