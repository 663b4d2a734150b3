"""One job through the real engines: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import os
import signal
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from linguad import audio
from linguad.errors import ErrorCode
from linguad.wire.common import PipelineConfig
from linguad.wire.node import JobAssign
from linguad.worker.engines import ENGINES
from linguad.worker.pipeline import Pipeline
from linguad.worker.process import EngineProcess
from linguad.worker.runner import JobFailed, pairs_served

DEMO = Path(__file__).parent.parent.parent / "demo/audio"
SPEECH = audio.read_audio_file(DEMO / "house.wav")[0]
SAID = (DEMO / "house.txt").read_text().strip()
SOME_WORDS = SPEECH[: 2 * audio.WIRE_RATE]
PATIENCE_SECONDS = 180


@pytest.fixture
async def engines(nursery: trio.Nursery) -> AsyncIterator[list[EngineProcess]]:
    """All engines, started."""
    started = [EngineProcess(name) for name in ENGINES]
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as starting:
            for engine in started:
                starting.start_soon(nursery.start, engine.serve)
    yield started
    nursery.cancel_scope.cancel()


def job(pcm: bytes = SOME_WORDS, **other: object) -> JobAssign:
    """A job as a scheduler sends it, with Opus."""
    assign = JobAssign(
        job_id="job-1",
        attempt_id=1,
        session_id="s-1",
        utterance_index=0,
        src_lang="en",
        tgt_lang="es",
        pipeline=PipelineConfig(),
        audio=b64encode(audio.encode_plan_a(pcm, audio.WIRE_RATE)).decode(),
        audio_format="opus",
        sample_rate=audio.WIRE_RATE,
        trace_id="t-1",
    )
    return msgspec.structs.replace(assign, **other)


def silent(seconds: float, **other: object) -> JobAssign:
    return job(bytes(round(seconds * audio.WIRE_RATE) * 2), **other)


async def failure(pipeline: Pipeline, assign: JobAssign) -> JobFailed:
    with pytest.raises(JobFailed) as caught:
        await pipeline.run(assign)
    return caught.value


async def test_speech_goes_in_and_translated_speech_comes_out(engines: list[EngineProcess]) -> None:
    pipeline = Pipeline(engines, "opus")
    assert pairs_served(pipeline.offer()) == ["en>es"]
    outcome = await pipeline.run(job(SPEECH, is_manual_cut=True, padding_ms=280))
    assert outcome.text_asr == SAID
    assert outcome.text_translated == "Queremos ir a la casa de mi padre"
    assert outcome.tts_format == "opus"
    assert audio.duration_ms(b64decode(outcome.tts_audio or ""), "opus", 0) > 1000
    assert max(audio.decode_plan_a(b64decode(outcome.tts_audio or ""))) > 0
    timings = outcome.extra.service_timings
    assert timings is not None
    assert outcome.extra.reason is None
    parts = (timings.asr_ms or 0, timings.nmt_ms or 0, timings.tts_ms or 0)
    assert min(parts) > 0
    assert sum(parts) <= (timings.total_ms or 0) + len(parts)


async def test_pcm16_goes_in_and_comes_out(engines: list[EngineProcess]) -> None:
    at_48_khz = b64encode(audio.resample(SOME_WORDS, audio.WIRE_RATE, 48_000)).decode()
    outcome = await Pipeline(engines, "pcm16").run(
        job(audio=at_48_khz, audio_format="pcm16", sample_rate=48_000)
    )
    assert SAID.startswith((outcome.text_asr or "nothing").split()[0])
    assert outcome.tts_format == "pcm16"
    speech = b64decode(outcome.tts_audio or "")
    assert len(speech) % 2 == 0
    assert audio.duration_ms(speech, "pcm16", audio.WIRE_RATE) > 300


async def test_only_the_stages_asked_for_are_done(engines: list[EngineProcess]) -> None:
    pipeline = Pipeline(engines, "opus")
    heard = await pipeline.run(job(pipeline=PipelineConfig(use_nmt=False, use_tts=False)))
    assert heard.text_asr
    assert heard.text_translated is None
    assert heard.tts_audio is None
    timings = heard.extra.service_timings
    assert timings is not None
    assert (timings.nmt_ms, timings.tts_ms) == (None, None)
    subtitles = await pipeline.run(job(pipeline=PipelineConfig(use_tts=False)))
    assert subtitles.text_translated
    assert subtitles.tts_audio is None
    repeated = await pipeline.run(job(tgt_lang="en-US"))
    assert repeated.text_translated == repeated.text_asr == heard.text_asr
    assert repeated.tts_audio


async def test_silence_and_nothing_are_answered_as_empty(engines: list[EngineProcess]) -> None:
    pipeline = Pipeline(engines, "opus")
    for assign in (silent(2), silent(0), job(audio="", audio_format="pcm16")):
        outcome = await pipeline.run(assign)
        assert (outcome.text_asr, outcome.text_translated, outcome.tts_audio) == ("", "", None)
        assert outcome.extra.reason == "ASR_EMPTY"
        assert outcome.extra.service_timings is not None


async def test_an_unknown_language_of_speech_is_that_of_the_engine(engines: list[EngineProcess]) -> None:
    pipeline = Pipeline(engines, "opus")
    for assign, target in (
        (silent(1, src_lang="auto"), "es"),
        (silent(1, src_lang="auto", tgt_lang="en", lang_a="es", lang_b="en"), "es"),
        (silent(1, src_lang="auto", lang_a="en-GB", lang_b="es"), "es"),
    ):
        plan = pipeline._plan(assign)
        assert (plan.source, plan.target) == ("en", target)
        assert (await pipeline.run(assign)).extra.detected_src_lang == "en"
    assert (await pipeline.run(silent(1))).extra.detected_src_lang is None


async def test_what_cannot_be_done_is_refused_with_its_reason(engines: list[EngineProcess]) -> None:
    pipeline = Pipeline(engines, "opus")
    wav = await failure(pipeline, job(audio_format="wav"))
    assert (wav.code, str(wav)) == (ErrorCode.PROCESSING_ERROR, "Unsupported audio format: wav")
    for assign, sentence in (
        (job(audio="not base64!"), "the audio is not base64"),
        (job(audio="Ünicode"), "the audio is not base64"),
        (job(audio=b64encode(b"RIFF....WAVEfmt ").decode()), "not a run of Opus packets"),
        (job(audio_format="pcm16", sample_rate=0), "0 Hz is not supported"),
        (job(pipeline=PipelineConfig(use_asr=False)), "without use_asr"),
    ):
        refused = await failure(pipeline, assign)
        assert refused.code == ErrorCode.PROCESSING_ERROR
        assert sentence in str(refused)
    for assign, service in (
        (job(src_lang="fr"), "asr-fr"),
        (job(tgt_lang="fr"), "nmt-en-fr"),
        (job(src_lang="auto", lang_a="fr", lang_b="de", tgt_lang="de"), "asr-fr"),
    ):
        refused = await failure(pipeline, assign)
        assert refused.code == ErrorCode.MODEL_NOT_AVAILABLE
        # The id is none of the engines', which go on serving their other languages.
        assert refused.details == {"service_id": service, "reason": "not_installed"}


async def test_a_dead_engine_fails_its_job_and_is_not_offered(engines: list[EngineProcess]) -> None:
    pipeline = Pipeline(engines, "opus")
    hearing = engines[0]

    assert hearing.pid is not None
    # It gets the request and does not come to answer it.
    os.kill(hearing.pid, signal.SIGSTOP)

    async def kill() -> None:
        while hearing._answer.arrived.is_set():  # noqa: ASYNC110 - the audio is decoded in a thread before
            await trio.sleep(0.01)
        await wait_all_tasks_blocked()
        assert hearing.pid is not None
        os.kill(hearing.pid, signal.SIGKILL)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(kill)
        refused = await failure(pipeline, job(SPEECH))
    assert (refused.code, str(refused)) == (
        ErrorCode.PROCESSING_ERROR,
        "pocketsphinx ended in the middle of a request",
    )
    offer = pipeline.offer()
    assert [service.status for service in offer.services] == ["error", "running", "running"]
    assert [capability.ready for capability in offer.capabilities] == [False, True, True]
    assert offer.languages.asr_languages == []
    assert pairs_served(offer) == []
    assert (await pipeline.run(silent(1))).extra.reason == "ASR_EMPTY"
    assert pairs_served(pipeline.offer()) == ["en>es"]
