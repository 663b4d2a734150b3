"""A rehearsal as docs/testing.md has it: a daemon, a simulated fleet, people who talk, all real processes."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import trio
from conftest import Start
from processes import DaemonProcess, Process, clean_environment, command, linguad

PATIENCE_S = 180.0
APART = {"gateway": {"enabled": False}, "hub": {"enabled": False}}
PROFILE = """
[[nodes]]
name = "big"
share = 3
languages = ["en", "es", "zh"]
gpus = ["simulated"]
speed = 50
[[nodes]]
name = "bad"
pairs = ["en>fr"]
speed = 50
failing = 1
lost_after_s = 0.5
"""


async def load(port: int, *words: str) -> CompletedProcess[str]:
    """Talk at a daemon."""
    server = f"ws://127.0.0.1:{port}/ws/session"
    call = partial(linguad, "load", "--server", server, *words, seconds=PATIENCE_S)
    return await trio.to_thread.run_sync(call)


async def ready(daemon: DaemonProcess) -> int:
    """How many big nodes are ready."""
    _, body = await daemon.get("/api/v1/nodes?status=ready&q=big")
    return len(json.loads(body)["nodes"])


@asynccontextmanager
async def fleet(daemon: DaemonProcess, directory: Path, count: int) -> AsyncIterator[Process]:
    """Simulated nodes, all of them ready."""
    profile = directory / "fleet.toml"
    profile.write_text(PROFILE)
    port = await daemon.port()
    server = f"ws://127.0.0.1:{port}/ws/node"
    words = ("node", "--simulate", str(count), "--profile", profile, "--server", server, "--node-id", "t")
    nodes = Process(command(*words), clean_environment(), directory)
    try:
        # they come in their own time
        while await ready(daemon) < count * 3 // 4:  # noqa: ASYNC110
            await trio.sleep(0.1)
        yield nodes
    finally:
        nodes.clear_away()


async def test_a_rehearsal(start: Start, tmp_path: Path) -> None:
    daemon = start(**APART)
    with trio.fail_after(PATIENCE_S * 3):
        async with fleet(daemon, tmp_path, 8) as nodes:
            port = await daemon.port()
            known = json.loads((await daemon.get("/api/v1/nodes"))[1])["nodes"]
            assert {node["node_id"] for node in known} >= {f"t-big-{number:04}" for number in range(1, 7)}

            done = await load(port, "--sessions", "4", "--utterances", "3", "--rate", "20", "--json")
            assert (done.returncode, done.stderr) == (0, "")
            told = json.loads(done.stdout)
            assert told["outcomes"] == {"completed": 12}
            assert (told["sessions"], told["utterances"], told["sessions_failed"]) == (4, 12, 0)
            latency = told["latency"]
            assert 0 < latency["p50_ms"] <= latency["p90_ms"] <= latency["p99_ms"] <= latency["max_ms"]
            assert list(told["stages"]) == ["cut", "queue", "send", "node", "reorder", "total"]

            words = ("--sessions", "1", "--utterances", "2", "--rate", "5", "--to", "fr", "--realtime")
            done = await load(port, *words, "--seconds", "0.5", "--timeout", "60")
            assert done.returncode == 1
            assert "2 of 2 utterances had no result" in done.stderr
            assert "completed" not in done.stdout

            nodes.signal(signal.SIGTERM)
            assert await nodes.ended() == 0
            assert nodes.lines[0].startswith("8 simulated nodes (6 big, 2 bad) for ws://")
            assert "12 jobs answered" in nodes.lines[-1]
            assert ", 0 connections lost" not in nodes.lines[-1]
    daemon.stop()


async def test_what_cannot_be_said_is_told(start: Start, tmp_path: Path) -> None:
    done = await load(1, "--sessions", "2", "--utterances", "3", "--rate", "50", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["outcomes"] == {"not_said": 6}
    assert told["sessions_failed"] == 2
    ((problem, count),) = told["problems"].items()
    assert "cannot connect to ws://127.0.0.1:1/ws/session" in problem
    assert count == 2
    done = await load(1, "--file", str(tmp_path / "none.wav"))
    assert done.returncode == 1
    assert "none.wav" in done.stderr
    assert (await load(1, "--seconds", "9")).returncode == 2
