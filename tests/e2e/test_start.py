"""How a daemon starts, or says in one sentence why it does not.

Rules: real processes; each ends by itself or is ended by its test.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from conftest import Start
from patience import PATIENCE_S
from processes import clean_environment, command, linguad, write_config


def serve(directory: Path, **tables: dict[str, Any]) -> tuple[int, list[str]]:
    """Exit code and complaints of a daemon that cannot start with these settings."""
    tables["server"] = {"port": 0, "state_dir": str(directory / "state")} | tables.get("server", {})
    for part in ("gateway", "hub"):
        tables[part] = {"port": 0} | tables.get(part, {})
    done = linguad("serve", "--config", write_config(directory / "linguad.toml", **tables), cwd=directory)
    return done.returncode, done.stderr.splitlines()


def test_configuration_that_is_wrong(tmp_path: Path) -> None:
    """tests/test_cli.py has all the ways; this is the real exit code."""
    assert serve(tmp_path, server={"colour": "blue"})[0] == 2


def test_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, lines = serve(tmp_path, server={"host": "127.0.0.1", "port": port})
    assert code == 1
    assert lines == [
        f"linguad: Cannot listen on port {port} of 127.0.0.1: another program uses it; "
        "stop that program or change server.port."
    ]


def test_address_of_another_machine(tmp_path: Path) -> None:
    assert serve(tmp_path, server={"host": "192.0.2.1"}) == (
        1,
        ["linguad: Cannot listen on port 0 of 192.0.2.1: this machine does not have that address."],
    )


def test_state_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, [line] = serve(tmp_path, server={"state_dir": str(tmp_path / "file" / "state")})
    assert code == 1
    assert "server.state_dir" in line


def test_log_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, lines = serve(tmp_path, log={"file": str(tmp_path / "file" / "linguad.log")})
    assert code == 2
    assert "log.file" in lines[1]


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that systemd would listen on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        yield listening


async def hear(supervisor: socket.socket) -> str:
    """The next state that the daemon reports."""
    with trio.fail_after(PATIENCE_S):
        await trio.lowlevel.wait_readable(supervisor)
    return supervisor.recv(4096).decode()


async def test_systemd_is_told(start: Start, supervisor: socket.socket, tmp_path: Path) -> None:
    daemon = start(env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"})
    states = [await hear(supervisor)]
    while states[-1] == "WATCHDOG=1":
        states.append(await hear(supervisor))
    assert states[-1] == "READY=1"
    assert (await daemon.get("/ready"))[0] == 200
    assert [await hear(supervisor) for _ in range(3)] == ["WATCHDOG=1"] * 3
    daemon.signal(signal.SIGTERM)
    while states[-1] != "STOPPING=1":
        states.append(await hear(supervisor))
    assert await daemon.ended() == 0


async def test_all_addresses_are_served_by_default(start: Start) -> None:
    daemon = start(server={"host": ""})
    port = await daemon.port()
    for address in ("127.0.0.1", "::1"):
        async with await trio.open_tcp_stream(address, port):
            pass


async def test_plain_python_serves_and_says_so(start: Start) -> None:
    daemon = start(env={"LINGUAD_NO_EXTENSIONS": "1"})
    warning = await daemon.event("extension_missing", level="warning")
    assert "compiler" in warning["cure"]
    await daemon.assert_serves()
    status, body = await daemon.get("/ready")
    assert (status, '"compiled":false' in body) == (200, True)
    daemon.stop()


async def test_admin_token_is_kept_for_the_next_start(start: Start, tmp_path: Path) -> None:
    tokens = []
    for _ in range(2):
        daemon = start(server={"state_dir": str(tmp_path / "kept")})
        await daemon.port()
        tokens.append((tmp_path / "kept" / "admin_token").read_text())
        daemon.stop()
    assert tokens[0] == tokens[1]
    assert len(tokens[0].strip()) >= 32
    assert stat.S_IMODE(os.stat(tmp_path / "kept" / "admin_token").st_mode) == 0o600


async def test_log_file_is_opened_anew_on_hangup(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "linguad.log"
    daemon = start(log={"file": str(file)})
    await daemon.port()
    file.rename(tmp_path / "moved.log")
    daemon.signal(signal.SIGHUP)
    daemon.signal(signal.SIGTERM)
    assert await daemon.ended() == 0
    assert '"event":"started"' in (tmp_path / "moved.log").read_text()
    assert '"event":"stopped"' in file.read_text()


def test_node_without_engines(tmp_path: Path) -> None:
    """On a machine without speech programs the node says what to install."""
    words = ("node", "--server", "ws://127.0.0.1:9/ws/node", "--engines", "apertium,espeak")
    done = linguad(*words, cwd=tmp_path, env=clean_environment(PATH=str(tmp_path)))
    assert done.returncode == 1
    assert "no engine works here (apertium, espeak)" in done.stderr
    assert "apt-get install" in done.stdout


def test_a_person_who_starts_it_is_told_how_to_call(tmp_path: Path) -> None:
    """With a line that can be pasted, and without the key."""
    settings = {"host": "127.0.0.1", "port": 0}
    config = write_config(
        tmp_path / "linguad.toml",
        server=settings | {"state_dir": str(tmp_path / "state")},
        gateway=settings,
        hub=settings,
        log={"file": str(tmp_path / "log")},
    )
    mine, its = os.openpty()
    with os.fdopen(mine, "rb", buffering=0) as terminal:
        process = subprocess.Popen(
            command("serve", "--config", config),
            env=clean_environment(),
            stdout=subprocess.DEVNULL,
            stderr=its,
        )
        os.close(its)
        try:
            shown = ""
            while "answer.wav" not in shown:
                shown += terminal.read(1000).decode()
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
    key = tmp_path / "state" / "dev_api_key"
    assert f'-H "Authorization: Bearer $(cat {key})"' in shown
    assert "-F audio=@demo/audio/weather.wav" in shown
    assert key.read_text().strip() not in shown


def test_the_scheduler_alone(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        other = {"host": "127.0.0.1", "port": taken.getsockname()[1]}
        config = write_config(
            tmp_path / "linguad.toml",
            server={"port": 0, "state_dir": str(tmp_path / "state")},
            gateway=other,
            hub=other,
            log={"format": "json"},
        )
        words = command("serve", "--only", "scheduler", "--config", config)
        with subprocess.Popen(words, env=clean_environment(), stdout=subprocess.PIPE, text=True) as daemon:
            assert daemon.stdout is not None
            try:
                assert any('"event":"started"' in line for line in daemon.stdout)
                daemon.send_signal(signal.SIGTERM)
                assert daemon.wait(PATIENCE_S) == 0
            finally:
                daemon.kill()
    assert not (tmp_path / "state" / "linguad.db").exists()


async def test_a_hub_alone_and_a_scheduler_that_asks_it(start: Start) -> None:
    hub = start(only="hub")
    port = (await hub.event("listening", door="hub"))["port"]
    await hub.event("started")
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET /health/ready HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n")
        answer = b"".join([part async for part in stream])
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert {event["door"] for event in hub.events if event["event"] == "listening"} == {"hub"}

    scheduler = start(only="scheduler", hub={"url": f"http://127.0.0.1:{port}"})
    await scheduler.event("started")
    assert (await scheduler.ask("GET", "/ready"))["hub_services"] == 0
    assert {event["door"] for event in scheduler.events if event["event"] == "listening"} == {"scheduler"}
    for daemon in (scheduler, hub):
        daemon.stop()
    assert not any(event["event"] == "hub_services_unknown" for event in scheduler.events)


async def test_the_hub_can_be_left_out(start: Start) -> None:
    daemon = start(hub={"enabled": False, "url": "http://127.0.0.1:1"})
    await daemon.event("hub_services_unknown")
    await daemon.event("started")
    doors = {event["door"] for event in daemon.events if event["event"] == "listening"}
    assert doors == {"scheduler", "gateway"}
    assert not (daemon.directory / "state/models").exists()
    daemon.stop()
