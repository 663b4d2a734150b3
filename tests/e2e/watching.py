"""A second pair of eyes on a Redis: every command that it was given, told by MONITOR."""

from __future__ import annotations

import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from patience import PATIENCE_S
from redis_server import RedisServer

FORBIDDEN = {"KEYS", "SCAN", "HSCAN", "SSCAN", "ZSCAN"}
"""Commands that look for keys; each costs as much as there are."""

_COMMAND = re.compile(r'^[0-9.]+ \[[^]]*\] "([^"]+)"')


@contextmanager
def watched(server: RedisServer, folder: Path) -> Iterator[None]:
    """Watch a server to the end of the block; then nobody may have looked for keys."""
    path = folder / f"monitor-{server.socket.parent.name}"
    with path.open("wb") as out:
        words = ["redis-cli", "-s", str(server.socket), "MONITOR"]
        process = subprocess.Popen(words, stdout=out, stderr=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE_S
        while not path.read_bytes().startswith(b"OK"):
            assert time.monotonic() < until
            time.sleep(0.01)
        try:
            yield
        finally:
            process.terminate()
            process.wait()
    seen: Counter[str] = Counter()
    for line in path.read_text(errors="replace").splitlines():
        if found := _COMMAND.match(line):
            seen[found[1].upper()] += 1
    assert seen["EVALSHA"], "it did watch"
    assert not FORBIDDEN & set(seen), seen
