"""Clients' sockets: handshake, messages one by one, errors and the ends of sessions (session-protocol 1, 2).

Rules: memory streams and autojump_clock, no threads, no sockets; the peers are real WebSocket clients.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from harness import Client, base64, daemon_in_memory, plan_a, session_init
from trio.testing import MockClock, wait_all_tasks_blocked


async def test_ack_is_the_first_frame_even_if_more_was_asked_at_once(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client = await world.stranger()
        await client.say(session_init())
        await client.say({"type": "room_create", "client_ts": 1769900000000})
        await client.say("not JSON")
        ack = await client.hear()
        assert ack["type"] == "session_init_ack"
        assert ack["session_id"].startswith("s-")
        assert len(ack["session_id"]) == 26
        assert ack["trace_id"] == session_init()["trace_id"]
        assert {
            name: value for name, value in ack.items() if name not in ("session_id", "trace_id", "message")
        } == {
            "type": "session_init_ack",
            "protocol_version": "1.0",
            "use_binary_frame": False,
            "negotiated_codec": "opus",
            "negotiated_audio_format": "opus",
            "negotiated_sample_rate": 16000,
            "negotiated_channel_count": 1,
        }


async def test_sessions_without_a_trace_get_their_own(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        acks = [await (await world.stranger()).open(trace_id=None) for _ in range(2)]
        assert acks[0]["trace_id"] != acks[1]["trace_id"]
        assert acks[0]["session_id"] != acks[1]["session_id"]


async def test_heartbeat_is_answered_at_once(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client = await world.client()
        await trio.sleep(7)
        before = trio.current_time()
        first = await client.heartbeat()
        assert trio.current_time() == before
        await trio.sleep(30)
        assert (await client.heartbeat())["timestamp"] - first["timestamp"] == 30_000


async def test_second_init_ends_the_first_session_of_the_socket(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        client = await world.client()
        await client.speak()
        job = await node.job()
        first = client.session_id
        await client.heard()
        await client.open()
        assert client.session_id != first
        assert world.daemon.view.facts()["sessions"] == 1
        assert (await node.until("job_cancel"))["job_id"] == job["job_id"]
        await node.answer(job)
        await client.speak(mark=2)
        job = await node.job()
        assert job["session_id"] == client.session_id
        assert job["utterance_index"] == 0
        await node.answer(job)
        assert (await client.result())["session_id"] == client.session_id


async def test_close_sends_what_is_finished_then_the_acknowledgement(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        client = await world.client()
        for index in range(3):
            await client.utterance(index)
        jobs = [await node.job() for _ in range(3)]
        await node.answer(jobs[1])
        await wait_all_tasks_blocked()
        await client.heard()
        await client.chunk(plan_a())
        await client.say(
            {"type": "session_close", "session_id": client.session_id, "reason": "client_disconnect"}
        )
        assert (await client.hear())["event"] == "INPUT_STARTED"
        assert (await client.hear())["utterance_index"] == 1
        assert await client.hear() == {"type": "session_close_ack", "session_id": client.session_id}
        cancelled = {(await node.until("job_cancel"))["job_id"] for _ in range(2)}
        assert cancelled == {jobs[0]["job_id"], jobs[2]["job_id"]}
        assert world.daemon.view.facts()["sessions"] == 0
        await node.answer(jobs[0])
        await client.open()
        await client.speak()
        await node.answer(await node.job())
        assert (await client.result())["utterance_index"] == 0


async def test_who_is_pinged(autojump_clock: MockClock) -> None:
    """Gateways break on pings, and before its first message anybody may be one (session-protocol 1.2)."""
    async with daemon_in_memory() as world:
        await world.stranger()
        await world.client(platform="api-gateway")
        await world.client(platform="web")
        await world.client(platform="ios")
        await trio.sleep(600)
        pinged = {link.id: link.round_trip is not None for link in world.daemon.session_links}
        in_order = [pinged[link_id] for link_id in sorted(pinged, key=lambda name: int(name.split("-")[1]))]
        assert in_order == [False, False, True, True]


async def test_socket_that_turns_into_a_gateway_is_no_longer_pinged(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client = await world.client(platform="web")
        await client.open(platform="api-gateway")
        await trio.sleep(600)
        [link] = world.daemon.session_links
        assert link.round_trip is None


async def test_binary_frames_are_ignored(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.working_node()
        client = await world.client()
        for frame in (b"", b"\x01\x00\xff", b'{"type":"room_leave"}', bytes(100_000)):
            await client.say(frame)
        assert await client.heard() == []
        await client.speak()
        await client.result()


async def test_audio_before_init_closes_with_1008(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client = await world.stranger()
        await client.chunk(plan_a())
        error = await client.hear()
        assert (error["type"], error["code"]) == ("error", "INVALID_SESSION")
        assert "session_init" in error["message"]
        assert await client.closed() == (1008, "unknown session")


async def test_room_before_init_is_an_error_and_the_socket_lives(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client = await world.stranger()
        await client.say({"type": "room_create", "client_ts": 1})
        assert (await client.hear())["code"] == "INVALID_SESSION"
        await client.open()


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        ("", "JSON"),
        ("hello", "JSON"),
        ('{"type": "audio_chunk"', "JSON"),
        ("[]", "object"),
        ("null", "object"),
        ("{}", "type"),
        ({"type": 7}, "type"),
        ({"type": "shutdown"}, "shutdown"),
        ({"type": "session_init_ack", "session_id": "s-1"}, "session_init_ack"),
        ({"type": "audio_chunk", "seq": 1, "is_final": False}, "session_id"),
        ({"type": "audio_chunk", "session_id": "s", "is_final": False}, "seq"),
        ({"type": "audio_chunk", "session_id": "s", "seq": None, "is_final": False}, "seq"),
        ({"type": "audio_chunk", "session_id": "s", "seq": -1, "is_final": False}, "seq"),
        ({"type": "audio_chunk", "session_id": "s", "seq": 1.5, "is_final": False}, "seq"),
        ({"type": "audio_chunk", "session_id": "s", "seq": 1, "is_final": "perhaps"}, "is_final"),
        ({"type": "audio_chunk", "session_id": {"s": 1}, "seq": 1, "is_final": False}, "session_id"),
        ({"type": "client_heartbeat", "session_id": "s", "timestamp": []}, "timestamp"),
        ({"type": "utterance", "session_id": "s", "utterance_index": 0}, "manual_cut"),
        ({"type": "session_init", "client_version": "1", "platform": "web", "src_lang": "en"}, "tgt_lang"),
    ],
)
async def test_message_that_cannot_be_used_is_one_error_that_says_why(
    frame: str | dict[str, Any], named: str, autojump_clock: MockClock
) -> None:
    async with daemon_in_memory() as world:
        client = await world.client()
        await client.say(frame)
        error = await client.hear()
        assert (error["type"], error["code"]) == ("error", "INVALID_MESSAGE")
        assert named in error["message"]
        assert error["trace_id"] == session_init()["trace_id"]
        await client.heartbeat()


async def test_odd_but_clear_messages_are_taken(autojump_clock: MockClock) -> None:
    """Nulls, unknown members, whole floats and malformed optional members lose nothing (resolutions 6)."""
    async with daemon_in_memory() as world:
        node = await world.node()
        client = await world.stranger()
        await client.open(
            features={"emotion_detection": "rather"}, auto_langs=["en", 5], colour="blue", locale=7
        )
        await client.chunk(plan_a(), seq=5.0, client_timestamp_ms=None, colour="blue")
        await client.chunk(final=True, payload=None)
        assert (await node.job())["audio"] == base64(plan_a())
        assert await client.heard("error") == []


async def test_payload_that_is_no_base64_is_one_error(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        client = await world.client()
        await client.chunk(plan_a())
        for payload in ("!!", base64(plan_a())[:-1], "a b="):
            await client.chunk(payload=payload)
        [error] = await client.heard("error")
        assert (error["code"], error["message"]) == ("INVALID_MESSAGE", "member payload is not base64")
        await client.chunk(final=True)
        assert (await node.job())["audio"] == base64(plan_a())


async def test_same_error_is_told_once_in_five_seconds(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client, other = await world.client(), await world.client()
        for _ in range(50):
            await client.say("rubbish")
            await trio.sleep(0.09)
        assert len(await client.heard("error")) == 1
        await client.say({"type": "client_heartbeat", "session_id": "s-other", "timestamp": 1})
        assert [error["code"] for error in await client.heard("error")] == ["INVALID_SESSION"]
        await other.say("rubbish")
        assert len(await other.heard("error")) == 1
        await trio.sleep(5)
        await client.say("rubbish")
        assert len(await client.heard("error")) == 1


async def test_session_of_another_is_out_of_reach(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        node = await world.node()
        victim, client = await world.client(), await world.client()
        await victim.chunk(plan_a())
        theirs = {"session_id": victim.session_id}
        foreign: list[dict[str, Any]] = [
            {"type": "audio_chunk", **theirs, "seq": 1, "is_final": True, "payload": ""},
            {"type": "client_heartbeat", **theirs, "timestamp": 1},
            {"type": "session_close", **theirs, "reason": "mischief"},
        ]
        for message in foreign:
            await client.say(message)
            assert [error["code"] for error in await client.heard()] == ["INVALID_SESSION"]
            await trio.sleep(5)
        await client.utterance(0, session_id=victim.session_id)
        assert [error["code"] for error in await client.heard()] == ["INVALID_SESSION"]
        assert [job["audio"] for job in await node.heard("job_assign")] == [base64(plan_a())]
        await victim.heartbeat()


async def test_unknown_session_on_a_fresh_socket_closes_it(autojump_clock: MockClock) -> None:
    """What the earlier gateway takes as a failure of its call (resolutions 18)."""
    async with daemon_in_memory() as world:
        client = await world.stranger()
        await client.utterance(0, session_id="s-0123456789ABCDEF01234567")
        assert (await client.hear())["code"] == "INVALID_SESSION"
        assert (await client.closed())[0] == 1008


async def test_oversized_message_closes_with_1009_and_nobody_else(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(sessions={"max_message_bytes": 65536}) as world:
        await world.working_node()
        client, other = await world.client(), await world.client()
        await client.chunk(payload="A" * 70_000)
        assert (await client.closed())[0] == 1009
        await other.speak()
        await other.result()


async def test_socket_with_a_full_queue_is_closed_and_its_session_ends_after_the_grace(
    autojump_clock: MockClock,
) -> None:
    async with daemon_in_memory(sessions={"outbound_queue_messages": 4}) as world:
        client = await world.client()
        [link] = world.daemon.session_links
        for _ in range(200):
            link.send('{"type":"server_heartbeat"}')
        assert (await client.closed())[0] == 1013
        await wait_all_tasks_blocked()
        assert len(world.daemon.session_links) == 0
        await trio.sleep(30.1)
        assert world.daemon.view.facts()["sessions"] == 0


async def test_many_sessions_get_only_their_own_results(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(nodes={"max_concurrent_jobs": 64}) as world:
        await world.working_node()
        await world.working_node()
        clients = [await world.client() for _ in range(20)]
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(_three_utterances, client)


async def _three_utterances(client: Client) -> None:
    for _ in range(3):
        await client.speak()
    results = [await client.result() for _ in range(3)]
    assert [result["utterance_index"] for result in results] == [0, 1, 2]
    assert {result["session_id"] for result in results} == {client.session_id}


async def test_heartbeat_that_crosses_the_close_does_not_end_the_socket(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        client = await world.client()
        await client.say({"type": "session_close", "session_id": client.session_id, "reason": "bye"})
        await client.say({"type": "client_heartbeat", "session_id": client.session_id, "timestamp": 1})
        assert (await client.until("error"))["code"] == "SESSION_CLOSED"
        await client.open()
        await client.heartbeat()


async def test_all_that_was_begun_is_reported_when_the_server_stops(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(sessions={"utterance_reorder_wait_ms": 10_000}) as world:
        await world.node()
        client = await world.client()
        await client.utterance(0)
        await client.utterance(4)
        await client.chunk(plan_a(40))
        await wait_all_tasks_blocked()
        world.daemon.sessions.abandon()
        missing = await client.heard("missing_result")
        assert {message["reason"] for message in missing} == {"cancelled"}
        assert sorted(message["utterance_index"] for message in missing) == [0, 1, 4]


async def test_a_session_may_say_what_its_chunks_are(autojump_clock: MockClock) -> None:
    """Our addition: the first chunk of PCM16 may look like Opus (gateway 8.2)."""
    async with daemon_in_memory() as world:
        node = await world.node()
        client = await world.stranger()
        ack = await client.open(audio_format="pcm16", sample_rate=16000)
        assert ack["negotiated_audio_format"] == "pcm16"
        await client.chunk(plan_a(100), is_final=True)
        assert (await node.job())["audio_format"] == "pcm16"


@pytest.mark.parametrize(
    ("members", "field"), [({"audio_format": "mp3"}, "audio_format"), ({"sample_rate": 8000}, "sample_rate")]
)
async def test_chunks_that_cannot_be_taken_are_refused_at_once(
    autojump_clock: MockClock, members: dict[str, Any], field: str
) -> None:
    async with daemon_in_memory() as world:
        client = await world.stranger()
        await client.open(**members)
        error = await client.until("error")
        assert error["code"] == "INVALID_MESSAGE"
        assert field in error["message"]
