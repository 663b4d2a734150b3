"""A database that goes away while the daemon runs, and comes back."""

from __future__ import annotations

import io
import json

import pytest
import trio
from accounts import ACTOR, loaded
from patience import PATIENCE_S
from postgres import Postgres

from linguad import config, log
from linguad.core.accounts import KeyWish
from linguad.errors import StoreError
from linguad.store.database import Database
from linguad.store.registry import Registry


class Lines(io.StringIO):
    """Collects what is logged; `wait` until an event is among it."""

    def __init__(self) -> None:
        super().__init__()
        self._came = trio.Event()

    def write(self, text: str) -> int:
        count = super().write(text)
        self._came.set()
        return count

    async def wait(self, event: str) -> None:
        while event not in self.events():
            self._came = trio.Event()
            await self._came.wait()

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.getvalue().splitlines()]


async def test_work_goes_on_while_the_database_is_away() -> None:
    lines = Lines()
    log.configure(config.Log(format="json"), stream=lines)
    server = await trio.to_thread.run_sync(Postgres)
    try:
        await trio.to_thread.run_sync(server.start)
        database = Database(server.url)
        await database.open()
        registry = await loaded(database)
        with trio.fail_after(PATIENCE_S):
            await _see_it_go_and_come(server, registry, lines)
        await database.close()
    finally:
        log.reset()
        await trio.to_thread.run_sync(server.clear_away)


async def _see_it_go_and_come(server: Postgres, registry: Registry, lines: Lines) -> None:
    tenant, issued = await registry.create_tenant(ACTOR, "Acme", key=KeyWish())
    assert issued is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registry.run)
        await trio.to_thread.run_sync(server.stop)
        await lines.wait("store_away")
        assert registry.lookup(issued.text) == (issued.key, tenant)
        registry.used(issued.key.id)
        used = registry.key(issued.key.id)
        with pytest.raises(StoreError, match=r"cannot be used: .*see that the server runs and store\.url"):
            await registry.create_tenant(ACTOR, "Bcme")
        with pytest.raises(StoreError):
            await registry.flush()
        assert registry.tenants() == [tenant]
        await trio.to_thread.run_sync(server.start)
        await lines.wait("store_back")
        assert lines.events() == ["store_away", "store_back"], "told once each"
        await registry.flush()
        await registry.create_tenant(ACTOR, "Bcme")
        nursery.cancel_scope.cancel()
    other = Database(server.url)
    assert (await loaded(other)).key(issued.key.id) == used, "the use was written after all"
    await other.close()
