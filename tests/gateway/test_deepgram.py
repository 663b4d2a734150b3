"""`/v1/listen`: what programs written for Deepgram send and understand, and their own SDK."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import trio
from apps import SECOND, App, Stage, stage
from house import AWAY
from patience import PATIENCE_S
from trio.testing import MockClock, wait_all_tasks_blocked

from linguad.config.gateway import Gateway
from linguad.net.listen import listen, port_of

QUERY = "/v1/listen?encoding=linear16&sample_rate=16000&language=en&tgt_lang=es&model=nova-3"


async def program(it: Stage, query: str = QUERY, **more: Any) -> App:
    """A connected program."""
    return await it.app(("Authorization", f"Token {it.key}"), key=None, path=query, **more)


def transcript(results: dict[str, Any]) -> str:
    (alternative,) = results["channel"]["alternatives"]
    return str(alternative["transcript"])


async def test_speech_becomes_results_and_metadata_at_the_end(autojump_clock: MockClock) -> None:
    async with stage() as it:
        node = await it.world.node()
        app = await program(it)
        await app.say(SECOND)
        assert it.slots == 1
        await app.say({"type": "Finalize"})
        job = await node.job()
        assert (job["src_lang"], job["tgt_lang"], job["pipeline"]["use_tts"]) == ("en", "es", False)
        await node.answer(job)
        results = await app.hear()
        assert results["type"] == "Results"
        assert transcript(results) == "heard 0"
        assert results["translation"] == {"text": "oído 0", "language": "es"}
        assert (results["is_final"], results["speech_final"], results["from_finalize"]) == (True, True, True)
        assert (results["start"], results["duration"]) == (0.0, 1.0)
        assert results["channel_index"] == [0, 1]
        await app.say(SECOND * 2)
        await app.say({"type": "CloseStream"})
        await node.answer(await node.job())
        results = await app.hear()
        assert (results["start"], results["duration"], results["from_finalize"]) == (1.0, 2.0, False)
        metadata = await app.hear()
        assert (metadata["type"], metadata["duration"], metadata["channels"]) == ("Metadata", 3.0, 1)
        assert metadata["created"] == "2027-01-15T08:00:00.000Z"
        assert metadata["request_id"] == results["metadata"]["request_id"]
        assert (await app.closed())[0] == 1000
        assert it.slots == 0


async def test_an_empty_frame_closes_as_it_did_once(autojump_clock: MockClock) -> None:
    async with stage() as it:
        await it.world.working_node()
        app = await program(it)
        await app.say(SECOND)
        await app.say(b"")
        assert transcript(await app.until("Results")) == "heard 0"
        await app.until("Metadata")
        assert (await app.closed())[0] == 1000


async def test_silence_ends_an_utterance_if_it_may(autojump_clock: MockClock) -> None:
    async with stage() as it:
        await it.world.working_node()
        silence = bytes(3200)
        for argument, ended in (("", True), ("&endpointing=300", True), ("&endpointing=false", False)):
            app = await program(it, QUERY + argument)
            for piece in [silence] * 3 + [SECOND[:3200]] * 5 + [silence] * 6:
                await app.say(piece)
            results = await app.heard("Results")
            assert [transcript(each) for each in results] == (["heard 0"] if ended else [])
            await app.leave()
            await wait_all_tasks_blocked()


async def test_interim_results_if_asked_for(autojump_clock: MockClock) -> None:
    async with stage() as it:
        node = await it.world.node()
        app = await program(it, QUERY + "&interim_results=true")
        await app.say(SECOND)
        await app.say({"type": "Finalize"})
        job = await node.job()
        await node.say(
            {
                "type": "asr_partial",
                "job_id": job["job_id"],
                "attempt_id": job["attempt_id"],
                "node_id": node.id,
                "session_id": job["session_id"],
                "utterance_index": 0,
                "text": "hea",
                "is_final": False,
                "trace_id": job["trace_id"],
            }
        )
        results = await app.hear()
        assert (transcript(results), results["is_final"], results["speech_final"]) == ("hea", False, False)


async def test_keep_alive_keeps_alive(autojump_clock: MockClock) -> None:
    async with stage(Gateway(stream_idle_seconds=20)) as it:
        app = await program(it)
        for _ in range(5):
            await trio.sleep(15)
            await app.say({"type": "KeepAlive"})
        assert app.connected
        error = await app.until("Error")
        assert error["variant"] == "idle_timeout"
        await app.until("Metadata")
        assert (await app.closed())[0] == 4408


async def test_odd_messages_are_told_and_change_nothing(autojump_clock: MockClock) -> None:
    async with stage() as it:
        app = await program(it)
        for text, told in (
            ("{", "invalid_json"),
            ('{"type":"Dance"}', "unknown_type"),
            ("[]", "invalid_json"),
        ):
            await app.say(text)
            assert (await app.until("Error"))["variant"] == told
        assert app.connected


async def test_who_is_not_let_in(autojump_clock: MockClock) -> None:
    async with stage() as it:
        token = f"Authorization: Token {it.key}"
        for path, headers, wanted in [
            (QUERY, (), (401, "unauthorized")),
            (QUERY, ("Authorization: Token " + "x" * 40,), (401, "invalid_credentials")),
            (QUERY, ("Sec-WebSocket-Protocol: lingua.v1",), (401, "unauthorized")),
            ("/v1/listen?encoding=flac", (token,), (415, "unsupported_audio_format")),
            ("/v1/listen?sample_rate=fast", (token,), (422, "invalid_field")),
            ("/v1/listen?sample_rate=1", (token,), (422, "invalid_sample_rate")),
            ("/v1/listen?channels=2", (token,), (422, "invalid_field")),
            ("/v1/listen?language=12", (token,), (422, "unsupported_language")),
        ]:
            status, error, _ = await it.refused(*headers, path=path)
            assert (status, error["code"]) == wanted
        status, error, _ = await it.refused(token)
        assert (status, error["code"]) == (401, "unauthorized"), "Token is for /v1/listen only"


async def test_one_session_too_many_is_closed(autojump_clock: MockClock) -> None:
    async with stage() as it:
        for _ in range(2):
            await program(it)
        app = await program(it)
        assert (await app.until("Error"))["variant"] == "too_many_sessions"
        assert (await app.closed())[0] == 4429


async def test_browsers_send_the_key_as_subprotocol(autojump_clock: MockClock) -> None:
    async with stage() as it:
        app = await it.app(key=None, path=QUERY, protocols=("token", it.key))
        assert app.ws.subprotocol == "token"
        await wait_all_tasks_blocked()
        assert it.slots == 1


async def test_the_sdk_of_deepgram_is_content() -> None:
    async with stage() as it:
        await it.world.working_node()
        listeners = await listen("127.0.0.1", 0)
        async with trio.open_nursery() as nursery:
            await nursery.start(
                trio.serve_listeners, lambda stream: it.listeners.serve(stream, AWAY), listeners
            )
            command = [
                sys.executable,
                str(Path(__file__).with_name("deepgram_program.py")),
                f"ws://127.0.0.1:{port_of(listeners)}",
                it.key,
            ]
            with trio.fail_after(PATIENCE_S):
                done = await trio.run_process(command, capture_stdout=True)
            nursery.cancel_scope.cancel()
        heard = json.loads(done.stdout)
        assert [message["kind"] for message in heard] == [
            "ListenV1Results",
            "ListenV1Results",
            "ListenV1Metadata",
        ]
        assert [transcript(message) for message in heard[:2]] == ["heard 0", "heard 1"]
        assert heard[0]["translation"]["text"] == "oído 0"
        assert it.slots == 0
