"""A client loses its connection and goes on where it was: our addition (resolutions 15, 17)."""

from __future__ import annotations

from typing import Any

import trio
from harness import Client, Json, World, base64, daemon_in_memory, plan_a
from trio.testing import MockClock, wait_all_tasks_blocked

from linguad.wire import opus


async def talker(world: World, **members: Any) -> tuple[Client, Json]:
    """A client whose session can be resumed, and what it needs for that."""
    client = await world.stranger()
    ack = await client.open(resume={}, **members)
    return client, {"session_id": ack["session_id"], "resume_token": ack["resume_token"], "delivery": 0}


async def again(world: World, before: Client, resume: Json, **members: Any) -> tuple[Client, Json]:
    """The same client on another connection, and its acknowledgement."""
    client = await world.stranger()
    client.seq = before.seq
    return client, await client.open(resume=resume, **members)


async def test_old_clients_see_nothing_of_it(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.working_node()
        client = await world.client()
        await client.speak()
        result = await client.result()
        assert "delivery" not in result
        assert await client.heard("audio_ack", "go_away") == []


async def test_what_was_missed_comes_again_and_nothing_else(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        client, resume = await talker(world)
        for _ in range(3):
            await client.speak()
        jobs = [await node.job() for _ in range(3)]
        await node.answer(jobs[0])
        assert (await client.result())["delivery"] == 1
        await client.drop()
        await wait_all_tasks_blocked()
        await node.answer(jobs[1])
        client, ack = await again(world, client, resume | {"delivery": 1})
        assert ack["recovered"] is True
        assert ack["session_id"] == resume["session_id"]
        assert ack["delivery"] == 2
        missed = await client.result()
        assert (missed["delivery"], missed["utterance_index"]) == (2, 1)
        await node.answer(jobs[2])
        assert (await client.result())["delivery"] == 3


async def test_audio_goes_on_in_the_same_utterance(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        client, resume = await talker(world)
        await client.chunk(plan_a(mark=1))
        await client.chunk(plan_a(mark=2))
        await client.drop()
        await trio.sleep(20)
        lost = client.seq
        client.seq += 1
        client, ack = await again(world, client, resume)
        assert ack["audio_seq"] == lost - 1
        client.seq = lost - 1
        await client.chunk(plan_a(mark=2))
        await client.chunk(plan_a(mark=3))
        await client.chunk(final=True)
        job = await node.job()
        whole = plan_a(mark=1) + plan_a(mark=2) + plan_a(mark=3)
        assert job["audio"] == base64(whole)
        assert job["utterance_index"] == 0


async def test_audio_is_acknowledged_after_its_result_was(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        client, _ = await talker(world)
        await client.speak()
        job = await node.job()
        await node.answer(job)
        assert (await client.result())["delivery"] == 1
        assert await client.heard("audio_ack") == []
        await client.say({"type": "result_ack", "session_id": client.session_id, "delivery": 1})
        (acked,) = await client.heard("audio_ack")
        assert (acked["seq"], acked["audio_bytes"]) == (client.seq - 1, 3 * len(plan_a()))


async def test_pause_begins_anew_with_the_connection(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        client, resume = await talker(world)
        await client.chunk(plan_a())
        await client.drop()
        await trio.sleep(10)
        client, _ = await again(world, client, resume)
        await trio.sleep(2.9)
        assert await node.heard("job_assign") == []
        await trio.sleep(0.2)
        assert (await node.job())["is_timeout_triggered"] is True


async def test_wrong_token_gets_another_session(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client, resume = await talker(world)
        _, ack = await again(world, client, resume | {"resume_token": "guess"})
        assert ack["recovered"] is False
        assert ack["session_id"] != resume["session_id"]
        await client.heartbeat()
        assert client.connected


async def test_connection_that_was_not_seen_to_be_lost_is_closed(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        old, resume = await talker(world)
        new, ack = await again(world, old, resume)
        assert ack["recovered"] is True
        assert (await old.closed())[0] == 4001
        await new.heartbeat()
        assert world.daemon.view.facts()["sessions"] == 1


async def test_after_the_grace_it_is_another_session(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client, resume = await talker(world)
        await client.drop()
        await trio.sleep(30.1)
        assert world.daemon.view.facts()["sessions"] == 0
        _, ack = await again(world, client, resume)
        assert ack["recovered"] is False


async def test_results_that_are_not_kept_cannot_be_followed(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(sessions={"resume_results": 2}) as world:
        await world.working_node()
        client, resume = await talker(world)
        for _ in range(4):
            await client.speak()
            await client.result()
        await client.drop()
        await wait_all_tasks_blocked()
        _, ack = await again(world, client, resume | {"delivery": 1})
        assert ack["recovered"] is False
        assert world.daemon.view.facts()["sessions"] == 1


async def test_acknowledged_results_need_no_room(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(sessions={"resume_results": 2}) as world:
        await world.working_node()
        client, resume = await talker(world)
        for number in range(1, 5):
            await client.speak()
            await client.result()
            await client.say({"type": "result_ack", "session_id": client.session_id, "delivery": number})
        await client.drop()
        await wait_all_tasks_blocked()
        _, ack = await again(world, client, resume | {"delivery": 4})
        assert ack["recovered"] is True


async def test_place_in_the_room_is_kept(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        speaker, (listener, resume) = await world.client(), await talker(world, tgt_lang="zh")
        await speaker.say({"type": "room_create", "client_ts": 1})
        code = (await speaker.until("room_create_ack"))["room_code"]
        await listener.say({"type": "room_join", "room_code": code})
        await listener.until("room_members")
        await listener.drop()
        await wait_all_tasks_blocked()
        await speaker.heard()
        await speaker.speak()
        job = await node.job()
        assert job["tgt_lang"] == "zh"
        await node.answer(job)
        await wait_all_tasks_blocked()
        listener, ack = await again(world, listener, resume)
        assert ack["recovered"] is True
        missed = await listener.result()
        assert (missed["session_id"], missed["delivery"]) == (speaker.session_id, 1)
        assert (await listener.until("room_create_ack"))["room_code"] == code
        members = await listener.until("room_members")
        assert len(members["members"]) == 2


async def test_room_is_left_after_the_grace_and_what_was_said_is_heard(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.working_node()
        (speaker, _), listener = await talker(world), await world.client(tgt_lang="zh")
        await listener.say({"type": "room_create", "client_ts": 1})
        code = (await listener.until("room_create_ack"))["room_code"]
        await speaker.say({"type": "room_join", "room_code": code})
        await speaker.until("room_members")
        await listener.heard()
        await speaker.chunk(plan_a(mark=9))
        await speaker.drop()
        await trio.sleep(29)
        assert await listener.heard("translation_result", "room_members") == []
        assert (await listener.result())["session_id"] == speaker.session_id
        await trio.sleep(31)
        assert world.daemon.view.facts()["sessions"] == 1


async def test_whole_utterance_sent_again_is_done_once(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        client, resume = await talker(world)
        await client.utterance(0)
        job = await node.job()
        await client.drop()
        client, _ = await again(world, client, resume)
        await client.utterance(0)
        await node.answer(job)
        assert (await client.result())["utterance_index"] == 0
        assert await node.heard("job_assign") == []


async def test_drain_is_told_before_the_close(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        (client, _), old = await talker(world), await world.client()
        world.daemon.sessions.finish(25.0)
        assert (await client.until("go_away"))["time_left_ms"] == 25000
        assert await old.heard() == []


async def test_binary_audio(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        client = await world.stranger()
        ack = await client.open(use_binary_frame=True)
        assert ack["use_binary_frame"] is True
        name = ack["session_id"].encode()
        audio = opus.join([b"x" * 60] * 30)
        await client.say(bytes([1, len(name)]) + bytes(8) + bytes([0, 0]) + name + audio)
        await client.say(bytes([2, len(name)]) + b"\1\0\0\0" + bytes(4) + name)
        assert (await node.job())["audio"] == base64(audio)


async def test_binary_audio_that_was_not_agreed_means_nothing(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client = await world.client()
        name = client.session_id.encode()
        await client.say(bytes([1, len(name)]) + bytes(10) + name + plan_a())
        assert await client.heard() == []


async def test_bad_binary_frames_are_one_error(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(sessions={"binary_frames": True}) as world:
        client = await world.client()
        for frame in (b"", b"\x07", b"\x01\xff", b"\x02\x03" + bytes(8) + b"s-x"):
            await client.say(frame)
        codes = {error["code"] for error in await client.heard("error")}
        assert codes == {"INVALID_MESSAGE", "INVALID_SESSION"}
        await client.heartbeat()


async def test_hello_on_the_same_socket_goes_on_or_begins_anew(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client, resume = await talker(world)
        assert (await client.open(resume=resume))["recovered"] is True
        assert world.daemon.view.facts()["sessions"] == 1
        ack = await client.open(resume=resume | {"resume_token": "guess"})
        assert ack["recovered"] is False
        assert world.daemon.view.facts()["sessions"] == 1
        await client.drop()
        await trio.sleep(31)
        assert world.daemon.view.facts()["sessions"] == 0


async def test_session_that_was_closed_is_not_gone_on_with(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        (speaker, resume), listener = await talker(world), await world.client(tgt_lang="zh")
        await listener.say({"type": "room_create", "client_ts": 1})
        code = (await listener.until("room_create_ack"))["room_code"]
        await speaker.say({"type": "room_join", "room_code": code})
        await speaker.until("room_members")
        await speaker.speak()
        job = await node.job()
        await speaker.say({"type": "session_close", "session_id": speaker.session_id, "reason": "bye"})
        await speaker.until("session_close_ack")
        _, ack = await again(world, speaker, resume)
        assert ack["recovered"] is False
        await node.answer(job)
        assert (await listener.result())["session_id"] == speaker.session_id


async def test_all_that_is_kept_fits_into_one_outbox(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.working_node()
        client, resume = await talker(world)
        for _ in range(128):
            await client.speak()
            await client.result()
        await client.drop()
        await wait_all_tasks_blocked()
        client, ack = await again(world, client, resume)
        assert ack["recovered"] is True
        assert len(await client.heard("translation_result")) == 128
        await client.heartbeat()


async def test_languages_that_went_meanwhile_are_told(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        client, resume = await talker(world)
        await client.drop()
        await node.leave()
        await trio.sleep(10)
        client = await world.stranger()
        client.minds_languages = True
        assert (await client.open(resume=resume))["recovered"] is True
        assert (await client.until("ui_event"))["error_code"] == "NO_AVAILABLE_NODE"


async def test_audio_that_was_acknowledged_is_told_again(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.working_node()
        client, resume = await talker(world)
        await client.speak()
        await client.result()
        await client.drop()
        await wait_all_tasks_blocked()
        last = client.seq - 1
        client, _ = await again(world, client, resume | {"delivery": 1})
        assert (await client.until("audio_ack"))["seq"] == last
        await client.drop()
        await wait_all_tasks_blocked()
        client, _ = await again(world, client, resume | {"delivery": 1})
        assert (await client.until("audio_ack"))["seq"] == last
