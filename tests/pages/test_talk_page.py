"""`/app` in a real browser whose microphone plays a recording, through the real daemon.

The first tests have the real node with PocketSphinx, Apertium and eSpeak NG; the others one that answers what
it is told.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import trio
from accessibility import barriers, wish
from browser import Page, browser
from harness import Json, Node
from line import Line
from processes import DaemonProcess, Process, clean_environment, command

SOUNDS = Path(__file__).parents[2] / "demo" / "audio"
HEARD, MEANT = "the weather is nice and the sun is shining", "El tiempo es bueno y el sol está brillando"

PATIENCE_S = 240.0
"""For a whole test that needs a browser, s."""

SPACE = {"key": " ", "code": "Space", "windowsVirtualKeyCode": 32}
TAB = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
ENTER = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}

EVIL = "<img src=nowhere onerror='window.hacked = true'>"


@pytest.fixture(autouse=True)
async def patience() -> AsyncIterator[None]:
    """No test waits for ever."""
    with trio.fail_after(PATIENCE_S):
        yield


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence, and a pause behind it, which the microphone plays again and again."""
    sound, rate = soundfile.read(SOUNDS / "weather.wav")
    path = tmp_path_factory.mktemp("microphone") / "sentence.wav"
    quiet = np.zeros(rate // 2)
    soundfile.write(path, np.concatenate([quiet, sound, quiet, quiet, quiet, quiet]), rate, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon whose nodes each test brings along."""
    running = DaemonProcess(tmp_path_factory.mktemp("daemon"))
    try:
        running.wait_for("started")
        yield running
    finally:
        running.clear_away()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon and a node with all engines of this machine."""
    directory = tmp_path_factory.mktemp("network")
    running = DaemonProcess(directory)
    url = f"ws://127.0.0.1:{running.wait_for('started')['port']}/ws/node"
    node = Process(command("node", "--server", url), clean_environment(), directory)
    try:
        running.wait_for("node_registered")
        yield running
        node.signal(signal.SIGTERM)
        assert (node.wait(), node.complaints) == (0, [])
    finally:
        node.clear_away()
        running.clear_away()


class Talk:
    """The page in the hands of a person."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def click(self, selector: str) -> None:
        """Press a button."""
        await self.page.run(f"document.querySelector({json.dumps(selector)}).click()")

    async def choose(self, selector: str, value: str) -> None:
        """Fill in a field, or choose from a list."""
        await self.page.run(
            f"""(() => {{
                const field = document.querySelector({json.dumps(selector)});
                field.value = {json.dumps(value)};
                field.dispatchEvent(new Event("change"));
            }})()"""
        )

    async def reads(self, selector: str, text: str) -> None:
        """Wait until one of these says so."""
        await self.page.until(
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            f".some((one) => one.checkVisibility() && one.textContent === {json.dumps(text)})"
        )

    async def was_told(self, text: str) -> None:
        """Wait until this was the news, which may be hidden again by now."""
        await self.page.until(f"document.getElementById('notice').textContent === {json.dumps(text)}")

    async def text(self, selector: str) -> list[str]:
        """What all of these say."""
        found: list[str] = await self.page.run(
            f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.textContent)"
        )
        return found

    async def ready(self) -> None:
        """Wait until speaking is possible."""
        await self.page.until("!document.getElementById('microphone').disabled")

    async def key(self, key: Json, *, down: bool = True, up: bool = True) -> None:
        """Press a key, or only do half of that."""
        if down:
            kind = "keyDown" if "text" in key else "rawKeyDown"
            await self.page.command("Input.dispatchKeyEvent", type=kind, **key)
        if up:
            await self.page.command("Input.dispatchKeyEvent", type="keyUp", **key)

    async def tab_to(self, element: str) -> None:
        """Go with the Tab key to the element of an id."""
        for _ in range(20):
            await self.key(TAB)
            if await self.page.run("document.activeElement.id") == element:
                return
        raise AssertionError(f"{element} is not reached with the Tab key")

    def quiet(self) -> None:
        """Assert that neither script nor policy complained."""
        # Browsers write lines about connections that were cut themselves.
        lines = [line for line in self.page.console if "WebSocket connection" not in line]
        assert [line for line in lines if "net::ERR_" not in line] == []


@pytest.fixture
def someone(tmp_path: Path, recording: Path) -> Any:
    """Opens a page with a microphone: `async with someone(port) as talk`; more words are the browser's."""
    opened = 0

    @asynccontextmanager
    async def begin(
        port: int, *words: str, path: str = "/app", host: str = "127.0.0.1"
    ) -> AsyncIterator[Talk]:
        nonlocal opened
        opened += 1
        home = tmp_path / f"person-{opened}"
        home.mkdir()
        microphone = (
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
            f"--use-file-for-fake-audio-capture={recording}",
        )
        async with browser(home, *microphone, *words) as page:
            await page.go(f"http://{host}:{port}{path}")
            yield Talk(page)

    return begin


async def test_a_sentence_is_read_and_heard(network: DaemonProcess, someone: Any) -> None:
    async with someone(await network.port()) as talk:
        await talk.ready()
        assert await talk.page.run("[document.getElementById('spoken').value, wanted.value]") == ["en", "es"]
        await talk.click("#microphone")
        await talk.reads(".mine .meant", MEANT)
        await talk.reads(".mine .said", HEARD)
        # Opus of the node, decoded and played to its end
        await talk.page.until("document.getElementById('talk').dataset.played >= 1")
        await talk.click("#microphone")
        assert await talk.page.run("document.getElementById('microphone').ariaPressed") == "false"
        assert await talk.page.run("document.querySelector('.meant').lang") == "es"
        stages = await talk.page.run(
            "[...document.querySelectorAll('.utterance:first-child dl div')].map((one) => one.dataset.stage)"
        )
        assert {"asr", "nmt", "tts"} <= set(stages)
        played = await talk.page.run("Number(document.getElementById('talk').dataset.played)")
        await talk.click(".replay")
        await talk.page.until(f"document.getElementById('talk').dataset.played > {played}")
        talk.quiet()


async def test_what_nobody_serves_is_grey(network: DaemonProcess, someone: Any) -> None:
    async with someone(await network.port()) as talk:
        await talk.ready()
        await talk.page.run("localStorage.setItem('linguad.wanted', 'ja')")
        await talk.page.command("Page.reload")
        await talk.reads(
            "#notice",
            "Nobody translates English to Japanese at the moment. Choose another language, or wait.",
        )
        assert await talk.page.run("document.querySelector('#wanted [value=ja]').disabled")
        assert await talk.page.run("document.getElementById('microphone').disabled")
        await talk.choose("#wanted", "es")
        await talk.ready()
        await talk.was_told("English to Spanish can be translated again.")
        talk.quiet()


async def test_the_page_notices_when_a_node_comes(daemon: DaemonProcess, someone: Any) -> None:
    async with someone(await daemon.port()) as talk:
        await talk.reads("#notice", "No translator is connected yet. This page notices when one comes.")
        assert await talk.page.run("document.getElementById('microphone').disabled")
        async with daemon.node():
            await talk.ready()
            assert await talk.page.run("document.getElementById('notice').hidden")
        talk.quiet()


async def test_a_browser_whose_sound_does_not_start_says_so(daemon: DaemonProcess, someone: Any) -> None:
    async with daemon.node(), someone(await daemon.port()) as talk:
        await talk.ready()
        # Firefox does so on a machine without a loudspeaker.
        await talk.page.run(
            """(() => {
                AudioContext.prototype.resume = () => new Promise(() => {});
                Object.defineProperty(AudioContext.prototype, "state", { value: "suspended" });
            })()"""
        )
        await talk.click("#microphone")
        await talk.reads(
            "#notice",
            "The browser does not start its sound: connect a loudspeaker or headphones and press again.",
        )
        assert await talk.page.run("document.getElementById('microphone').ariaPressed") == "false"
        talk.quiet()


async def test_a_room_by_link(daemon: DaemonProcess, someone: Any) -> None:
    port = await daemon.port()
    async with daemon.working_node(), someone(port) as mina:
        await mina.ready()
        await mina.click("#with-others")
        await mina.choose("#name", EVIL)
        await mina.click("#create")
        await mina.page.until("document.getElementById('room').checkVisibility()")
        link = await mina.page.run("location.pathname + location.search")
        assert re.fullmatch(r"/app\?room=\d{6}", link)
        async with someone(port, path=link) as olek:
            await olek.ready()
            code = link[-6:]
            await olek.reads("#door-title", f"Join room {code[:3]} {code[3:]}")
            await olek.choose("#name", "Olek")
            await olek.choose("#hears", "es")
            await olek.click("#enter")
            await olek.reads("#members li", f"{EVIL} hears English")
            await mina.reads("#members li", "Olek hears Spanish")
            await mina.click("#microphone")
            await mina.reads(".mine .meant", "oído 0")
            await olek.reads(".theirs .meant", "oído 0")
            assert (await olek.text(".theirs .who"))[0] == EVIL
            await olek.page.until("document.getElementById('talk').dataset.played >= 1")
            await mina.click("#microphone")
            await olek.click("#microphone")
            await mina.reads(".theirs .who", "Olek")
            await olek.click("#leave")
            await mina.reads("#members li", "Send the link to the people you want to talk with.")
            assert await olek.page.run("location.search") == ""
            olek.quiet()
        assert await mina.page.run("window.hacked") is None
        mina.quiet()


async def test_a_link_to_a_room_that_is_gone(daemon: DaemonProcess, someone: Any) -> None:
    async with daemon.node(), someone(await daemon.port(), path="/app?room=100000") as talk:
        await talk.ready()
        await talk.click("#enter")
        await talk.reads("#door-problem", "There is no room with this code any more.")
        await talk.reads("#door-title", "Talk with others")
        talk.quiet()


async def test_the_link_is_copied(daemon: DaemonProcess, someone: Any) -> None:
    async with daemon.node(), someone(await daemon.port()) as talk:
        await talk.ready()
        permissions = ["clipboardReadWrite", "clipboardSanitizedWrite", "audioCapture"]
        await talk.page.command("Browser.grantPermissions", permissions=permissions)
        # Only the page that is looked at may use the clipboard.
        await talk.page.command("Emulation.setFocusEmulationEnabled", enabled=True)
        await talk.click("#with-others")
        await talk.click("#create")
        await talk.page.until("document.getElementById('room').checkVisibility()")
        await talk.click("#copy-link")
        await talk.reads("#copy-link", "Link copied")
        assert await talk.page.run("navigator.clipboard.readText()") == await talk.page.run("location.href")
        talk.quiet()


async def test_a_cut_line_is_mended_and_nothing_is_lost(daemon: DaemonProcess, someone: Any) -> None:
    line = Line(await daemon.port())
    async with daemon.node() as node, trio.open_nursery() as nursery:
        port = await nursery.start(line.run)
        async with someone(port) as talk:
            await talk.ready()
            await talk.click("#microphone")
            lost = await node.job()
            line.cut()
            await talk.reads(
                "#notice", "The connection was lost; trying again. What you say meanwhile is kept."
            )
            await node.answer(lost, text_translated="said while you were away")
            line.mend()
            await talk.was_told("Connected again.")
            await talk.reads(".meant", "said while you were away")
            await node.answer(await node.job(), text_translated="said after that")
            await talk.reads(".meant", "said after that")
            await talk.click("#microphone")
            said = await talk.text(".meant")
            assert said.count("said while you were away") == 1
            assert await talk.page.run("document.body.dataset.session") == "open"
            talk.quiet()
        nursery.cancel_scope.cancel()


async def test_another_daemon_goes_on(tmp_path: Path, someone: Any) -> None:
    """It knows nothing of the session, so what had no result is said again to a new one."""
    homes = [tmp_path / name for name in ("first", "second")]
    for home in homes:
        home.mkdir()
    first = DaemonProcess(homes[0])
    second = None
    try:
        port = await first.port()
        async with first.node() as node, someone(port) as talk:
            await talk.ready()
            await talk.click("#microphone")
            job = await node.job()
            await talk.click("#microphone")
            first.signal(signal.SIGKILL)
            await first.ended()
            second = DaemonProcess(homes[1], server={"port": port})
            await second.port()
            async with second.node() as other:
                again = await other.job()
                assert again["audio"] == job["audio"]
                await other.answer(again)
                await talk.reads(".meant", "oído 0")
            assert len(await talk.text(".utterance")) == 1
            talk.quiet()
    finally:
        first.clear_away()
        if second is not None:
            second.clear_away()


async def test_with_the_keyboard_alone(daemon: DaemonProcess, someone: Any) -> None:
    pressed = "document.getElementById('microphone').ariaPressed"
    async with daemon.working_node(), someone(await daemon.port()) as talk:
        await talk.ready()
        # from the top, a short press of the space bar listens until the next one
        await talk.key(SPACE)
        await talk.page.until(f"{pressed} === 'true'")
        await talk.reads(".meant", "oído 0")
        await talk.key(SPACE)
        await talk.page.until(f"{pressed} === 'false'")
        # a long one ends where it is let go
        results = await talk.page.run("document.getElementById('talk').dataset.results")
        await talk.key(SPACE, up=False)
        await talk.reads("#hint", "Listening. Let go when you have finished.")
        await trio.sleep(1.5)
        await talk.key(SPACE, down=False)
        await talk.page.until(f"{pressed} === 'false'")
        await talk.page.until(f"document.getElementById('talk').dataset.results > {results}")
        # every control is reached, and Enter presses it
        for element in ("with-others", "spoken", "swap", "wanted", "sound", "microphone"):
            await talk.tab_to(element)
        await talk.key(ENTER)
        await talk.page.until(f"{pressed} === 'true'")
        await talk.key(SPACE)
        await talk.page.until(f"{pressed} === 'false'")
        await talk.tab_to("with-others")
        await talk.key(ENTER)
        await talk.page.until("document.activeElement.id === 'name'")
        await talk.key(SPACE)
        assert await talk.page.run(pressed) == "false", "a space in a name is not speech"
        talk.quiet()


async def test_sound_can_be_switched_off(daemon: DaemonProcess, someone: Any) -> None:
    async with daemon.working_node(), someone(await daemon.port()) as talk:
        await talk.ready()
        await talk.click("#sound")
        await talk.click("#microphone")
        await talk.reads(".meant", "oído 1")
        assert await talk.page.run("document.getElementById('talk').dataset.played") == "0"
        talk.quiet()


async def test_partial_texts_and_failures(daemon: DaemonProcess, someone: Any) -> None:
    async with daemon.node() as node, someone(await daemon.port()) as talk:
        await talk.ready()
        await talk.click("#microphone")
        job = await node.job()
        partial: Json = {
            "type": "asr_partial",
            "node_id": node.id,
            "is_final": False,
            **{name: job[name] for name in ("job_id", "session_id", "utterance_index", "trace_id")},
        }
        await node.say(partial | {"text": EVIL})
        await talk.reads(".waiting .said", EVIL)
        await talk.click("#microphone")
        await node.answer(job, text_asr="", text_translated="", tts_audio="", extra={"reason": "ASR_EMPTY"})
        await talk.page.until("document.querySelectorAll('.waiting').length === 0")
        assert await talk.page.run("window.hacked") is None
        await talk.click("#microphone")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(break_down, node)
            await talk.page.until("document.querySelector('.failed') !== null")
            nursery.cancel_scope.cancel()
        (why,) = await talk.text(".failed .meant")
        assert why.startswith("This sentence could not be translated: ")
        talk.quiet()


async def break_down(node: Node) -> None:
    """Fail in every job."""
    while True:
        await node.fail(await node.job())


async def test_plain_http_from_elsewhere(daemon: DaemonProcess, someone: Any) -> None:
    rule = "--host-resolver-rules=MAP talk.test 127.0.0.1"
    async with daemon.node(), someone(await daemon.port(), rule, host="talk.test") as talk:
        await talk.reads(
            "#hint",
            "Browsers give the microphone only to pages from https or localhost, so this address can only be "
            "read and listened to.",
        )
        assert await talk.page.run("document.getElementById('microphone').disabled")
        talk.quiet()


async def test_the_browsers_language_and_the_switch(daemon: DaemonProcess, someone: Any) -> None:
    async with daemon.node(), someone(await daemon.port(), "--accept-lang=zh-CN") as talk:
        await talk.ready()
        await talk.reads(".motto", "开口，即被理解。")
        assert await talk.page.run("document.documentElement.lang") == "zh-CN"
        assert await talk.page.run("spoken.selectedOptions[0].text") == "中文"
        await talk.click("[data-language-switch]")
        await talk.reads(".motto", "Speak, and be understood.")
        assert await talk.page.run("spoken.selectedOptions[0].text") == "Chinese"
        await talk.page.command("Page.reload")
        await talk.reads(".motto", "Speak, and be understood.")
        talk.quiet()


async def test_no_text_is_missing(daemon: DaemonProcess, someone: Any) -> None:
    async with someone(await daemon.port()) as talk:
        texts = await talk.page.run("import('/pages/app/texts.js').then((module) => module.TEXTS)")
    pages = files("linguad.pages")
    scripts = [one.read_text() for one in pages.joinpath("app").iterdir() if one.name.endswith(".js")]
    page = pages.joinpath("app.html").read_text()
    sources = "\n".join([page, *(one for one in scripts if "export const TEXTS" not in one)])
    assert set(texts) == {"en", "zh"}
    assert texts["en"].keys() == texts["zh"].keys()
    for key, english in texts["en"].items():
        holes, chinese = r"\{\w+\}", texts["zh"][key]
        assert sorted(re.findall(holes, english)) == sorted(re.findall(holes, chinese)), key
        assert re.search(r"[一-鿿]", chinese) or key == "title", key
        assert f'"{key}"' in sources or key.isupper(), f"nothing says {key}"
    used = re.findall(r'data-t(?:-\w+)?="(\w+)"', page)
    used += re.findall(r'(?:\bt|\.says?)\(\s*"(\w+)"', sources)
    used += re.findall(r'"((?:hint|microphone)[A-Z]\w+)"', sources)
    assert set(used) <= texts["en"].keys()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nobody_is_kept_out(scheme: str, daemon: DaemonProcess, someone: Any) -> None:
    async with daemon.working_node(), someone(await daemon.port()) as talk:
        await wish(talk.page, scheme)
        await talk.ready()
        assert await barriers(talk.page) == []
        await talk.click("#with-others")
        assert await barriers(talk.page) == []
        await talk.choose("#name", "Mina")
        await talk.click("#create")
        await talk.page.until("document.getElementById('room').checkVisibility()")
        await talk.click("#microphone")
        await talk.reads(".meant", "oído 0")
        await talk.click(".timing summary")
        assert await barriers(talk.page) == []
        await talk.page.command(
            "Emulation.setDeviceMetricsOverride", width=360, height=640, deviceScaleFactor=2, mobile=True
        )
        assert await barriers(talk.page) == []
        assert await talk.page.run("document.documentElement.scrollWidth") == 360
        talk.quiet()


async def test_barriers_are_found(daemon: DaemonProcess, someone: Any) -> None:
    async with someone(await daemon.port()) as talk:
        await talk.page.run("document.querySelector('main').append(document.createElement('input'))")
        (found,) = await barriers(talk.page)
        assert found.startswith("label: <input>")


async def test_how_pages_are_served(daemon: DaemonProcess) -> None:
    async with daemon.http() as http:
        status, page = await http.get("/app")
        assert status == 200
        assert re.findall(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", page) == []
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert loaded
        for path in loaded:
            assert (await http.get(path))[0] == 200
        for path in ("/pages/serving.py", "/pages/..%2fserving.py", "/pages/", "/pages/app"):
            assert (await http.get(path))[0] == 404
    scripts = {
        one.name: one.read_text()
        for one in files("linguad.pages").joinpath("app").iterdir()
        if "js" in one.name
    }
    for name, script in scripts.items():
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|https?://", script
        ), name
        assert len(script.splitlines()) <= 500, name


async def test_an_unchanged_page_is_not_sent_again(daemon: DaemonProcess, someone: Any) -> None:
    async with someone(await daemon.port()) as talk:
        answer = await talk.page.run(
            """fetch("/app", { cache: "no-store" }).then((answer) => Object.fromEntries(answer.headers))"""
        )
        assert "script-src 'self';" in answer["content-security-policy"]
        assert "unsafe" not in answer["content-security-policy"]
        assert answer["referrer-policy"] == "no-referrer"
        async with daemon.http() as http:
            assert await http.get("/app", **{"If-None-Match": answer["etag"]}) == (304, "")
            assert (await http.get("/app", **{"If-None-Match": '"other"'}))[0] == 200
