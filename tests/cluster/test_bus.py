"""Letters between instances over a real Redis, alone and of three masters."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from cutter import Cutter
from instances import TEST_S, Instance, Legacy, Note, members
from links import until
from redis_cluster import RedisCluster
from redis_server import RedisServer

from linguad.cluster import inbox
from linguad.wire.letters import Letter


async def test_letters_come_in_order_with_their_audio(server: RedisServer) -> None:
    a, b = Instance("a", server.url), Instance("b", server.url)
    async with members(a, b):
        for number in range(500):
            assert a.send(b, str(number), audio=bytes(number))
        await until(lambda: len(b.got) == 500)
        assert b.got == [("a", str(number), bytes(number)) for number in range(500)]
        await until(lambda: not server.do("XLEN", a.cluster.place.key("inbox", "b")), "acknowledged")
        assert not a.got


async def test_what_letters_led_to_may_leave_when_they_are_handled(server: RedisServer) -> None:
    a, b = Instance("a", server.url), Instance("b", server.url)
    handled: list[int] = []
    b.cluster.after_letters(lambda: handled.append(len(b.got)))
    async with members(a, b):
        assert a.send(b, "one")
        await until(lambda: handled == [1])
        assert a.send(b, "two")
        await until(lambda: handled == [1, 2])


async def test_what_is_handled_is_removed_together(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "DONE_S", 2 * TEST_S)
    a, b = Instance("a", server.url), Instance("b", server.url)

    def left() -> object:
        return server.do("XLEN", a.cluster.place.key("inbox", "b"))

    async with members(a, b):
        for number in range(inbox.DONE_LETTERS - 1):
            assert a.send(b, str(number))
        await until(lambda: len(b.got) == inbox.DONE_LETTERS - 1)
        assert left() == inbox.DONE_LETTERS - 1, "they wait for more"
        assert a.send(b, "one more")
        await until(lambda: not left(), "so many are enough")
        assert a.send(b, "large", audio=bytes(inbox.DONE_BYTES))
        await until(lambda: not left(), "so much is enough")
        assert a.send(b, "small")
        await until(lambda: b.texts[-1] == "small")
        assert left() == 1
        assert a.cluster.bus.send("b", Legacy("once"), lane="x", expires_s=60)
        await until(lambda: not left(), "an heir must not find it")
        assert a.send(b, "bug")
        await until(lambda: server.do("XLEN", a.cluster.place.key("dlq", "b")) == 1)
        await until(lambda: not left(), "a dead one is not kept twice")


async def test_a_cluster_of_masters_carries_letters_both_ways(masters: RedisCluster) -> None:
    a, b, c = (Instance(name, urls=tuple(masters.urls)) for name in "abc")
    async with members(a, b, c):
        for number in range(200):
            for one, other in ((a, b), (b, c), (c, a)):
                assert one.send(other, str(number))
        for one, sender in ((b, "a"), (c, "b"), (a, "c")):
            await until(lambda one=one: len(one.got) == 200)
            assert one.got == [(sender, str(number), b"") for number in range(200)]


async def test_a_letter_to_ourselves_is_handled_at_once(server: RedisServer) -> None:
    a = Instance("a", server.url)
    assert a.cluster.bus.send("a", Note("hello"), lane="x", expires_s=1, audio=b"12")
    assert a.got == [("a", "hello", b"12")]


async def test_nothing_old_is_delivered(server: RedisServer) -> None:
    a, b = Instance("a", server.url), Instance("b", server.url)
    async with members(a, b):
        assert a.send(b, "old", expires_s=-1), "it expires on its way"
        assert a.send(b, "new")
        await until(lambda: b.got)
        assert b.texts == ["new"]


async def test_clocks_need_not_agree(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    a = Instance("a", server.url)
    monkeypatch.setattr("linguad.cluster.place.time.time", lambda: 86_400.0)
    b = Instance("b", server.url)
    async with members(a, b):
        assert a.send(b, "to the past", expires_s=30)
        assert b.send(a, "to the future", expires_s=30)
        await until(lambda: a.got and b.got)


async def test_who_stands_still_gets_only_so_much(server: RedisServer, tmp_path: Path) -> None:
    cutter = Cutter(tmp_path / "s", server.socket)
    a = Instance("a", server.url, heartbeat_seconds=30, max_unacknowledged_bytes=2**20)
    b = Instance("b", f"unix://{cutter.path}", heartbeat_seconds=30)
    with trio.fail_after(TEST_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(cutter.run)
            async with members(a, b):
                cutter.hold = trio.Event()
                sent = 0
                while a.send(b, str(sent), audio=bytes(100_000)):
                    sent += 1
                    await trio.lowlevel.checkpoint()
                assert sent == 10
                await until(lambda: server.do("XLEN", a.cluster.place.key("inbox", "b")) == 10)
                assert not a.send(b, "more", audio=bytes(100_000)), "what lies in the inbox counts too"
                assert a.send(a, "to others as before")
                cutter.hold.set()
                await until(lambda: len(b.got) == 10)
                await until(lambda: a.send(b, "more", audio=bytes(100_000)), "room")
            nursery.cancel_scope.cancel()


async def test_a_letter_that_nobody_can_handle_is_dead_without_its_audio(server: RedisServer) -> None:
    a, b = Instance("a", server.url), Instance("b", server.url)

    class Novel(Letter, frozen=True):
        secret: str = "speech"

    async with members(a, b):
        assert a.cluster.bus.send("b", Novel(), lane="s-1", expires_s=60, audio=b"voice")
        assert a.send(b, "bug", audio=b"voice")
        assert a.cluster.bus.send("b", Legacy("bug"), lane="s-2", expires_s=60)
        await until(lambda: server.do("XLEN", a.cluster.place.key("dlq", "b")) == 3)
        server.do("XADD", a.cluster.place.key("inbox", "b"), "*", "what", "is this")
        assert a.send(b, "fine")
        await until(lambda: b.texts == ["fine"])
        await until(lambda: server.do("XLEN", a.cluster.place.key("dlq", "b")) == 4)
        letters = await a.cluster.desk.dead_letters(100)
        assert [(one["kind"], one["from"], one["lane"], one["error"]) for one in reversed(letters)][:3] == [
            ("Novel", "a", "s-1", "this version does not know its kind"),
            ("Note", "a", "test", "its handler failed: ZeroDivisionError"),
            ("Legacy", "a", "s-2", "its handler failed: ZeroDivisionError"),
        ]
        assert letters[0]["kind"] == "unreadable"
        assert [one["replayable"] for one in letters] == [False, True, False, False]
        kept = str(server.do("XRANGE", a.cluster.place.key("dlq", "b"), "-", "+"))
        assert "voice" not in kept
        assert "speech" not in kept
