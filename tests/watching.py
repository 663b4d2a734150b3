"""A second pair of eyes on a Redis: every command that it was given, told by MONITOR."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from patience import PATIENCE_S
from redis_server import RedisServer

FORBIDDEN = {"KEYS", "SCAN", "HSCAN", "SSCAN", "ZSCAN"}
"""Commands that look for keys; each costs as much as there are."""

THE_END = "the end of what is watched"

_COMMAND = re.compile(r"^[0-9.]+ \[[^]]*\] (.*)$", re.MULTILINE)
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Seen(list[list[str]]):
    """The words of each command, once watching is over; those of scripts are among them."""

    @property
    def names(self) -> list[str]:
        """The first words, in capital letters."""
        return [words[0].upper() for words in self]


@contextmanager
def watched(server: RedisServer) -> Iterator[Seen]:
    """Watch a server to the end of the block; nobody may look for keys meanwhile."""
    seen = Seen()
    with tempfile.NamedTemporaryFile() as told:
        path = Path(told.name)
        words = ["redis-cli", "-s", str(server.socket), "MONITOR"]
        process = subprocess.Popen(words, stdout=told, stderr=subprocess.DEVNULL)
        try:
            _wait(path, "OK", process)
            yield seen
            if process.poll() is None:  # else the server was stopped meanwhile
                server.do("ECHO", THE_END)
                _wait(path, THE_END, process)
        finally:
            process.kill()
            process.wait()
        text = path.read_text(errors="replace")
    seen += [found for line in _COMMAND.findall(text) if (found := _WORD.findall(line))]
    assert not FORBIDDEN & set(seen.names), FORBIDDEN & set(seen.names)


def _wait(path: Path, text: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE_S
    while text.encode() not in path.read_bytes():
        assert time.monotonic() < until, "the watcher hears nothing"
        assert process.poll() is None, "the watcher ended"
        time.sleep(0.01)
