"""A client that outlives its connections, with a real daemon over memory streams (docs/sessions.md).

Rules: autojump_clock, no threads, no sockets; audio is Opus from the start.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
import trio
from harness import Json, World, daemon_in_memory, plan_a
from trio.testing import MockClock, memory_stream_one_way_pair, wait_all_tasks_blocked
from trio_websocket import WebSocketConnection

from linguad import metrics
from linguad.client import (
    ClosedError,
    Event,
    GaveUpError,
    Reconnected,
    RefusedError,
    Session,
    lifeline,
    open_session,
)
from linguad.client.ledger import ENTRY_BYTES
from linguad.errors import CloseReason
from linguad.net import dial
from linguad.wire.room import RoomCreate, RoomCreateAck, RoomJoin
from linguad.wire.session import (
    GoAway,
    MissingResult,
    ServerHeartbeat,
    SessionUpdateAck,
    TranslationResult,
    Utterance,
)

URL = "ws://localhost:5010/ws/session"

E = TypeVar("E", bound=Event)


class Network:
    """Where the client finds its server; connections can be cut, and the way be closed."""

    def __init__(self) -> None:
        self.world: World | None = None
        self.open = True
        self.connections = 0
        self._streams: list[trio.StapledStream] = []

    @asynccontextmanager
    async def websocket(self, url: str, **limits: float) -> AsyncIterator[WebSocketConnection]:
        """In the place of `dial.websocket`."""
        if not self.open or self.world is None:
            raise dial.DialError(f"cannot connect to {url}: Connection refused")
        ws, stream = await self.world._dial(self.world.daemon.session_links)
        assert isinstance(stream, trio.StapledStream)
        self._streams.append(stream)
        self.connections += 1
        try:
            yield ws
            await ws.aclose()
        finally:
            await trio.aclose_forcefully(stream)

    def hang(self) -> None:
        """What the client sends goes nowhere any more, and nobody says so, as after a change of networks."""
        self._streams[-1].send_stream = memory_stream_one_way_pair()[0]

    async def cut(self) -> None:
        """Every connection breaks without a word."""
        for stream in self._streams:
            await trio.aclose_forcefully(stream)
        self._streams.clear()
        await wait_all_tasks_blocked()


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """Stands in for the real one."""
    network = Network()
    monkeypatch.setattr(dial, "websocket", network.websocket)
    return network


@asynccontextmanager
async def serving(network: Network, **tables: Json) -> AsyncIterator[World]:
    """A daemon that the network leads to."""
    async with daemon_in_memory(**tables) as world:
        network.world = world
        yield world
        await network.cut()
        network.world = None


async def until(session: Session, kind: type[E], holds: Callable[[E], bool] = lambda event: True) -> E:
    """The next event of this type; what comes before is skipped."""
    with trio.fail_after(1000):
        while True:
            event = await session.receive()
            if isinstance(event, kind) and holds(event):
                return event


def sound(mark: int = 1) -> bytes:
    """A chunk that is long enough to be an utterance."""
    return plan_a(25, mark)


async def speak(session: Session, *marks: int) -> None:
    """An utterance of one chunk for each mark."""
    for mark in marks:
        await session.send_audio(sound(mark), "opus")
    await session.finish_utterance()


def marks(job: Json) -> list[int]:
    """The marks of the chunks in a job, each once for its packets in a row."""
    seen: list[int] = []
    for packet in b64decode(job["audio"])[2::62]:
        if not seen or seen[-1] != packet:
            seen.append(packet)
    return seen


def stop(world: World) -> None:
    """The daemon stops: it says what has no result, and sends all away."""
    world.daemon.sessions.abandon()
    world.daemon.session_links.close_all(CloseReason.SHUTDOWN)


def spoken(session_id: str, index: int) -> Utterance:
    """A whole utterance."""
    return Utterance(
        session_id=session_id,
        utterance_index=index,
        manual_cut=True,
        src_lang="en",
        tgt_lang="es",
        audio=b64encode(sound()).decode(),
        audio_format="opus",
        sample_rate=16000,
    )


async def test_audio_travels_in_binary_frames(network: Network, autojump_clock: MockClock) -> None:
    count = metrics.MESSAGES.labels("session", "binary")._value.get
    async with serving(network) as world, open_session(URL, "en", "es") as session:
        node, before = await world.node(), count()
        await speak(session, 1, 2)
        assert marks(await node.job()) == [1, 2]
        assert count() - before == 3


async def test_the_running_utterance_goes_on(network: Network, autojump_clock: MockClock) -> None:
    async with serving(network) as world, open_session(URL, "en", "es") as session:
        node, session_id = await world.node(), session.session_id
        await session.send_audio(sound(1), "opus")
        await network.cut()
        await session.send_audio(sound(2), "opus")
        await session.send_audio(sound(3), "opus")
        await session.finish_utterance()
        job = await node.job()
        assert (marks(job), job["utterance_index"]) == ([1, 2, 3], 0)
        await node.answer(job)
        assert await until(session, Reconnected) == Reconnected(True, session_id)
        assert (await until(session, TranslationResult)).delivery == 1


async def test_result_that_was_missed_comes_once(network: Network, autojump_clock: MockClock) -> None:
    async with serving(network) as world, open_session(URL, "en", "es") as session:
        node = await world.node()
        for mark in (1, 2, 3):
            await speak(session, mark)
        jobs = [await node.job() for _ in range(3)]
        await node.answer(jobs[0])
        await until(session, TranslationResult)
        network.open = False
        await network.cut()
        await node.answer(jobs[1])
        await wait_all_tasks_blocked()
        network.open = True
        await until(session, Reconnected)
        await network.cut()
        await node.answer(jobs[2])
        results = [await until(session, TranslationResult) for _ in range(2)]
        assert [result.utterance_index for result in results] == [1, 2]
        await session.heartbeat()
        assert isinstance(await session.receive(), ServerHeartbeat)


async def test_speech_without_a_connection_is_kept(network: Network, autojump_clock: MockClock) -> None:
    async with serving(network) as world, open_session(URL, "en", "es") as session:
        node = await world.node()
        network.open = False
        await network.cut()
        for mark in range(1, 5):
            await speak(session, mark)
        await trio.sleep(10)
        network.open = True
        assert [marks(await node.job()) for _ in range(4)] == [[1], [2], [3], [4]]


async def test_when_too_much_is_kept_speech_waits(
    network: Network, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifeline, "KEPT_BYTES", 3 * (ENTRY_BYTES + len(sound())))
    async with serving(network) as world, open_session(URL, "en", "es") as session:
        node = await world.node()
        network.open = False
        await network.cut()
        for mark in range(1, 4):
            await session.send_audio(sound(mark), "opus")
        with trio.move_on_after(5) as patience:
            await session.send_audio(sound(100), "opus")
        assert patience.cancelled_caught
        network.open = True
        await session.send_audio(sound(4), "opus")
        await session.finish_utterance()
        assert marks(await node.job()) == [1, 2, 3, 4]
        assert (await until(session, Reconnected)).lost == 0


async def test_dropped_speech_is_told(
    network: Network, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifeline, "KEPT_BYTES", 3 * (ENTRY_BYTES + len(sound())))
    async with serving(network), open_session(URL, "en", "es") as session:
        for mark in range(1, 6):
            await session.send_audio(sound(mark), "opus")
        async with serving(network):
            await network.cut()
            news = await until(session, Reconnected)
            assert (news.recovered, news.lost) == (False, 3)


async def test_other_messages_wait_for_the_next_connection(
    network: Network, autojump_clock: MockClock
) -> None:
    async with serving(network), open_session(URL, "en", "es") as session:
        network.open = False
        await network.cut()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.send, RoomCreate(client_ts=1))
            await trio.sleep(10)
            network.open = True
        await until(session, RoomCreateAck)


async def test_new_daemon_gets_what_had_no_result(network: Network, autojump_clock: MockClock) -> None:
    """Two sentences of three are settled; the daemon stops in the middle of the third."""
    async with serving(network) as world, open_session(URL, "en", "es") as session:
        node, session_id = await world.node(), session.session_id
        for mark in (1, 2):
            await speak(session, mark)
            await node.answer(await node.job())
            await until(session, TranslationResult)
        await session.send_audio(sound(3), "opus")
        async with serving(network) as another:
            node = await another.node()
            stop(world)
            news = await until(session, Reconnected)
            assert not news.recovered
            assert session_id != news.session_id == session.session_id
            await session.send_audio(sound(4), "opus")
            await session.finish_utterance()
            job = await node.job()
            assert (marks(job), job["utterance_index"]) == ([3, 4], 0)
            await node.answer(job)
            assert (await until(session, TranslationResult)).session_id == news.session_id


async def test_whole_utterances_go_to_the_new_daemon(network: Network, autojump_clock: MockClock) -> None:
    async with serving(network) as world, open_session(URL, "en", "es") as session:
        node, old_id = await world.node(), session.session_id
        await session.send(spoken(old_id, 7))
        await node.answer(await node.job())
        await until(session, TranslationResult)
        await session.send(spoken(old_id, 8))
        await node.job()
        async with serving(network) as another:
            node = await another.node()
            stop(world)
            assert (await until(session, MissingResult)).reason == "cancelled"
            await until(session, Reconnected)
            job = await node.job()
            assert (job["utterance_index"], job["session_id"]) == (8, session.session_id)
            await session.send(spoken(old_id, 9))
            assert (await node.job())["utterance_index"] == 9


async def test_changed_languages_outlive_the_session(network: Network, autojump_clock: MockClock) -> None:
    async with serving(network) as world, open_session(URL, "en", "es") as session:
        node = await world.node()
        await speak(session, 1)
        assert (await node.job())["tgt_lang"] == "es"
        await session.update(tgt="zh")
        assert (await until(session, SessionUpdateAck)).tgt_lang == "zh"
        await speak(session, 2)
        assert (await node.job())["tgt_lang"] == "zh"
        async with serving(network) as another:
            node = await another.node()
            await network.cut()
            jobs = [await node.job() for _ in range(2)]
            assert [(marks(job), job["tgt_lang"]) for job in jobs] == [([1], "es"), ([2], "zh")]
            for job in jobs:
                await node.answer(job)
                await until(session, TranslationResult)
            async with serving(network) as third:
                node = await third.node()
                await network.cut()
                await speak(session, 3)
                job = await node.job()
                assert (marks(job), job["tgt_lang"]) == ([3], "zh")


async def test_two_way_is_a_pair(network: Network, autojump_clock: MockClock) -> None:
    async with serving(network) as world, open_session(URL, "en", "es") as session:
        await world.node()
        await session.update(src="en", tgt="zh", two_way=True)
        ack = await until(session, SessionUpdateAck)
        assert (ack.lang_a, ack.lang_b) == ("en", "zh")
        await session.update(src="zh", tgt="en")
        ack = await until(session, SessionUpdateAck)
        assert (ack.src_lang, ack.tgt_lang, ack.lang_a) == ("zh", "en", None)


async def test_idle_client_leaves_a_server_that_goes_away(
    network: Network, autojump_clock: MockClock
) -> None:
    async with serving(network) as world, open_session(URL, "en", "es") as session:
        world.daemon.sessions.finish(25.0)
        assert (await until(session, GoAway)).time_left_ms == 25000
        left_at = trio.current_time()
        assert (await until(session, Reconnected)).recovered
        assert trio.current_time() - left_at < 1


async def test_running_utterance_is_finished_before_leaving(
    network: Network, autojump_clock: MockClock
) -> None:
    async with serving(network) as world, open_session(URL, "en", "es") as session:
        node = await world.node()
        await session.send_audio(sound(1), "opus")
        await wait_all_tasks_blocked()
        world.daemon.sessions.finish(25.0)
        await until(session, GoAway)
        assert marks(await node.job()) == [1], "the daemon cuts when it begins to stop"
        await speak(session, 2)
        rest = await node.job()
        assert marks(rest) == [2]
        network.open = False
        await speak(session, 3)
        await trio.sleep(5)
        assert network.connections == 1
        network.open = True
        await trio.sleep(15)
        assert network.connections == 1, "results are still to come here"
        await trio.sleep(10)
        assert network.connections == 2
        assert marks(await node.job()) == [3]


async def test_it_gives_up_with_one_error(network: Network, autojump_clock: MockClock) -> None:
    async with serving(network), open_session(URL, "en", "es", give_up_s=40.0) as session:
        network.open = False
        await network.cut()
        lost_at = trio.current_time()
        await session.send_audio(sound(), "opus")
        with pytest.raises(
            GaveUpError, match=r"not back after 40 s: cannot connect to ws://.*refused"
        ) as caught:
            await until(session, Reconnected)
        assert trio.current_time() - lost_at == pytest.approx(40.0)
        with pytest.raises(GaveUpError) as again:
            await session.send_audio(sound(), "opus")
        assert again.value is caught.value


async def test_message_that_waits_learns_that_it_gives_up(
    network: Network, autojump_clock: MockClock
) -> None:
    async with serving(network), open_session(URL, "en", "es", give_up_s=40.0) as session:
        network.open = False
        await network.cut()
        with pytest.raises(GaveUpError, match="not back after 40 s"):
            await session.heartbeat()


async def test_by_default_it_tries_longer_than_the_session_is_kept(
    network: Network, autojump_clock: MockClock
) -> None:
    async with (
        serving(network, sessions={"detach_grace_seconds": 10}),
        open_session(URL, "en", "es") as session,
    ):
        network.open = False
        await network.cut()
        lost_at = trio.current_time()
        with pytest.raises(GaveUpError):
            await until(session, Reconnected)
        assert trio.current_time() - lost_at == pytest.approx(10 + lifeline.GIVE_UP_MARGIN_S)


async def test_close_without_a_connection_is_prompt(network: Network, autojump_clock: MockClock) -> None:
    async with serving(network):
        async with open_session(URL, "en", "es") as session:
            network.open = False
            await network.cut()
            lost_at = trio.current_time()
            await trio.sleep(3)
            assert not await session.close()
            with pytest.raises(ClosedError, match="is closed"):
                await session.send_audio(sound(), "opus")
            assert [event async for event in session.events()] == []
        assert trio.current_time() == lost_at + 3


async def test_without_resume_the_first_failure_ends_it(network: Network, autojump_clock: MockClock) -> None:
    async with serving(network) as world, open_session(URL, "en", "es", resume=False) as session:
        node = await world.node()
        await speak(session, 1)
        result = await node.job()
        await node.answer(result)
        assert (await until(session, TranslationResult)).delivery is None
        await network.cut()
        with pytest.raises(ClosedError, match="broke"):
            await until(session, Reconnected)
        with pytest.raises(ClosedError, match="broke"):
            await session.send(RoomJoin(room_code="503118"))
        assert network.connections == 1


async def test_results_are_acknowledged(network: Network, autojump_clock: MockClock) -> None:
    count = metrics.MESSAGES.labels("session", "result_ack")._value.get
    async with serving(network) as world, open_session(URL, "en", "es") as session:
        await world.working_node()
        before = count()
        for mark in range(1, 4):
            await speak(session, mark)
            await until(session, TranslationResult)
        await wait_all_tasks_blocked()
        assert count() - before == 3
        async with serving(network) as another:
            node = await another.node()
            await network.cut()
            await speak(session, 4)
            assert marks(await node.job()) == [4]


async def test_application_that_reads_late_misses_nothing(
    network: Network, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifeline, "MAX_EVENTS", 4)
    async with serving(network) as world, open_session(URL, "en", "es") as session:
        await world.working_node()
        for mark in range(1, 11):
            await speak(session, mark)
        await trio.sleep(5)
        await network.cut()
        with trio.fail_after(20):
            await session.heartbeat()
        results = [await until(session, TranslationResult) for _ in range(10)]
        assert [result.utterance_index for result in results] == list(range(10))


async def test_paired_session_does_not_go_to_other_nodes(network: Network, autojump_clock: MockClock) -> None:
    async with serving(network) as world:
        node = await world.node()
        code = world.daemon.pairing_code(node.id).code
        async with open_session(URL, "en", "es", pairing_code=code) as session:
            assert session.assigned_node_id == node.id
            await network.cut()
            assert (await until(session, Reconnected)).recovered
            await session.send_audio(sound(), "opus")
            async with serving(network) as another:
                stranger = await another.node()
                await network.cut()
                with pytest.raises(RefusedError, match="new code"):
                    await until(session, Reconnected)
                assert await stranger.heard("job_assign") == []


async def test_dead_line_is_noticed(network: Network, autojump_clock: MockClock) -> None:
    async with serving(network) as world, open_session(URL, "en", "es") as session:
        node = await world.node()
        network.hang()
        await speak(session, 1)
        assert (await until(session, Reconnected)).recovered
        assert marks(await node.job()) == [1]
