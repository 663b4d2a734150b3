"""The link against real servers that stop, die, stand still, are slow, full, or want a password."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import pytest
import trio
from links import PATIENCE_S, linked, make_link, running, until
from redis_server import RedisServer

from linguad.net.redis.circuit import State
from linguad.net.redis.errors import RedisAway, RedisError, RedisRefusal
from linguad.net.redis.link import Link
from linguad.net.redis.status import Limits

MakeServer = Callable[..., RedisServer]

SLOW = 30.0
"""Limit of commands where a test wants to see something else end them, s."""


async def test_a_command_is_answered(server: RedisServer) -> None:
    async with linked(server.url) as link:
        assert await link.call(("SET", "key", b"\x00\xff")) == b"OK"
        assert await link.call(("GET", "key")) == b"\x00\xff"
        assert await link.call(("GET", "absent")) is None
        status = link.status()
        assert (status.state, status.server, status.reason) == (State.CLOSED, server.url, "")
        assert status.version.startswith("7.")
        (client,) = [c for c in str(server.do("CLIENT", "LIST")).split("\\n") if "name=linguad:test" in c]
        assert "resp=3" in client


async def test_names_that_redis_would_not_take(server: RedisServer) -> None:
    async with linked(server.url, client_name="an instance\n") as link:
        assert await link.call(("CLIENT", "GETNAME")) == b"an_instance_"


async def test_tcp_and_a_database_of_its_own(server: RedisServer) -> None:
    async with linked(f"{server.tcp_url}/3") as link:
        await link.call(("SET", "key", 1))
        assert server.do("EXISTS", "key") == 0
        assert link.status().server == server.tcp_url


async def test_many_tasks_get_each_its_own_reply_in_order(server: RedisServer) -> None:
    seen: dict[int, list[int]] = {}

    async def work(link: Link, number: int) -> None:
        seen[number] = []
        for step in range(50):
            assert await link.call(("ECHO", f"{number}:{step}")) == f"{number}:{step}".encode()
            count = await link.call(("INCR", f"count:{number}"))
            assert isinstance(count, int)
            seen[number].append(count)

    async with linked(server.url) as link, trio.open_nursery() as nursery:
        for number in range(64):
            nursery.start_soon(work, link, number)
    assert all(counts == list(range(1, 51)) for counts in seen.values())


async def test_commands_of_a_row_are_carried_out_in_order(server: RedisServer) -> None:
    async with linked(server.url) as link:
        replies = await link.call_all([("RPUSH", "list", n) for n in range(1000)] + [("INCR", "list")])
        assert replies[:1000] == list(range(1, 1001))
        assert isinstance(replies[1000], RedisRefusal)
        assert replies[1000].code == "WRONGTYPE"
        stored = await link.call(("LRANGE", "list", 0, -1))
        assert stored == [str(n).encode() for n in range(1000)]


async def test_a_refusal_is_for_its_caller_only(server: RedisServer) -> None:
    async with linked(server.url) as link:
        await link.call(("SET", "text", "secret words"))
        with pytest.raises(RedisRefusal, match="Redis refuses INCR: ERR") as caught:
            await link.call(("INCR", "text"))
        assert caught.value.code == "ERR"
        assert await link.call(("PING",)) == b"PONG"


async def test_what_redis_quotes_is_not_repeated(server: RedisServer) -> None:
    async with linked(server.url) as link:
        with pytest.raises(RedisRefusal) as caught:
            await link.call(("NONSENSE", "the-secret", "another-secret"))
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        ("BLPOP", "list", 0),
        ("SUBSCRIBE", "channel"),
        ("XREAD", "BLOCK", 100, "STREAMS", "stream", "0"),
        ("multi",),
        ("CLIENT", "REPLY", "OFF"),
        ("SELECT", 1),
    ],
)
async def test_what_would_break_the_connection_for_others_is_not_sent(
    server: RedisServer, words: tuple[str | int, ...]
) -> None:
    async with linked(server.url) as link:
        with pytest.raises(ValueError):
            await link.call(words)
        assert link.status().pending == 0


async def test_values_that_are_no_words_are_not_sent(server: RedisServer) -> None:
    async with linked(server.url) as link:
        with pytest.raises(TypeError):
            await link.call_all([("SET", "a", 1), ("SET", "b", None)])  # type: ignore[list-item]
        assert await link.call(("EXISTS", "a")) == 0


async def test_who_waits_is_told_at_once_when_the_server_dies(make_server: MakeServer) -> None:
    server = make_server()
    errors: list[RedisAway] = []

    async def wait(link: Link) -> None:
        with pytest.raises(RedisAway) as caught:
            await link.call(("INCR", "count"))
        errors.append(caught.value)

    async with linked(server.url, Limits(command_seconds=SLOW)) as link:
        server.freeze()
        async with trio.open_nursery() as nursery:
            for _ in range(64):
                nursery.start_soon(wait, link)
            await until(lambda: link.status().pending == 64)
            await until(lambda: link.status().unsent_bytes == 0)
            server.kill()
        assert len(errors) == 64
        assert all(error.sent for error in errors)
        assert link.status().state is not State.CLOSED
        with pytest.raises(RedisAway, match="is away") as caught:
            await link.call(("PING",))
        assert not caught.value.sent


async def test_a_server_that_comes_back_is_used_again(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    server = make_server(durable=True)
    async with linked(server.url) as link:
        for stop in (server.stop, server.kill):
            await link.call(("INCR", "count"))
            stop()
            await until(lambda: not link.up)
            server.start()
            await link.wait_up()
        assert await link.call(("INCR", "count")) == 3
    assert caplog.text.count("redis_up") == 3
    assert caplog.text.count("redis_away") >= 2


async def test_a_link_starts_before_its_server(make_server: MakeServer) -> None:
    server = make_server()
    server.stop()
    link = make_link(server.url)
    async with running(link):
        with pytest.raises(RedisAway, match="is away"):
            await link.call(("PING",))
        server.start()
        await link.wait_up()
        assert await link.call(("PING",)) == b"PONG"


async def test_a_late_reply_ends_the_connection(make_server: MakeServer) -> None:
    server = make_server()
    async with linked(server.url, Limits(command_seconds=0.3)) as link:
        await link.call(("SET", "key", "old"), seconds=SLOW)
        gone = await link.wait_up()
        server.freeze()
        with pytest.raises(RedisAway, match=r"did not answer GET within 0\.3 s") as caught:
            await link.call(("GET", "key"))
        assert caught.value.sent
        server.thaw()
        await gone.wait()
        await link.wait_up()
        # were the connection the same, this would get the reply to GET
        assert await link.call(("ECHO", "mine"), seconds=SLOW) == b"mine"


async def test_a_command_with_a_limit_of_its_own_does_not_shift_replies(make_server: MakeServer) -> None:
    server = make_server()
    async with linked(server.url, Limits(command_seconds=SLOW)) as link:
        gone = await link.wait_up()
        server.do("CLIENT", "PAUSE", 600_000, "WRITE")
        with pytest.raises(RedisAway, match="did not answer INCR"):
            await link.call(("INCR", "count"), seconds=0.2)
        await gone.wait()
        await link.wait_up()
        server.do("CLIENT", "UNPAUSE")
        assert await link.call(("ECHO", "mine")) == b"mine"


async def test_replies_that_came_while_we_stood_still_are_not_late(server: RedisServer) -> None:
    async with linked(server.url, Limits(command_seconds=0.8)) as link:
        for number in range(3):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.call, ("ECHO", number))
                while not link.status().pending:  # two turns of the loop
                    await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
                time.sleep(1.0)  # noqa: ASYNC251 # the whole process stands still
        assert link.status().failures == 0


async def test_slow_replies_are_waited_for(make_server: MakeServer) -> None:
    server = make_server("enable-debug-command yes")
    async with linked(server.url, Limits(command_seconds=SLOW)) as link, trio.open_nursery() as nursery:
        nursery.start_soon(link.call, ("DEBUG", "SLEEP", "0.3"))
        assert await link.call(("ECHO", "after")) == b"after"


async def test_cancelling_a_caller_does_not_shift_replies(make_server: MakeServer) -> None:
    server = make_server()
    async with linked(server.url, Limits(command_seconds=SLOW)) as link:
        server.freeze()
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(link.call, ("ECHO", number))
            await until(lambda: link.status().pending == 10)
            nursery.cancel_scope.cancel()
        server.thaw()
        assert await link.call(("ECHO", "mine")) == b"mine"
        assert link.status().pending == 0


async def test_a_silent_server_is_noticed_without_a_command(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linguad.net.redis.link.PING_S", 0.1)
    server = make_server()
    async with linked(server.url, Limits(command_seconds=0.3)) as link:
        gone = await link.wait_up()
        server.freeze()
        await gone.wait()
        server.thaw()
        await link.wait_up()


async def test_what_waits_is_bounded(make_server: MakeServer) -> None:
    server = make_server()
    limits = Limits(command_seconds=SLOW, pending=100, unsent_bytes=50_000_000)
    async with linked(server.url, limits) as link, trio.open_nursery() as nursery:
        server.freeze()
        for _ in range(100):
            nursery.start_soon(link.call, ("PING",))
        await until(lambda: link.status().pending == 100)
        with pytest.raises(RedisAway, match="too much waits") as caught:
            await link.call(("PING",))
        assert not caught.value.sent
        server.thaw()
    async with linked(server.url, limits) as link, trio.open_nursery() as nursery:
        server.freeze()
        nursery.start_soon(link.call, ("SET", "big", bytes(40_000_000)))
        await until(lambda: link.status().pending == 1)
        with pytest.raises(RedisAway, match="too much waits"):
            await link.call(("SET", "big", bytes(20_000_000)))
        server.thaw()


async def test_what_was_never_sent_is_told_apart(make_server: MakeServer) -> None:
    server = make_server()
    sent: dict[str, bool] = {}

    async def wait(link: Link, name: str, value: bytes) -> None:
        with pytest.raises(RedisAway) as caught:
            await link.call(("SET", name, value))
        sent[name] = caught.value.sent

    async with linked(server.url, Limits(command_seconds=SLOW)) as link:
        server.freeze()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, link, "big", bytes(40_000_000))
            await until(lambda: link.status().pending == 1)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(wait, link, "small", b"")
            await until(lambda: link.status().pending == 2)
            server.kill()
    assert sent == {"big": True, "small": False}


async def test_only_what_may_be_repeated_is_sent_again(make_server: MakeServer) -> None:
    server = make_server()
    outcomes: dict[str, object] = {}

    async def ask(link: Link, name: str, repeatable: bool) -> None:
        try:
            outcomes[name] = await link.call(("ECHO", name), repeatable=repeatable)
        except RedisAway as error:
            outcomes[name] = error

    async with linked(server.url, Limits(command_seconds=PATIENCE_S)) as link:
        server.freeze()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, link, "twice", True)
            nursery.start_soon(ask, link, "once", False)
            await until(lambda: link.status().pending == 2)
            server.kill()
            server.start()
    assert outcomes["twice"] == b"twice"
    assert isinstance(outcomes["once"], RedisAway)


async def test_a_full_server_refuses_writes_and_serves_reads(make_server: MakeServer) -> None:
    server = make_server("maxmemory 2mb", "maxmemory-policy noeviction")
    async with linked(server.url) as link:
        refused = await link.call_all([("SET", f"key:{number}", bytes(100_000)) for number in range(50)])
        assert isinstance(refused[-1], RedisRefusal)
        with pytest.raises(RedisRefusal, match="out of memory: raise its maxmemory") as caught:
            await link.call(("SET", "key:50", bytes(100_000)))
        assert caught.value.code == "OOM"
        assert await link.call(("STRLEN", "key:0")) in (0, 100_000)
        assert link.up


PASSWORD = "open-sesame%/"
QUOTED = "open-sesame%25%2F"


@pytest.mark.parametrize(
    ("login", "reason"),
    [
        (":wrong-secret@", "refuses the user or the password"),
        ("nobody:wrong-secret@", "refuses the user or the password"),
        ("", "wants a password"),
    ],
)
async def test_a_wrong_password_is_told_and_not_shown(
    make_server: MakeServer, login: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(f"requirepass {PASSWORD}")
    link = make_link(f"unix://{login}{server.socket}")
    async with running(link):
        await until(lambda: link.status().failures >= 2)
        with pytest.raises(RedisAway, match=reason) as caught:
            await link.call(("PING",))
        shown = f"{link.status()} {caught.value}"
    assert "secret" not in shown + caplog.text
    assert reason in caplog.text
    assert caplog.text.count("redis_away") == 1, "the same reason is told once"


async def test_a_password_that_nobody_wants(server: RedisServer) -> None:
    link = make_link(f"unix://someone:the-secret@{server.socket}")
    async with running(link):
        await until(lambda: link.status().failures)
        assert "refuses the user or the password" in link.status().reason


async def test_users_and_their_rights(make_server: MakeServer) -> None:
    server = make_server(f"user lingua on >{PASSWORD} ~lingua:* +@all -flushall -ping")
    async with linked(f"unix://lingua:{QUOTED}@{server.socket}") as link:
        await link.call(("SET", "lingua:a", 1))
        for words in (("SET", "other:a", 1), ("FLUSHALL",)):
            with pytest.raises(RedisRefusal, match="its ACL does not let") as caught:
                await link.call(words)
            assert caught.value.code == "NOPERM"


async def test_a_replica_is_not_written_to(make_server: MakeServer) -> None:
    master = make_server(port=True)
    server = make_server()
    async with linked(server.url) as link:
        server.do("REPLICAOF", "127.0.0.1", master.port)
        # it was a master when we came: the first write shows that it no longer is
        with pytest.raises(RedisAway, match="READONLY") as caught:
            await link.call(("SET", "key", 1))
        assert not caught.value.sent
        await until(lambda: "it is a replica" in link.status().reason)
        server.do("REPLICAOF", "NO", "ONE")
        await link.wait_up()
        await link.call(("SET", "key", 1))


async def test_what_answers_is_no_redis() -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some(1000)
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(partial(trio.serve_listeners, answer, [listener]))
        port = listener.socket.getsockname()[1]
        link = make_link(f"redis://127.0.0.1:{port}")
        async with running(link):
            await until(lambda: link.status().failures)
            assert link.status().reason == "what answers there is not a Redis"
        nursery.cancel_scope.cancel()


async def test_nobody_listens() -> None:
    link = make_link("redis://127.0.0.1:1")
    async with running(link):
        await until(lambda: link.status().failures >= 2)
        assert link.status().reason == "Connection refused"
        assert link.status().server == "redis://127.0.0.1:1"


async def test_a_resolver_that_knows_nothing() -> None:
    async def resolve() -> None:
        raise RedisError("ask again later")

    link = make_link(resolve)  # type: ignore[arg-type]
    async with running(link):
        await until(lambda: link.status().failures >= 2)
        with pytest.raises(RedisAway, match="Redis is away: ask again later"):
            await link.call(("PING",))


async def test_callers_are_told_when_the_link_ends(make_server: MakeServer) -> None:
    server = make_server()
    link = make_link(server.url, Limits(command_seconds=SLOW))
    async with trio.open_nursery() as callers, running(link):
        await link.wait_up()
        server.freeze()

        async def wait() -> None:
            with pytest.raises(RedisAway, match="gives it up"):
                await link.call(("PING",))

        callers.start_soon(wait)
        await until(lambda: link.status().pending == 1)
