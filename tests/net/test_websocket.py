"""Links over memory streams, with trio-websocket's client as the peer and a fake clock.

Rules: every test ends by itself under autojump_clock; no threads, no sockets; the peer is a real client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
import trio
from doors import close_code
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from trio.testing import (
    MockClock,
    lockstep_stream_pair,
    memory_stream_one_way_pair,
    memory_stream_pair,
    wait_all_tasks_blocked,
)
from trio_websocket import WebSocketConnection, wrap_client_stream
from wsproto.events import Ping

from linguad.errors import CloseReason
from linguad.net.links import Links
from linguad.net.outbox import Budget, Later
from linguad.net.peer import Peer
from linguad.net.websocket import Link, LinkClosed, LinkSettings, serve_link

PEER = Peer("192.0.2.1", 4000)
SETTINGS = LinkSettings()


def closes(reason: str) -> float:
    return REGISTRY.get_sample_value("linguad_link_closes_total", {"kind": "test", "reason": reason}) or 0.0


def open_links() -> float:
    return REGISTRY.get_sample_value("linguad_links_open", {"kind": "test"}) or 0.0


@dataclass
class Bench:
    """A server side that has been started and the client it talks to."""

    client: WebSocketConnection
    stream: trio.StapledStream
    links: list[Link] = field(default_factory=list)
    ended: trio.Event = field(default_factory=trio.Event)

    @property
    def link(self) -> Link:
        return self.links[0]


@asynccontextmanager
async def bench(
    handler: Callable[[Link], Awaitable[object]],
    settings: LinkSettings = SETTINGS,
    budget: Budget | None = None,
) -> AsyncIterator[Bench]:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        made = Bench(None, theirs)  # type: ignore[arg-type]

        async def remember(link: Link) -> None:
            made.links.append(link)
            await handler(link)

        async def serve() -> None:
            await serve_link("test", ours, PEER, settings, remember, budget=budget)
            made.ended.set()

        nursery.start_soon(serve)
        made.client = await wrap_client_stream(nursery, theirs, "localhost", "/ws/test")
        while not made.links:
            await trio.lowlevel.checkpoint()
        yield made
        nursery.cancel_scope.cancel()


async def echo(link: Link) -> None:
    async for message in link:
        link.send(message)


async def read_for_ever(link: Link) -> None:
    while True:
        await link.receive()


async def test_text_stays_text_and_binary_stays_binary(autojump_clock: MockClock) -> None:
    async with bench(echo) as it:
        for message in ("Grüße", b"\x00\xff", "", "x" * 300_000):
            await it.client.send_message(message)
            assert await it.client.get_message() == message
        await it.client.aclose()
        await it.ended.wait()


async def test_link_knows_itself(autojump_clock: MockClock) -> None:
    async with bench(read_for_ever) as it:
        assert it.link.peer is PEER
        assert it.link.kind == "test"
        assert it.link.id.startswith("test-")
        assert it.link.opened_at == trio.current_time()
        assert it.link.outcome == "open"
        assert open_links() == 1
        await trio.sleep(5)
        await it.client.send_message("hello")
        await trio.sleep(1)
        assert it.link.last_received == pytest.approx(it.link.opened_at + 5)
    assert open_links() == 0


async def test_handler_that_returns_closes_with_1000(autojump_clock: MockClock) -> None:
    before = closes("normal")

    async def bye(link: Link) -> None:
        await link.receive()
        link.send("bye")

    async with bench(bye) as it:
        await it.client.send_message("hello")
        assert await it.client.get_message() == "bye"
        assert (await close_code(it.client))[0] == 1000
        await it.ended.wait()
    assert closes("normal") == before + 1


async def test_bug_in_handler_closes_with_1011_and_spares_the_rest(autojump_clock: MockClock) -> None:
    before = closes("internal_error")

    async def broken(link: Link) -> None:
        link.send("about to break")
        async with trio.open_nursery():
            raise KeyError("bug")

    async with bench(broken) as it:
        assert await it.client.get_message() == "about to break"
        assert await close_code(it.client) == (1011, "internal error")
        await it.ended.wait()
    assert closes("internal_error") == before + 1
    assert open_links() == 0


async def test_close_tells_the_first_reason_after_what_was_queued(autojump_clock: MockClock) -> None:
    async with bench(read_for_ever) as it:
        for number in range(50):
            it.link.send(str(number))
        it.link.close(CloseReason.SUPERSEDED)
        it.link.close(CloseReason.SHUTDOWN)
        assert it.link.send("too late") is False
        got = [await it.client.get_message() for _ in range(50)]
        assert got == [str(number) for number in range(50)]
        assert await close_code(it.client) == (4001, CloseReason.SUPERSEDED.text)
        await it.ended.wait()
        assert it.link.outcome == "superseded"


async def test_close_takes_another_text(autojump_clock: MockClock) -> None:
    async with bench(read_for_ever) as it:
        it.link.close(CloseReason.REGISTRATION_REJECTED, "no GPU")
        assert await close_code(it.client) == (1008, "no GPU")


async def test_close_ends_a_handler_that_is_busy_elsewhere(autojump_clock: MockClock) -> None:
    cleaned = []

    async def busy(_link: Link) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cleaned.append(True)

    async with bench(busy) as it:
        it.link.close(CloseReason.SHUTDOWN)
        assert (await close_code(it.client))[0] == 1001
        assert cleaned


async def test_handler_gets_what_came_before_the_peer_left(autojump_clock: MockClock) -> None:
    got: list[str | bytes] = []

    async def slow(link: Link) -> None:
        while True:
            await trio.sleep(1)
            link.send("ui event nobody reads")
            got.append(await link.receive())

    before = closes("peer_closed")
    async with bench(slow) as it:
        for number in range(3):
            await it.client.send_message(str(number))
        await it.client.aclose(1001)
        await it.ended.wait()
    assert got == ["0", "1", "2"]
    assert closes("peer_closed") == before + 1


async def test_receive_raises_once_the_peer_is_gone(autojump_clock: MockClock) -> None:
    seen = []

    async def note(link: Link) -> None:
        try:
            await link.receive()
        except LinkClosed:
            seen.append(link.outcome)
            raise

    async with bench(note) as it:
        await it.stream.aclose()
        await it.ended.wait()
    assert seen == ["peer_lost"]


async def test_handler_that_ignores_the_end_is_cut(autojump_clock: MockClock) -> None:
    async def deaf(link: Link) -> None:
        while True:
            link.send("anybody?")
            await trio.sleep(0.5)

    async with bench(deaf) as it:
        start = trio.current_time()
        await it.stream.aclose()
        await it.ended.wait()
        assert trio.current_time() - start < 60


async def test_message_of_the_limit_passes_and_one_byte_more_closes_with_1009(
    autojump_clock: MockClock,
) -> None:
    settings = replace(SETTINGS, max_message_bytes=100_000)
    before = closes("message_too_big")
    async with bench(echo, settings) as it:
        await it.client.send_message("x" * 100_000)
        assert len(await it.client.get_message()) == 100_000
        await it.client.send_message("x" * 100_001)
        assert (await close_code(it.client))[0] == 1009
        await it.ended.wait()
    assert closes("message_too_big") == before + 1


async def test_peer_that_does_not_read_is_ended_after_the_write_timeout(autojump_clock: MockClock) -> None:
    """Trap T3: the half-sent frame is never followed by another."""
    before = closes("write_timeout")
    ours, theirs = lockstep_stream_pair()
    budget = Budget(1 << 20)
    talk_now = trio.Event()

    async def talk(link: Link) -> None:
        await talk_now.wait()
        link.send("a" * 1000)
        link.send("b" * 1000)
        await link.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve_link, "test", ours, PEER, SETTINGS, talk, budget=budget))
        async with trio.open_nursery() as reading:
            await wrap_client_stream(reading, theirs, "localhost", "/")
            reading.cancel_scope.cancel()
        start = trio.current_time()
        talk_now.set()
        await wait_all_tasks_blocked()
        assert budget.used == 2000
    assert trio.current_time() - start == pytest.approx(SETTINGS.write_seconds)
    assert closes("write_timeout") == before + 1
    assert budget.used == 0


async def test_overflow_closes_with_1013_after_what_was_queued(autojump_clock: MockClock) -> None:
    settings = replace(SETTINGS, outbox_messages=4)
    async with bench(read_for_ever, settings) as it:
        sent = [it.link.send(str(number)) for number in range(8)]
        assert sent == [True] * 4 + [False] * 4
        assert [await it.client.get_message() for _ in range(4)] == ["0", "1", "2", "3"]
        assert (await close_code(it.client))[0] == 1013
        await it.ended.wait()


async def test_optional_messages_give_way(autojump_clock: MockClock) -> None:
    settings = replace(SETTINGS, outbox_messages=8)
    async with bench(read_for_ever, settings) as it:
        for number in range(6):
            assert it.link.send(f"partial {number}", optional=True)
        for number in range(6):
            assert it.link.send(f"result {number}")
        got = [await it.client.get_message() for _ in range(8)]
        assert got == ["partial 4", "partial 5", *(f"result {number}" for number in range(6))]
        assert it.link.statistics().dropped == 4


async def test_messages_that_wait_leave_in_one_write(autojump_clock: MockClock) -> None:
    writes: list[int] = []

    class Counting(trio.abc.SendStream):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            writes.append(len(data))
            await below.send_all(data)

        async def wait_send_all_might_not_block(self) -> None:
            await below.wait_send_all_might_not_block()

        async def aclose(self) -> None:
            await below.aclose()

    texts = [*map(str, range(5)), "x" * 70_000, "y", "z"]

    async def say_all(link: Link) -> None:
        writes.clear()
        for text in texts:
            link.send(text, optional=text == "1")
        await trio.sleep(1)
        assert (writes[0], writes[-1]) == (5 * 3, 2 * 3), "one write before the long one, one after it"

    ours, theirs = memory_stream_pair()
    below, ours.send_stream = ours.send_stream, Counting()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_link, "test", ours, PEER, SETTINGS, say_all)
        client = await wrap_client_stream(nursery, theirs, "localhost", "/ws/test")
        assert [await client.get_message() for _ in texts] == texts
        assert (await close_code(client))[0] == 1000


async def test_peer_that_closes_while_much_waits_gets_its_reply(autojump_clock: MockClock) -> None:
    async def flood(link: Link) -> None:
        link.read_ahead()
        while True:
            for _ in range(5):
                link.send("x" * 100)
            await trio.lowlevel.checkpoint()

    for _ in range(50):
        async with bench(flood, LinkSettings(outbox_messages=100_000)) as made:
            for _ in range(3):
                await made.client.get_message()
            with trio.fail_after(1):
                await made.client.aclose(1000)
            assert made.client.closed is not None
            assert made.client.closed.code == 1000


async def test_what_follows_a_promise_waits_for_it(autojump_clock: MockClock) -> None:
    async with bench(read_for_ever) as it:
        later = Later(100, "instead")
        it.link.send("before")
        it.link.send(later)
        it.link.send("after")
        assert await it.client.get_message() == "before"
        await trio.sleep(SETTINGS.later_seconds / 2)
        assert it.link.statistics().messages == 2
        later.set("promised")
        assert [await it.client.get_message() for _ in range(2)] == ["promised", "after"]
        await wait_all_tasks_blocked()
        assert it.link.statistics().bytes == 0


async def test_promise_that_is_not_kept_is_sent_as_its_fallback(autojump_clock: MockClock) -> None:
    async with bench(read_for_ever) as it:
        start = trio.current_time()
        broken, failed = Later(100, "instead"), Later(100, "failed")
        for message in (broken, failed, "after"):
            it.link.send(message)
        failed.fail()
        assert [await it.client.get_message() for _ in range(3)] == ["instead", "failed", "after"]
        assert trio.current_time() == pytest.approx(start + SETTINGS.later_seconds)
        broken.set("too late")
        it.link.send("next")
        assert await it.client.get_message() == "next"
        await wait_all_tasks_blocked()
        assert it.link.statistics().bytes == 0


async def test_promise_is_waited_for_when_the_link_closes(autojump_clock: MockClock) -> None:
    async with bench(read_for_ever) as it:
        later = Later(100, "instead")
        it.link.send(later)
        it.link.close(CloseReason.SHUTDOWN)
        await trio.sleep(SETTINGS.later_seconds / 2)
        later.set("promised")
        assert await it.client.get_message() == "promised"
        assert (await close_code(it.client))[0] == 1001


async def test_promises_that_are_not_kept_do_not_hold_a_link(autojump_clock: MockClock) -> None:
    """Neither at its end, nor when the peer is gone."""
    budget = Budget(1 << 20)
    for leave in (True, False):
        async with bench(read_for_ever, budget=budget) as it:
            for _ in range(100):
                it.link.send(Later(100, "instead"))
            await wait_all_tasks_blocked()
            assert budget.used == 10_000
            start = trio.current_time()
            if leave:
                await it.stream.aclose()
            else:
                it.link.close(CloseReason.SHUTDOWN)
            await it.ended.wait()
            assert trio.current_time() - start <= SETTINGS.write_seconds + SETTINGS.close_seconds
            assert budget.used == 0


async def test_promise_counts_with_its_estimate(autojump_clock: MockClock) -> None:
    settings = replace(SETTINGS, outbox_bytes=1000)
    async with bench(read_for_ever, settings) as it:
        assert it.link.send(Later(900, "instead"))
        assert not it.link.send(Later(200, "instead"))
        assert await it.client.get_message() == "instead"
        assert (await close_code(it.client))[0] == 1013


async def test_idle_peer_that_answers_pings_lives_for_ever(autojump_clock: MockClock) -> None:
    async with bench(read_for_ever) as it:
        await trio.sleep(3600)
        assert it.link.outcome == "open"
        assert it.link.round_trip == 0.0


async def test_silent_peer_is_closed_when_a_ping_stays_unanswered(autojump_clock: MockClock) -> None:
    before = closes("silent_peer")
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_link, "test", ours, PEER, SETTINGS, read_for_ever)
        async with trio.open_nursery() as reading:
            await wrap_client_stream(reading, theirs, "localhost", "/")
            reading.cancel_scope.cancel()
        start = trio.current_time()
    assert closes("silent_peer") == before + 1
    assert 60 <= trio.current_time() - start <= 60 + SETTINGS.close_seconds + 1


async def test_peer_that_answers_a_ping_is_known_to_live(autojump_clock: MockClock) -> None:
    async with bench(read_for_ever) as it:
        assert await it.link.answers_ping(2)
        assert trio.current_time() == it.link.opened_at


async def test_peer_that_hangs_answers_no_ping_and_stays(autojump_clock: MockClock) -> None:
    async with bench(read_for_ever) as it:
        it.stream.send_stream, _ = memory_stream_one_way_pair()
        assert not await it.link.answers_ping(2)
        assert trio.current_time() - it.link.opened_at == pytest.approx(2)
        assert it.link.outcome == "open"


async def test_who_stops_waiting_for_a_pong_leaves_the_link_sound(autojump_clock: MockClock) -> None:
    async with bench(read_for_ever) as it:
        with trio.move_on_after(0) as impatient:
            await it.link.answers_ping(2)
        assert impatient.cancelled_caught
        assert await it.link.answers_ping(2)


async def test_peer_that_leaves_while_it_is_asked_is_told_at_once(autojump_clock: MockClock) -> None:
    async with bench(read_for_ever) as it:
        muted = it.stream.send_stream
        it.stream.send_stream, _ = memory_stream_one_way_pair()
        answers: list[bool] = []

        async def ask() -> None:
            answers.append(await it.link.answers_ping(100))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(1)
            await muted.aclose()
        assert answers == [False]
        assert trio.current_time() - it.link.opened_at < 2


async def test_link_that_ends_is_not_asked(autojump_clock: MockClock) -> None:
    async with bench(read_for_ever) as it:
        it.link.close(CloseReason.SUPERSEDED)
        assert not await it.link.answers_ping(100)
        await it.ended.wait()
        assert not await it.link.answers_ping(100)
        assert trio.current_time() - it.link.opened_at < 1


async def test_peer_that_must_not_be_pinged_is_never_closed_for_silence(autojump_clock: MockClock) -> None:
    settings = replace(SETTINGS, may_ping=False)
    ours, theirs = memory_stream_pair()
    got = bytearray()
    links: list[Link] = []

    async def note(link: Link) -> None:
        links.append(link)
        await link.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_link, "test", ours, PEER, settings, note)
        async with trio.open_nursery() as reading:
            await wrap_client_stream(reading, theirs, "localhost", "/")
            reading.cancel_scope.cancel()
        with trio.move_on_after(1000):
            while True:
                got += await theirs.receive_some()
        assert got == b""
        assert links[0].outcome == "open"
        links[0].may_ping = True
        with trio.move_on_after(30):
            got += await theirs.receive_some()
        assert got[0] == 0x89
        nursery.cancel_scope.cancel()


async def test_standstill_of_the_process_kills_nobody(autojump_clock: MockClock) -> None:
    async with bench(read_for_ever) as it:
        await trio.sleep(70)
        autojump_clock.jump(300)
        await trio.sleep(1)
        assert it.link.outcome == "open"
        await trio.sleep(300)
        assert it.link.outcome == "open"


async def test_reader_that_is_held_up_by_its_handler_is_not_taken_for_silent(
    autojump_clock: MockClock,
) -> None:
    """Trap T5: while the handler works and the queue is full nobody listens; the peer is not to blame."""

    async def slow(link: Link) -> None:
        await trio.sleep(200)
        async for message in link:
            link.send(message)

    async with bench(slow) as it:
        for number in range(5):
            await it.client.send_message(str(number))
        assert [await it.client.get_message() for _ in range(5)] == ["0", "1", "2", "3", "4"]
        assert it.link.outcome == "open"


async def test_ping_that_crosses_our_close_does_no_harm(autojump_clock: MockClock) -> None:
    """trio-websocket's reader raises LocalProtocolError on it."""
    async with bench(read_for_ever) as it:
        it.link.close(CloseReason.SHUTDOWN)
        await it.client._send(Ping(b"x"))
        await it.ended.wait()


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET /ws/test HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET /ws/test HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        b"GET /ws/test HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
        b"GET /ws/test HTTP/1.0\r\nHost: x\r\nUpgrade: websocket\r\n\r\n",
        b"GET /ws/test HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nbroken header\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
    ],
)
async def test_bad_upgrade_ends_at_once(request_head: bytes, autojump_clock: MockClock) -> None:
    before = closes("bad_handshake")
    ours, theirs = memory_stream_pair()
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_link, "test", ours, PEER, SETTINGS, read_for_ever)
        await theirs.send_all(request_head)
        answer = b""
        with trio.move_on_after(SETTINGS.handshake_seconds * 2):
            while chunk := await theirs.receive_some():
                answer += chunk
    assert answer.startswith(b"HTTP/1.1 4")
    assert trio.current_time() == start
    assert closes("bad_handshake") == before + 1


async def test_upgrade_that_never_comes_ends_in_time(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_link, "test", ours, PEER, SETTINGS, read_for_ever)
        await theirs.send_all(b"GET /ws/test HTTP/1.1\r\n")
    assert trio.current_time() - start == SETTINGS.handshake_seconds


async def test_garbage_after_the_handshake_is_no_crash(autojump_clock: MockClock) -> None:
    crashes = partial(REGISTRY.get_sample_value, "linguad_link_crashes_total", {"kind": "test"})
    before = crashes()
    for garbage in (b"\xff" * 100, b"\x00" * 100, b"\x81\x85", b"\x88\x01\x00", b"\x81\x02\xc3\x28" * 9):
        async with bench(read_for_ever) as it:
            await it.stream.send_all(garbage)
            await it.stream.send_stream.aclose()
            await it.ended.wait()
    assert crashes() == before


@given(st.binary(max_size=300))
@settings(max_examples=60)
def test_any_bytes_after_the_handshake_end_in_order(garbage: bytes) -> None:
    """Neither wsproto nor trio-websocket may bring the task of the connection down."""

    async def main() -> None:
        async with bench(read_for_ever) as it:
            await it.stream.send_all(garbage)
            await it.stream.send_stream.aclose()
            await it.ended.wait()

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_links_close_all_reaches_those_still_in_their_handshake(autojump_clock: MockClock) -> None:
    links = Links("test", SETTINGS, read_for_ever)
    pairs = [memory_stream_pair() for _ in range(3)]
    async with trio.open_nursery() as nursery:
        for ours, _ in pairs:
            nursery.start_soon(links.serve, ours, PEER)
        first = [await wrap_client_stream(nursery, theirs, "localhost", "/") for _, theirs in pairs[:2]]
        await wait_all_tasks_blocked()
        assert len(links) == 2
        links.close_all(CloseReason.SHUTDOWN)
        late = await wrap_client_stream(nursery, pairs[2][1], "localhost", "/")
        for client in (*first, late):
            assert (await close_code(client))[0] == 1001
    assert len(links) == 0
