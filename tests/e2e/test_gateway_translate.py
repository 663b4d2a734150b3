"""`POST /v1/speech/translate` of a real daemon: recordings in, text and speech out (gateway 5, 14)."""

from __future__ import annotations

import io
from base64 import b64decode
from pathlib import Path

import pytest
import soundfile
import trio
from conftest import Start
from processes import PATIENCE_S, DaemonProcess, form
from stream_app import until_in_use

WEATHER = Path(__file__).parent.parent.parent / "demo" / "audio" / "weather.wav"
SECOND = bytes(range(1, 251)) * 128
"""A second of PCM16 at 16 kHz."""


async def test_a_recording_is_translated(daemon: DaemonProcess) -> None:
    api = await daemon.gateway()
    async with daemon.working_node():
        reply = await api.translate(SECOND, src_lang="en", tgt_lang="es")
    assert reply.status == 200, reply
    answer = reply.json
    assert (answer["text"], answer["text_asr"]) == ("oído 0", "heard 0")
    assert answer["duration_ms"] >= 0
    assert answer["usage"] == {"audio_ms": 1000, "billed_seconds": 1}
    assert answer["request_id"] == reply.headers["x-request-id"]
    assert (answer["tts_format"], answer["tts_sample_rate"]) == ("wav", 16000)
    sound, rate = soundfile.read(io.BytesIO(b64decode(answer["audio_tts"])), dtype="int16")
    assert (rate, len(sound)) == (16000, 5 * 62 // 2)
    assert int(reply.headers["ratelimit-remaining"]) < int(reply.headers["ratelimit-limit"])


@pytest.mark.parametrize("output_format", ["wav", "pcm16", "ogg_opus", "packets"])
async def test_every_format_of_speech(daemon: DaemonProcess, output_format: str) -> None:
    api = await daemon.gateway()
    async with daemon.working_node():
        reply = await api.translate(SECOND, src_lang="en", tgt_lang="es", output_format=output_format)
    assert reply.status == 200, reply
    # the node of this test speaks PCM16, which is what its packets are
    assert reply.json["tts_format"] == ("pcm16" if output_format == "packets" else output_format)


async def test_text_alone(daemon: DaemonProcess) -> None:
    api = await daemon.gateway()
    async with daemon.node() as node, trio.open_nursery() as nursery:

        async def answer() -> None:
            job = await node.job()
            assert job["pipeline"]["use_tts"] is False
            await node.answer(job, tts_audio="")

        nursery.start_soon(answer)
        reply = await api.translate(SECOND, src_lang="en", tgt_lang="es", tts="false")
    assert (reply.json["audio_tts"], reply.json["tts_format"]) == ("", "")


async def test_wav_header_and_json_body(daemon: DaemonProcess) -> None:
    api = await daemon.gateway()
    async with daemon.working_node():
        reply = await api.translate(WEATHER.read_bytes(), src_lang="en", tgt_lang="es")
        assert reply.status == 200, reply
        assert reply.json["usage"]["audio_ms"] > 2000
        said = {"audio": "AAAA" * 4000, "src_lang": "en", "tgt_lang": "es"}
        reply = await api.call("POST", "/v1/speech/translate", said, Content_Type="application/json")
        assert reply.status == 200, reply


@pytest.mark.parametrize(
    ("audio", "fields", "status", "code"),
    [
        (b"", {}, 400, "missing_audio"),
        (SECOND, {"audio_format": "mp3"}, 415, "unsupported_audio_format"),
        (SECOND, {"sample_rate": "5"}, 422, "invalid_sample_rate"),
        (SECOND, {"tgt_lang": "auto"}, 422, "unsupported_language"),
        (SECOND, {"src_lang": "e!"}, 422, "unsupported_language"),
        (SECOND, {"features": "{"}, 422, "invalid_field"),
        (SECOND * 121, {}, 413, "audio_too_long"),
        (b"RIFF\x00\x00\x00\x00WAVEdata", {}, 422, "invalid_audio"),
    ],
)
async def test_what_is_wrong_is_named(
    daemon: DaemonProcess, audio: bytes, fields: dict[str, str], status: int, code: str
) -> None:
    api = await daemon.gateway()
    error = (await api.translate(audio, **({"src_lang": "en", "tgt_lang": "es"} | fields))).problem(status)
    assert error["code"] == code
    assert error["retryable"] is False


async def test_who_may_not_come_in(daemon: DaemonProcess) -> None:
    api = await daemon.gateway()
    reply = await api.translate(SECOND, key="")
    assert reply.problem(401)["code"] == "unauthorized"
    assert reply.headers["www-authenticate"] == 'Bearer realm="lingua"'
    reply = await api.translate(SECOND, key="lk_live_aaaaaaaaaaaa_" + "x" * 43)
    assert reply.problem(401)["code"] == "invalid_credentials"
    assert (await api.call("GET", "/v1/nothing", key="")).problem(404)["code"] == "not_found"
    reply = await api.call("GET", "/v1/speech/translate")
    assert reply.problem(405)
    assert "POST" in reply.headers["allow"]
    body, _ = form(SECOND)
    reply = await api.call("POST", "/v1/speech/translate", body, Content_Type="text/plain")
    assert reply.problem(415)


async def test_a_language_that_nobody_speaks(daemon: DaemonProcess) -> None:
    api = await daemon.gateway()
    async with daemon.working_node():
        reply = await api.translate(SECOND, src_lang="en", tgt_lang="fi")
    error = reply.problem(503)
    assert (error["code"], error["retryable"]) == ("no_capacity", True)
    assert error["details"]["free_slots"] == 0
    assert int(reply.headers["retry-after"]) == error["details"]["retry_after_s"]


async def test_a_caller_who_hangs_up_frees_slot_and_node(daemon: DaemonProcess) -> None:
    """Though nobody reads from the connection meanwhile."""
    api = await daemon.gateway()
    async with daemon.node() as node:
        body, kind = form(SECOND, src_lang="en", tgt_lang="es")
        head = (
            f"POST /v1/speech/translate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key}\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        stream = await trio.open_tcp_stream("127.0.0.1", api.port)
        await stream.send_all(head.encode() + body)
        job = await node.job()
        await until_in_use(api, 1)
        await stream.aclose()
        with trio.fail_after(PATIENCE_S):
            assert (await node.until("job_cancel"))["job_id"] == job["job_id"]
        await until_in_use(api, 0)
        await daemon.event("api_request", route="/v1/speech/translate", status=499)
        _, figures = await daemon.get("/metrics")
        labels = 'method="POST",route="/v1/speech/translate",status="499"'
        assert f"linguad_gateway_requests_total{{{labels}}} 1.0" in figures


async def test_more_at_once_than_a_tenant_may(start: Start) -> None:
    daemon = start()
    api = await daemon.gateway()
    statuses: list[int] = []

    async def ask() -> None:
        reply = await api.translate(SECOND, src_lang="en", tgt_lang="es")
        statuses.append(reply.status)
        if reply.status == 429:
            assert reply.json["error"]["code"] == "too_many_sessions"
            assert int(reply.headers["retry-after"]) >= 1

    async with daemon.node(max_concurrent_jobs=20) as node, trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask)
        await until_in_use(api, 10)
        jobs = [await node.job() for _ in range(4)]
        await ask()
        assert statuses == [429]
        for job in jobs:
            await node.answer(job)
        for _ in range(6):
            await node.answer(await node.job())
    assert sorted(statuses) == [200] * 10 + [429]


async def test_what_is_told_is_what_is_charged_and_a_quota_is_never_passed(start: Start) -> None:
    """The last part is silence; what a request may need counts against a quota beforehand."""
    daemon = start()
    operator = await daemon.operator()
    quota = {"max_audio_seconds_per_day": 40}
    assert (await operator.call("PATCH", "/admin/v1/tenants/default", quota)).status == 200
    async with daemon.node() as node, trio.open_nursery() as nursery:

        async def hear_one_part() -> None:
            await node.answer(await node.job())
            while True:
                silence = {"text_asr": "", "text_translated": "", "tts_audio": ""}
                await node.answer(await node.job(), extra={"reason": "ASR_EMPTY"}, **silence)

        nursery.start_soon(hear_one_part)
        told = (await operator.translate(SECOND * 35, src_lang="en", tgt_lang="es")).json["usage"]
        assert told == {"audio_ms": 30_000, "billed_seconds": 30}
        reply = await operator.translate(SECOND * 31, src_lang="en", tgt_lang="es")
        assert reply.problem(429)["code"] == "quota_exceeded"
        assert (await operator.translate(SECOND * 5, src_lang="en", tgt_lang="es")).status == 200
        nursery.cancel_scope.cancel()
