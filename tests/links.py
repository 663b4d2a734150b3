"""Links to real servers, for the tests of this directory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from patience import PATIENCE_S

from linguad.net.redis.address import Address, parse
from linguad.net.redis.link import Link, Resolver
from linguad.net.redis.status import Limits


def resolver(url: str) -> Resolver:
    """Always the same server."""
    address = parse(url)

    async def resolve() -> Address:
        return address

    return resolve


def make_link(url: str | Resolver, limits: Limits | None = None, **more: Any) -> Link:
    """A link that does not run yet."""
    resolve = resolver(url) if isinstance(url, str) else url
    return Link(resolve, limits or Limits(), **{"name": "test", "client_name": "linguad:test", **more})


@asynccontextmanager
async def linked(url: str | Resolver, limits: Limits | None = None, **more: Any) -> AsyncGenerator[Link]:
    """A link that is connected."""
    link = make_link(url, limits, **more)
    async with running(link):
        with trio.fail_after(PATIENCE_S):
            await link.wait_up()
        yield link


@asynccontextmanager
async def running(*services: Any) -> AsyncGenerator[None]:
    """Run links and the like until the end of the block, which ends a test that hangs."""
    with trio.fail_after(2 * PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for service in services:
                await nursery.start(service.run)
            yield
            nursery.cancel_scope.cancel()


async def until(condition: Callable[[], object], what: str = "it") -> None:
    """Wait until something outside is so; fails if it takes too long."""
    with trio.move_on_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 # the server tells nobody
            await trio.sleep(0.01)
        return
    raise AssertionError(f"{what} did not come about")
