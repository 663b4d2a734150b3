"""A client that goes to another daemon, and takes along what was not settled (docs/sessions.md).

Rules: autojump_clock, no threads, no sockets; audio is Opus from the start.
"""

from __future__ import annotations

import pytest
import trio
from memory_network import URL, Network, marks, serving, sound, speak, spoken, stop, until
from trio.testing import MockClock, wait_all_tasks_blocked

from linguad.client import (
    Reconnected,
    RefusedError,
    lifeline,
    open_session,
)
from linguad.client.ledger import ENTRY_BYTES
from linguad.net import dial
from linguad.wire.session import (
    GoAway,
    MissingResult,
    SessionUpdateAck,
    TranslationResult,
)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """Stands in for the real one."""
    network = Network()
    monkeypatch.setattr(dial, "websocket", network.websocket)
    return network


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


async def test_paired_session_does_not_go_to_other_nodes(network: Network, autojump_clock: MockClock) -> None:
    async with serving(network) as world:
        node = await world.node()
        code = world.daemon.view.pairing_code(node.id).code
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
