"""How fast the hub sends a large file, beside nginx sending the same, and what a list of 10 000 models costs.

Both servers have one process and send with sendfile out of the page cache; clients are threads that throw
away what comes. `way` is `direct` (sendfile) or `asgi` (the second request of a connection of Hypercorn's).
All are measured in turns, in several rounds.

`polls` is what 1000 nodes cost that ask for the list every 15 s, each on a fresh connection as old nodes do,
or on kept ones; `trio` is a server that only reads something and sends as many bytes. `blocks` is how long a
client waits for each MiB of a download while 1000 lists a second are asked for and files are hashed. Clients
and hub share the machine: where `cpu_wait_cores`, how much of the time the hub's loop was ready and had no
CPU, is not near 0, the times are the machine's.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bench import report
from bench.parts import processes

FILE_BYTES = 2 * 1024**3
CLIENTS = (1, 16)
MODELS = 10_000
ROUNDS = 5
PATH = "/storage/models/big/1.0.0/model.bin"
BUFFER_BYTES = 1024 * 1024
BUDGET_RATIO = 1.0
"""Of the throughput of nginx."""

LISTED = 20
"""Models in the list that nodes ask for."""

NODES, HEARTBEAT_S = 1000, 15
POLL_RATE = 400
"""Requests/s that are measured, more than the nodes' 67, so that the system's clock ticks count enough."""

LOAD_RATE = 1000
BLOCKS = 64
BUDGET_CORE_PERCENT = 1.0
BUDGET_BLOCK_MS = 50.0

NGINX = """
daemon off; worker_processes 1; pid {root}/nginx.pid; error_log {root}/nginx.log;
events {{ worker_connections 256; }}
http {{ access_log off; sendfile on; tcp_nopush on; keepalive_timeout 75;
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
  uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  server {{ listen 127.0.0.1:{port}; location /storage/models/ {{ alias {models}/storage/; }} }} }}
"""


def main() -> None:
    """Measure and print."""
    arguments = report.parser(__doc__, smallest=True).parse_args()
    size = FILE_BYTES // (256 if arguments.smallest else 8 if arguments.quick else 1)
    rounds = 1 if arguments.smallest else 2 if arguments.quick else ROUNDS
    models = 100 if arguments.smallest else MODELS
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        seconds = 1.0 if arguments.smallest else 5.0 if arguments.quick else 15.0
        rows = [*_downloads(root, size, rounds), *_lists(root, models, rounds), *_polls(root, seconds)]
    report.show("hub", rows, as_json=arguments.json, verdicts=verdicts(rows))


def _downloads(root: Path, size: int, rounds: int) -> Iterator[report.Row]:
    models = root / "models"
    path = models / "storage/big/1.0.0/model.bin"
    path.parent.mkdir(parents=True)
    with open(path, "wb") as file:
        for _ in range(max(1, size // BUFFER_BYTES)):
            file.write(os.urandom(64 * 1024) * 16)
    with _hub(models) as (port, hub_pid), _nginx(root, models) as nginx_port:
        servers = {
            ("linguad", "direct"): (port, False),
            ("linguad", "asgi"): (port, True),
            ("nginx", "direct"): (nginx_port, False),
        }
        for clients in CLIENTS:
            rates: dict[tuple[str, str], list[float]] = {which: [] for which in servers}
            memory = dict.fromkeys(servers, 0)
            for _ in range(rounds):
                for which, (to, warm) in servers.items():
                    taken = _fetch_all(to, clients, max(1, size // clients), warm=warm)
                    rates[which].append(taken / 1024**2)
                    memory[which] = processes.resident_kib(hub_pid) if which[0] == "linguad" else 0
            for which, measured in rates.items():
                yield {
                    "kind": "downloads",
                    "impl": which[0],
                    "way": which[1],
                    "clients": clients,
                    "file_bytes": size,
                    **report.middle("rate", "mibps", measured, 0),
                    "server_mib": round(memory[which] / 1024, 1) if memory[which] else None,
                }


def _lists(root: Path, models: int, rounds: int) -> Iterator[report.Row]:
    many = root / "many"
    for number in range(models):
        path = many / f"storage/model-{number:05}/1.0.0/model.bin"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    begun = time.perf_counter()
    with _hub(many) as (port, pid):
        started_s = time.perf_counter() - begun
        for kind, headers in (("whole", ""), ("304", f"If-None-Match: {_etag(port)}\r\n")):
            times = []
            for _ in range(max(rounds * 20, 1)):
                start = time.perf_counter()
                with _connection(port) as sock:
                    _ask(sock, "/api/models", headers)
                    received = _take(sock)
                times.append((time.perf_counter() - start) * 1000)
            yield {
                "kind": "lists",
                "impl": "linguad",
                "models": models,
                "answer": kind,
                "answer_bytes": received,
                **report.percentiles("list", times),
                "start_s": round(started_s, 2),
                "server_mib": round(processes.resident_kib(pid) / 1024, 1),
            }


def _polls(root: Path, seconds: float) -> Iterator[report.Row]:
    few = root / "few"
    for number in range(LISTED):
        path = few / f"storage/model-{number:02}/1.0.0/model.bin"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    big = few / "storage/big/1.0.0/model.bin"
    big.parent.mkdir(parents=True)
    big.write_bytes(os.urandom(BUFFER_BYTES) * BLOCKS)
    with _hub(few) as (port, pid):
        with _server("bench.parts.bare_lists", str(_list_bytes(port))) as (bare_port, bare_pid):
            servers = {"linguad": (port, pid), "trio": (bare_port, bare_pid)}
            for way in ("fresh", "kept"):
                for impl, (to, whose) in servers.items():
                    before = processes.cpu_s(whose)
                    answers = _poll(to, POLL_RATE, seconds, way)
                    each_us = (processes.cpu_s(whose) - before) / answers * 1e6
                    yield {
                        "kind": "polls",
                        "impl": impl,
                        "way": way,
                        "models": LISTED,
                        "requests": answers,
                        "request_us": round(each_us),
                        "core_percent": round(each_us / 1e4 * NODES / HEARTBEAT_S, 2),
                    }
        yield {"kind": "blocks", "impl": "linguad", "load": "none", **_blocks(port, pid, seconds)}
        with ThreadPoolExecutor(2) as pool:
            pool.submit(_poll, port, LOAD_RATE, seconds, "kept")
            pool.submit(_write_files, few, seconds)
            yield {
                "kind": "blocks",
                "impl": "linguad",
                "load": "lists+hashing",
                **_blocks(port, pid, seconds),
            }


def _poll(port: int, rate: float, seconds: float, way: str) -> int:
    """Lists that were answered to another process."""
    words = [sys.executable, "-m", "bench.parts.hub_poller", str(port), str(rate), str(seconds), way]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def _write_files(models: Path, seconds: float) -> None:
    """Have something to hash all the time."""
    until, number = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        path = models / f"storage/new-{number}/1.0.0/model.bin"
        path.parent.mkdir(parents=True)
        path.write_bytes(os.urandom(BUFFER_BYTES) * 8)
        number += 1
        time.sleep(0.5)


def _blocks(port: int, pid: int, seconds: float) -> report.Row:
    """Times of the blocks of a download, ms, and how much of the time the hub's loop had no CPU."""
    times, until, number = [], time.monotonic() + seconds, 0
    waited_s = processes.waited_s(pid)
    with _connection(port) as sock:
        while time.monotonic() < until:
            start, begun = number % BLOCKS * BUFFER_BYTES, time.perf_counter()
            _ask(sock, PATH, f"Range: bytes={start}-{start + BUFFER_BYTES - 1}\r\n")
            _take(sock)
            times.append((time.perf_counter() - begun) * 1000)
            number += 1
    waited_s = processes.waited_s(pid) - waited_s
    return report.percentiles("block", times, most=True) | {"cpu_wait_cores": round(waited_s / seconds, 3)}


def verdicts(rows: Sequence[report.Row]) -> Iterator[str]:
    """Whether the budgets are kept."""
    clients, ratio = CLIENTS[-1], None
    ours = report.pick(rows, impl="linguad", way="direct", clients=clients)
    theirs = report.pick(rows, impl="nginx", clients=clients)
    if ours and theirs:
        one, other = report.number(ours, "rate_mibps"), report.number(theirs, "rate_mibps")
        ratio = one / other if one and other else None
    what = f"throughput with {clients} clients against nginx"
    yield report.verdict(what, BUDGET_RATIO, "times", ratio, least=True)
    for way in ("fresh", "kept"):
        row = report.pick(rows, kind="polls", impl="linguad", way=way)
        percent = report.number(row, "core_percent") if row else None
        what = f"share of a core for the list to {NODES} nodes, {way} connections"
        yield report.verdict(what, BUDGET_CORE_PERCENT, "%", percent)
    loaded = report.pick(rows, kind="blocks", load="lists+hashing")
    longest = report.number(loaded, "block_max_ms") if loaded else None
    what = f"wait for a MiB of a download beside {LOAD_RATE} lists a second"
    yield report.verdict(what, BUDGET_BLOCK_MS, "ms", longest)


@contextmanager
def _hub(models: Path) -> Iterator[tuple[int, int]]:
    with _server("bench.parts.hub_server", str(models)) as started:
        yield started


@contextmanager
def _server(module: str, argument: str) -> Iterator[tuple[int, int]]:
    """Port and process of a server that prints its port."""
    with processes.child([module, argument]) as process:
        yield int(processes.line(process)), process.pid


@contextmanager
def _nginx(root: Path, models: Path) -> Iterator[int]:
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise SystemExit(
            "bench.hub needs nginx; on Debian and Ubuntu: "
            "sudo apt-get install -y --no-install-recommends nginx-light"
        )
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    # its worker runs as nobody, who must be able to read the files
    root.chmod(0o755)
    config = root / "nginx.conf"
    config.write_text(NGINX.format(root=root, models=models, port=port))
    process = subprocess.Popen([program, "-c", str(config), "-p", str(root)], stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(port: int) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def _fetch_all(port: int, clients: int, length: int, *, warm: bool) -> float:
    """Bytes per second of all clients together; each takes another part of the file."""
    sockets = [_connection(port) for _ in range(clients)]
    if warm:
        for sock in sockets:
            _ask(sock, "/health", "")
            _take(sock)
    taken = [0] * clients

    def fetch(number: int) -> None:
        start = number * length
        _ask(sockets[number], PATH, f"Range: bytes={start}-{start + length - 1}\r\n")
        taken[number] = _take(sockets[number])

    threads = [threading.Thread(target=fetch, args=(number,)) for number in range(clients)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begun
    for sock in sockets:
        sock.close()
    if min(taken) < length:
        raise SystemExit(f"a server on port {port} sent too little")
    return sum(taken) / seconds


def _connection(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def _ask(sock: socket.socket, path: str, headers: str) -> None:
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n{headers}\r\n".encode())


def _take(sock: socket.socket) -> int:
    """Read one answer; bytes of its body."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += sock.recv(65536)
    head, _, rest = got.partition(b"\r\n\r\n")
    names = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    length = int(names.get(b"content-length", b"0"))
    left = length - len(rest)
    buffer = bytearray(BUFFER_BYTES)
    while left > 0:
        count = sock.recv_into(buffer, min(left, BUFFER_BYTES))
        if not count:
            raise SystemExit("a server closed a connection too early")
        left -= count
    return length


def _list_bytes(port: int) -> int:
    with _connection(port) as sock:
        _ask(sock, "/api/models", "")
        return _take(sock)


def _etag(port: int) -> str:
    with _connection(port) as sock:
        sock.sendall(b"HEAD /api/models HTTP/1.1\r\nHost: bench\r\n\r\n")
        head = sock.recv(65536).decode()
    return next(line.split(": ", 1)[1] for line in head.split("\r\n") if line.lower().startswith("etag"))


if __name__ == "__main__":
    main()
