"""The daemon and other processes of a bench: started, waited for, and ended whatever happens."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

READY_S = 30
STOP_S = 40
LOG_CHARS = 4000
OTHER_FILES = 200
SERVE = ("linguad", "serve")


@dataclass(frozen=True)
class Daemon:
    """A running `linguad serve`: its WebSocket address without a path, and its process id."""

    url: str
    pid: int


_children: list[subprocess.Popen[str]] = []


def end_with_children() -> None:
    """Have SIGTERM end the children too, last started first; an exception could be lost in a nursery."""

    def end(*_: object) -> None:
        for process in reversed(_children):
            process.terminate()
            process.wait(STOP_S)
        os._exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)


@contextmanager
def daemon(settings: Mapping[str, str], program: Sequence[str] = SERVE) -> Iterator[Daemon]:
    """A ready daemon with these settings, named as in the environment without the `LINGUAD_`.

    It logs from level warning up unless they say otherwise. Its warnings are counted on stderr at the end;
    errors are shown. `program` is the module to run, with its arguments.
    """
    with tempfile.TemporaryDirectory() as state, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        environment = {
            "LINGUAD_SERVER__HOST": "127.0.0.1",
            "LINGUAD_SERVER__PORT": str(port),
            "LINGUAD_GATEWAY__ENABLED": "false",
            "LINGUAD_HUB__ENABLED": "false",
            "LINGUAD_SERVER__STATE_DIR": state,
            "LINGUAD_LOG__LEVEL": "warning",
            **{f"LINGUAD_{name}": value for name, value in settings.items()},
        }
        path = Path(state, "log")
        with path.open("w") as log, child(list(program), environment, log.fileno()) as process:
            _wait_for(f"http://127.0.0.1:{port}/ready", process, path)
            yield Daemon(f"ws://127.0.0.1:{port}", process.pid)
        _summarise(path)


@contextmanager
def child(
    arguments: list[str], environment: Mapping[str, str] | None = None, output: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    """A Python module as a process with a pipe to its input; asked to end at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=None if output == subprocess.PIPE else output,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    _children.append(process)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _children.remove(process)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def line(process: subprocess.Popen[str]) -> str:
    """The next line a child prints."""
    assert process.stdout is not None
    text = process.stdout.readline().strip()
    if not text:
        raise SystemExit("a process of the bench ended early")
    return text


def cpu_s(pid: int) -> float:
    """CPU time of a process so far, all its threads, s."""
    # What clock_getcpuclockid(3) gives: /proc has it in hundredths of a second only.
    return time.clock_gettime(~pid << 3 | 2)


def metric(daemon: Daemon, name: str) -> float:
    """A number of `/metrics`, by its name with its labels."""
    with urllib.request.urlopen(f"http{daemon.url.removeprefix('ws')}/metrics", timeout=READY_S) as answer:
        for text in answer.read().decode().splitlines():
            if text.rpartition(" ")[0] == name:
                return float(text.rpartition(" ")[2])
    return 0.0


def allow_sockets(wanted: int) -> int:
    """Let this process and its children have so many; how many they may have, less some for other things."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(wanted, hard - OTHER_FILES)


def waited_s(pid: int) -> float:
    """How long the first thread of a process was ready to run and had no CPU, so far, s."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def resident_kib(pid: int) -> int:
    """Memory of a process that is in RAM now, KiB."""
    _, _, rest = Path(f"/proc/{pid}/smaps_rollup").read_text().partition("Rss:")
    return int(rest.split()[0])


def _summarise(log: Path) -> None:
    events: Counter[str] = Counter()
    for text in log.read_text().splitlines():
        try:
            logged = json.loads(text)
            if logged["level"] in ("debug", "info"):
                continue
            events[f"{logged['level']} {logged['event']} {logged.get('end', '')}".strip()] += 1
            shown = logged["level"] != "warning"
        except (ValueError, TypeError, KeyError):
            shown = True
        if shown:
            print(text, file=sys.stderr)
    for event, count in events.items():
        print(f"the daemon logged {event}: {count}", file=sys.stderr)


def _wait_for(url: str, process: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise SystemExit(f"nothing is ready at {url}; the daemon said:\n{log.read_text()[-LOG_CHARS:]}")
