"""A hub played on a real socket: it serves models as the original or the new hub does, and fails as told."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import trio

from linguad.models.catalog import canonical, checksum_text
from linguad.net.http_client import Limits

FAST = Limits(connect_seconds=60, headers_seconds=60, idle_seconds=2, body_bytes=float("inf"))
"""For a test of what stalls. A busy machine stalls too, so nothing may be counted with these."""

Files = dict[str, bytes]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Fault:
    """How one answer with a file goes wrong, after `after` bytes of its body where that makes sense."""

    kind: str
    after: int = 0


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class PlayedHub:
    """`old` plays the original: no manifests, no digests in the list, no ETag on ranges, no If-Range."""

    models: dict[str, dict[str, Files]]
    old: bool = False
    url: str = ""
    task: str = "asr"
    signatures: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    status: dict[tuple[str, str], str] = field(default_factory=dict)
    defaults: dict[str, str] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)
    """One for each of the next answers with a file."""
    asked: list[Asked] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    extra: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """Answers to other paths."""
    missing: set[str] = field(default_factory=set)
    """Files that are listed and not given."""
    slow: float = 0.0
    """Pause between two pieces of a file, s."""
    held: trio.Event | None = None
    """Files are given after this is set."""

    def files_asked(self) -> list[str]:
        """Paths of the files asked for, inside their versions."""
        return [path for path, _ in self._file_requests()]

    def ranges_asked(self) -> dict[str, list[str | None]]:
        """What of each file was asked for, request by request."""
        ranges: dict[str, list[str | None]] = {}
        for path, asked in self._file_requests():
            ranges.setdefault(path, []).append(asked.headers.get("range"))
        return ranges

    def _file_requests(self) -> Iterator[tuple[str, Asked]]:
        prefix = "/storage/models/"
        for asked in self.asked:
            if asked.path.startswith(prefix):
                path = unquote(asked.path.removeprefix(prefix).split("/", 2)[2])
                if path != "checksum.sha256":
                    yield path, asked

    def manifest(self, model_id: str, version: str) -> dict[str, Any]:
        files = self.models[model_id][version]
        manifest = {
            "schema": 1,
            "model_id": model_id,
            "version": version,
            "created_at": "2026-01-01T00:00:00Z",
            "total_size": sum(map(len, files.values())),
            "block_size": 4194304,
            "files": [
                {"path": path, "size_bytes": len(data), "sha256": sha256(data), "etag": "", "url": ""}
                for path, data in sorted(files.items())
            ],
        }
        return manifest | {"manifest_sha256": sha256(canonical(manifest))}

    def entry(self, model_id: str) -> dict[str, Any]:
        versions = []
        for version, files in self.models[model_id].items():
            digests = {path: sha256(data) for path, data in files.items()}
            listed = {
                "version": version,
                "size_bytes": sum(map(len, files.values())),
                "files": [{"path": path, "size_bytes": len(data)} for path, data in files.items()],
                "checksum_sha256": checksum_text(digests).decode().strip(),
                "updated_at": "2026-01-01T00:00:00Z",
            }
            if not self.old:
                listed |= {
                    "manifest_sha256": self.manifest(model_id, version)["manifest_sha256"],
                    "status": self.status.get((model_id, version), "published"),
                    "signature": self.signatures.get((model_id, version)),
                    "surprise": 1,
                }
            versions.append(listed)
        return {
            "id": model_id,
            "name": model_id.title(),
            "task": self.task,
            "languages": ["en", "es"],
            "default_version": self.defaults.get(model_id, next(reversed(self.models[model_id]))),
            "versions": versions,
        }

    async def serve(self, stream: trio.SocketStream) -> None:
        try:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._answer(stream)
        finally:
            await trio.aclose_forcefully(stream)

    async def _answer(self, stream: trio.SocketStream) -> None:
        received = bytearray()
        while b"\r\n\r\n" not in received:
            part = await stream.receive_some()
            if not part:
                return
            received += part
        head, _, rest = bytes(received).partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while len(rest) < int(headers.get("content-length", 0)):
            rest += await stream.receive_some()
        asked = Asked(method, target, headers, rest)
        self.asked.append(asked)
        path = target.partition("?")[0]
        if path.startswith("/storage/models/"):
            model_id, version, name = path.removeprefix("/storage/models/").split("/", 2)
            files = self.models.get(model_id, {}).get(unquote(version), {})
            name = unquote(name)
            if name == "checksum.sha256" and files:
                await self._send(
                    stream, 200, checksum_text({one: sha256(data) for one, data in files.items()})
                )
            elif name in files and name not in self.missing:
                await self._file(stream, headers, files[name])
            else:
                await self._send(stream, 404, b'{"detail":"File not found"}')
            return
        await self._send(stream, *self._list(path, rest))

    def _list(self, path: str, body: bytes) -> tuple[int, bytes]:
        if path in self.extra:
            return self.extra[path]
        if path == "/api/models":
            return 200, json.dumps([self.entry(one) for one in self.models]).encode()
        if path == "/api/model-usage/events":
            self.events += json.loads(body)["events"]
            return 202, b"{}"
        if path == "/api/model-usage/ranking":
            rows = [{"model_id": one, "request_count": 9, "rank": 1} for one in self.models]
            return 200, json.dumps(rows).encode()
        if found := re.fullmatch(r"/api/models/([^/]+)", path):
            if found[1] in self.models:
                return 200, json.dumps(self.entry(found[1])).encode()
            return 404, b'{"detail":"Model not found"}'
        found = re.fullmatch(r"/api/models/([^/]+)/versions/([^/]+)/manifest", path)
        if found and not self.old and found[2] in self.models.get(found[1], {}):
            return 200, json.dumps(self.manifest(found[1], found[2])).encode()
        return 404, b'{"detail":"Not Found"}'

    async def _file(self, stream: trio.SocketStream, headers: dict[str, str], data: bytes) -> None:
        if self.held is not None:
            await self.held.wait()
        fault = self.faults.popleft() if self.faults else Fault("none")
        etag = f'"{sha256(data)}"'
        start, status = 0, 200
        if (found := re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))) and fault.kind != "whole":
            stale = not self.old and headers.get("if-range", etag) != etag
            if not stale:
                start, status = int(found[1]), 206
        body = data[start:]
        fields = {"Accept-Ranges": "bytes", "Content-Length": str(len(body))}
        if not (self.old and status == 206):
            fields["ETag"] = etag
        if status == 206:
            fields["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if status == 206 and start >= len(data):
            status, body = 416, b""
            fields |= {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"}
        match fault.kind:
            case "refuse":
                return
            case "busy":
                await self._send(stream, 503, b"busy", {"Retry-After": "0"})
                return
            case "unsatisfiable":
                await self._send(stream, 416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
            case "missing":
                await self._send(stream, 404, b"{}")
                return
            case "wrong_range":
                away = max(0, start - 1 - fault.after % 7)
                body = data[away:]
                status = 206
                fields |= {
                    "Content-Length": str(len(body)),
                    "Content-Range": f"bytes {away}-{len(data) - 1}/{len(data)}",
                }
            case "lying_range" if status == 206:
                # The header is right and the bytes are not.
                body = body[::-1]
            case "unranged_206":
                status = 206
                del fields["Content-Length"]
            case "long":
                del fields["Content-Length"]
                body += b"more than there is"
            case "announced_long":
                body += b"more than there is"
                fields["Content-Length"] = str(len(body))
            case "damaged" if body:
                at = fault.after % len(body)
                body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
            case "short_close":
                del fields["Content-Length"]
                body = body[: fault.after]
            case "gzip":
                fields["Content-Encoding"] = "gzip"
        head = f"HTTP/1.1 {status} x\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await stream.send_all(f"{head}Connection: close\r\n\r\n".encode())
        if fault.kind in ("cut", "reset", "stall"):
            await stream.send_all(body[: fault.after])
            if fault.kind == "stall":
                await trio.sleep_forever()
            if fault.kind == "reset":
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        step = 65536 if self.slow else len(body) or 1
        for at in range(0, len(body), step):
            await stream.send_all(body[at : at + step])
            await trio.sleep(self.slow)

    async def _send(
        self, stream: trio.SocketStream, status: int, body: bytes, more: dict[str, str] | None = None
    ) -> None:
        fields = {"Content-Length": str(len(body)), "Content-Type": "application/json"} | (more or {})
        head = f"HTTP/1.1 {status} x\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await stream.send_all(f"{head}Connection: close\r\n\r\n".encode() + body)


@asynccontextmanager
async def played_hub(
    models: dict[str, dict[str, Files]] | None = None, *, old: bool = False, hub: PlayedHub | None = None
) -> AsyncIterator[PlayedHub]:
    """A hub on a free port of loopback, until the end of the block."""
    hub = hub or PlayedHub(models or {}, old)
    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(_listen, hub)
        port = listeners[0].socket.getsockname()[1]
        hub.url = f"http://127.0.0.1:{port}"
        yield hub
        nursery.cancel_scope.cancel()


async def _listen(hub: PlayedHub, task_status: trio.TaskStatus[list[trio.SocketListener]]) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(listeners)
    await trio.serve_listeners(hub.serve, listeners)
