"""The pages of operators in a real browser, on one real daemon with a fleet in trouble around it."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from accessibility import barriers, wish
from fleet import EVIL, busy, crowd
from line import Line
from looking_on import NAMES, Looker, admin_token, looker
from processes import DaemonProcess

TEST_S = 240.0
"""For a whole test that needs a browser and a fleet, s."""

Look = Any


@pytest.fixture(autouse=True)
async def patience() -> AsyncIterator[None]:
    """No test waits for ever."""
    with trio.fail_after(TEST_S):
        yield


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon with a hub that has something to offer; jobs that nobody can do wait for long."""
    directory = tmp_path_factory.mktemp("daemon")
    for version in ("1.0.0", "1.2.0"):
        place = directory / "state" / "models" / "storage" / "whisper-test" / version
        place.mkdir(parents=True)
        (place / "model.bin").write_bytes(b"x" * 5000)
    (place.parent / "_hub.json").write_text(json.dumps({"default": "1.0.0", "channels": {"beta": "1.2.0"}}))
    running = DaemonProcess(directory, jobs={"pending_timeout_seconds": 150})
    try:
        running.wait_for("started")
        yield running
    finally:
        running.clear_away()


@pytest.fixture
def look(tmp_path: Path, daemon: DaemonProcess) -> Look:
    """Opens a browser: `async with look() as seen`; with `fleet` one is around the daemon."""

    @asynccontextmanager
    async def begin(*words: str, fleet: bool = False, port: int = 0) -> AsyncIterator[Looker]:
        async with crowd(daemon) as some:
            if fleet:
                await busy(some)
            async with looker(tmp_path / "browser", port or await daemon.port(), *words) as seen:
                yield seen

    return begin


async def test_the_first_ten_seconds(look: Look, daemon: DaemonProcess) -> None:
    async with look(fleet=True) as seen:
        await seen.open("dashboard")
        # Is it healthy? No, and why.
        await seen.reads("#health[data-level=bad] h1", "wait in vain: no node can do")
        await seen.reads("#health h1", "en → sw")
        # Who is waiting?
        await seen.reads("#waiting li", "en → swno node can do it")
        # Which pairs have room, and who waits for those that have not?
        await seen.page.until("Number(document.querySelector('[data-pair=\"en>es\"].room')?.textContent) > 0")
        await seen.page.until("Boolean(document.querySelector('[data-pair=\"en>sw\"].full .waits'))")
        # Which nodes fail, and why?
        await seen.reads("#failing li", "short-of-speecha service does not run")
        await seen.reads("#failing li", "gone-homeconnection lost")
        await seen.reads("[data-gauge=nodes_ready]", "of 8 connected")
        await seen.reads("#outcomes li", "translated")
        await seen.reads("#stages [data-stage=total]", "ms")
        # All of it by push: nothing was loaded again.
        await seen.page.run("window.mark = true")
        async with daemon.client(src_lang="en", tgt_lang="yo") as client:
            await client.speak()
            await seen.reads("#waiting li", "en → yo")
        assert await seen.page.run("window.mark")
        seen.quiet()


async def test_names_of_strangers_are_only_text(look: Look, daemon: DaemonProcess) -> None:
    async with look(fleet=True) as seen, daemon.client(src_lang=EVIL, tgt_lang=EVIL) as client:
        await client.speak()
        for name in NAMES:
            await seen.open(name)
            if name in ("dashboard", "compute-power", "cluster"):
                for part in await seen.page.run(
                    "[...document.querySelectorAll('section')].map((one) => one.id)"
                ):
                    await seen.scroll_to(f"#{part}")
                await seen.reads("button.link", EVIL)
            assert (
                await seen.page.run("document.querySelectorAll('main img, main script, main iframe').length")
                == 0
            )
        await seen.open("dashboard")
        await seen.scroll_to("#nodes")
        await seen.press(EVIL, "#nodes")
        await seen.reads("#node h2", EVIL)
        await seen.reads("#node .facts-list", "<script>")
        await seen.click("#node .head button")
        # Where its sentences went, and why
        await seen.go(f"dashboard?trace={client.session_id}")
        await seen.reads(".utterance", "#0")
        await seen.click(".utterance summary")
        await seen.press("Why this node?")
        await seen.reads(".explain td", EVIL)
        assert await seen.page.run("typeof window.hacked") == "undefined"
        seen.quiet("status of 503")


async def test_a_conversation_as_a_waterfall(look: Look, daemon: DaemonProcess) -> None:
    async with look() as seen, daemon.working_node() as node, daemon.client() as client:
        for _ in range(3):
            await client.speak()
            result = await client.result()
        await seen.open("dashboard")
        await seen.write("#trace-id", client.session_id)
        await seen.press("Show")
        await seen.reads("#utterances", "3 sentences")
        # What was said last is what one looks for.
        assert [text[:2] for text in await seen.texts(".utterance .name")] == ["#2", "#1", "#0"]
        lanes = """[...document.querySelectorAll(".utterance .lane")]
            .map((one) => one.querySelectorAll("[data-stage]").length)"""
        assert await seen.page.run(lanes) == [5, 5, 5]
        widths = await seen.page.run(
            """[...document.querySelector(".utterance .lane").children]
                .map((one) => parseFloat(one.style.width))"""
        )
        assert all(0 <= width <= 100 for width in widths)
        assert sum(widths[:-1]) <= 100.5
        await seen.click(".utterance summary")
        await seen.reads(".utterance .lines", node.id)
        await seen.reads(".utterance dd", "the speaker")
        await seen.press("Why this node?")
        await seen.reads(".explain td", "would be chosen")
        # Its address finds it again, and so do the ids of a sentence and of a trace.
        address = await seen.page.run("location.search")
        assert address == f"?trace={client.session_id}"
        for name in (result["trace_id"], f"{client.session_id}:1"):
            await seen.go(f"dashboard?trace={name}")
            await seen.reads(".utterance", "en → es")
        await seen.go("dashboard?trace=nonsense")
        await seen.reads("#trace [role=alert]", "is known")
        seen.quiet("status of 404")


async def test_an_operators_word_about_a_node(look: Look, daemon: DaemonProcess) -> None:
    token = await admin_token(daemon)
    async with look() as seen, daemon.node(node_id="worker-7") as node:
        await seen.open("dashboard")
        await seen.scroll_to("#nodes")
        await seen.press("worker-7", "#nodes")
        await seen.press("Give no more work", "#node")
        await seen.give_token("wrong")
        await seen.reads("#token-problem", "This is not the admin token.")
        await seen.give_token(token)
        await seen.reads("#toast", "worker-7 gets no new jobs")
        await seen.reads("#node .head .pill", "no new work")
        known = await daemon.ask("GET", "/api/v1/nodes/worker-7")
        assert (known["status"], known["override"]["said"]) == ("draining", {"drain": True})
        # It is asked for once, and what is emptied is taken back.
        await seen.write("#said-cap", "2")
        await seen.write("#said-note", EVIL)
        await seen.press("Save", "#node")
        await seen.reads("#toast", "Saved for worker-7")
        assert (await daemon.ask("GET", "/api/v1/nodes/worker-7"))["override"]["said"] == {
            "drain": True,
            "cap": 2,
            "note": EVIL,
        }
        await seen.write("#said-cap", "")
        await seen.press("Save", "#node")
        await seen.page.until("!document.getElementById('toast').textContent.includes('gets no')")
        await seen.press("Give work again", "#node")
        await seen.reads("#toast", "worker-7 gets work again")
        said = (await daemon.ask("GET", "/api/v1/nodes/worker-7"))["override"]["said"]
        assert said == {"note": EVIL}
        await seen.write("#said-cap", "65")
        await seen.page.run("document.querySelector('#node form').noValidate = true")
        await seen.press("Save", "#node")
        await seen.reads("#node [role=alert]", "a whole number from 1 to 64")
        assert node.connected
        stored = await seen.page.run(
            "JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie])"
        )
        assert token not in stored
        seen.quiet("status of 401", "status of 400")


async def test_tables_filter_sort_and_are_taken_along(look: Look, daemon: DaemonProcess) -> None:
    formula = "=cmd|' /C calc'!A0"
    async with (
        look() as seen,
        daemon.node(node_id=formula),
        daemon.node(node_id='two, "b"'),
        daemon.node(node_id="c"),
    ):
        await seen.open("dashboard")
        await seen.scroll_to("#nodes")
        await seen.reads("#nodes td", formula)
        rows = "[...document.querySelectorAll('#nodes tbody tr')].map((one) => one.cells[0].textContent)"
        first = await seen.page.run(rows)
        assert {formula, 'two, "b"', "c"} <= set(first)
        await seen.press("Node", "#nodes")
        assert await seen.page.run(rows) == first[::-1]
        assert await seen.page.run("document.querySelector('#nodes th').ariaSort") == "descending"
        await seen.catch_files()
        await seen.press("CSV", "#nodes")
        text = await seen.file()
        assert text.startswith("\ufeff")
        table = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))
        assert {f"'{formula}", 'two, "b"', "c"} <= {row["node"] for row in table}
        assert {row["slots"] for row in table} == {"0"}
        await seen.write("#nodes input", 'TWO "b"')
        await seen.reads("#nodes .tools", "1 of ")
        assert await seen.page.run(rows) == ['two, "b"']
        await seen.page.run("delete window.given")
        await seen.press("JSON", "#nodes")
        assert [row["node_id"] for row in json.loads(await seen.file())] == ['two, "b"']
        seen.quiet()


async def test_a_pause(look: Look, daemon: DaemonProcess) -> None:
    async with look() as seen:
        await seen.open("dashboard")
        await seen.click("#pause")
        await seen.reads("#news", "Paused")
        with trio.fail_after(TEST_S):
            while "linguad_live_listeners 0.0" not in (await daemon.get("/metrics"))[1]:  # noqa: ASYNC110
                await trio.sleep(0.1)
        value = "[data-gauge=sessions] .value"
        (before,) = await seen.texts(value)
        async with daemon.client(), daemon.client():
            await seen.page.run("new Promise((resolve) => setTimeout(resolve, 2500))")
            assert await seen.texts(value) == [before]
            await seen.click("#pause")
            await seen.reads("#news", "Live")
            await seen.page.until(f"document.querySelector('{value}').textContent !== '{before}'")
        seen.quiet()


async def test_a_cut_line(look: Look, daemon: DaemonProcess) -> None:
    async with trio.open_nursery() as nursery:
        line = Line(await daemon.port())
        port = await nursery.start(line.run)
        async with look(port=port) as seen:
            await seen.open("dashboard")
            line.cut()
            await seen.reads("#news", "Not current")
            line.mend()
            await seen.reads("#news", "Live")
        nursery.cancel_scope.cancel()


async def test_the_pictures(look: Look) -> None:
    async with look() as seen:
        await seen.open("dashboard")
        await seen.page.run(
            """import("/pages/operate/charts.js").then(({ LineChart }) => {
                const chart = new LineChart();
                document.querySelector("main").replaceChildren(chart.element);
                chart.set({
                    label: "Load", times: [10, 20, 30],
                    clock: (time) => `t${time}`, number: (value) => `n${value}`,
                    series: [{ name: "one", values: [0, 7, 3] }, { name: "two", values: [1, 1, 1] }],
                });
            })"""
        )
        assert await seen.texts(".readout") == ["t30one n3two n1"]
        assert await seen.texts(".line-chart .tick") == ["n0", "n5", "n10", "t10", "t20", "t30"]
        await seen.page.run("document.querySelector('.line-chart svg').focus()")
        key = {"key": "ArrowLeft", "code": "ArrowLeft", "windowsVirtualKeyCode": 37}
        for _ in range(2):
            await seen.page.command("Input.dispatchKeyEvent", type="rawKeyDown", **key)
        assert await seen.texts(".readout") == ["t20one n7two n1"]
        path = await seen.page.run("document.querySelector('.line.s0').getAttribute('d')")
        heights = [float(point.split()[1]) for point in path.removeprefix("M").split("L")]
        assert heights[1] < heights[2] < heights[0]
        seen.quiet()


@pytest.mark.parametrize("width", [1400, 390])
async def test_nothing_jumps_when_the_numbers_come(width: int, look: Look) -> None:
    async with look(fleet=True) as seen:
        await seen.page.command("Page.enable")
        await seen.page.command(
            "Page.addScriptToEvaluateOnNewDocument",
            source="""window.jumps = 0;
                new PerformanceObserver((list) => {
                    for (const one of list.getEntries()) window.jumps += one.value;
                }).observe({ type: "layout-shift", buffered: true });""",
        )
        await seen.page.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        for name in NAMES:
            await seen.open(name)
            # Below 0.1 it is not felt, says who defined it.
            assert await seen.page.run("window.jumps") < 0.1, name
        seen.quiet("status of 503")


async def test_models_with_channels_and_ranking(look: Look, daemon: DaemonProcess) -> None:
    event = {"event_id": "e-1", "type": "request", "model_id": "whisper-test", "count": 42, "at": 0.0}
    async with look() as seen, daemon.node(installed_models=[{"model_id": "whisper-test", "kind": "asr"}]):
        hub = (await daemon.event("listening", door="hub"))["port"]
        await post(
            hub,
            "/api/model-usage/events",
            {"events": [event | {"at": await seen.page.run("Date.now() / 1000")}]},
        )
        await seen.open("models")
        await seen.reads("#hub td", "whisper-test")
        await seen.reads("#hub .pill", "default 1.0.0")
        await seen.reads("#hub .pill", "beta 1.2.0")
        await seen.reads("#ranking li", "whisper-test42")
        seen.quiet()


async def post(port: int, path: str, said: Any) -> None:
    """Send JSON to another port of the daemon; it must be taken."""
    body = json.dumps(said).encode()
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        lines = [f"POST {path} HTTP/1.1", "Host: hub", "Content-Type: application/json", "Connection: close"]
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
        await stream.send_all(head.encode() + body)
        answer = b"".join([part async for part in stream])
    assert answer.startswith(b"HTTP/1.1 202"), answer


async def test_languages(look: Look, daemon: DaemonProcess) -> None:
    async with look() as seen, daemon.node(), daemon.client(src_lang="en", tgt_lang="zh"):
        await seen.open("languages")
        await seen.reads("#pairs td", "Spanish (es)")
        await seen.reads("#use td", "Chinese (zh)")
        await seen.reads("#top li", "English (en)1")
        await seen.page.until("Boolean(document.querySelector('[data-pair=\"en>zh\"]'))")
        seen.quiet()


async def test_numbers_that_are_old_say_so(look: Look) -> None:
    async with look() as seen:
        await seen.go("languages")
        age = await seen.page.run(
            """import("/pages/operate/api.js").then(async ({ get }) => {
                let age = "fresh";
                await get("/api/v1/stats", (ms) => { age = ms; });
                const real = window.fetch;
                const headers = { "X-Snapshot-Stale": "true", "X-Snapshot-Age-Ms": "12000" };
                window.fetch = async (...asked) =>
                    new Response(await (await real(...asked)).text(), { headers });
                const before = age;
                await get("/api/v1/stats", (ms) => { age = ms; });
                return [before, age];
            })"""
        )
        assert age == ["fresh", 12000]
        await seen.reads("#use .old", "Counted 12 s ago")
        seen.quiet()


async def test_in_chinese(look: Look, daemon: DaemonProcess) -> None:
    async with look("--accept-lang=zh-CN", fleet=True) as seen:
        for name in NAMES:
            await seen.open(name)
            await trio.sleep(1)
            found = await seen.page.run(
                "[...document.querySelectorAll('h1, h2, h3, dt, label, nav a, th button')]"
                ".filter((one) => one.checkVisibility()).map((one) => one.textContent)"
            )
            assert found
            latin = [text for text in found if not re.search(r"[一-鿿]", text)]
            assert latin == [], name
        await seen.open("dashboard")
        await seen.reads("#health h1", "空等")
        await seen.click("[data-language-switch]")
        await seen.reads("#health h1", "wait in vain")
        await seen.reads("#waiting .pill", "no node can do it")
        assert await seen.page.run("document.title") == "Dashboard · Lingua"
        seen.quiet("status of 503")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nobody_is_kept_out(scheme: str, look: Look, daemon: DaemonProcess) -> None:
    async with look(fleet=True) as seen, daemon.client(src_lang="en", tgt_lang="es") as client:
        await client.speak()
        await client.result()
        await wish(seen.page, scheme)
        for name in NAMES:
            await seen.open(name)
            await seen.page.command(
                "Emulation.setDeviceMetricsOverride",
                width=1400,
                height=3000,
                deviceScaleFactor=1,
                mobile=False,
            )
            await trio.sleep(1.5)
            assert await barriers(seen.page) == [], name
            await seen.page.command(
                "Emulation.setDeviceMetricsOverride", width=360, height=3000, deviceScaleFactor=1, mobile=True
            )
            assert await seen.page.run("document.documentElement.scrollWidth") == 360, name
            assert await barriers(seen.page) == [], name
        await seen.go(f"dashboard?trace={client.session_id}")
        await seen.click(".utterance summary")
        await seen.press("Why this node?")
        await seen.reads(".explain td", "gpu-1")
        assert await barriers(seen.page) == []
        await seen.press("gpu-1", ".explain")
        await seen.reads("#node dt", "heartbeat")
        assert await barriers(seen.page) == []
        await seen.press("Give no more work", "#node")
        await seen.page.until("document.getElementById('token').open")
        assert await barriers(seen.page) == []
        seen.quiet("status of 503")
