"""Real processes of linguad for the tests, and the little HTTP they need."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import h11
import secrecy
import trio
from harness import Client, Json, Node
from patience import PATIENCE_S

from linguad.config.writing import toml
from linguad.core.tenant import Scope
from linguad.net import dial

BASE = {"host": "127.0.0.1", "port": 0}
"""Settings of `[server]` in every test: a free port that nobody else sees."""


def clean_environment(**members: str) -> dict[str, str]:
    """This process's environment without what changes linguad's settings; warnings are errors there too."""
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LINGUAD_", "RUST_", "NOTIFY_"))
    }
    return own | {"PYTHONWARNINGS": "error"} | members


def command(*words: str | Path) -> list[str]:
    """The command line of `linguad`."""
    return [sys.executable, "-m", "linguad", *map(str, words)]


def linguad(
    *words: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    seconds: float = PATIENCE_S,
) -> subprocess.CompletedProcess[str]:
    """Run `linguad` to its end."""
    return subprocess.run(
        command(*words),
        cwd=cwd,
        env=clean_environment() if env is None else dict(env),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def write_config(path: Path, **tables: Mapping[str, Any]) -> Path:
    """A configuration file with these settings."""
    lines = []
    for table, settings in tables.items():
        lines.append(f"[{table}]")
        lines += [f"{name} = {toml(value)}" for name, value in settings.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


class Process:
    """A running program, whose lines are kept as they come."""

    def __init__(
        self, words: list[str], env: Mapping[str, str], cwd: Path, pass_fds: Sequence[int] = ()
    ) -> None:
        self.lines: list[str] = []
        """What it said on standard output."""
        self.complaints: list[str] = []
        """What it said on standard error."""
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            words,
            env=dict(env),
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=pass_fds,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._pumps = [
            threading.Thread(target=self._pump, args=(pipe, into), daemon=True)
            for pipe, into in ((self._process.stdout, self.lines), (self._process.stderr, self.complaints))
        ]
        for pump in self._pumps:
            pump.start()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def events(self) -> list[Json]:
        """The JSON objects among its lines: the log of linguad."""
        return [json.loads(line) for line in list(self.lines) if line.startswith("{")]

    def wait_for(self, name: str, **members: Any) -> Json:
        """The first event of this name with these members, waiting for it."""
        end = time.monotonic() + PATIENCE_S
        with self._changed:
            while True:
                for event in self.events:
                    if event["event"] == name and members.items() <= event.items():
                        return event
                left = end - time.monotonic()
                assert left > 0, f"{name} did not come; what came: {self.lines} {self.complaints}"
                assert self.running, f"ended before {name}; it said: {self.lines} {self.complaints}"
                self._changed.wait(min(left, 0.5))

    async def event(self, name: str, **members: Any) -> Json:
        """As `wait_for`, for trio."""
        return await trio.to_thread.run_sync(partial(self.wait_for, name, **members))

    @property
    def rss_bytes(self) -> int:
        """Memory it holds now."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    @property
    def open_files(self) -> int:
        """Descriptors it holds now."""
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    def signal(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self, seconds: float = PATIENCE_S) -> int:
        """Its exit code, when it ends and everything it said has been read."""
        code = self._process.wait(seconds)
        for pump in self._pumps:
            pump.join(seconds)
        return code

    async def ended(self) -> int:
        """Its exit code, when it ends."""
        return await trio.to_thread.run_sync(self.wait)

    def clear_away(self) -> None:
        """Kill it if it still runs, and close its pipes."""
        if self.running:
            self._process.kill()
        self.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def _pump(self, pipe: IO[str], into: list[str]) -> None:
        for line in pipe:
            with self._changed:
                into.append(line.rstrip("\n"))
                self._changed.notify_all()


class Http:
    """A connection that stays open between its requests."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._protocol = h11.Connection(h11.CLIENT)

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Status and body of a GET request."""
        return await self.ask("GET", path, **headers)

    async def ask(self, method: str, path: str, said: Json | None = None, **headers: str) -> tuple[int, str]:
        """Status and body of any request; `said` is its own body."""
        protocol = self._protocol
        content = b"" if said is None else json.dumps(said).encode()
        lines = [("Host", "localhost"), ("Content-Length", str(len(content))), *headers.items()]
        request = h11.Request(method=method, target=path, headers=lines)
        frame = protocol.send(request) + protocol.send(h11.Data(data=content))
        status, body = 0, b""
        with trio.fail_after(PATIENCE_S):
            await self._stream.send_all(frame + protocol.send(h11.EndOfMessage()))
            while True:
                match protocol.next_event():
                    case h11.NEED_DATA:
                        protocol.receive_data(await self._stream.receive_some())
                    case h11.Response(status_code=status):
                        pass
                    case h11.Data(data=part):
                        body += part
                    case h11.EndOfMessage():
                        if protocol.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                            protocol.start_next_cycle()
                        return status, body.decode()


class Reply(NamedTuple):
    """An answer of the public API."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> Json:
        """The body."""
        said: Json = json.loads(self.body)
        return said

    def problem(self, status: int) -> Json:
        """The error in the shape that all have; it must have this status."""
        assert self.status == status, self
        error: Json = self.json["error"]
        assert error["status"] == status
        assert error["request_id"] == self.headers["x-request-id"]
        assert error["message"]
        return error


class Api:
    """The public API of a daemon, as an app with a key calls it."""

    def __init__(self, port: int, key: str) -> None:
        self.port = port
        self.key = key
        self.shown: set[str] = {key}
        """Every key that was sent."""
        self.errors: list[tuple[str, bytes]] = []
        """What was asked for and answered with an error."""

    async def call(
        self, method: str, path: str, body: bytes | Json = b"", *, key: str | None = None, **headers: str
    ) -> Reply:
        """One request on a connection of its own; "" for `key` sends none."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        key = self.key if key is None else key
        self.shown.add(key)
        lines = [("Host", f"127.0.0.1:{self.port}"), ("Content-Length", str(len(content)))]
        lines += [("Authorization", f"Bearer {key}")] if key else []
        lines += [(name.replace("_", "-"), value) for name, value in headers.items()]
        protocol = h11.Connection(h11.CLIENT)
        sent = protocol.send(h11.Request(method=method, target=path, headers=lines)) or b""
        sent += (protocol.send(h11.Data(data=content)) or b"") + (protocol.send(h11.EndOfMessage()) or b"")
        with trio.fail_after(PATIENCE_S):
            async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
                await stream.send_all(sent)
                status, found, answer = 0, dict[str, str](), b""
                while True:
                    match protocol.next_event():
                        case h11.NEED_DATA:
                            protocol.receive_data(await stream.receive_some())
                        case h11.Response(status_code=status, headers=given):
                            found = {name.decode(): value.decode() for name, value in given}
                        case h11.Data(data=part):
                            answer += part
                        case h11.EndOfMessage():
                            if status >= 400:
                                self.errors.append((f"{method} {path}", answer))
                            return Reply(status, found, answer)

    async def translate(self, audio: bytes, *, key: str | None = None, **fields: str) -> Reply:
        """Upload a recording."""
        body, kind = form(audio, **fields)
        return await self.call("POST", "/v1/speech/translate", body, key=key, Content_Type=kind)


def form(audio: bytes, **fields: str) -> tuple[bytes, str]:
    """A multipart form with a recording, and its content type."""
    mark = "----linguad-test"
    parts = [
        f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    head = f'--{mark}\r\nContent-Disposition: form-data; name="audio"; filename="a.wav"\r\n\r\n'
    body = "".join(parts).encode() + head.encode() + audio + f"\r\n--{mark}--\r\n".encode()
    return body, f"multipart/form-data; boundary={mark}"


class DaemonProcess(Process):
    """`linguad serve`."""

    def __init__(
        self,
        directory: Path,
        env: Mapping[str, str] | None = None,
        only: str | None = None,
        **tables: Mapping[str, Any],
    ) -> None:
        self.directory = directory
        self._apis: list[Api] = []
        settings: dict[str, Mapping[str, Any]] = dict(tables)
        settings["server"] = BASE | {"state_dir": str(directory / "state")} | dict(tables.get("server", {}))
        settings["gateway"] = BASE | dict(tables.get("gateway", {}))
        settings["hub"] = BASE | dict(tables.get("hub", {}))
        settings["log"] = {"format": "json"} | dict(tables.get("log", {}))
        config = write_config(directory / "linguad.toml", **settings)
        words = ("--only", only) if only else ()
        super().__init__(
            command("serve", "--config", config, *words), clean_environment(**(env or {})), directory
        )

    async def port(self) -> int:
        """The port it listens on, as soon as it does."""
        return int((await self.event("started"))["port"])

    async def gateway(self) -> Api:
        """Its public API, with the key that it made itself."""
        port = (await self.event("listening", door="gateway"))["port"]
        await self.event("started")
        key = await trio.Path(self.directory, "state", "dev_api_key").read_text()
        return self._api(port, key.strip())

    async def operator(self, tenant: str = "default") -> Api:
        """Its public API, with a key that may do everything."""
        api = await self.gateway()
        words = [word for scope in Scope for word in ("--scope", scope.value)]
        words += ["--config", str(self.directory / "linguad.toml"), "--json"]
        done = await trio.to_thread.run_sync(lambda: linguad("key", "create", tenant, *words))
        assert done.returncode == 0, done
        operator = self._api(api.port, json.loads(done.stdout)["api_key"]["key"])
        with trio.fail_after(PATIENCE_S):
            # another process has made it; the daemon looks every second
            while (await operator.call("GET", "/v1/me")).status != 200:  # noqa: ASYNC110
                await trio.sleep(0.1)
        return operator

    def resume(self, api: Api, port: int, key: str = "") -> Api:
        """The same caller, or one with another key, at this daemon."""
        return self._api(port, key or api.key)

    def _api(self, port: int, key: str) -> Api:
        self._apis.append(Api(port, key))
        return self._apis[-1]

    def leaks(self) -> list[str]:
        """Keys, tickets, secrets, audio and text of speech in what it wrote and in the errors it answered."""
        shown = {key for api in self._apis for key in api.shown}
        said = [("its log", line.encode()) for line in self.lines + self.complaints]
        said += [error for api in self._apis for error in api.errors]
        logs = [(path.name, path.read_bytes()) for path in self.directory.glob("*.log*")]
        state = self.directory / "state"
        return secrecy.leaks(said + logs, shown) + secrecy.leaks_of_files(state, shown)

    def clear_away(self) -> None:
        """Kill it if it still runs; whatever it was used for, it must have kept its secrets."""
        super().clear_away()
        assert self.leaks() == []

    @asynccontextmanager
    async def stranger(self) -> AsyncIterator[Client]:
        """A client that has said nothing yet."""
        async with dial.websocket(f"ws://127.0.0.1:{await self.port()}/ws/session") as ws:
            yield Client(ws, patience_s=PATIENCE_S)

    @asynccontextmanager
    async def client(self, **members: Any) -> AsyncIterator[Client]:
        """A client with an open session."""
        async with self.stranger() as client:
            await client.open(**members)
            yield client

    @asynccontextmanager
    async def unregistered(self) -> AsyncIterator[Node]:
        """A node that has said nothing yet."""
        url = f"ws://127.0.0.1:{await self.port()}/ws/node"
        async with dial.websocket(url, max_message_bytes=2**26) as ws:
            yield Node(ws, patience_s=PATIENCE_S)

    @asynccontextmanager
    async def node(self, **members: Any) -> AsyncIterator[Node]:
        """A registered node with heartbeats."""
        async with self.unregistered() as node, trio.open_nursery() as nursery:
            await node.register(**members)
            nursery.start_soon(node.beat)
            yield node
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def working_node(self) -> AsyncIterator[Node]:
        """A node that answers every job at once."""
        async with self.node() as node, trio.open_nursery() as nursery:
            nursery.start_soon(node.work)
            yield node
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def http(self) -> AsyncIterator[Http]:
        """A connection for HTTP requests."""
        async with await trio.open_tcp_stream("127.0.0.1", await self.port()) as stream:
            yield Http(stream)

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Status and body of a GET request."""
        async with self.http() as http:
            return await http.get(path, **headers)

    async def ask(self, method: str, path: str, said: Json | None = None) -> Json:
        """The JSON that a request is answered with."""
        async with self.http() as http:
            status, body = await http.ask(method, path, said)
        assert status == 200, body
        answer: Json = json.loads(body)
        return answer

    async def talk(self, data: bytes) -> bytes:
        """Send bytes and read to the end of the connection."""
        with trio.fail_after(PATIENCE_S):
            async with await trio.open_tcp_stream("127.0.0.1", await self.port()) as stream:
                await stream.send_all(data)
                answer = b""
                try:
                    async for part in stream:
                        answer += part
                except trio.BrokenResourceError:
                    answer += b" <reset>"
                return answer

    async def assert_serves(self) -> None:
        """It is healthy and translates."""
        status, body = await self.get("/health")
        assert (status, body) == (200, "OK")
        async with self.working_node(), self.client() as client:
            await client.speak()
            result = await client.result()
            assert (result["utterance_index"], result["text_translated"]) == (0, "oído 0")

    def stop(self) -> None:
        """End it in order; it must have nothing to complain of."""
        if self.running:
            self.signal(signal.SIGTERM)
        code = self.wait()
        assert (code, self.complaints) == (0, [])
        assert [event for event in self.events if event["level"] in ("error", "critical")] == []
