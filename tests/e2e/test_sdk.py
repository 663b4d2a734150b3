"""lingua.js in a real browser, through the real daemon: results, speech, a lost connection (promises)."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from browser import Page, browser
from conftest import Start
from processes import Api, DaemonProcess

SPEAK = """
window.speak = (session, pieces) => {
  const samples = new Int16Array(1600);
  for (let index = 0; index < samples.length; index++) samples[index] = 8000 * Math.sin(index / 5);
  for (let piece = 0; piece < pieces; piece++) session.sendAudioChunk(samples);
};
"""


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    """A page of a browser with a microphone that hears beeps, and no questions asked."""
    words = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    async with browser(tmp_path, *words, "--autoplay-policy=no-user-gesture-required") as opened:
        yield opened


async def ticket_of(api: Api) -> str:
    reply = await api.call("POST", "/v1/stream/tickets", {})
    ticket: str = reply.json["ticket"]
    return ticket


async def begin(page: Page, daemon: DaemonProcess) -> Api:
    """Load the module into a page of the daemon's own."""
    api = await daemon.gateway()
    await page.go(f"http://127.0.0.1:{api.port}/sdk/example.html")
    await page.run("import('/sdk/lingua.js').then((module) => { window.lingua = module; })")
    await page.run(SPEAK)
    return api


async def test_a_session_in_a_browser(page: Page, start: Start) -> None:
    daemon = start()
    api = await begin(page, daemon)
    async with daemon.working_node():
        ticket = json.dumps(await ticket_of(api))
        results = await page.run(f"""(async () => {{
            const session = await lingua.startSession({{ ticket: {ticket}, from: "en", to: "es" }});
            const results = [], partials = [];
            session.onResult((result) => results.push(result));
            for (let utterance = 0; utterance < 3; utterance++) {{
                speak(session, 10);
                session.endUtterance();
            }}
            await session.close();
            const played = await lingua.play(results[0]);
            return results.map(({{ index, text, textAsr, audio, audioFormat, sampleRate }}) =>
                ({{ index, text, textAsr, bytes: audio.length, audioFormat, sampleRate }}));
        }})()""")
    assert [(result["index"], result["text"], result["textAsr"]) for result in results] == [
        (index, f"oído {index}", f"heard {index}") for index in range(3)
    ]
    assert {(result["audioFormat"], result["sampleRate"]) for result in results} == {("wav", 16000)}
    assert all(result["bytes"] > 44 for result in results)
    assert [line for line in page.console if not line.startswith("log")] == []


async def test_a_lost_connection_is_replaced_and_nothing_is_lost(page: Page, start: Start) -> None:
    daemon = start()
    api = await begin(page, daemon)
    tickets = json.dumps([await ticket_of(api) for _ in range(3)])
    async with daemon.node() as node, trio.open_nursery() as nursery:
        await page.run(f"""(async () => {{
            const tickets = {tickets};
            window.session = await lingua.startSession({{
                ticket: async () => tickets.shift(), from: "en", to: "es", start: {{ tts: false }},
            }});
            window.states = []; window.results = [];
            session.onState((state) => states.push(state));
            session.onResult((result) => results.push(result.textAsr));
            speak(session, 10); session.endUtterance();
        }})()""")
        await node.answer(await node.job(), text_asr="first")
        await page.until("results.length === 1")
        await page.run("speak(session, 12); session.endUtterance()")
        lost = await node.job()
        await page.run("session._socket.close()")
        assert (await node.until("job_cancel"))["job_id"] == lost["job_id"]
        again = await node.job()
        assert again["audio"] == lost["audio"], "what had no answer is said again, and nothing else"
        await node.answer(again, text_asr="second")
        await page.until("results.length === 2")
        nursery.start_soon(node.work)
        await page.run("session.close()")
        assert await page.run("results") == ["first", "second"]
        assert await page.run("states") == ["reconnecting", "open", "closed"]
        nursery.cancel_scope.cancel()


async def test_the_example_page(page: Page, start: Start) -> None:
    """With the browser's microphone, which beeps once a second."""
    daemon = start(sessions={"max_duration_ms": 2000})
    api = await begin(page, daemon)
    async with daemon.working_node():
        await page.run(f"document.querySelector('[name=ticket]').value = {json.dumps(await ticket_of(api))}")
        await page.run("document.getElementById('talk').click()")
        await page.until("document.querySelectorAll('#results li').length >= 2")
        if os.environ.get("SCREENSHOTS"):
            await page.screenshot(Path(os.environ["SCREENSHOTS"]) / "sdk.png")
        assert await page.run("document.querySelector('#results li').textContent") == "heard 0 → oído 0"
        await page.run("document.getElementById('stop').click()")
        await page.until("!document.getElementById('talk').disabled")
    assert [line for line in page.console if not line.startswith("log")] == []


async def test_a_ticket_that_is_used_up(page: Page, start: Start) -> None:
    await begin(page, start())
    code = await page.run("""lingua.startSession({ ticket: "tk_nothing", from: "en", to: "es" })
        .then(() => "opened", (error) => [error.name, error.code])""")
    assert code == ["LinguaError", "connection_lost"]
