"""Ports that a daemon does not open by itself, or shares: socket activation and SO_REUSEPORT.

Rules: real processes; the sockets are handed over as systemd does it (sd_listen_fds(3)).
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import trio
from conftest import Start
from processes import PATIENCE_S, Process, clean_environment, command, linguad, write_config

HAND_OVER = """\
import os, sys
sockets = [int(word) for word in sys.argv[1].split(",")]
kept = [os.dup2(fd, 100 + place) for place, fd in enumerate(sockets)]
for place, fd in enumerate(kept):
    os.dup2(fd, 3 + place)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(kept)), "LISTEN_FDNAMES": sys.argv[2]}
os.execv(sys.argv[3], sys.argv[3:])
"""
"""What systemd does between fork and exec: the sockets become descriptors 3 and on, and are named."""


GET_HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A socket that already listens, and whose first caller has to wait."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def handed_over(sockets: Sequence[socket.socket], names: str, words: list[str]) -> list[str]:
    """The command line that runs `words` with these sockets."""
    return [sys.executable, "-c", HAND_OVER, ",".join(str(s.fileno()) for s in sockets), names, *words]


def settings(directory: Path) -> Path:
    """A configuration whose own ports are free ones."""
    return write_config(
        directory / "linguad.toml",
        server={"host": "127.0.0.1", "port": 0, "state_dir": str(directory / "state")},
        gateway={"host": "127.0.0.1", "port": 0},
        hub={"host": "127.0.0.1", "port": 0},
        log={"format": "json"},
    )


async def health(port: int) -> str:
    """What `/health` of a port says."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(GET_HEALTH)
    return await rest_of(stream)


async def rest_of(stream: trio.SocketStream) -> str:
    """All that still comes."""
    with trio.fail_after(PATIENCE_S):
        async with stream:
            return b"".join([part async for part in stream]).decode()


async def test_a_socket_handed_over_is_served(tmp_path: Path, listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    early = await trio.open_tcp_stream("127.0.0.1", port)
    await early.send_all(GET_HEALTH)
    words = handed_over([listening], "scheduler", command("serve", "--config", settings(tmp_path)))
    daemon = HandedProcess(words, tmp_path, [listening])
    try:
        assert (await daemon.event("started"))["port"] == port
        assert (await daemon.event("listening", door="gateway"))["port"] != port
        assert (await rest_of(early)).endswith("OK"), "who called before the daemon ran is answered"
        assert (await health(port)).endswith("OK")
        daemon.signal(15)
        assert await daemon.ended() == 0
        # the port stays open: systemd holds it for the next start
        async with await trio.open_tcp_stream("127.0.0.1", port):
            pass
    finally:
        daemon.clear_away()


async def test_every_door_takes_the_socket_of_its_name(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server(("127.0.0.1", 0)) as second,
        socket.create_server(("127.0.0.1", 0)) as third,
    ):
        sockets, names = (first, second, third), ("hub", "scheduler", "gateway")
        words = handed_over(sockets, ":".join(names), command("serve", "--config", settings(tmp_path)))
        daemon = HandedProcess(words, tmp_path, sockets)
        try:
            await daemon.event("started")
            for sock, name in zip(sockets, names, strict=True):
                assert (await daemon.event("listening", door=name))["port"] == sock.getsockname()[1]
        finally:
            daemon.clear_away()


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("linguad.socket", socket.SOCK_STREAM, "FileDescriptorName="),
        ("scheduler", socket.SOCK_DGRAM, "ListenStream="),
    ],
)
def test_a_socket_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, name: str, kind: socket.SocketKind, says: str
) -> None:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            sock.listen()
        words = handed_over([sock], name, command("serve", "--config", settings(tmp_path)))
        done = subprocess.run(
            words,
            env=clean_environment(),
            pass_fds=[sock.fileno()],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert says in line


def test_sockets_meant_for_another_process_are_left_alone(tmp_path: Path) -> None:
    env = clean_environment(LISTEN_PID="1", LISTEN_FDS="1", LISTEN_FDNAMES="nonsense")
    done = linguad("config", "check", "--config", settings(tmp_path), env=env)
    assert done.returncode == 0


async def test_two_processes_share_one_port(start: Start) -> None:
    """The kernel deals connections out by their addresses: each process gets some of many."""
    first = start(server={"reuse_port": True}, gateway={"enabled": False}, hub={"enabled": False})
    port = await first.port()
    second = start(
        server={"reuse_port": True, "port": port}, gateway={"enabled": False}, hub={"enabled": False}
    )
    assert await second.port() == port
    seen: set[int] = set()
    async with first.client():
        # the session is at one of them, and their answers differ by it
        with trio.fail_after(PATIENCE_S):
            while len(seen) < 2:
                status, body = await first.get("/ready")
                assert status == 200
                seen.add(json.loads(body)["sessions"])
    assert seen == {0, 1}
    first.stop()
    assert (await health(port)).endswith("OK"), "the other one goes on alone"
    second.stop()


def test_a_port_is_not_shared_by_accident(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = settings(tmp_path)
        env = clean_environment(LINGUAD_SERVER__PORT=str(taken.getsockname()[1]))
        done = linguad("serve", "--config", config, env=env)
    assert (done.returncode, "another program uses it" in done.stderr) == (1, True)


class HandedProcess(Process):
    """A process that was given sockets."""

    def __init__(self, words: list[str], cwd: Path, sockets: Sequence[socket.socket]) -> None:
        super().__init__(words, clean_environment(), cwd, pass_fds=[sock.fileno() for sock in sockets])
