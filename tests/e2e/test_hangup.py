"""SIGHUP at a running daemon, as `systemctl reload` sends it.

Rules: real processes and signals; tests/test_reload.py has every setting.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from conftest import Start
from harness import session_init
from processes import BASE, DaemonProcess, write_config


def rewrite(daemon: DaemonProcess, **tables: dict[str, Any]) -> None:
    """Change the daemon's file and tell it so."""
    own = {"state_dir": str(daemon.directory / "state")}
    tables["server"] = BASE | own | tables.get("server", {})
    for part in ("gateway", "hub"):
        tables[part] = BASE | tables.get(part, {})
    tables["log"] = {"format": "json"} | tables.get("log", {})
    write_config(daemon.directory / "linguad.toml", **tables)
    daemon.signal(signal.SIGHUP)


async def test_what_changed_is_told_and_holds(start: Start) -> None:
    daemon = start()
    port = await daemon.port()
    async with daemon.client():
        rewrite(daemon, sessions={"max_sessions": 1}, log={"level": "debug"}, server={"drain_seconds": 7})
        assert (await daemon.event("reloaded"))["changed"] == ["sessions.max_sessions", "log.level"]
        assert (await daemon.event("restart_needed"))["settings"] == ["server.drain_seconds"]
        async with daemon.stranger() as stranger:
            await stranger.say(session_init())
            assert (await stranger.closed())[0] == 1013
    await daemon.event("link_closed", level="debug")
    assert await daemon.get("/health") == (200, "OK")
    assert await daemon.port() == port
    daemon.stop()


async def test_a_file_that_is_wrong_changes_nothing(start: Start) -> None:
    daemon = start()
    await daemon.port()
    rewrite(daemon, sessions={"max_sessions": -1, "colour": "blue"}, log={"level": "debug"})
    reasons = (await daemon.event("reload_failed", level="warning"))["reasons"]
    assert [reason.partition(":")[0] for reason in reasons] == ["sessions.colour", "sessions.max_sessions"]
    await daemon.assert_serves()
    assert [event for event in daemon.events if event["level"] == "debug"] == []
    daemon.stop()


async def test_the_log_file_that_was_moved_is_opened_anew(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "linguad.log"
    daemon = start(log={"file": str(file)})
    await daemon.port()
    file.rename(tmp_path / "moved.log")
    daemon.signal(signal.SIGHUP)
    assert (await daemon.event("reloaded"))["changed"] == []
    daemon.stop()
    assert '"reloaded"' in file.read_text()
