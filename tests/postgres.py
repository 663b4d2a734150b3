"""A real PostgreSQL for tests: made in a directory, reached over a Unix socket, gone with its tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

import psycopg
from patience import PATIENCE_S

USER = "nobody"
"""Who runs the server where the tests run as root, which PostgreSQL refuses."""


class Postgres:
    """One server without passwords, on a socket; `stop` and `start` it as a test likes."""

    def __init__(self) -> None:
        # a short path: the address of a Unix socket has at most 107 characters
        self.directory = Path(tempfile.mkdtemp(prefix="pg-"))
        self._data = self.directory / "data"
        self._bin = _programs()
        self.directory.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(self.directory, USER)
        self._do("initdb", "-D", self._data, "-U", "linguad", "-A", "trust", "-N", "-E", "UTF8", "--locale=C")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        words = ("-D", self._data, "-k", self.directory, "-c", "listen_addresses=", "-c", "fsync=off")
        self._do(
            "pg_ctl", "-D", self._data, "-w", "-s", "-l", self.directory / "log", "start", "-o", _line(words)
        )

    def stop(self) -> None:
        """Stop it as a machine that goes down: connections are cut."""
        self._do("pg_ctl", "-D", self._data, "-w", "-s", "-m", "fast", "stop")

    @property
    def url(self) -> str:
        """The URL of its database, as `store.url` takes it."""
        return f"postgresql://linguad@/postgres?host={self.directory}"

    def make_database(self) -> str:
        """The URL of a new, empty database: a schema of its own, which takes no time and no space."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self.url) as connection:
            connection.execute(f'CREATE SCHEMA "{name}"'.encode())
        return f"{self.url}&options=-csearch_path%3D{name}"

    def clear_away(self) -> None:
        """End the server, whatever state it is in, and remove its files."""
        pid_file = self._data / "postmaster.pid"
        if pid_file.exists():
            self._do("pg_ctl", "-D", self._data, "-w", "-s", "-m", "immediate", "stop")
        shutil.rmtree(self.directory)

    def _do(self, program: str, *words: str | Path) -> None:
        command = [str(self._bin / program), *map(str, words)]
        if os.geteuid() == 0:
            command = ["runuser", "-u", USER, "--", *command]
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd="/",
                timeout=PATIENCE_S,
                check=False,
            )
            said.seek(0)
            assert done.returncode == 0, f"{program}: {said.read().decode()}"


def _line(words: tuple[str | Path, ...]) -> str:
    return " ".join(str(word) for word in words)


def _programs() -> Path:
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert homes, "install the Debian package postgresql"
    return homes[-1]
