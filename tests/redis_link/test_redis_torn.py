"""Connections that are torn at any byte: nobody gets the reply of another, nobody waits for ever."""

from __future__ import annotations

from functools import partial

import trio
from cutter import FOREVER, Cutter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from links import linked, until
from redis_server import RedisServer

from linguad.net.redis.errors import RedisAway
from linguad.net.redis.link import Link
from linguad.net.redis.status import Limits

TASKS = 8


class Outcome:
    """What became of one task's commands."""

    def __init__(self) -> None:
        self.echoed: list[tuple[bytes, object]] = []
        self.counted: set[str] = set()
        self.unsent: set[str] = set()


async def work(link: Link, task: int, outcome: Outcome) -> None:
    """Commands whose replies tell whose they are, and writes that can be found later."""
    for step in range(6):
        mine = f"{task}:{step}:".encode() + b"x" * (7 * step)
        try:
            outcome.echoed.append((mine, await link.call(("ECHO", mine))))
            if await link.call(("INCR", f"n:{task}:{step}")) == 1:
                outcome.counted.add(f"n:{task}:{step}")
        except RedisAway as error:
            if not error.sent:
                outcome.unsent.add(f"n:{task}:{step}")


async def torn(server: RedisServer, up: int | None, down: int | None) -> None:
    server.do("FLUSHALL")
    cutter = Cutter(server.directory / "cut", server.socket)
    outcome = Outcome()
    async with trio.open_nursery() as nursery:
        await nursery.start(cutter.run)
        async with linked(f"unix://{cutter.path}", Limits(command_seconds=10.0)) as link:
            # the login is not torn: whether there is a connection at all is tested elsewhere
            if up is not None:
                cutter.up = up
            if down is not None:
                cutter.down = down
            async with trio.open_nursery() as tasks:
                for task in range(TASKS):
                    tasks.start_soon(work, link, task, outcome)
            cutter.up = cutter.down = FOREVER
            assert await link.call(("ECHO", "after"), repeatable=True) == b"after"
            found = await link.call(("KEYS", "n:*"), repeatable=True)
            assert isinstance(found, list)
            stored = {key.decode() for key in found}
        nursery.cancel_scope.cancel()
    assert all(reply == mine for mine, reply in outcome.echoed)
    assert outcome.counted <= stored, "what was answered was carried out"
    assert not outcome.unsent & stored, "what was surely not sent was not carried out"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.booleans(), st.integers(1, 3000))
def test_a_connection_torn_at_any_byte(server: RedisServer, downwards: bool, bytes_until: int) -> None:
    way = {"up": None, "down": bytes_until} if downwards else {"up": bytes_until, "down": None}
    trio.run(partial(torn, server, **way))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.booleans(), st.integers(1, 400))
def test_a_login_torn_at_any_byte(server: RedisServer, downwards: bool, bytes_until: int) -> None:
    async def login() -> None:
        cutter = Cutter(server.directory / "cut", server.socket)
        if downwards:
            cutter.down = bytes_until
        else:
            cutter.up = bytes_until
        async with trio.open_nursery() as nursery:
            await nursery.start(cutter.run)
            async with linked(f"unix://{cutter.path}") as link:
                await until(lambda: link.up)
                assert await link.call(("ECHO", "after"), repeatable=True) == b"after"
            nursery.cancel_scope.cancel()

    trio.run(login)
