"""What is known of nodes outlives a real process; `linguad pair` pairs a session with a node of it."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import trio
from processes import PATIENCE_S, DaemonProcess, linguad

NODE = "/api/v1/nodes/node-1"


async def pair(daemon: DaemonProcess, *words: str) -> CompletedProcess[str]:
    """Run the command against a daemon."""
    server = f"http://127.0.0.1:{await daemon.port()}"
    return await trio.to_thread.run_sync(partial(linguad, "pair", *words, "--server", server))


def wait_for(path: Path) -> None:
    """Until a file is there."""
    end = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.02)


async def test_drain_and_speed_outlive_the_process(tmp_path: Path) -> None:
    first = DaemonProcess(tmp_path)
    try:
        async with first.node(node_id="node-1") as node, first.client() as client:
            await client.speak()
            await node.answer(await node.job())
            await client.result()
            page = await first.ask("PATCH", NODE, {"drain": True, "note": "broken fan"})
            assert page["status"] == "draining"
            (speed,) = page["learned_speeds"]
        first.stop()
    finally:
        first.clear_away()
    kept = tmp_path / "state" / "nodes.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    second = DaemonProcess(tmp_path)
    try:
        async with second.node(node_id="node-1") as node:
            await node.heartbeat()
            page = await second.ask("GET", NODE)
            assert (page["status"], page["note"]) == ("draining", "broken fan")
            assert page["learned_speeds"] == [speed]
            page = await second.ask("PATCH", NODE, {"drain": None})
            assert page["status"] == "ready"
        second.stop()
    finally:
        second.clear_away()
    assert "drain" not in json.loads(kept.read_text())["nodes"]["node-1"]["override"]


async def test_word_outlives_a_process_that_is_killed(tmp_path: Path) -> None:
    first = DaemonProcess(tmp_path)
    try:
        async with first.node(node_id="node-1"):
            await first.ask("PATCH", NODE, {"cap": 3})
            await trio.to_thread.run_sync(wait_for, tmp_path / "state" / "nodes.json")
    finally:
        first.clear_away()
    second = DaemonProcess(tmp_path)
    try:
        async with second.node(node_id="node-1"):
            assert (await second.ask("GET", NODE))["slots"] == 3
        second.stop()
    finally:
        second.clear_away()


async def test_broken_memory_does_not_keep_the_daemon_from_starting(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "nodes.json").write_text('{"nodes": ')
    daemon = DaemonProcess(tmp_path)
    try:
        event = await daemon.event("node_memory_broken")
        assert event["renamed_to"].endswith("nodes.json.broken")
        await daemon.assert_serves()
        daemon.stop()
    finally:
        daemon.clear_away()


async def test_pair_command(tmp_path: Path) -> None:
    daemon = DaemonProcess(tmp_path)
    try:
        async with (
            daemon.node(node_id="bob/1", accept_public_jobs=False) as node,
            daemon.stranger() as client,
        ):
            done = await pair(daemon, "bob/1")
            assert (done.returncode, done.stderr) == (0, "")
            code = done.stdout.partition("Pairing code: ")[2][:6]
            assert "bob/1 alone" in done.stdout
            assert (await client.open(pairing_code=code))["assigned_node_id"] == "bob/1"
            await client.speak()
            await node.answer(await node.job())
            assert (await client.result())["text_translated"] == "oído 0"
            done = await pair(daemon, "bob/1", "--json")
            assert set(json.loads(done.stdout)) == {"node_id", "code", "expires_at_ms"}
            done = await pair(daemon, "nobody")
            assert (done.returncode, done.stdout) == (1, "")
            assert "GET /api/v1/nodes" in done.stderr
        assert code not in "".join(daemon.lines)
        daemon.stop()
    finally:
        daemon.clear_away()
