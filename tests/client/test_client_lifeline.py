"""A client that outlives its connections, with a real daemon over memory streams (docs/sessions.md).

Rules: autojump_clock, no threads, no sockets; audio is Opus from the start.
"""

from __future__ import annotations

import pytest
import trio
from memory_network import URL, Network, marks, serving, sound, speak, spoken, until
from trio.testing import MockClock, wait_all_tasks_blocked

from linguad import metrics
from linguad.client import (
    ClosedError,
    GaveUpError,
    Reconnected,
    lifeline,
    open_session,
)
from linguad.client.ledger import ENTRY_BYTES
from linguad.net import dial
from linguad.wire import opus
from linguad.wire.room import RoomCreate, RoomCreateAck, RoomJoin
from linguad.wire.session import (
    ServerHeartbeat,
    TranslationResult,
)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """Stands in for the real one."""
    network = Network()
    monkeypatch.setattr(dial, "websocket", network.websocket)
    return network


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
        assert (await until(session, Reconnected)).recovered
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


async def test_message_that_is_too_long_ends_the_session(network: Network, autojump_clock: MockClock) -> None:
    async with (
        serving(network, sessions={"max_message_bytes": 2**16}),
        open_session(URL, "en", "es") as session,
    ):
        long = spoken(session.session_id, 0, opus.join([bytes(1000)] * 100))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.send, long)
            with pytest.raises(ClosedError, match="1009"):
                await until(session, Reconnected)
        assert network.connections == 1


async def test_dead_line_is_noticed(network: Network, autojump_clock: MockClock) -> None:
    async with serving(network) as world, open_session(URL, "en", "es") as session:
        node = await world.node()
        network.hang()
        hung_at = trio.current_time()
        await speak(session, 1)
        assert (await until(session, Reconnected)).recovered
        assert trio.current_time() - hung_at < 45, "the server gives it up after 60 s"
        assert marks(await node.job()) == [1]
