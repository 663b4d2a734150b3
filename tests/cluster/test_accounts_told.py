"""Changes of accounts, seen by another instance at once and not when it looks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from instances import Instance, members
from links import until
from redis_server import RedisServer

from linguad.cluster.accounts import AccountNews
from linguad.core.accounts import Actor
from linguad.store import news as store_news
from linguad.store.database import Database
from linguad.store.pepper import Pepper
from linguad.store.registry import Registry

Servers = Callable[..., RedisServer]

WHO = Actor(type="system", id="test")


class Office(Instance):
    """An instance with a registry."""

    def __init__(self, name: str, url: str, database: Database) -> None:
        super().__init__(name, url)
        self.registry = Registry(database, Pepper(b"p" * 32, Path("pepper")))
        self.news = AccountNews(self.cluster, [self.registry.news.hint])
        self.registry.news.tell = self.news.tell

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part until cancelled."""
        await self.registry.load()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.registry.run)
            nursery.start_soon(self.news.run)
            await super().run(task_status=task_status)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[tuple[Database, Database]]:
    """The same database, twice."""
    one, other = (Database(f"sqlite:///{path / 'linguad.db'}") for _ in range(2))
    await one.open()
    await other.open()
    try:
        yield one, other
    finally:
        await one.close()
        await other.close()


async def test_a_key_is_known_and_gone_at_once(
    make_server: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_news, "POLL_SECONDS", 10**6)
    server = make_server()
    async with opened(tmp_path) as (one, other):
        a, b = Office("a", server.url, one), Office("b", server.url, other)
        async with members(a, b):
            tenant, issued = await a.registry.create_tenant(WHO, "Acme")
            assert issued is None
            await until(lambda: b.registry.tenant(tenant.id), "the tenant is known")
            made = await a.registry.create_key(WHO, tenant.id)
            await until(lambda: b.registry.lookup(made.text), "the key is known")
            await b.registry.revoke_key(WHO, made.key.id)

            def is_revoked() -> bool:
                key = a.registry.key(made.key.id)
                return key is not None and key.revoked_at is not None

            await until(is_revoked, "the key is revoked")


async def test_what_changed_without_redis_is_seen_when_it_is_back(
    make_server: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_news, "POLL_SECONDS", 10**6)
    server = make_server()
    async with opened(tmp_path) as (one, other):
        a, b = Office("a", server.url, one), Office("b", server.url, other)
        async with members(a, b):
            server.stop()
            await until(lambda: not a.cluster.up and not b.cluster.up)
            tenant, _ = await a.registry.create_tenant(WHO, "Acme")
            server.start()
            await until(lambda: b.registry.tenant(tenant.id), "the tenant is known")
