"""`linguad languages` asks a real daemon what can be had."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import trio
from processes import DaemonProcess, linguad


async def languages(server: str, *words: str) -> CompletedProcess[str]:
    """Run the command against a server."""
    return await trio.to_thread.run_sync(partial(linguad, "languages", *words, "--server", server))


async def test_what_can_be_had(tmp_path: Path) -> None:
    daemon = DaemonProcess(tmp_path)
    try:
        server = f"http://127.0.0.1:{await daemon.port()}"
        async with daemon.working_node(), daemon.client() as client:
            await client.speak()
            assert await client.result()
            done = await languages(server, "--src", "en")
            assert (done.returncode, done.stderr) == (0, "")
            head, _, *rows = (line.split() for line in done.stdout.splitlines() if line.strip())
            assert head == ["from", "into", "ready", "nodes", "free", "slots"]
            assert rows == [["en", "es", "1", "4"], ["en", "zh", "1", "4"]]
            done = await languages(server, "--src", "en", "--tgt", "zh", "--json")
            assert (done.returncode, done.stderr) == (0, "")
            (pair,) = json.loads(done.stdout)["pairs"]
            assert pair == {"src": "en", "tgt": "zh", "ready_nodes": 1, "free_slots": 4}
            done = await languages(server, "--tgt", "fr")
            assert (done.returncode, done.stderr) == (0, "")
            assert "without --src and --tgt" in done.stdout
        done = await languages(server, "--src", "auto")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("linguad: src: allowed is")
        daemon.stop()
    finally:
        daemon.clear_away()


async def test_nothing_can_be_had(tmp_path: Path) -> None:
    daemon = DaemonProcess(tmp_path)
    try:
        done = await languages(f"http://127.0.0.1:{await daemon.port()}")
        assert (done.returncode, done.stderr) == (0, "")
        assert "linguad node" in done.stdout
        daemon.stop()
    finally:
        daemon.clear_away()


async def test_nobody_answers() -> None:
    done = await languages("http://127.0.0.1:9")
    assert (done.returncode, done.stdout) == (1, "")
    assert "is linguad running there?" in done.stderr
