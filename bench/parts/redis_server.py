"""A Redis for a bench: it keeps nothing, listens on a Unix socket, and counts its commands."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

PATIENCE_S = 30


@dataclass(frozen=True)
class RedisServer:
    """A running server: the path of its socket."""

    path: str

    @property
    def url(self) -> str:
        """How linguad reaches it."""
        return f"unix://{self.path}"

    def calls(self) -> Counter[str]:
        """How often each command was called so far, those in scripts too."""
        with redis.Redis(unix_socket_path=self.path) as client:
            stats = client.info("commandstats")
        assert isinstance(stats, dict)
        return Counter({name.removeprefix("cmdstat_"): one["calls"] for name, one in stats.items()})


@contextmanager
def server() -> Iterator[RedisServer]:
    """One that runs to the end of the block."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("install the Debian package redis-server")
    with tempfile.TemporaryDirectory() as home:
        path = Path(home, "s")
        words = [program, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", home]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        try:
            until = time.monotonic() + PATIENCE_S
            while not path.exists():
                if time.monotonic() > until or process.poll() is not None:
                    raise SystemExit("redis-server does not start")
                time.sleep(0.01)
            yield RedisServer(str(path))
        finally:
            process.kill()
            process.wait()
