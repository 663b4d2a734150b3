"""The pages of operators in the hands of one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from browser import Page, browser
from processes import DaemonProcess

NAMES = ("dashboard", "cluster", "compute-power", "models", "languages")
"""All of them."""

AWAY = {"X-Forwarded-For": "198.51.100.7"}
"""What makes a browser on this machine one on another: it came through a proxy."""


class Looker:
    """Somebody before a browser; `port` is that of the daemon."""

    def __init__(self, page: Page, port: int) -> None:
        self.page = page
        self.port = port

    async def open(self, path: str) -> None:
        """Load a page of operators, until its parts are there and the first numbers have come."""
        await self.go(path)
        await self.page.until("document.body.dataset.ready === ''")
        await self.page.until("document.getElementById('news').dataset.news === 'live'")

    async def go(self, path: str) -> None:
        """Load any page."""
        await self.page.go(f"http://127.0.0.1:{self.port}/{path}")

    async def scroll_to(self, selector: str) -> None:
        """Have an element in sight; parts out of sight are not asked for."""
        await self.page.run(f"document.querySelector({json.dumps(selector)}).scrollIntoView()")

    async def click(self, selector: str) -> None:
        """Press a button, as soon as it is there."""
        await self.page.until(f"Boolean(document.querySelector({json.dumps(selector)}))")
        await self.page.run(f"document.querySelector({json.dumps(selector)}).click()")

    async def press(self, text: str, within: str = "body") -> None:
        """Press the button that says so."""
        found = f"""[...document.querySelectorAll({json.dumps(f"{within} button")})]
            .find((one) => one.checkVisibility() && one.textContent === {json.dumps(text)})"""
        await self.page.until(f"Boolean({found})")
        await self.page.run(f"{found}.click()")

    async def write(self, selector: str, text: str) -> None:
        """Fill in a field."""
        await self.page.run(
            f"""(() => {{
                const field = document.querySelector({json.dumps(selector)});
                field.value = {json.dumps(text)};
                field.dispatchEvent(new Event("input", {{ bubbles: true }}));
            }})()"""
        )

    async def reads(self, selector: str, text: str) -> None:
        """Wait until one of these, in sight of who scrolls, has this in it."""
        await self.page.until(
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            f".some((one) => one.checkVisibility() && one.textContent.includes({json.dumps(text)}))"
        )

    async def texts(self, selector: str) -> list[str]:
        """What all of these say."""
        found: list[str] = await self.page.run(
            f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.textContent)"
        )
        return found

    async def give_token(self, token: str) -> None:
        """Type it into the dialog that asks for it."""
        await self.page.until("document.getElementById('token').open")
        await self.write("#token-field", token)
        await self.press("Go on", "#token")

    async def from_elsewhere(self) -> None:
        """From now on it is a browser on another machine."""
        await self.page.command("Network.enable")
        await self.page.command("Network.setExtraHTTPHeaders", headers=AWAY)

    async def catch_files(self) -> None:
        """Keep what the page gives to be saved, for `file`."""
        await self.page.run(
            """(() => {
                const make = URL.createObjectURL;
                URL.createObjectURL = (blob) => { window.given = blob; return make(blob); };
            })()"""
        )

    async def file(self) -> str:
        """What was given to be saved last, with its mark of UTF-8 if it has one."""
        await self.page.until("Boolean(window.given)")
        text: str = await self.page.run(
            """window.given.arrayBuffer().then((data) =>
                new TextDecoder("utf-8", { ignoreBOM: true }).decode(data))"""
        )
        return text

    def quiet(self, *but: str) -> None:
        """Assert that neither script nor policy complained; answers with errors of `but` were wanted."""
        assert [line for line in self.page.console if not any(one in line for one in but)] == []


@asynccontextmanager
async def looker(home: Path, port: int, *words: str) -> AsyncIterator[Looker]:
    """A browser of an operator; more words are on its command line."""
    await trio.Path(home).mkdir(exist_ok=True)
    async with browser(home, *words) as page:
        await page.command(
            "Emulation.setDeviceMetricsOverride", width=1400, height=1000, deviceScaleFactor=1, mobile=False
        )
        yield Looker(page, port)


async def admin_token(daemon: DaemonProcess) -> str:
    """The token that a daemon made for itself."""
    await daemon.port()
    return (await trio.Path(daemon.directory, "state", "admin_token").read_text()).strip()
