"""A network of memory streams between the Python client and daemons of the harness."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import trio
from harness import Json, World, daemon_in_memory, plan_a
from trio.testing import memory_stream_one_way_pair, wait_all_tasks_blocked
from trio_websocket import WebSocketConnection

from linguad.client import Event, Session
from linguad.errors import CloseReason
from linguad.net import dial
from linguad.wire.session import Utterance

URL = "ws://localhost:5010/ws/session"

E = TypeVar("E", bound=Event)


class Network:
    """Where the client finds its server; connections can be cut, and the way be closed."""

    def __init__(self) -> None:
        self.world: World | None = None
        self.open = True
        self.connections = 0
        self._streams: list[trio.StapledStream] = []

    @asynccontextmanager
    async def websocket(self, url: str, **limits: float) -> AsyncIterator[WebSocketConnection]:
        """In the place of `dial.websocket`."""
        if not self.open or self.world is None:
            raise dial.DialError(f"cannot connect to {url}: Connection refused")
        ws, stream = await self.world._dial(self.world.daemon.session_links)
        assert isinstance(stream, trio.StapledStream)
        self._streams.append(stream)
        self.connections += 1
        try:
            yield ws
            await ws.aclose()
        finally:
            await trio.aclose_forcefully(stream)

    def hang(self) -> None:
        """What the client sends goes nowhere any more, and nobody says so, as after a change of networks."""
        self._streams[-1].send_stream = memory_stream_one_way_pair()[0]

    async def cut(self) -> None:
        """Every connection breaks without a word."""
        for stream in self._streams:
            await trio.aclose_forcefully(stream)
        self._streams.clear()
        await wait_all_tasks_blocked()


@asynccontextmanager
async def serving(network: Network, **tables: Json) -> AsyncIterator[World]:
    """A daemon that the network leads to."""
    async with daemon_in_memory(**tables) as world:
        network.world = world
        yield world
        await network.cut()
        network.world = None


async def until(session: Session, kind: type[E], holds: Callable[[E], bool] = lambda event: True) -> E:
    """The next event of this type; what comes before is skipped."""
    with trio.fail_after(1000):
        while True:
            event = await session.receive()
            if isinstance(event, kind) and holds(event):
                return event


def sound(mark: int = 1) -> bytes:
    """A chunk that is long enough to be an utterance."""
    return plan_a(25, mark)


async def speak(session: Session, *marks: int) -> None:
    """An utterance of one chunk for each mark."""
    for mark in marks:
        await session.send_audio(sound(mark), "opus")
    await session.finish_utterance()


def marks(job: Json) -> list[int]:
    """The marks of the chunks in a job, each once for its packets in a row."""
    seen: list[int] = []
    for packet in b64decode(job["audio"])[2::62]:
        if not seen or seen[-1] != packet:
            seen.append(packet)
    return seen


def stop(world: World) -> None:
    """The daemon stops: it says what has no result, and sends all away."""
    world.daemon.sessions.abandon()
    world.daemon.session_links.close_all(CloseReason.SHUTDOWN)


def spoken(session_id: str, index: int, data: bytes | None = None) -> Utterance:
    """A whole utterance."""
    return Utterance(
        session_id=session_id,
        utterance_index=index,
        manual_cut=True,
        src_lang="en",
        tgt_lang="es",
        audio=b64encode(sound() if data is None else data).decode(),
        audio_format="opus",
        sample_rate=16000,
    )
