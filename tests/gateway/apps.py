"""Apps at `/v1/stream` of a daemon without sockets, and what they say and hear in plain JSON."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import trio
from harness import Json, Peer, World, base64, daemon_in_memory
from house import AWAY, EPOCH, KeyRing
from trio.testing import memory_stream_pair
from trio_websocket import WebSocketConnection, wrap_client_stream

from linguad.config.gateway import Gateway
from linguad.gateway.access.admission import Admission
from linguad.gateway.access.protect import Doorkeeper
from linguad.gateway.access.tickets import Tickets
from linguad.gateway.speech.sound import Sounds
from linguad.gateway.speech.talk import Talks
from linguad.gateway.stream.listen import Listen
from linguad.gateway.stream.streams import Streams, link_settings
from linguad.net.links import Links
from linguad.sessions.inside import Inside

SECOND = bytes(range(1, 251)) * 128
"""A second of sound that is not silence, PCM16 at 16 kHz."""

QUEUE = 10_000


class App(Peer):
    """One socket in the hands of a test."""

    def __init__(self, ws: WebSocketConnection, stream: trio.abc.AsyncResource) -> None:
        super().__init__(ws, stream)
        self.ws = ws

    async def start(self, **members: Any) -> Json:
        """Begin a session, English to Spanish."""
        await self.say({"type": "start", "src_lang": "en", "tgt_lang": "es", **members})
        return await self.until("started")

    async def audio(self, sound: bytes = SECOND, **members: Any) -> None:
        """Send audio."""
        await self.say({"type": "audio", "chunk": base64(sound), **members})


class Stage:
    """A daemon with a public API, whose apps are at the other end of memory streams."""

    def __init__(self, world: World, settings: Gateway, emitted: list[tuple[str, str, Json]]) -> None:
        self.world = world
        self.keys = KeyRing()
        self.key = self.keys.add(max_concurrent_sessions=2)
        self.emitted = emitted
        self.admission = Admission(self.keys, settings, wall=lambda: EPOCH + 1)
        self.tickets = Tickets(settings)
        doorkeeper = Doorkeeper(self.admission, self.tickets, settings)
        talks = Talks(Inside(world.daemon.sessions, trio.current_time))
        self.streams = Streams(
            doorkeeper,
            self.admission,
            talks,
            Sounds(),
            settings,
            lambda tenant_id, kind, data: emitted.append((tenant_id, kind, data)),
        )
        limits = link_settings(settings, 10.0, 10.0)
        self.links = Links("stream", limits, self.streams.talk, doorman=self.streams.doorman)
        listen = Listen(self.streams, lambda: EPOCH)
        self.listeners = Links("listen", limits, self.streams.talk, doorman=listen.doorman)

    @property
    def slots(self) -> int:
        """Sessions that count against the tenant."""
        return self.admission.sessions_of("acme")

    async def app(
        self,
        *headers: tuple[str, str],
        key: str | None = "",
        path: str = "/v1/stream",
        protocols: tuple[str, ...] = (),
    ) -> App:
        """A connected app, with the key of the tenant unless another or none is given."""
        sent = [(name.encode(), value.encode()) for name, value in headers]
        if key is not None:
            sent.append((b"Authorization", f"Bearer {key or self.key}".encode()))
        ours, theirs = (cast(trio.SocketStream, stream) for stream in memory_stream_pair())
        self.world.nursery.start_soon(self._links(path).serve, ours, AWAY)
        ws = await wrap_client_stream(
            self.world.nursery,
            theirs,
            "api.example.test",
            path,
            subprotocols=protocols,
            extra_headers=sent,
            message_queue_size=QUEUE,
            max_message_size=2**26,
        )
        return App(ws, theirs)

    def _links(self, path: str) -> Links:
        return self.listeners if path.startswith("/v1/listen") else self.links

    async def refused(self, *headers: str, path: str = "/v1/stream") -> tuple[int, Json, dict[str, str]]:
        """Status, error and headers of an upgrade that is not let in."""
        ours, theirs = (cast(trio.SocketStream, stream) for stream in memory_stream_pair())
        self.world.nursery.start_soon(self._links(path).serve, ours, AWAY)
        lines = [
            f"GET {path} HTTP/1.1",
            "Host: api.example.test",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            *headers,
        ]
        await theirs.send_all("\r\n".join([*lines, "", ""]).encode())
        got = b""
        with trio.fail_after(60):
            while chunk := await theirs.receive_some():
                got += chunk
        await theirs.aclose()
        head, _, body = got.partition(b"\r\n\r\n")
        status, *answered = head.decode().split("\r\n")
        told = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in answered)}
        return int(status.split()[1]), json.loads(body)["error"], told


@asynccontextmanager
async def stage(settings: Gateway | None = None, **tables: Any) -> AsyncIterator[Stage]:
    """A daemon and its apps; for tests under autojump_clock."""
    async with daemon_in_memory(**tables) as world:
        made = Stage(world, settings or Gateway(), [])
        world.nursery.start_soon(made.streams.run)
        yield made
