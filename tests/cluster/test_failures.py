"""What may happen to instances and to Redis: killed, restarted, frozen, full, cut off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from cutter import Cutter
from instances import SHORT_S, TEST_S, Instance, Legacy, members
from links import until
from redis_cluster import RedisCluster
from redis_server import RedisServer

from linguad.cluster.service import DuplicateInstance
from linguad.net.redis.slots import slot_of_key

Servers = Callable[..., RedisServer]


def counted(instance: Instance) -> list[str]:
    """What the instance was told, but for what is new."""
    return [told for told in instance.told if not told.startswith("new")]


class TestRedis:
    async def test_a_start_does_not_wait_for_it(self, make_server: Servers) -> None:
        server = make_server()
        server.stop()
        a, b = Instance("a", server.url), Instance("b", server.url)
        with trio.fail_after(TEST_S):
            async with trio.open_nursery() as nursery:
                await nursery.start(a.run)
                await nursery.start(b.run)
                assert not a.cluster.up
                assert not a.send(b, "too early")
                server.start()
                await a.knows(b)
                await b.knows(a)
                assert a.send(b, "now")
                await until(lambda: b.texts == ["now"])
                nursery.cancel_scope.cancel()

    @pytest.mark.parametrize("durable", [True, False], ids=["it keeps all", "it loses all"])
    async def test_it_is_killed_and_started_again(self, make_server: Servers, durable: bool) -> None:
        server = make_server(durable=durable)
        a, b = (Instance(name, server.url) for name in "ab")
        async with members(a, b):
            a.send(b, "before")
            await until(lambda: b.texts == ["before"])
            server.kill()
            await until(lambda: not a.cluster.up and not b.cluster.up)
            assert not a.send(b, "lost")
            assert a.cluster.peers.is_alive("b"), "nobody is declared dead while nobody can tell"
            server.start()
            await until(lambda: a.cluster.up and b.cluster.up)
            for number in range(50):
                assert a.send(b, str(number))
            await until(lambda: len(b.got) == 51)
            assert b.texts == ["before", *map(str, range(50))]
            assert counted(a) == counted(b) == ["up", "down", "up"], "and nobody was"

    async def test_it_is_killed_while_letters_are_on_their_way(self, make_server: Servers) -> None:
        server = make_server(durable=True)
        a, b = (Instance(name, server.url) for name in "ab")
        sent: list[str] = []
        async with members(a, b) as nursery:

            async def write() -> None:
                for number in range(10**6):
                    if a.send(b, str(number), audio=bytes(1000)):
                        sent.append(str(number))
                    await trio.sleep(0.001)

            nursery.start_soon(write)
            for _ in range(3):
                enough = len(b.got) + 100
                await until(lambda enough=enough: len(b.got) >= enough)
                server.kill()
                await until(lambda: not a.cluster.up)
                server.start()
            enough = len(b.got) + 100
            await until(lambda: len(b.got) >= enough)
            nursery.cancel_scope.cancel()
        assert b.texts == sent[: len(b.texts)], "lost 0, twice 0, in order"

    async def test_it_stands_still(self, make_server: Servers) -> None:
        server = make_server()
        a, b = (Instance(name, server.url) for name in "ab")
        async with members(a, b):
            server.freeze()
            a.send(b, "cold")
            await until(lambda: not a.cluster.up and not b.cluster.up)
            server.thaw()
            await until(lambda: a.cluster.up and b.cluster.up)
            a.send(b, "warm")
            await until(lambda: "warm" in b.texts)
            assert b.texts == ["cold", "warm"]

    async def test_it_is_out_of_memory(self, make_server: Servers) -> None:
        server = make_server("maxmemory-policy noeviction")
        a, b = (Instance(name, server.url, heartbeat_seconds=SHORT_S) for name in "ab")
        async with members(a, b):
            server.do("CONFIG", "SET", "maxmemory", 1)
            assert a.send(b, "first"), "nobody knows yet"
            await until(lambda: not a.send(b, "more"))
            # longer than a sign of life lasts
            await trio.sleep(6)
            assert a.cluster.peers.is_alive("b"), "signs of life are still renewed"
            server.do("CONFIG", "SET", "maxmemory", 0)
            await until(lambda: a.send(b, "after"))
            await until(lambda: "after" in b.texts)
            assert b.texts[0] == "first"
            assert counted(a) == counted(b) == ["up"]

    async def test_connections_are_torn_again_and_again(self, server: RedisServer, tmp_path: Path) -> None:
        cutter = Cutter(tmp_path / "s", server.socket)
        a = Instance("a", server.url)
        b = Instance("b", f"unix://{cutter.path}")
        sent: list[str] = []
        with trio.fail_after(TEST_S):
            async with trio.open_nursery() as nursery:
                await nursery.start(cutter.run)
                async with members(a, b):
                    for cut in range(1, 9):
                        cutter.down = cut * 700
                        for number in range(30):
                            if a.send(b, text := f"{cut}.{number}", audio=bytes(100)):
                                sent.append(text)
                            await trio.sleep(0.002)
                        await until(lambda cut=cut: cutter.cuts >= cut and b.cluster.up, "a cut")
                    await until(lambda: len(b.got) >= len(sent))
                nursery.cancel_scope.cancel()
        assert b.texts == sent


class TestDeath:
    async def test_a_killed_instance_is_gone_and_adopted_once(self, server: RedisServer) -> None:
        a, b, c, d = (Instance(name, server.url, heartbeat_seconds=SHORT_S) for name in "abcd")
        async with members(a, b, c, d) as nursery:
            place = a.cluster.place
            d.scope.cancel()
            # what it would have read: one letter for an heir, one that is no use, one that is too late
            for one in (a, b, c):
                assert one.cluster.peers.is_alive("d")
            assert a.cluster.bus.send("d", Legacy("yours"), lane="x", expires_s=60)
            assert a.send("d", "useless")
            # time enough to be written on a busy machine, and over before anybody is taken for dead
            assert a.cluster.bus.send("d", Legacy("late"), lane="x", expires_s=1)
            await until(lambda: server.do("XLEN", place.key("inbox", "d")) == 3, "three letters")
            for one, others in ((a, (b, c)), (b, (a, c)), (c, (a, b))):
                await one.knows(*others)
                assert "gone d" in one.told
            await until(lambda: not server.do("EXISTS", place.key("inbox", "d")), "adopted")
            assert sorted(text for one in (a, b, c) for text in one.texts) == ["yours"]
            await until(lambda: not server.do("ZSCORE", place.keys.instances, "d"))
            assert not server.do("EXISTS", place.key("acked", "d"), place.key("adopter", "d"))
            assert not a.send("d", "nobody")
            again = Instance("d", server.url, heartbeat_seconds=SHORT_S)
            await nursery.start(again.run)
            await again.knows(a, b, c)
            await a.knows(b, c, again)
            assert a.send("d", "welcome")
            await until(lambda: again.texts == ["welcome"])

    async def test_one_that_starts_anew_under_its_name_is_another(self, server: RedisServer) -> None:
        a, b = Instance("a", server.url), Instance("b", server.url, heartbeat_seconds=SHORT_S)
        async with members(a, b) as nursery:
            b.scope.cancel()
            assert a.send(b, "for the first")
            await until(lambda: server.do("XLEN", a.cluster.place.key("inbox", "b")) == 1)
            again = Instance("b", server.url)
            await nursery.start(again.run)
            await until(lambda: again.cluster.up)
            await until(lambda: a.told.count("new b") == 2)
            assert counted(a) == ["up", "gone b"]
            assert a.send(b, "for the second")
            await until(lambda: "for the second" in again.texts)
            assert again.texts == ["for the second"]

    async def test_an_instance_that_drains_says_so_and_then_leaves(self, server: RedisServer) -> None:
        a, b = Instance("a", server.url, heartbeat_seconds=SHORT_S), Instance("b", server.url)
        async with members(a, b):
            await b.cluster.drain()
            await until(lambda: "draining b" in a.told)
            assert a.send(b, "still")
            await until(lambda: b.texts == ["still"])
            await until(lambda: not server.do("XLEN", a.cluster.place.key("inbox", "b")))
            await b.cluster.leave()
            assert not b.cluster.up
            assert not server.do("EXISTS", a.cluster.place.key("alive", "b"))
            await until(lambda: "gone b" in a.told)
            await until(lambda: not server.do("ZSCORE", a.cluster.place.keys.instances, "b"))

    async def test_who_leaves_leaves_nothing_that_it_has_handled(
        self, server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("linguad.cluster.inbox.DONE_S", 2 * TEST_S)
        b, c = Instance("b", server.url), Instance("c", server.url)
        async with members(b, c):
            place = b.cluster.place
            assert c.send(b, "the last")
            await until(lambda: b.texts == ["the last"])
            assert server.do("XLEN", place.key("inbox")) == 1, "it waits for more"
            c.scope.cancel()  # so that nobody is left who could adopt
            await b.cluster.leave()
            assert not server.do("EXISTS", *(place.key(what) for what in ("alive", "inbox", "acked")))
            assert not server.do("ZSCORE", place.keys.instances, "b")

    async def test_one_that_stood_still_comes_back(self, server: RedisServer) -> None:
        a, b = (
            Instance(name, server.url, heartbeat_seconds=beat) for name, beat in (("a", SHORT_S), ("b", 3))
        )
        async with members(a, b):

            def buried() -> bool:
                server.do("DEL", a.cluster.place.key("alive", "b"))
                return "gone b" in a.told

            await until(buried)
            await until(lambda: counted(b) == ["up", "down", "up"])
            await until(lambda: a.cluster.peers.is_alive("b"))
            assert a.send(b, "again")
            await until(lambda: b.texts == ["again"])

    async def test_one_that_is_cut_off_is_gone_and_comes_back(
        self, server: RedisServer, tmp_path: Path
    ) -> None:
        cutter = Cutter(tmp_path / "s", server.socket)
        urls = {"a": server.url, "b": f"unix://{cutter.path}", "c": server.url}
        a, b, c = (Instance(name, url, heartbeat_seconds=SHORT_S) for name, url in urls.items())
        with trio.fail_after(TEST_S):
            async with trio.open_nursery() as nursery:
                way = await nursery.start(scoped, cutter)
                async with members(a, b, c):
                    way.cancel()
                    await until(lambda: "gone b" in a.told and "gone b" in c.told)
                    assert not b.cluster.up
                    assert not b.send(a, "nobody hears")
                    assert set(b.cluster.peers.alive()) == {"a", "c"}, "it cannot tell who is left"
                    assert not a.send(b, "nor this")
                    way = await nursery.start(scoped, cutter)
                    await b.knows(a, c)
                    await a.knows(b, c)
                    for number in range(20):
                        assert a.send(b, f"a{number}")
                        assert b.send(a, f"b{number}")
                    await until(lambda: len(b.got) == len(a.got) == 20)
                    assert counted(b) == ["up", "down", "up"]
                nursery.cancel_scope.cancel()


async def scoped(
    cutter: Cutter, *, task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run a cutter until the scope is cancelled, which cuts all connections at once."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(cutter.run)
            task_status.started(scope)


class TestRubbish:
    async def test_what_others_write_into_redis_ends_nobody(self, server: RedisServer) -> None:
        a, b = (Instance(name, server.url) for name in "ab")
        async with members(a, b):
            keys = a.cluster.keys
            for number, sign in enumerate([b"no JSON", b'"text"', b"[]", b"\xff", b'{"boot": 5}']):
                server.do("SET", keys.of("i", f"rubbish-{number}", "alive"), sign)
                server.do("ZADD", keys.instances, 1, f"rubbish-{number}")
            server.do("ZADD", keys.instances, 1, b"\xff{}")
            await until(lambda: len(a.cluster.peers.alive()) == 6)
            a.send("rubbish-0", "nobody can read this")
            inbox = a.cluster.place.key("inbox", "b")
            server.do("XADD", inbox, "*", b"\xff", b"\xff")
            letter = {"kind": "Note", "body": b"\xc1", "from": "x", "to": "y", "account": "z", "lane": ""}
            letter |= {"seq": "-1", "at_ms": "0", "expires_ms": "9" * 30}
            server.do("XADD", inbox, "*", *(word for pair in letter.items() for word in pair))
            assert (await a.cluster.desk.page())["online_instances"] == 7
            assert a.send(b, "fine")
            await until(lambda: b.texts == ["fine"])
            assert counted(a) == counted(b) == ["up"]


class TestNames:
    async def test_a_name_that_lives_is_refused(self, server: RedisServer) -> None:
        a = Instance("a", server.url)
        async with members(a):
            other = Instance("a", server.url, heartbeat_seconds=1)
            with pytest.RaisesGroup(pytest.RaisesExc(DuplicateInstance), flatten_subgroups=True):
                await other.run()
            assert a.cluster.up

    async def test_a_name_that_ended_is_had_after_a_while(self, server: RedisServer) -> None:
        a = Instance("a", server.url, heartbeat_seconds=SHORT_S)
        async with members(a):
            pass
        assert server.do("EXISTS", a.cluster.place.key("alive")), "killed, its sign of life remains"
        again = Instance("a", server.url)
        async with members(again):
            assert again.cluster.up


class TestSlots:
    async def test_an_inbox_moves_between_masters(self, masters: RedisCluster) -> None:
        a, b = (Instance(name, urls=tuple(masters.urls)) for name in "ab")
        async with members(a, b) as nursery:
            sent: list[str] = []

            async def write() -> None:
                for number in range(10**6):
                    if a.send(b, str(number), audio=bytes(1000)):
                        sent.append(str(number))
                    await trio.sleep(0.002)

            nursery.start_soon(write)
            slot = slot_of_key(a.cluster.place.key("inbox", "b"))
            for _ in range(3):
                source = masters.owner(slot)
                target = next(one for one in masters.servers if one is not source)
                await trio.to_thread.run_sync(masters.move, slot, target)
                enough = len(b.got) + 50
                await until(lambda enough=enough: len(b.got) >= enough)
            nursery.cancel_scope.cancel()
        assert b.texts == sent[: len(b.texts)], "lost 0, twice 0, in order"

    async def test_death_adoption_and_dead_letters_on_masters(self, masters: RedisCluster) -> None:
        a, b, c = (Instance(name, urls=tuple(masters.urls), heartbeat_seconds=SHORT_S) for name in "abc")
        async with members(a, b, c):
            assert a.send(c, "bug")
            desk = a.cluster.desk
            with trio.fail_after(TEST_S):
                while not (letters := await desk.dead_letters(10)):  # noqa: ASYNC110 # Redis tells nobody
                    await trio.sleep(0.05)
            assert letters[0]["instance"] == "c"
            c.scope.cancel()
            assert a.cluster.bus.send("c", Legacy("yours"), lane="x", expires_s=60)
            await a.knows(b)
            await b.knows(a)
            await until(lambda: a.texts + b.texts == ["yours"])
            with trio.fail_after(TEST_S):
                while len((await desk.page())["instances"]) != 2:  # noqa: ASYNC110 # Redis tells nobody
                    await trio.sleep(0.1)
            (letter,) = await desk.dead_letters(10)
            assert letter["instance"] in ("a", "b"), "inherited"
            assert letter["error"] == "its handler failed: ZeroDivisionError"
            assert {one["family"] for one in await desk.key_families()} >= {
                "reg:inst",
                "{i:<instance>}:alive",
            }
