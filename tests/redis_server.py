"""A real Redis for tests: made in a directory, on a Unix socket and, if asked for, on a free port.

`stop`, `kill`, `freeze` and `start` it as a test likes. Without asking it keeps nothing on disk; with
`durable=True` every write is on disk before it is answered, so that a restart finds all of it.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import hiredis
from patience import PATIENCE_S

PROGRAM = "redis-server"


class RedisServer:
    """One server; its files go with `clear_away`, which also ends it."""

    def __init__(
        self, *options: str, port: bool = False, durable: bool = False, sentinel: bool = False
    ) -> None:
        """`options` are lines of its configuration file. `port` makes it listen on `127.0.0.1:self.port`."""
        # a short path: the address of a Unix socket has at most 107 characters
        self.directory = Path(tempfile.mkdtemp(prefix="redis-"))
        self.socket = self.directory / "s"
        self.port = free_port() if port else 0
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None
        self._config = self.directory / "conf"
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"unixsocket {self.socket}",
            f"dir {self.directory}",
            f"logfile {self.directory / 'log'}",
            "daemonize no",
            *(
                []
                if sentinel
                else ['save ""', f"appendonly {'yes' if durable else 'no'}", "appendfsync always"]
            ),
            *options,
        ]
        self._config.write_text("\n".join(lines) + "\n")

    @property
    def url(self) -> str:
        """How linguad reaches it over its Unix socket."""
        return f"unix://{self.socket}"

    @property
    def tcp_url(self) -> str:
        """How linguad reaches it over TCP."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    def start(self) -> RedisServer:
        """Start it and wait until it answers."""
        program = shutil.which(PROGRAM)
        assert program is not None, "install the Debian package redis-server"
        self.socket.unlink(missing_ok=True)
        words = [program, str(self._config), *(["--sentinel"] if self._sentinel else [])]
        self._process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + PATIENCE_S
        while not self._answers():
            assert self._process.poll() is None, f"redis-server ended: {(self.directory / 'log').read_text()}"
            assert time.monotonic() < until, "redis-server does not answer"
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """Stop it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a machine that loses power."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it stand still with its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def do(self, *words: str | bytes | int, login: tuple[str, ...] = ()) -> object:
        """One command over a connection of its own, blocking. Raises hiredis.ReplyError."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE_S)
            connection.connect(str(self.socket))
            if login:
                ask(connection, "AUTH", *login)
            return ask(connection, *words)

    def clear_away(self) -> None:
        """End it, whatever state it is in, and remove its files."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.directory)

    def _answers(self) -> bool:
        try:
            reply = self.do("PING")
        except hiredis.ReplyError as error:
            # it answers, and wants a password
            return not str(error).startswith("LOADING")
        except OSError:
            return False
        return bool(reply)

    def _end(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.send_signal(signal.SIGCONT)
        self._process.wait(PATIENCE_S)
        self._process = None


def free_port() -> int:
    """A port that nobody listens on, nor gets by chance: those are above 32767.

    The one 10000 above is free as well, which a Redis Cluster also takes.
    """
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        candidate = 10_000 + port % 20_000
        try:
            for number in (candidate, candidate + 10_000):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))
        except OSError:
            continue
        return candidate


def ask(connection: socket.socket, *words: str | bytes | int) -> object:
    """One command and its reply over a blocking connection. Raises hiredis.ReplyError."""
    connection.sendall(hiredis.pack_command(words))
    reader = hiredis.Reader(notEnoughData=ask)
    while (reply := reader.gets()) is ask:
        data = connection.recv(64 * 1024)
        if not data:
            raise ConnectionError("the server closed the connection")
        reader.feed(data)
    if isinstance(reply, hiredis.ReplyError):
        raise reply
    return reply
