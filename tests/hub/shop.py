"""A models directory to try things on, and a whole hub on a free port."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio
from patience import PATIENCE_S

from linguad.config.hub import Hub as Settings
from linguad.core.tenant import Key, Scope, Tenant
from linguad.hub.access import KeyStore
from linguad.hub.hub import Hub
from linguad.net.front import FrontSettings
from linguad.net.listen import listen, port_of
from linguad.store.database import Database
from linguad.store.hub import HubRecords

OLD = 1_700_000_000
"""Time of files that have settled, Unix seconds."""


def put(root: Path, path: str, data: bytes | str = b"x", *, at: int | None = OLD) -> Path:
    """Write a file below the models directory."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data.encode() if isinstance(data, str) else data)
    if at is not None:
        os.utime(target, (at, at))
    return target


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def checksums(files: Mapping[str, bytes]) -> str:
    return json.dumps({path: sha(data) for path, data in files.items()})


def package(path: Path, service: str, number: str, platform: str = "windows-x64", **changes: Any) -> bytes:
    """A package that can be published; `changes` are members of its service.json."""
    described = {
        "service_id": service,
        "version": number,
        "platforms": {
            platform: {
                "exec": {"type": "argv", "program": "python", "args": ["main.py"]},
                "files": {"requires": ["main.py"]},
            }
        },
        **changes,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("service.json", "\ufeff" + json.dumps(described))
        file.writestr("main.py", f"print({number!r})\n" * 100)
    return path.read_bytes()


ADMIN = "admin-token"


class Keyring:
    """Keys by credential."""

    def __init__(self) -> None:
        self._tenant = Tenant(id="t", name="T", created_at=0, updated_at=0)
        self._keys: dict[str, Key] = {}

    def add(self, credential: str, *scopes: Scope, expires_at: float | None = None) -> None:
        self._keys[credential] = Key(
            id=credential.upper(),
            tenant_id="t",
            prefix="",
            scopes=frozenset(scopes),
            created_at=0,
            expires_at=expires_at,
        )

    def lookup(self, credential: str, /) -> tuple[Key, Tenant] | None:
        key = self._keys.get(credential)
        return (key, self._tenant) if key else None


class Answer:
    """An answer as it came over the wire."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1])
        pairs = [line.split(":", 1) for line in rest]
        self.headers = {name.lower(): value.strip() for name, value in pairs}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Shop:
    """A running hub."""

    hub: Hub
    port: int
    root: Path
    keyring: Keyring
    connections: trio.Nursery

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def ask(
        self, method: str, path: str, body: bytes | object = b"", *, key: str = "", **headers: str
    ) -> Answer:
        """One request on its own connection; underscores in names of headers stand for dashes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Host": "localhost", "X_Forwarded_For": "192.0.2.1"} | headers
        lines = [f"{method} {path} HTTP/1.1", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value]
        if key:
            lines.append(f"Authorization: Bearer {key}")
        if method not in ("GET", "HEAD"):
            lines.append(f"Content-Length: {len(data)}")
        else:
            data = b""
        async with await self.connect() as stream:
            await stream.send_all("\r\n".join([*lines, "", ""]).encode("latin-1") + data)
            return Answer(await read_all(stream))

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.ask("GET", path, **headers)

    async def hashed(self) -> None:
        """Wait until every file has its digest."""
        catalog = self.hub.catalog
        with trio.fail_after(PATIENCE_S):
            while catalog.unhashed():
                await catalog.wait_change(catalog.current.revision)

    async def publish(self, model_id: str, version: str, files: Mapping[str, bytes], **more: Any) -> Answer:
        """All steps of publishing; the answer of the last."""
        listed = [
            {"path": path, "size_bytes": len(data), "sha256": sha(data)} for path, data in files.items()
        ]
        wanted = {"version": version, "files": listed, **more}
        begun = await self.ask("POST", f"/api/admin/models/{model_id}/versions", wanted, key=ADMIN)
        if begun.status != 201:
            return begun
        upload = f"/api/admin/uploads/{begun.json['upload_id']}"
        for path in begun.json["missing"]:
            sent = await self.ask(
                "PATCH", f"{upload}/files/{path}", files[path], key=ADMIN, Upload_Offset="0"
            )
            assert sent.status == 204, sent.body
        return await self.ask("POST", f"{upload}/commit?wait=60", key=ADMIN)


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    got = bytearray()
    with trio.fail_after(PATIENCE_S):
        try:
            async for chunk in stream:
                got += chunk
        except trio.BrokenResourceError:
            pass
    return bytes(got)


_made: list[bytes] = []


async def empty_database() -> bytes:
    """A database as a first start leaves it; made once, because its steps take longer than most tests."""
    if not _made:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "state.db"
            database = Database(f"sqlite:///{path}")
            await database.open()
            await database.close()
            _made.append(path.read_bytes())
    return _made[0]


@asynccontextmanager
async def open_shop(root: Path, keys: KeyStore | None = None, **settings: Any) -> AsyncIterator[Shop]:
    """A hub on a free port, with its statistics in a database of its own."""
    path = root.parent / "state.db"
    if not path.exists():
        path.write_bytes(await empty_database())
    database = Database(f"sqlite:///{path}")
    keyring = Keyring()
    hub = Hub(
        Settings(host="127.0.0.1", port=0, **settings),
        root,
        keys or keyring,
        HubRecords(database),
        ADMIN,
        FrontSettings(),
    )
    await hub.open()
    listeners = await listen("127.0.0.1", 0, 100, "hub.port")
    async with trio.open_nursery() as services:
        await services.start(hub.run)
        async with trio.open_nursery() as connections:
            await services.start(hub.front.serve, listeners, connections)
            yield Shop(hub, port_of(listeners), root, keyring, connections)
            connections.cancel_scope.cancel()
        services.cancel_scope.cancel()
    await database.close()
