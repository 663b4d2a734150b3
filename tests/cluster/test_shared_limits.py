"""What all instances together let a tenant do: one bucket, one count, and what holds without Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from instances import Instance, members
from links import until
from patience import PATIENCE_S
from redis_server import RedisServer

from linguad.cluster import limits as shared
from linguad.cluster.limits import LEASE_HEARTBEATS, SharedLimits
from linguad.core.limits import Leases, Wish

Servers = Callable[..., RedisServer]

HERE_S = 0.5
"""How long a request waits for a Redis that answers nothing, s."""

SOON = 0.5
"""A heartbeat whose leases end within seconds."""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take its time to ask Redis."""
    monkeypatch.setattr(shared, "PATIENCE_S", PATIENCE_S)


class Gateway(Instance):
    """An instance with sessions of tenants."""

    def __init__(self, name: str, url: str, **settings: object) -> None:
        super().__init__(name, url, **settings)
        self.leases = Leases()
        self.limits = SharedLimits(self.cluster, self.leases)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part until cancelled or killed."""
        with self.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.limits.run)
                await self.cluster.run(task_status=task_status)

    async def request(self, tenant: str = "acme", burst: int = 5, per_second: float = 0.001) -> str:
        """Ask for one request: how many are left, or why not."""
        verdict = await self.limits.ask(Wish(tenant=tenant, burst=burst, per_second=per_second))
        if verdict is None:
            return "away"
        standing = verdict.standing
        assert standing.limit == burst
        return f"wait {standing.wait_s:.0f}" if standing.wait_s else f"{standing.remaining} left"

    async def session(self, tenant: str = "acme", most: int = 3) -> str:
        """Ask for one session."""
        lease = self.leases.take(tenant, most)
        if lease is None:
            return "refused here"
        wish = Wish(tenant=tenant, sessions=self.leases.used(tenant), most_sessions=most)
        verdict = await self.limits.ask(wish)
        if verdict is not None and not verdict.session:
            lease.release()
            self.limits.changed(tenant)
            return "refused"
        return "away" if verdict is None else f"begun, {verdict.sessions_elsewhere} elsewhere"

    def end(self, tenant: str = "acme") -> None:
        """End one."""
        self.leases.take_back(tenant)
        self.limits.changed(tenant)


@asynccontextmanager
async def two(server: RedisServer, **settings: object) -> AsyncIterator[tuple[Gateway, Gateway]]:
    a, b = Gateway("a", server.url, **settings), Gateway("b", server.url, **settings)
    async with members(a, b):
        yield a, b


def told(server: RedisServer, tenant: str = "acme") -> list[int]:
    """How many sessions each instance is known to have, without those that have none."""
    values = server.do("HVALS", f"lingua:v2:{{t:{tenant}}}:sessions")
    assert isinstance(values, list)
    return sorted(count for value in values if (count := int(value.split()[0])))


class TestRequests:
    async def test_of_all_instances_are_counted_together(self, make_server: Servers) -> None:
        async with two(make_server()) as (a, b):
            said = [await one.request() for one in (a, b, a, b, a)]
            assert said == [f"{left} left" for left in (4, 3, 2, 1, 0)]
            for one in (a, b):
                wait = (await one.request()).split()
                assert wait[0] == "wait"
                assert 900 < int(wait[1]) <= 1000
            assert await a.request("other") == "4 left", "others have their own"

    async def test_come_back_by_the_clock_of_redis(self, make_server: Servers) -> None:
        async with two(make_server()) as (a, b):
            assert await a.request(burst=1, per_second=2) == "0 left"
            verdict = await b.limits.ask(Wish(tenant="acme", burst=1, per_second=2))
            assert verdict is not None
            await trio.sleep(verdict.standing.wait_s)
            assert await b.request(burst=1, per_second=2) == "0 left"

    async def test_of_a_tenant_whose_limits_change(self, make_server: Servers) -> None:
        async with two(make_server()) as (a, b):
            for _ in range(5):
                await a.request(burst=5, per_second=0.01)
            assert (await b.request(burst=5, per_second=0.01)).startswith("wait")
            assert (await b.request(burst=2, per_second=1000)) != "away", "a shorter wait is used at once"
            await trio.sleep(0.01)
            assert (await b.request(burst=2, per_second=1000)).endswith("left")

    async def test_leave_nothing_in_redis(self, make_server: Servers) -> None:
        server = make_server()
        async with two(server) as (a, _b):
            await a.request(burst=3, per_second=100)
            await until(lambda: server.do("EXISTS", "lingua:v2:{t:acme}:rate") == 0)


class TestSessions:
    async def test_of_all_instances_are_counted_together(self, make_server: Servers) -> None:
        server = make_server()
        async with two(server) as (a, b):
            assert await a.session() == "begun, 0 elsewhere"
            assert await b.session() == "begun, 1 elsewhere"
            assert await a.session() == "begun, 1 elsewhere"
            assert [await a.session(), await b.session()] == ["refused", "refused"]
            b.end()
            await until(lambda: told(server) == [2])
            assert await a.session() == "begun, 0 elsewhere"
            assert await a.session() == "refused here"
            for _ in range(3):
                a.end()
            await until(lambda: told(server) == [])

    async def test_of_one_that_is_killed_are_free_when_its_lease_ends(self, make_server: Servers) -> None:
        server = make_server()
        async with two(server, heartbeat_seconds=SOON) as (a, b):
            for _ in range(3):
                await a.session()
            assert await b.session() == "refused"
            await trio.sleep(2 * LEASE_HEARTBEATS * SOON)
            assert await b.session() == "refused", "who lives tells again"
            a.scope.cancel()
            await until(lambda: told(server) == [])
            assert await b.session() == "begun, 0 elsewhere"

    async def test_that_begin_in_the_same_moment(self, make_server: Servers) -> None:
        server = make_server()
        async with two(server) as (a, b):
            said: list[str] = []

            async def begin(one: Gateway) -> None:
                said.append(await one.session(most=7))

            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(begin, a)
                    nursery.start_soon(begin, b)
            begun = sum(one.startswith("begun") for one in said)
            assert 1 <= begun <= 7, "one that is about to be refused may keep out another"
            await until(lambda: sum(told(server)) == begun)


class TestWithoutRedis:
    async def test_an_instance_is_alone(self, make_server: Servers) -> None:
        server = make_server()
        async with two(server) as (a, _b):
            server.stop()
            assert await a.request() == "away"
            assert await a.session() == "away"

    async def test_nobody_waits_long_for_one_that_stands_still(
        self, make_server: Servers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = make_server()
        async with two(server) as (a, b):
            server.freeze()
            monkeypatch.setattr(shared, "PATIENCE_S", HERE_S)
            assert await a.session() == "away"
            assert a.cluster.up, "it was not waited for until it is given up"
            monkeypatch.setattr(shared, "PATIENCE_S", PATIENCE_S)
            server.thaw()
            await until(lambda: told(server) == [1])
            assert await b.session() == "begun, 1 elsewhere"

    async def test_sessions_are_told_when_it_is_back(self, make_server: Servers) -> None:
        server = make_server()
        async with two(server) as (a, b):
            await a.session()
            server.kill()
            assert await a.session() == "away"
            server.start()
            await until(lambda: a.cluster.up and b.cluster.up)
            await until(lambda: told(server) == [2])
            assert await b.session() == "begun, 2 elsewhere"

    async def test_one_that_is_full_counts_as_away(self, make_server: Servers) -> None:
        server = make_server()
        async with two(server) as (a, _b):
            server.do("CONFIG", "SET", "maxmemory", "1")
            assert await a.request() == "away"
            server.do("CONFIG", "SET", "maxmemory", "0")
            assert await a.request() == "4 left"


@pytest.mark.parametrize("name", ["}{", "a b", "tenant-" + "x" * 200])
async def test_any_name_of_a_tenant_will_do(make_server: Servers, name: str) -> None:
    async with two(make_server()) as (a, b):
        assert [await a.request(name), await b.request(name)] == ["4 left", "3 left"]
