"""The transcripts of session-protocol 11.1 and 11.2 over real sockets, with speech that is really coded."""

from __future__ import annotations

from base64 import b64decode

import trio
from conftest import Start
from harness import TWO_WAY, Client, Json, Node, base64, session_init
from patience import PATIENCE_S
from tones import is_tone, speech, tone

from linguad.wire import opus

CHUNK = tone(0.26)
"""13 packets, as web clients send them."""


async def test_transcript_11_1(start: Start) -> None:
    with trio.fail_after(PATIENCE_S):
        daemon = start(sessions={"detach_grace_seconds": 1})
        async with daemon.node(max_concurrent_jobs=4) as node:
            async with daemon.stranger() as client:
                ack = await client.open(**TWO_WAY)
                client.seq = 41
                await speak_and_play(client, node, ack["trace_id"])
                await client.heartbeat()
                # in the middle of the next utterance the page is closed
                await client.chunk(CHUNK)
                await client.leave(1001)
            last = await node.job()
            assert (last["utterance_index"], last["audio"]) == (1, base64(CHUNK))
            assert (await node.until("job_cancel", reason="session_closed"))["job_id"] == last["job_id"]
            await daemon.event("session_ended", session=ack["session_id"])
        daemon.stop()


async def speak_and_play(client: Client, node: Node, trace_id: str) -> None:
    """An utterance from its first chunk to the end of its playback."""
    for _ in range(4):
        await client.chunk(CHUNK)
        await trio.sleep(0.256)
    await client.chunk(final=True)
    job = await node.job()
    assert job["audio"] == base64(CHUNK * 4)
    names = ("job_id", "attempt_id", "session_id", "utterance_index", "trace_id")
    await node.say({"type": "job_ack", "node_id": node.id, **{name: job[name] for name in names}})
    for event in ("DISPATCHED", "NODE_ACCEPTED"):
        await client.until("ui_event", event=event, job_id=job["job_id"], status="ok")
    sound = speech(1.5)
    await node.answer(job, tts_audio=sound, tts_format="opus")
    for event in ("ASR_FINAL", "NMT_DONE"):
        await client.until("ui_event", event=event, job_id=job["job_id"], status="ok")
    result = await client.hear()
    assert (result["type"], result["utterance_index"], result["trace_id"]) == (
        "translation_result",
        0,
        trace_id,
    )
    assert (result["tts_audio"], result["tts_format"]) == (sound, "opus")
    assert opus.walk(b64decode(sound)).packets == 75
    playing = {name: result[name] for name in ("session_id", "trace_id", "group_id")}
    await client.say({"type": "tts_started", **playing, "ts_start_ms": 1769900000000})
    await trio.sleep(0.1)
    await client.say({"type": "tts_play_ended", **playing, "ts_end_ms": 1769900000100})
    for event in ("TTS_PLAY_STARTED", "TTS_PLAY_ENDED"):
        await client.until("ui_event", event=event, utterance_index=0)
    await trio.sleep(0.5)


async def test_transcript_11_2(start: Start) -> None:
    with trio.fail_after(PATIENCE_S):
        daemon = start()
        async with daemon.node() as node, daemon.stranger() as a, daemon.stranger() as b:
            code = await enter(a, {"type": "room_create", "client_ts": 1, "display_name": "Mina"})
            joined = {"type": "room_join", "room_code": code, "display_name": "Olek"}
            assert await enter(b, joined) == code
            listing = await a.hear()
            assert [member["session_id"] for member in listing["members"]] == [a.session_id, b.session_id]
            for sender, receiver, kind, name in (
                (a, b, "webrtc_offer", "sdp"),
                (b, a, "webrtc_answer", "sdp"),
                (a, b, "webrtc_ice", "candidate"),
            ):
                signal = {"type": kind, "room_code": code, name: {"any": ["thing"]}}
                await sender.say(signal | {"to": receiver.session_id})
                assert await receiver.hear() == signal | {"to": sender.session_id}
            for number in range(2):
                await a.chunk(CHUNK * 2)
                await a.chunk(final=True)
                await node.answer(await node.job(), tts_audio=speech(1.5), tts_format="opus")
                heard = await b.result()
                assert (heard["session_id"], heard["utterance_index"]) == (a.session_id, number)
                assert heard["tts_format"] == "pcm16"
                assert is_tone(heard, 1.5)
        daemon.stop()


async def enter(client: Client, wish: Json) -> str:
    """Hello and a wish for a room at once, as web clients do; the code of the room."""
    await client.say(session_init(src_lang="zh", tgt_lang="en"))
    await client.say(wish)
    ack, entered, listing = [await client.hear() for _ in range(3)]
    kinds = [message["type"] for message in (ack, entered, listing)]
    assert kinds == ["session_init_ack", "room_create_ack", "room_members"]
    client.session_id = ack["session_id"]
    code: str = entered["room_code"]
    return code
