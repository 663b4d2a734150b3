"""`/v1/stream` over memory streams, with the real core behind it: who gets in, what is answered, how it ends.

Rules: autojump_clock, no threads, no sockets; the apps are real WebSocket clients.
"""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64encode
from typing import Any, cast

import pytest
import trio
from apps import SECOND, App, Stage, stage
from harness import base64
from house import AWAY
from trio.testing import (
    MockClock,
    lockstep_stream_one_way_pair,
    memory_stream_one_way_pair,
    wait_all_tasks_blocked,
)
from trio_websocket import wrap_client_stream

from linguad.config.gateway import Gateway
from linguad.core.tenant import Caller, Scope, Status
from linguad.gateway.stream.conversation import Conversation
from linguad.wire import opus

PAGE = "https://app.example.test"


def bearer(key: str) -> str:
    return "bearer." + urlsafe_b64encode(key.encode()).decode().rstrip("=")


async def test_who_is_not_let_in_is_told_why_before_101(autojump_clock: MockClock) -> None:
    async with stage() as it:
        narrow = it.keys.add("narrow", frozenset({Scope.JOBS}))
        closed = it.keys.add("closed", status=Status.DISABLED)
        good = f"Authorization: Bearer {it.key}"
        for wanted, headers, path in [
            ((401, "unauthorized"), (), "/v1/stream"),
            ((401, "invalid_credentials"), ("Authorization: Bearer " + "x" * 40,), "/v1/stream"),
            ((401, "invalid_credentials"), (), "/v1/stream?ticket=tk_unknown"),
            ((401, "unauthorized"), (), f"/v1/stream?api_key={it.key}"),
            ((400, "multiple_credentials"), (good,), "/v1/stream?ticket=tk_unknown"),
            ((403, "insufficient_scope"), (f"Authorization: Bearer {narrow}",), "/v1/stream"),
            ((403, "tenant_disabled"), (f"Authorization: Bearer {closed}",), "/v1/stream"),
            ((403, "origin_not_allowed"), (good, f"Origin: {PAGE}"), "/v1/stream"),
        ]:
            status, error, told = await it.refused("X-Request-Id: mine-1", *headers, path=path)
            assert ((status, error["code"])) == wanted
            assert error["request_id"] == told["x-request-id"] == "mine-1"
            assert told["content-type"] == "application/json"
            assert status != 401 or "www-authenticate" in told
            assert it.key not in str(error)
        assert len(it.streams) == 0


async def test_every_upgrade_costs_a_request(autojump_clock: MockClock) -> None:
    async with stage() as it:
        it.key = it.keys.add("slow", max_requests_per_second=1)
        app = await it.app()
        status, error, told = await it.refused(f"Authorization: Bearer {it.key}")
        assert (status, error["code"]) == (429, "rate_limited")
        assert int(told["retry-after"]) >= 1
        await app.leave()


async def test_a_ticket_opens_one_socket_from_its_page(autojump_clock: MockClock) -> None:
    async with stage() as it:
        it.keys.change_tenant("acme", allowed_origins=(PAGE,))
        caller = it.admission.identify(it.key, AWAY)
        ticket = it.tickets.issue(caller, PAGE, 60)
        app = await it.app(("Origin", PAGE), key=None, path=f"/v1/stream?ticket={ticket}")
        await app.start()
        status, error, _ = await it.refused(f"Origin: {PAGE}", path=f"/v1/stream?ticket={ticket}")
        assert (status, error["code"]) == (401, "invalid_credentials")
        stolen = it.tickets.issue(caller, PAGE, 60)
        status, error, _ = await it.refused(
            "Origin: https://evil.example.test", path=f"/v1/stream?ticket={stolen}"
        )
        assert (status, error["code"]) == (403, "origin_not_allowed")


async def test_a_key_in_the_subprotocols_is_not_repeated(autojump_clock: MockClock) -> None:
    async with stage() as it:
        app = await it.app(key=None, protocols=("lingua.v1", bearer(it.key)))
        assert app.ws.subprotocol == "lingua.v1"
        await app.start()


async def test_a_key_in_the_first_message(autojump_clock: MockClock) -> None:
    async with stage() as it:
        app = await it.app(key=None, protocols=("lingua.v1",))
        await app.say({"type": "auth", "token": it.key})
        await app.start()
        await app.audio()  # longer than a stranger's message may be
        wrong = await it.app(key=None, protocols=("lingua.v1",))
        await wrong.say({"type": "auth", "token": "x" * 40})
        assert (await wrong.until("error"))["code"] == "invalid_credentials"
        assert (await wrong.closed())[0] == 4401
        long = await it.app(key=None, protocols=("lingua.v1",))
        await long.say({"type": "auth", "token": "x" * 9000})
        assert (await long.closed())[0] == 1009
        late = await it.app(key=None, protocols=("lingua.v1",))
        start = trio.current_time()
        assert (await late.closed())[0] == 4408
        assert trio.current_time() - start == pytest.approx(10)


async def test_strangers_are_few(autojump_clock: MockClock) -> None:
    async with stage(Gateway(stream_max_unauthenticated=2)) as it:
        apps = [await it.app(key=None, protocols=("lingua.v1",)) for _ in range(2)]
        offered = "Sec-WebSocket-Protocol: lingua.v1"
        status, error, told = await it.refused(offered)
        assert (status, error["code"]) == (429, "too_many_unauthenticated")
        assert "retry-after" in told
        await apps[0].say({"type": "auth", "token": it.key})
        await wait_all_tasks_blocked()
        await it.app(key=None, protocols=("lingua.v1",))
    async with stage(Gateway(stream_allow_first_message_auth=False)) as it:
        status, error, _ = await it.refused(offered)
        assert (status, error["code"]) == (401, "unauthorized")


async def test_an_utterance_from_socket_to_node_and_back(autojump_clock: MockClock) -> None:
    async with stage() as it:
        node = await it.world.node()
        trace = "5b0cf3a2-6a4f-4a44-9d63-0a2f6f6d1f01"
        app = await it.app(("X-Trace-Id", trace), ("X-Request-Id", "mine-1"))
        started = await app.start(client_ref="call 7")
        assert (started["trace_id"], started["request_id"]) == (trace, "mine-1")
        assert it.slots == 1
        await app.audio()
        job = await node.job()
        assert b64decode(job["audio"]) == SECOND
        assert (job["src_lang"], job["tgt_lang"], job["audio_format"]) == ("en", "es", "pcm16")
        await trio.sleep(0.25)
        await node.answer(job, tts_audio=base64(SECOND), tts_format="pcm16")
        final = await app.until("final")
        assert (final["text"], final["text_asr"], final["audio"]) == ("oído 0", "heard 0", base64(SECOND))
        assert (final["tts_format"], final["tts_sample_rate"]) == ("pcm16", 16000)
        assert final["usage"] == {"audio_ms": 1000}
        assert final["duration_ms"] == pytest.approx(250, abs=50)
        await app.say({"type": "end", "close": True})
        ended = await app.until("ended")
        assert ended["usage"] == {"audio_ms": 1000, "billed_seconds": 1}
        assert it.slots == 0
        assert it.world.daemon.view.facts()["sessions"] == 0
        assert [(tenant, kind) for tenant, kind, _ in it.emitted] == [
            ("acme", "session.started"),
            ("acme", "session.ended"),
        ]
        assert it.emitted[1][2]["client_ref"] == "call 7"
        assert (await app.closed())[0] == 1000


async def test_audio_is_taken_while_results_are_pending_and_four_are_with_nodes(
    autojump_clock: MockClock,
) -> None:
    async with stage() as it:
        node = await it.world.node(hardware={"cpu_cores": 16, "memory_gb": 64, "gpus": []})
        other = await it.world.node()
        app = await it.app()
        await app.start()
        for _ in range(6):
            await app.audio()
        await app.say({"type": "ping", "id": "still here"})
        assert (await app.until("pong"))["id"] == "still here"
        jobs = [*await node.heard("job_assign"), *await other.heard("job_assign")]
        assert sorted(job["utterance_index"] for job in jobs) == [0, 1, 2, 3]
        for job in reversed(jobs):
            for each in (node, other):
                await each.answer(job)
        finals = [await app.until("final") for _ in range(4)]
        assert [final["utterance_index"] for final in finals] == [0, 1, 2, 3]
        more = [*await node.heard("job_assign"), *await other.heard("job_assign")]
        assert sorted(job["utterance_index"] for job in more) == [4, 5]


async def test_a_socket_with_too_much_is_not_read_until_there_is_room(autojump_clock: MockClock) -> None:
    async with stage(Gateway(stream_backlog_bytes=1)) as it:
        node = await it.world.node()
        app = await it.app()
        await app.start()
        for _ in range(7):
            await app.audio()
        await app.say({"type": "ping"})
        assert await app.heard("pong") == []
        for job in await node.heard("job_assign"):
            await node.answer(job)
        await app.until("pong")
        assert it.slots == 1


async def test_partials_come_before_their_final(autojump_clock: MockClock) -> None:
    async with stage() as it:
        node = await it.world.node()
        app = await it.app()
        await app.start(segmentation="stream", events=True)
        await app.audio(is_final=True)
        job = await node.job()
        partial = {
            "type": "asr_partial",
            "job_id": job["job_id"],
            "attempt_id": job["attempt_id"],
            "node_id": node.id,
            "session_id": job["session_id"],
            "utterance_index": 0,
            "text": "hear",
            "is_final": False,
            "trace_id": job["trace_id"],
        }
        await node.say(partial)
        await node.answer(job)
        await node.say(partial | {"text": "too late"})
        heard = await app.heard()
        told = [message["type"] for message in heard if message["type"] != "event"]
        assert told == ["partial", "final"]
        events = [message["event"] for message in heard if message["type"] == "event"]
        assert events[:3] == ["INPUT_STARTED", "INPUT_ENDED", "DISPATCHED"]


async def test_a_stream_is_cut_and_answered_to_its_end(autojump_clock: MockClock) -> None:
    async with stage(sessions={"max_duration_ms": 2000}) as it:
        await it.world.working_node(seconds=0.1)
        app = await it.app()
        await app.start(segmentation="stream", acks=True)
        for seq in range(10):
            await app.audio(SECOND[:16000], seq=seq)
        await app.say({"type": "end", "close": True})
        heard: list[dict[str, Any]] = []
        while not heard or heard[-1]["type"] != "ended":
            heard.append(await app.hear())
        finals = [message["utterance_index"] for message in heard if message["type"] == "final"]
        assert finals == sorted(finals)
        assert len(finals) == 3
        acks = [message["seq"] for message in heard if message["type"] == "audio_ack"]
        assert acks[-1] == 9
        assert heard[-1]["usage"] == {"audio_ms": 5000}


async def test_speech_at_another_rate_reaches_nodes_at_theirs(autojump_clock: MockClock) -> None:
    async with stage() as it:
        node = await it.world.node()
        for segmentation in ("utterance", "stream"):
            app = await it.app()
            await app.start(sample_rate=48000, segmentation=segmentation)
            await app.audio(SECOND * 3, is_final=True)
            job = await node.job()
            assert job["sample_rate"] == 16000
            assert len(b64decode(job["audio"])) == pytest.approx(len(SECOND), abs=700)
            await app.drop()


async def test_opus_goes_as_it_is(autojump_clock: MockClock) -> None:
    async with stage() as it:
        node = await it.world.node()
        app = await it.app()
        await app.start(audio_format="opus", binary_audio=True)
        packets = opus.join([b"x" * 60] * 50)
        await app.say(packets)
        job = await node.job()
        assert (job["audio_format"], b64decode(job["audio"])) == ("opus", packets)


async def test_a_failure_of_the_core_is_told_in_public_words(autojump_clock: MockClock) -> None:
    async with stage() as it:
        app = await it.app()
        await app.start()
        await app.audio()
        error = await app.until("error")
        assert (error["code"], error["retryable"], error["utterance_index"]) == ("no_capacity", True, 0)
        node = await it.world.node()
        await app.audio()
        await node.fail(await node.job(), "PROCESSING_ERROR", "Unsupported audio format: secret")
        error = await app.until("error")
        assert (error["code"], error["utterance_index"]) == ("translation_failed", 1)
        assert "secret" not in str(error)
        assert await app.heard("final", "empty", "error") == []


async def test_sessions_are_counted_and_given_back_on_every_way_out(autojump_clock: MockClock) -> None:
    async with stage(Gateway(stream_idle_seconds=100)) as it:
        node = await it.world.node()
        apps = [await it.app() for _ in range(3)]
        for app in apps[:2]:
            await app.start()
        await apps[2].say({"type": "start"})
        assert (await apps[2].until("error"))["code"] == "too_many_sessions"
        assert apps[2].connected
        await apps[0].audio()
        await node.job()
        await apps[0].drop()
        await wait_all_tasks_blocked()
        await apps[2].start()
        assert it.slots == 2
        await apps[1].leave()
        await wait_all_tasks_blocked()
        assert it.slots == 1
        assert (await apps[2].until("error"))["code"] == "idle_timeout"
        assert (await apps[2].until("ended"))["reason"] == "idle_timeout"
        assert (await apps[2].closed())[0] == 4408
        assert it.slots == 0
        assert it.world.daemon.view.facts()["sessions"] == 0


async def test_a_server_that_is_full_opens_none_and_keeps_the_socket(autojump_clock: MockClock) -> None:
    async with stage(sessions={"max_sessions": 1}) as it:
        first, second = await it.app(), await it.app()
        await first.start()
        await second.say({"type": "start"})
        assert (await second.until("error"))["code"] == "session_create_failed"
        assert it.slots == 1
        await first.leave()
        await second.start()


async def test_a_bug_about_one_socket_ends_that_one(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage() as it:
        unlucky, other = await it.app(), await it.app()
        take_up = it.admission.take_up
        bugs = [RuntimeError("a bug")]

        def crash_once(caller: Caller) -> Caller:
            if bugs:
                raise bugs.pop()
            return take_up(caller)

        monkeypatch.setattr(it.admission, "take_up", crash_once)
        async with trio.open_nursery() as nursery:
            codes: list[int] = []

            async def end_of(app: App) -> None:
                codes.append((await app.closed())[0])
                nursery.cancel_scope.cancel()

            nursery.start_soon(end_of, unlucky)
            nursery.start_soon(end_of, other)
        assert codes == [1011]
        assert len(it.streams) == 1


async def test_who_may_call_no_more_is_closed_within_five_seconds(autojump_clock: MockClock) -> None:
    async with stage() as it:
        other = it.keys.add_key("acme")
        disabled, revoked = await it.app(), await it.app(key=other)
        for app in (disabled, revoked):
            await app.start()
        start = trio.current_time()
        it.keys.change_key(other, revoked_at=1.0)
        assert (await revoked.until("ended"))["reason"] == "invalid_credentials"
        assert (await revoked.closed())[0] == 4401
        it.keys.change_tenant("acme", status=Status.SUSPENDED)
        assert (await disabled.until("error"))["code"] == "tenant_disabled"
        assert (await disabled.closed())[0] == 4403
        assert trio.current_time() - start <= 2 * 5
        assert it.slots == 0


async def test_a_client_that_does_not_read_is_closed(autojump_clock: MockClock) -> None:
    settings = Gateway(stream_outbound_queue_messages=8, stream_max_messages_per_second=1000)
    async with stage(settings) as it:
        to_us, from_app = memory_stream_one_way_pair()
        to_app, from_us = lockstep_stream_one_way_pair()
        ours = cast(trio.SocketStream, trio.StapledStream(to_app, from_app))
        theirs = cast(trio.SocketStream, trio.StapledStream(to_us, from_us))
        it.world.nursery.start_soon(it.links.serve, ours, AWAY)
        ws = await wrap_client_stream(
            it.world.nursery,
            theirs,
            "api.example.test",
            "/v1/stream",
            extra_headers=[(b"Authorization", f"Bearer {it.key}".encode())],
            message_queue_size=1,
        )
        app = App(ws, theirs)
        await app.start()
        for _ in range(50):
            await app.say({"type": "ping"})
        await wait_all_tasks_blocked()
        assert (await app.closed())[0] == 4413
        await wait_all_tasks_blocked()
        assert it.slots == 0


async def test_a_flood_ends_the_socket(autojump_clock: MockClock) -> None:
    async with stage() as it:
        app = await it.app()
        await app.start()
        for _ in range(122):
            await app.say({"type": "ping"})
        assert (await app.closed())[0] == 1008
        assert it.slots == 0


async def test_a_session_that_is_lost_inside_closes_the_socket(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage() as it:
        app = await it.app()
        await app.start(segmentation="stream")
        session = next(iter(it.world.daemon.sessions._sessions)).session
        monkeypatch.setattr(session, "tick", lambda now: 1 / 0)
        await app.audio()
        assert (await app.until("error"))["code"] == "upstream_lost"
        assert (await app.until("ended"))["reason"] == "upstream_lost"
        assert (await app.closed())[0] == 1011
        assert it.slots == 0


async def test_a_bug_ends_one_socket_and_gives_its_slot_back(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage() as it:
        await it.world.working_node()
        app = await it.app()
        await app.start()

        def bug(*_: Any) -> Any:
            raise KeyError("bug")

        with monkeypatch.context() as patched:
            patched.setattr(Conversation, "news", bug)
            await app.audio()
            assert (await app.closed())[0] == 1011
        await wait_all_tasks_blocked()
        assert it.slots == 0
        assert it.world.daemon.view.facts()["sessions"] == 0
        await (await it.app()).start()


async def _stopping(it: Stage, *, answers: bool) -> list[dict[str, Any]]:
    """What an app hears from the stop signal on."""
    node = await it.world.node()
    app, idle = await it.app(), await it.app()
    await app.start()
    await app.audio()
    job = await node.job()
    it.streams.stop()
    assert (await idle.closed())[0] == 1001
    late = await it.app()
    assert (await late.closed())[0] == 1001
    if answers:
        await node.answer(job)
    else:
        it.streams.abandon()
    heard: list[dict[str, Any]] = []
    while not heard or heard[-1]["type"] != "ended":
        heard.append(await app.hear())
    assert (await app.closed())[0] == 1001
    assert it.slots == 0
    return heard


async def test_a_stop_lets_what_was_said_be_answered(autojump_clock: MockClock) -> None:
    async with stage() as it:
        heard = await _stopping(it, answers=True)
        assert [message["type"] for message in heard] == ["final", "ended"]
        assert heard[-1]["reason"] == "shutdown"


async def test_a_stop_that_does_not_wait_says_so(autojump_clock: MockClock) -> None:
    async with stage() as it:
        heard = await _stopping(it, answers=False)
        assert [message["type"] for message in heard] == ["error", "ended"]
        assert heard[0]["utterance_index"] == 0
