"""A real Chromium without a window, told what to do over its DevTools socket."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from base64 import b64decode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import trio
from patience import PATIENCE_S
from trio_websocket import WebSocketConnection, open_websocket_url

Json = dict[str, Any]


PROGRAMS = ("chromium", "chromium-browser", "google-chrome")

MAX_MESSAGE = 64 * 1024 * 1024
"""Screenshots are large."""


class Page:
    """One page; what it says on its console is kept."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self._socket = socket
        self._numbers = count(1)
        self.console: list[str] = []
        """Warnings, errors and logs of the page."""

    async def command(self, method: str, **params: Any) -> Json:
        """Send a DevTools command and return its result; events that come meanwhile are kept."""
        number = next(self._numbers)
        await self._socket.send_message(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(await self._socket.get_message())
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                result: Json = message["result"]
                return result
            self._note(message)

    async def go(self, url: str) -> None:
        """Load a page, and wait until its scripts ran."""
        await self.command("Page.enable")
        await self.command("Runtime.enable")
        await self.command("Log.enable")
        await self.command("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def run(self, script: str) -> Any:
        """The value of an expression; one that is a promise is waited for. Raises what it throws."""
        result = await self.command(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until an expression is true."""
        with trio.fail_after(PATIENCE_S):
            while not await self.run(condition):  # noqa: ASYNC110 - the page does not tell
                await trio.sleep(0.05)

    async def screenshot(self, path: Path) -> None:
        """Write what is to be seen as PNG."""
        shot = await self.command("Page.captureScreenshot", format="png")
        await trio.Path(path).write_bytes(b64decode(shot["data"]))

    def _note(self, message: Json) -> None:
        match message:
            case {"method": "Runtime.consoleAPICalled", "params": {"type": kind, "args": args}}:
                self.console.append(f"{kind}: {' '.join(str(arg.get('value', arg)) for arg in args)}")
            case {"method": "Runtime.exceptionThrown", "params": {"exceptionDetails": details}}:
                self.console.append(f"exception: {details}")
            case {"method": "Log.entryAdded", "params": {"entry": entry}}:
                self.console.append(f"{entry['level']}: {entry['text']}")


@asynccontextmanager
async def browser(directory: Path, *words: str) -> AsyncIterator[Page]:
    """A browser with a profile in `directory`, and more words on its command line."""
    profile = directory / "profile"
    process = _start(profile, words)
    try:
        with trio.fail_after(PATIENCE_S):
            port = await _port(trio.Path(profile, "DevToolsActivePort"), process)
            target = await _page(port)
        async with open_websocket_url(target, max_message_size=MAX_MESSAGE, message_queue_size=1000) as ws:
            yield Page(ws)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(process.wait)


def _start(profile: Path, words: Sequence[str]) -> subprocess.Popen[bytes]:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert program, "install chromium"
    return subprocess.Popen(
        [
            program,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            *words,
            "about:blank",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"HOME": str(profile.parent)},
    )


async def _port(path: trio.Path, process: subprocess.Popen[bytes]) -> int:
    while True:
        assert process.poll() is None, "the browser ended"
        if await path.exists() and "\n" in (text := await path.read_text()):
            return int(text.split()[0])
        await trio.sleep(0.05)


async def _page(port: int) -> str:
    """The socket of the first page."""
    while True:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            head = f"GET /json/list HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
            await stream.send_all(head.encode())
            answer = b""
            async for part in stream:
                answer += part
                lines, _, body = answer.partition(b"\r\n\r\n")
                size = re.search(rb"(?i)content-length: *(\d+)", lines)
                if size and len(body) >= int(size[1]):
                    break
        pages = [target for target in json.loads(body) if target["type"] == "page"]
        if pages:
            return str(pages[0]["webSocketDebuggerUrl"])
        await trio.sleep(0.05)
