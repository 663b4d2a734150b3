"""Channels and blocking reads on the second connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from links import PATIENCE_S, linked, resolver, running, until
from redis_server import RedisServer

from linguad.net.redis.errors import RedisAway, RedisRefusal
from linguad.net.redis.listener import Listener
from linguad.net.redis.status import Limits
from linguad.net.redis.streams import read

MakeServer = Callable[..., RedisServer]


class Heard:
    """What a listener told."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bytes]] = []
        self.resyncs = 0

    def message(self, channel: bytes, payload: bytes) -> None:
        self.messages.append((channel, payload))

    def resync(self) -> None:
        self.resyncs += 1


def make_listener(url: str, heard: Heard, limits: Limits | None = None) -> Listener:
    return Listener(
        resolver(url),
        limits or Limits(),
        name="listener",
        client_name="linguad:test:listener",
        on_message=heard.message,
        on_resync=heard.resync,
    )


@asynccontextmanager
async def listening(url: str, limits: Limits | None = None) -> AsyncIterator[tuple[Listener, Heard]]:
    heard = Heard()
    listener = make_listener(url, heard, limits)
    async with running(listener):
        await listener.wait_up()
        yield listener, heard


async def test_messages_of_wanted_channels(server: RedisServer) -> None:
    async with listening(server.url) as (listener, heard):
        assert heard.resyncs == 1
        await listener.subscribe("a", "b")
        assert [server.do("PUBLISH", channel, "x") for channel in "abc"] == [1, 1, 0]
        await until(lambda: len(heard.messages) == 2)
        assert heard.messages == [(b"a", b"x"), (b"b", b"x")]
        await listener.unsubscribe("a", "never")
        await listener.subscribe("b")
        assert [server.do("PUBLISH", channel, b"\xff") for channel in "ab"] == [0, 1]
        await until(lambda: len(heard.messages) == 3)
        assert await listener.call(("ECHO", "still in order")) == b"still in order"


async def test_channels_are_subscribed_to_again_and_a_resync_is_asked_for(make_server: MakeServer) -> None:
    server = make_server()
    async with listening(server.url) as (listener, heard):
        await listener.subscribe("a")
        for restarts in (1, 2):
            server.kill()
            await until(lambda: not listener.up)
            await listener.subscribe(f"while-away-{restarts}")
            server.start()
            await until(lambda restarts=restarts: heard.resyncs == 1 + restarts)
            assert server.do("PUBLISH", "a", "x") == 1
            assert server.do("PUBLISH", f"while-away-{restarts}", "x") == 1
            await until(lambda restarts=restarts: len(heard.messages) == 2 * restarts)


async def test_messages_come_while_a_read_blocks(server: RedisServer) -> None:
    async with listening(server.url) as (listener, heard), trio.open_nursery() as nursery:
        await listener.subscribe("a")
        found: list[object] = []

        async def block() -> None:
            found.append(await read(listener, "inbox", count=5, block_ms=20_000))

        nursery.start_soon(block)
        await until(lambda: b"blocked_clients:1" in _info(server))
        server.do("PUBLISH", "a", "meanwhile")
        await until(lambda: heard.messages == [(b"a", b"meanwhile")])
        assert found == []
        server.do("XADD", "inbox", "*", "n", "1")
        await until(lambda: found)


async def test_a_read_that_finds_nothing_ends_in_time(server: RedisServer) -> None:
    async with listening(server.url, Limits(command_seconds=1.0)) as (listener, _):
        # longer than a command may take: blocking is not being late
        assert await read(listener, "inbox", count=5, block_ms=1200) == []


async def test_a_blocking_read_is_told_when_the_server_dies(make_server: MakeServer) -> None:
    server = make_server(durable=True)
    async with listening(server.url) as (listener, heard), trio.open_nursery() as nursery:

        async def block() -> None:
            with pytest.raises(RedisAway, match="was lost before it answered"):
                await read(listener, "inbox", count=5, block_ms=60_000)

        nursery.start_soon(block)
        await until(lambda: b"blocked_clients:1" in _info(server))
        server.kill()
        await until(lambda: not listener.up)
        server.start()
        await until(lambda: heard.resyncs == 2)
        server.do("XADD", "inbox", "*", "n", "1")
        assert len(await read(listener, "inbox", count=5, block_ms=60_000)) == 1


async def test_a_channel_that_is_not_allowed(make_server: MakeServer) -> None:
    server = make_server("user lingua on >word ~* +@all resetchannels &mine:*")
    async with listening(f"unix://lingua:word@{server.socket}") as (listener, heard):
        await listener.subscribe("mine:a")
        with pytest.raises(RedisRefusal, match="NOPERM"):
            await listener.subscribe("other:a", "other:b")
        assert await listener.call(("ECHO", "in order")) == b"in order"
        assert server.do("PUBLISH", "mine:a", "x") == 1
        await until(lambda: heard.messages)


async def test_no_read_blocks_longer_than_a_frozen_server_is_waited_for(make_server: MakeServer) -> None:
    server = make_server()
    async with listening(server.url, Limits(command_seconds=0.2)) as (listener, _):
        server.freeze()
        with trio.fail_after(PATIENCE_S), pytest.raises(RedisAway, match="did not answer XREAD"):
            await read(listener, "inbox", count=5, block_ms=100)
        server.thaw()


async def test_the_first_connection_does_not_listen(server: RedisServer) -> None:
    async with linked(server.url) as link:
        with pytest.raises(ValueError, match="for the listener"):
            await read(link, "inbox", count=5, block_ms=100)


def _info(server: RedisServer) -> bytes:
    info = server.do("INFO", "clients")
    assert isinstance(info, bytes)
    return info
