"""The client against a scheduler on a real socket, healthy and otherwise."""

from __future__ import annotations

import base64
import math
from array import array
from collections.abc import AsyncGenerator
from itertools import pairwise

import pytest
import trio
from msgspec.structs import replace
from patience import PATIENCE_S
from scheduler_peer import SESSION, TRACE, Scheduler, ack, always, event, listening, result
from trio.testing import MockClock, wait_all_tasks_blocked
from trio_websocket import WebSocketConnection

from linguad import audio, client
from linguad.client import (
    ClosedError,
    ConnectError,
    RefusedError,
    SilentError,
    connection,
    lifeline,
    open_session,
)
from linguad.errors import AudioError
from linguad.wire import codec, opus
from linguad.wire.room import RoomJoin
from linguad.wire.session import (
    AudioChunk,
    Backpressure,
    ClientHeartbeat,
    ErrorMessage,
    ServerHeartbeat,
    SessionClose,
    SessionInit,
    TranslationResult,
)


@pytest.fixture(autouse=True)
async def _deadline() -> AsyncGenerator[None]:
    with trio.fail_after(PATIENCE_S):
        yield


def tone(samples: int) -> bytes:
    """PCM16 of a 440 Hz tone."""
    return array(
        "h", (int(9000 * math.sin(2 * math.pi * 440 * at / 16000)) for at in range(samples))
    ).tobytes()


async def test_an_utterance_goes_up_in_browser_chunks_and_comes_back() -> None:
    scheduler = Scheduler(
        always(lambda at: event(at, "DISPATCHED"), lambda at: result(at, "hi", "hola", b""))
    )
    async with listening(scheduler) as url, open_session(url, "en", "es") as session:
        assert (session.session_id, session.trace_id) == (SESSION, TRACE)
        await session.send_audio(tone(10_000))
        await session.finish_utterance()
        seen = [await session.receive(), await session.receive()]
    assert [type(message).__name__ for message in seen] == ["UiEvent", "TranslationResult"]
    chunks = scheduler.of(AudioChunk)
    payloads = [sound_of(chunk) for chunk in chunks]
    assert [opus.walk(payload).packets for payload in payloads] == [13, 13, 6, 0]
    assert all(opus.walk(payload).good_bytes == len(payload) for payload in payloads)
    assert [chunk.is_final for chunk in chunks] == [False, False, False, True]
    assert chunks[-1].payload == ""
    assert all(second.seq == first.seq + 1 for first, second in pairwise(chunks))
    assert {chunk.session_id for chunk in chunks} == {SESSION}
    assert scheduler.received[-1] == SessionClose(session_id=SESSION, reason="client_disconnect")


async def test_session_init_says_what_was_asked_for() -> None:
    scheduler = Scheduler()
    async with listening(scheduler) as url:
        async with open_session(url, "en", "es", client_version="web-client-v1.0"):
            pass
        async with open_session(
            url, "zh", "en", two_way=True, platform="ios", locale="zh", pairing_code="123456"
        ):
            pass
    one_way, two_way = scheduler.of(SessionInit)
    assert (one_way.platform, one_way.client_version) == ("python", "web-client-v1.0")
    assert (one_way.src_lang, one_way.tgt_lang, one_way.mode, one_way.lang_a) == ("en", "es", "one_way", None)
    assert one_way.trace_id != two_way.trace_id
    assert (two_way.src_lang, two_way.tgt_lang, two_way.mode) == ("auto", "en", "two_way_auto")
    assert (two_way.lang_a, two_way.lang_b, two_way.auto_langs) == ("zh", "en", ["zh", "en"])
    assert (two_way.platform, two_way.locale, two_way.pairing_code) == ("ios", "zh", "123456")


async def test_audio_in_odd_pieces_is_the_same_audio() -> None:
    samples = tone(4096 * 3 + 100)
    scheduler = Scheduler()
    async with listening(scheduler) as url, open_session(url, "en", "es", upload="pcm16") as session:
        for at in range(0, len(samples), 1234):
            await session.send_audio(samples[at : at + 1234])
        await session.finish_utterance()
    payloads = [sound_of(chunk) for chunk in scheduler.of(AudioChunk)]
    assert [len(payload) for payload in payloads] == [8192, 8192, 8192, 200, 0]
    assert b"".join(payloads) == samples


async def test_opus_comes_through_as_speech() -> None:
    samples = tone(16_000)
    heard = b"".join(audio.decode_plan_a(payload) for payload in client.encode_chunks(samples))
    loud = [max(map(abs, array("h", heard[at : at + 640]))) for at in range(6400, 32_000, 640)]
    assert min(loud) > 4000


async def test_whole_samples_and_one_format_are_asked_for() -> None:
    async with listening(Scheduler()) as url, open_session(url, "en", "es") as session:
        with pytest.raises(AudioError, match="16-bit samples"):
            await session.send_audio(b"abc")
        await session.send_audio(tone(10))
        with pytest.raises(AudioError, match="cannot follow"):
            await session.send_audio(b"\x01\x00a", "opus")


async def test_a_final_without_audio_is_not_sent() -> None:
    scheduler = Scheduler()
    async with listening(scheduler) as url, open_session(url, "en", "es") as session:
        await session.finish_utterance()
        await session.send_audio(tone(4096))
        await session.finish_utterance()
        await session.finish_utterance()
    assert [chunk.is_final for chunk in scheduler.of(AudioChunk)] == [False, True]


async def test_heartbeats_go_by_themselves_and_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(connection, "SILENT_BEATS", 100)
    scheduler = Scheduler()
    async with listening(scheduler) as url, open_session(url, "en", "es") as session:
        for _ in range(3):
            assert isinstance(await session.receive(), ServerHeartbeat)
        assert await session.close()
    assert all(beat.session_id == SESSION and beat.timestamp > 0 for beat in scheduler.of(ClientHeartbeat))


async def test_a_server_that_never_answers_heartbeats_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEARTBEAT_S", 0.01)

    async with listening(acknowledge_and_sleep) as url, open_session(url, "en", "es") as session:
        with pytest.raises(SilentError, match=r"not answered for 0\.03 s"):
            await session.receive()
        with pytest.raises(SilentError):
            await session.send_audio(tone(4096))


async def test_other_messages_can_be_sent() -> None:
    scheduler = Scheduler()
    async with listening(scheduler) as url, open_session(url, "en", "es") as session:
        await session.send(RoomJoin(room_code="503118"))
    assert scheduler.of(RoomJoin) == [RoomJoin(room_code="503118")]


async def test_backpressure_delays_audio_and_is_told(mock_clock: MockClock) -> None:
    scheduler = Scheduler(always(lambda index: Backpressure(action="PAUSE", resume_after_ms=300)))
    async with listening(scheduler) as url, open_session(url, "en", "es") as session:
        await session.send_audio(tone(4096))
        await session.finish_utterance()
        assert await session.receive() == Backpressure(action="PAUSE", resume_after_ms=300)
        before = len(scheduler.of(AudioChunk))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.send_audio, tone(4096))
            await wait_all_tasks_blocked(0.05)
            mock_clock.jump(0.29)
            await wait_all_tasks_blocked(0.05)
            assert len(scheduler.of(AudioChunk)) == before
            mock_clock.jump(0.02)


async def test_events_end_with_the_close_code_of_the_server() -> None:
    async def bye(ws: WebSocketConnection) -> None:
        await ws.get_message()
        await ws.send_message(codec.encode(ack()))
        await ws.send_message(codec.encode(event(0, "DISPATCHED")))
        await ws.aclose(1001, "server is shutting down")

    async with listening(bye) as url, open_session(url, "en", "es") as session:
        events = session.events()
        assert await anext(events) == event(0, "DISPATCHED")
        with pytest.raises(ClosedError, match=r"\(1001: server is shutting down\)") as caught:
            await anext(events)
        assert caught.value.code == 1001
        with pytest.raises(ClosedError):
            await session.send(RoomJoin(room_code="503118"))


async def test_a_server_that_repeats_itself_is_heard_once() -> None:
    async def forgetful(ws: WebSocketConnection) -> None:
        await ws.get_message()
        await ws.send_message(codec.encode(replace(ack(), resume_token="secret")))
        for delivery, index in ((1, 0), (1, 0), (2, 1), (1, 0)):
            numbered = replace(result(index, "hello", "hola", b""), delivery=delivery)
            await ws.send_message(codec.encode(numbered))
        await ws.send_message(codec.encode(event(2, "DISPATCHED")))
        await ws.get_message()

    async with listening(forgetful) as url, open_session(url, "en", "es") as session:
        seen = [await session.receive() for _ in range(3)]
    assert [(type(message).__name__, message.utterance_index) for message in seen] == [
        ("TranslationResult", 0),
        ("TranslationResult", 1),
        ("UiEvent", 2),
    ]


async def test_a_broken_connection_is_1006() -> None:
    async def drop(ws: WebSocketConnection) -> None:
        await ws.get_message()
        await ws.send_message(codec.encode(ack()))
        await ws._stream.aclose()

    async with listening(drop) as url, open_session(url, "en", "es") as session:
        with pytest.raises(ClosedError, match="broke") as caught:
            await session.receive()
    assert caught.value.code == 1006


async def test_what_the_server_says_and_we_do_not_know_is_skipped() -> None:
    async def chatty(ws: WebSocketConnection) -> None:
        await ws.get_message()
        await ws.send_message(codec.encode(ack()))
        for text in ("no json", '{"type":"of tomorrow"}', '{"type":"ui_event"}', b"\x00\xff"):
            await ws.send_message(text)
        await ws.send_message(codec.encode(result(0, "hello", "hola", b"")))
        await ws.get_message()

    async with listening(chatty) as url, open_session(url, "en", "es") as session:
        assert isinstance(await session.receive(), TranslationResult)


async def test_close_waits_for_the_acknowledgement_and_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(Scheduler()) as url, open_session(url, "en", "es") as session:
        assert await session.close("done")
        assert await session.close()
        assert [message async for message in session.events()] == []
    monkeypatch.setattr(lifeline, "CLOSE_S", 0.05)
    silent = Scheduler(closes_acknowledged=False)
    async with listening(silent) as url, open_session(url, "en", "es") as session:
        assert not await session.close()


async def test_an_application_that_does_not_read_can_still_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifeline, "MAX_EVENTS", 4)
    scheduler = Scheduler(always(*[lambda at: event(at, "DISPATCHED")] * 100))
    async with listening(scheduler) as url, open_session(url, "en", "es") as session:
        await session.send_audio(tone(4096))
        await session.finish_utterance()
        await session.receive()
        assert await session.close()


async def test_the_application_s_own_error_comes_out_as_it_is() -> None:
    scheduler = Scheduler()
    async with listening(scheduler) as url:
        with pytest.raises(KeyError, match="mine"):
            async with open_session(url, "en", "es"):
                raise KeyError("mine")
    assert scheduler.of(SessionClose)


async def test_a_cancelled_send_breaks_no_frame() -> None:
    go_on = trio.Event()
    scheduler = Scheduler()

    async def slow(ws: WebSocketConnection) -> None:
        await ws.get_message()
        await ws.send_message(codec.encode(ack()))
        await go_on.wait()
        await scheduler(ws)

    long = AudioChunk(session_id=SESSION, seq=0, is_final=False, payload="A" * 2**22)
    async with listening(slow) as url, open_session(url, "en", "es") as session:
        with trio.move_on_after(0.2) as scope:
            while True:
                await session.send(long)
        assert scope.cancelled_caught
        go_on.set()
        await session.send(RoomJoin(room_code="503118"))
    assert {chunk.payload for chunk in scheduler.of(AudioChunk)} == {long.payload}
    assert scheduler.of(RoomJoin) == [RoomJoin(room_code="503118")]


async def test_a_server_that_reads_no_more_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SEND_S", 0.2)
    async with listening(acknowledge_and_sleep) as url, open_session(url, "en", "es") as session:

        async def flood() -> None:
            while True:
                await session.send(AudioChunk(session_id=SESSION, seq=0, is_final=False, payload="A" * 2**22))

        with pytest.raises(SilentError, match=r"took no data for 0\.2 s"):
            await flood()
        with pytest.raises(SilentError):
            await session.receive()


async def test_nobody_listens() -> None:
    with pytest.raises(ConnectError) as caught:
        async with open_session("ws://127.0.0.1:1/ws/session", "en", "es"):
            pass
    assert "ws://127.0.0.1:1/ws/session" in str(caught.value)
    assert "refused" in str(caught.value)
    assert "linguad serve" in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:5010/", "127.0.0.1:5010", "ws://", "ws://127.0.0.1:99999/"]
)
async def test_the_address_makes_no_sense(url: str) -> None:
    with pytest.raises(ConnectError, match=r"an? address (is )?like ws://"):
        async with open_session(url, "en", "es"):
            pass


async def test_the_path_is_wrong() -> None:
    async with listening(Scheduler(), path="/ws/other") as url:
        with pytest.raises(ConnectError, match=r"HTTP status 404, not with a WebSocket"):
            async with open_session(url, "en", "es"):
                pass


async def test_something_else_listens_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_S", 0.1)

    async def echo(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 mail.example ESMTP\r\n")
        await stream.receive_some()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, echo, 0)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(ConnectError, match=r"did not answer|cannot connect"):
            async with open_session(f"ws://127.0.0.1:{port}/ws/session", "en", "es"):
                pass
        nursery.cancel_scope.cancel()


async def test_the_server_refuses() -> None:
    async def refuse(ws: WebSocketConnection) -> None:
        await ws.get_message()
        error = ErrorMessage(code="INVALID_PAIRING_CODE", message="The pairing code is wrong.")
        await ws.send_message(codec.encode(error))

    async with listening(refuse) as url:
        with pytest.raises(RefusedError, match="The pairing code is wrong") as caught:
            async with open_session(url, "en", "es", pairing_code="000000"):
                pass
    assert caught.value.code == "INVALID_PAIRING_CODE"


@pytest.mark.parametrize("answer", ["gibberish", codec.encode(event(0, "DISPATCHED"))])
async def test_the_first_answer_is_no_acknowledgement(answer: str) -> None:
    async def talk(ws: WebSocketConnection) -> None:
        await ws.get_message()
        await ws.send_message(answer)

    async with listening(talk) as url:
        with pytest.raises(RefusedError):
            async with open_session(url, "en", "es"):
                pass


async def test_no_acknowledgement_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ACK_S", 0.05)

    async def silent(ws: WebSocketConnection) -> None:
        await trio.sleep(PATIENCE_S)

    async with listening(silent) as url:
        with pytest.raises(SilentError, match=r"gave no session within 0\.05 s"):
            async with open_session(url, "en", "es"):
                pass


async def acknowledge_and_sleep(ws: WebSocketConnection) -> None:
    """A server that goes silent after its first answer and reads no more than its buffers hold."""
    await ws.get_message()
    await ws.send_message(codec.encode(ack()))
    await trio.sleep(PATIENCE_S)


def sound_of(chunk: AudioChunk) -> bytes:
    """The sound of a chunk."""
    return base64.b64decode(chunk.payload or "", validate=True)
