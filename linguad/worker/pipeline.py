"""One job through the engines: sound → text → translation → speech (node-protocol 2.5, 2.8, 2.13)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import trio

from linguad import audio
from linguad.errors import AudioError, EngineError, ErrorCode
from linguad.wire.common import ExtraResult, ServiceTimings
from linguad.wire.language import AUTO, normalize
from linguad.wire.node import InstalledModel, JobAssign
from linguad.worker.engines.base import Kind, Recognise, Speak, Speech, Text, Translate
from linguad.worker.process import EngineProcess
from linguad.worker.runner import JobFailed, Offer, Outcome, Service, offer

SpeechFormat = Literal["opus", "pcm16"]

ASR_EMPTY = "ASR_EMPTY"
"""`extra.reason` of a job in whose audio nothing was recognised."""

MAX_PADDING_MS = 2_000
"""Silence a scheduler may ask to have appended, ms; it asks for 280 at most."""


@dataclass(frozen=True, slots=True)
class Lack:
    """A model that is not here, and the languages that are not served because of it."""

    kind: Kind
    languages: list[str]
    model_id: str
    version: str
    reason: str
    """`not_installed`, `downloading`, `verifying` or `error` (model-manager 7)."""


class Pipeline:
    """A runner that uses the engines it is given, the first one that serves a language; all are started.

    The list of engines may grow while it works. `lacks` tells which models are missing at the moment,
    `models` which ones are on the disk.
    """

    def __init__(
        self,
        engines: Sequence[EngineProcess],
        speech_format: SpeechFormat,
        *,
        lacks: Callable[[], Sequence[Lack]] = tuple,
        models: Callable[[], list[InstalledModel]] = list,
    ) -> None:
        self._engines = engines
        self._speech_format = speech_format
        self._lacks = lacks
        self._models = models

    def offer(self) -> Offer:
        """The engines, with the state they are in, and the models."""
        return replace(offer(_service(engine) for engine in self._engines), models=self._models())

    async def run(self, job: JobAssign) -> Outcome:
        """Do one job. Raises JobFailed: PROCESSING_ERROR or MODEL_NOT_AVAILABLE."""
        try:
            return await self._run(job, self._plan(job))
        except (AudioError, EngineError) as error:
            raise JobFailed(ErrorCode.PROCESSING_ERROR, str(error)) from error

    def _plan(self, job: JobAssign) -> _Plan:
        """Which engines do which languages of a job."""
        stages = job.pipeline
        if not stages.use_asr:
            raise JobFailed(
                ErrorCode.PROCESSING_ERROR, "without use_asr there is no text that could be worked on"
            )
        source, target = self._source_and_target(job)
        translated = target if stages.use_nmt else source
        return _Plan(
            source=source,
            target=translated,
            asr=self._for_language(Kind.ASR, source),
            # What is to be said in its own language needs no translation.
            nmt=self._for_pair(source, target) if stages.use_nmt and source != target else None,
            tts=self._for_language(Kind.TTS, translated) if stages.use_tts else None,
        )

    def _source_and_target(self, job: JobAssign) -> tuple[str, str]:
        source, target = normalize(job.src_lang), normalize(job.tgt_lang)
        if source != AUTO:
            return source, target
        understood = self.offer().languages.asr_languages or []
        sides = [normalize(code) for code in (job.lang_a, job.lang_b) if code]
        # No engine here tells languages apart: where both sides are understood, the first one is a guess.
        candidates = sides or understood
        source = next((code for code in candidates if code in understood), next(iter(candidates), source))
        if len(sides) == 2 and source in sides:
            target = sides[1 - sides.index(source)]
        return source, target

    def _for_language(self, kind: Kind, language: str) -> EngineProcess:
        for engine in self._engines:
            service = _service(engine)
            if service.kind == kind and language in service.languages:
                return engine
        for lack in self._lacks():
            if lack.kind == kind and language in lack.languages:
                raise _not_available(f"{kind}-{language}", lack)
        raise _not_installed(f"{kind}-{language}")

    def _for_pair(self, source: str, target: str) -> EngineProcess:
        for engine in self._engines:
            if (source, target) in _service(engine).pairs:
                return engine
        for lack in self._lacks():
            if lack.kind is Kind.NMT and {source, target} <= set(lack.languages):
                raise _not_available(f"{Kind.NMT}-{source}-{target}", lack)
        raise _not_installed(f"{Kind.NMT}-{source}-{target}")

    async def _run(self, job: JobAssign, plan: _Plan) -> Outcome:
        started = trio.current_time()
        sound = await trio.to_thread.run_sync(_sound, job)
        decoded = trio.current_time()
        heard = (await plan.asr.call(Recognise(sound, plan.source), Text)).text.strip()
        recognised = trio.current_time()
        translated: str | None = None
        speech: str | None = None
        if plan.nmt is not None and heard:
            translated = (await plan.nmt.call(Translate(heard, plan.source, plan.target), Text)).text.strip()
        elif job.pipeline.use_nmt:
            translated = heard
        translated_at = trio.current_time()
        if plan.tts is not None and (text := heard if translated is None else translated):
            said = await plan.tts.call(Speak(text, plan.target), Speech)
            speech = await trio.to_thread.run_sync(_encode, said, self._speech_format)
        ended = trio.current_time()
        return Outcome(
            text_asr=heard,
            text_translated=translated,
            tts_audio=speech,
            tts_format=self._speech_format if speech else None,
            extra=ExtraResult(
                reason=None if heard else ASR_EMPTY,
                detected_src_lang=plan.source if job.src_lang == AUTO else None,
                service_timings=ServiceTimings(
                    asr_ms=_ms(decoded, recognised),
                    nmt_ms=_ms(recognised, translated_at) if job.pipeline.use_nmt else None,
                    tts_ms=_ms(translated_at, ended) if job.pipeline.use_tts else None,
                    total_ms=_ms(started, ended),
                ),
            ),
        )


@dataclass(frozen=True, slots=True)
class _Plan:
    source: str
    target: str
    asr: EngineProcess
    nmt: EngineProcess | None
    tts: EngineProcess | None


def _service(engine: EngineProcess) -> Service:
    hello = engine.hello
    assert hello is not None, "engines are started before jobs come"
    return Service(
        service_id=engine.name,
        kind=hello.kind,
        device=hello.device,
        version=hello.version,
        languages=hello.languages,
        pairs=hello.pairs,
        running=engine.is_running,
        model_id=engine.model_id,
    )


def _not_installed(service_id: str) -> JobFailed:
    """The id names no service that runs here, because what runs goes on serving its other languages."""
    return JobFailed(
        ErrorCode.MODEL_NOT_AVAILABLE,
        f"{service_id} is not installed on this node",
        {"service_id": service_id, "reason": "not_installed"},
    )


def _not_available(service_id: str, lack: Lack) -> JobFailed:
    """The documented envelope (model-manager 8)."""
    return JobFailed(
        ErrorCode.MODEL_NOT_AVAILABLE,
        f"Model {lack.model_id}@{lack.version} unavailable: {lack.reason}",
        {
            "service_id": service_id,
            "service_version": lack.version,
            "model_id": lack.model_id,
            "reason": lack.reason,
        },
    )


def _sound(job: JobAssign) -> bytes:
    """PCM16 at 16 kHz of a job's audio, with the silence asked for behind it; for a worker thread."""
    try:
        data = base64.b64decode(job.audio, validate=True)
    except (binascii.Error, ValueError) as error:
        raise AudioError("the audio is not base64") from error
    padding_ms = min(max(job.padding_ms or 0, 0), MAX_PADDING_MS)
    padding = bytes(2 * audio.WIRE_RATE * padding_ms // 1000)
    return audio.to_pcm16(data, job.audio_format, job.sample_rate) + padding


def _encode(speech: Speech, speech_format: SpeechFormat) -> str:
    """Base64 of speech as it travels; for a worker thread."""
    if speech_format == "opus":
        data = audio.encode_plan_a(speech.pcm16, speech.sample_rate)
    else:
        data = audio.resample(speech.pcm16, speech.sample_rate, audio.WIRE_RATE)
    return base64.b64encode(data).decode()


def _ms(start: float, end: float) -> int:
    return round((end - start) * 1000)
