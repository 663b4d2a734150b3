"""Pairing codes that are good at all instances, once (resolution 50)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import trio
from instances import Instance, members
from links import until
from redis_server import RedisServer

from linguad.cluster.pairing import SharedCodes
from linguad.core.pairing import CODE_TTL_S, PairingCodes
from linguad.core.tries import MAX_FAILED_TRIES


class Owner(Instance):
    """An instance with nodes, and codes of theirs."""

    def __init__(self, name: str, url: str, fresh: Iterator[str]) -> None:
        super().__init__(name, url)
        self.codes = PairingCodes(lambda: next(fresh))
        self.shared = SharedCodes(self.cluster, self.codes)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.shared.run)
            await super().run(task_status=task_status)
            nursery.cancel_scope.cancel()

    def make(self, node_id: str) -> str:
        """A code of a node."""
        return self.codes.create(node_id, trio.current_time()).code


def two(server: RedisServer, *codes: str) -> tuple[Owner, Owner]:
    """Instances a and b whose codes are these."""
    return Owner("a", server.url, iter(codes)), Owner("b", server.url, iter(codes))


def kept(server: RedisServer, code: str) -> object:
    """What Redis has of a code."""
    return server.do("GET", f"lingua:v2:{{pair:{code}}}")


async def test_a_code_is_good_at_another_instance_once(server: RedisServer) -> None:
    a, b = two(server, "123456")
    async with members(a, b):
        code = a.make("node 1/x")
        await until(lambda: kept(server, code))
        ttl = server.do("TTL", f"lingua:v2:{{pair:{code}}}")
        assert isinstance(ttl, int)
        assert CODE_TTL_S - 60 < ttl <= CODE_TTL_S
        found: list[str | None] = []

        async def redeem(one: Owner) -> None:
            found.append(await one.shared.redeem(code, "192.0.2.1"))

        async with trio.open_nursery() as nursery:
            for one in (a, b, a, b):
                nursery.start_soon(redeem, one)
        assert sorted(map(str, found)) == ["", "", "", "node 1/x"]
        await until(lambda: not a.codes.live, "the instance of the node knows that it was used")


async def test_a_new_code_and_a_lost_node_end_the_one_before(server: RedisServer) -> None:
    a, b = two(server, "111111", "222222")
    async with members(a, b):
        a.make("n")
        await until(lambda: kept(server, "111111"))
        a.make("n")
        await until(lambda: kept(server, "222222") and not kept(server, "111111"))
        a.codes.forget("n")
        await until(lambda: not kept(server, "222222"))
        assert await b.shared.redeem("222222", "192.0.2.1") == ""


async def test_two_nodes_do_not_have_the_same_code(server: RedisServer) -> None:
    a, b = two(server, "123456")
    async with members(a, b):
        a.make("first")
        await until(lambda: kept(server, "123456"))
        b.make("second")
        await until(lambda: not b.codes.live, "it is taken back")
        assert await b.shared.redeem("123456", "192.0.2.1") == "first"


async def test_who_guesses_is_stopped(server: RedisServer) -> None:
    a, b = two(server, "123456")
    async with members(a, b):
        code = a.make("n")
        await until(lambda: kept(server, code))
        for number in range(MAX_FAILED_TRIES):
            assert await b.shared.redeem(("999999", "no digits")[number % 2], "192.0.2.1") == ""
        assert await b.shared.redeem(code, "192.0.2.1") == "", "right ones are not looked at"
        assert await b.shared.redeem(code, "192.0.2.2") == "n"


async def test_without_redis_the_instance_of_the_node_knows(make_server: Callable[..., RedisServer]) -> None:
    server = make_server()
    a, b = two(server, "123456")
    async with members(a, b):
        server.kill()
        await until(lambda: not a.cluster.up)
        code = a.make("n")
        assert await a.shared.redeem(code, "192.0.2.1") is None
        server.start()
        await until(lambda: kept(server, code), "written when it is back")
        await until(lambda: b.cluster.up)
        assert await b.shared.redeem(code, "192.0.2.1") == "n"
