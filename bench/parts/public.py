"""A daemon with its public API, and tenants of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from bench.parts import processes
from bench.parts.processes import Daemon

KEY_S = 10.0
"""A daemon knows a key within a second of its making."""

SETTINGS = {
    "GATEWAY__ENABLED": "true",
    "GATEWAY__HOST": "127.0.0.1",
    # Refused keys are measured, too, and they all come from one address.
    "GATEWAY__FAILED_AUTH_LIMIT": "0",
    "SERVER__DRAIN_SECONDS": "0",
    # connections are opened before it is their turn, and the front door cuts those that ask for nothing
    "SERVER__PEEK_SECONDS": "300",
    "SESSIONS__MAX_SESSIONS_PER_ADDRESS": "0",
}

UNLIMITED = {"max_requests_per_second": 1_000_000, "max_concurrent_sessions": 100_000}
"""Members of a tenant that is never refused."""


@dataclass(frozen=True)
class Public:
    """A running daemon, the port of its public API, and where its store is."""

    daemon: Daemon
    port: int
    state: str

    def tenant(self, name: str, members: Mapping[str, int]) -> str:
        """Make a tenant with these limits and wait until the daemon knows it; its key."""
        words = [f"{member}={value}" for member, value in members.items()]
        key = str(json.loads(self._run("tenant", "create", name, *words, "--json"))["api_key"]["key"])
        self._wait_for(key)
        return key

    def _wait_for(self, key: str) -> None:
        until = time.monotonic() + KEY_S
        while not self._knows(key):
            if time.monotonic() > until:
                raise SystemExit("the daemon does not know a key that was made")
            time.sleep(0.1)

    def _knows(self, key: str) -> bool:
        asked = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/me", headers={"Authorization": f"Bearer {key}"}
        )
        try:
            with urllib.request.urlopen(asked, timeout=KEY_S):
                return True
        except urllib.error.HTTPError:
            return False

    def _run(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "linguad", *words],
            env={**os.environ, "LINGUAD_SERVER__STATE_DIR": self.state},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"linguad {' '.join(words)} failed with exit code {done.returncode}")
        return done.stdout


@contextmanager
def public(settings: Mapping[str, str] = {}) -> Iterator[Public]:
    """A ready daemon that serves the public API, with these settings besides."""
    with tempfile.TemporaryDirectory() as state:
        port = free_port()
        own = {"GATEWAY__PORT": str(port), "SERVER__STATE_DIR": state}
        with processes.daemon(SETTINGS | own | dict(settings)) as daemon:
            yield Public(daemon, port, state)


def free_port() -> int:
    """A TCP port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
