"""`POST /v1/speech/translate`: a recording in, text and speech out (gateway 5)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from hashlib import sha256
from math import ceil
from typing import Any, Protocol
from uuid import UUID

import trio
from quart import Response, g, jsonify, request
from quart_trio import QuartTrio

from linguad import log
from linguad.config.gateway import Gateway
from linguad.core.room_jobs import language_heard
from linguad.core.tenant import Caller, Scope, Tenant
from linguad.errors import AudioError
from linguad.gateway.access.admission import Admission, retry_after
from linguad.gateway.access.protect import caller, protected, slot
from linguad.gateway.capacity import Capacity
from linguad.gateway.idempotency import HEADER, Idempotency
from linguad.gateway.speech.form import Form, UploadLimits, read_form, upload_limits
from linguad.gateway.speech.request import FIELDS, TranslateRequest, parse_request
from linguad.gateway.speech.sound import Clip, Sounds
from linguad.gateway.speech.talk import Talks, TalkSpec
from linguad.gateway.speech.translation import Translation, translate
from linguad.web.address import client_of
from linguad.web.app import request_id
from linguad.web.bodies import body_of
from linguad.web.problems import Problem
from linguad.wire.session import TranslationResult

PATH = "/v1/speech/translate"

WITHOUT_SPACES = ("zh", "ja", "th", "lo", "km", "my")
"""Languages whose sentences follow each other without a space."""

logger = log.get(__name__)


class Events(Protocol):
    """Tells the tenants' own servers what happens."""

    def emit(self, tenant_id: str, type: str, data: dict[str, Any]) -> None:
        """Tell one; never waits."""
        ...


class Translator:
    """Turns recordings into answers; for requests and for asynchronous jobs."""

    def __init__(
        self,
        talks: Talks,
        sounds: Sounds,
        settings: Gateway,
        capacity: Capacity,
        reserved: Callable[[Caller, int], AbstractContextManager[None]],
        charged_ms: Callable[[str], int],
    ) -> None:
        """`reserved` holds so many ms of a caller's budget, or raises Problem; `charged_ms` is what a session
        that is open was charged so far.
        """
        self._reserved = reserved
        self._charged_ms = charged_ms
        self._talks = talks
        self._sounds = sounds
        self._settings = settings
        self._capacity = capacity

    async def clip(self, data: bytes, asked: TranslateRequest, limits: UploadLimits) -> Clip:
        """The recording in an upload. Raises Problem."""
        return await self._sounds.clip(
            data, asked.audio_format, asked.sample_rate, max_seconds=limits.max_audio_seconds
        )

    async def translate(
        self,
        who: Caller,
        asked: TranslateRequest,
        clip: Clip,
        *,
        address: str,
        trace_id: str | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """The answer of gateway 5.3 but for `request_id`, as plain data. Raises Problem.

        It takes at most `timeout_s`, if left out what the settings say.
        """
        began = trio.current_time()
        try:
            with self._reserved(who, clip.duration_ms):
                translation = await translate(
                    self._talks,
                    who,
                    _spec(asked, trace_id),
                    clip,
                    address=address,
                    timeout_s=timeout_s or self._settings.translate_timeout_seconds,
                    longest_utterance_ms=1000 * self._settings.max_utterance_seconds,
                    charged_ms=self._charged_ms,
                )
        except Problem as problem:
            if problem.code == "no_capacity":
                hint = self._capacity.hint(asked.src_lang, asked.tgt_lang)
                problem.details = {**hint, **(problem.details if isinstance(problem.details, dict) else {})}
                problem.headers |= retry_after(hint["retry_after_s"])
            raise
        answer = await self._answer(translation, asked)
        return answer | {"duration_ms": round((trio.current_time() - began) * 1000)}

    async def _answer(self, translation: Translation, asked: TranslateRequest) -> dict[str, Any]:
        results = translation.results
        answer: dict[str, Any] = {
            "text": joined((result.text_translated for result in results), asked.tgt_lang),
            "text_asr": joined((result.text_asr for result in results), asked.src_lang),
            "audio_tts": "",
            "tts_format": "",
            "session_id": translation.session_id,
            "trace_id": translation.trace_id,
            "usage": {
                "audio_ms": translation.charged_ms,
                "billed_seconds": ceil(translation.charged_ms / 1000),
            },
        }
        if not results:
            answer["no_speech"] = True
            return answer
        answer |= _quality(results)
        try:
            spoken = [(result.tts_audio, result.tts_format) for result in results]
            speech = await self._sounds.speech(spoken, asked.output_format)
        except AudioError as error:
            # the text is worth more than nothing
            logger.warning("speech_undecodable", job=results[0].job_id, reason=str(error))
            return answer
        if speech.data:
            answer["audio_tts"] = b64encode(speech.data).decode()
            answer["tts_format"], answer["tts_sample_rate"] = speech.format, speech.sample_rate
        return answer


def add_translate_route(
    app: QuartTrio,
    admission: Admission,
    translator: Translator,
    capacity: Capacity,
    settings: Gateway,
    events: Events,
    idempotency: Idempotency,
) -> None:
    """Serve the translation of recordings; `web.bodies.LargeBodies` has to stand before the app for PATH."""

    @app.post(PATH)
    @protected(admission, Scope.TRANSLATE, opens=True)
    async def translate_recording() -> Response:
        who = caller()
        tenant = who.tenant
        hint = capacity.hint(tenant.default_src_lang, tenant.default_tgt_lang)
        with admission.begin(who, slot(), hint):
            form, limits = await read_upload(settings, tenant)
            asked = parse_request(form.fields, tenant)
            clip = await translator.clip(form.audio, asked, limits)
            g.trace_id = trace_of(request.headers.get("X-Trace-Id", ""))

            async def work() -> Response:
                return await _translated(translator, events, who, asked, clip, client_of(request).address)

            given = [form.fields, await _digest(form.audio)] if HEADER in request.headers else None
            return await idempotency.once(given, work)


async def _translated(
    translator: Translator, events: Events, who: Caller, asked: TranslateRequest, clip: Clip, address: str
) -> Response:
    """The answer to a request, of which the tenant's own servers are told, too."""
    try:
        answer = await translator.translate(who, asked, clip, address=address, trace_id=g.trace_id)
    except Problem as problem:
        failed = {"request_id": request_id(), "code": problem.code, "status": problem.status}
        events.emit(who.tenant.id, "translation.failed", failed)
        raise
    g.trace_id = answer["trace_id"]
    answer["request_id"] = request_id()
    told = ("request_id", "session_id", "trace_id", "duration_ms", "usage")
    events.emit(who.tenant.id, "translation.completed", {name: answer[name] for name in told})
    return jsonify(answer)


async def _digest(data: bytes) -> str:
    """What stands for a recording."""
    return await trio.to_thread.run_sync(lambda: sha256(data).hexdigest())


async def read_upload(settings: Gateway, tenant: Tenant) -> tuple[Form, UploadLimits]:
    """The form of the request being answered. Raises Problem."""
    limits = upload_limits(settings, tenant)
    form = await read_form(
        body_of(request.scope),
        request.headers.get("Content-Type"),
        request.content_length,
        names=FIELDS,
        max_bytes=limits.max_bytes,
        seconds=limits.seconds,
    )
    return form, limits


def trace_of(given: str) -> str | None:
    """The trace id that a caller gave, if it is a UUID (gateway 8.2)."""
    try:
        return str(UUID(given)) if len(given) <= 45 else None
    except ValueError:
        return None


def joined(texts: Iterable[str], language: str) -> str:
    """The texts of parts as one text of a language."""
    between = "" if language.partition("-")[0] in WITHOUT_SPACES else " "
    return between.join(text for text in texts if text)


def _spec(asked: TranslateRequest, trace_id: str | None) -> TalkSpec:
    return TalkSpec(
        src_lang=asked.src_lang,
        tgt_lang=asked.tgt_lang,
        dialect=asked.dialect,
        features=asked.features,
        mode=asked.mode,
        lang_a=asked.lang_a,
        lang_b=asked.lang_b,
        auto_langs=asked.auto_langs,
        tts=asked.tts,
        trace_id=trace_id,
    )


def _quality(results: Sequence[TranslationResult]) -> dict[str, Any]:
    """What nodes told beside the texts, of the first part; timings are those of all parts together."""
    first, told = results[0], dict[str, Any]()
    if heard := language_heard(first.extra):
        told["src_lang_detected"] = heard
    timings = [result.service_timings for result in results if result.service_timings]
    if timings:
        sums = {
            name: sum(filter(None, (getattr(timing, name) for timing in timings)))
            for name in timings[0].__struct_fields__
        }
        told["service_timings"] = {name: spent for name, spent in sums.items() if spent}
    quality = {
        "level": first.asr_quality_level,
        "score": first.quality_score,
        "reason_codes": first.reason_codes,
    }
    if any(value is not None for value in quality.values()):
        told["quality"] = {name: value for name, value in quality.items() if value is not None}
    return told
