"""What an asynchronous translation does: as `POST /v1/speech/translate`, with more time (gateway 11.6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quart import request

from linguad.config.gateway import Gateway
from linguad.core.tenant import Caller
from linguad.gateway.jobs.routes import CALLBACK
from linguad.gateway.speech.form import Form, UploadLimits, read_form
from linguad.gateway.speech.request import FIELDS, TranslateRequest, parse_request
from linguad.gateway.speech.sound import Clip
from linguad.gateway.speech.translate import Translator
from linguad.web.bodies import body_of

PATIENCE = 2.0
"""Times the length of a recording that its translation may take, beside what a short one may."""


class SpeechWork:
    """Reads uploads of jobs and translates them."""

    def __init__(self, translator: Translator, settings: Gateway) -> None:
        self._translator = translator
        self._settings = settings

    async def read_upload(self, caller: Caller) -> Form:
        """The form of the request being answered. Raises Problem."""
        settings, own = self._settings, caller.tenant.max_upload_bytes
        return await read_form(
            body_of(request.scope),
            request.headers.get("Content-Type"),
            request.content_length,
            names=(*FIELDS, CALLBACK),
            max_bytes=settings.jobs_max_upload_bytes if own is None else own,
            seconds=settings.body_seconds,
        )

    async def prepare(
        self, caller: Caller, fields: Mapping[str, str], audio: bytes
    ) -> tuple[TranslateRequest, Clip]:
        """What is asked for, checked. Raises Problem."""
        asked = parse_request(fields, caller.tenant)
        limits = UploadLimits(
            max_bytes=len(audio),
            seconds=self._settings.body_seconds,
            max_audio_seconds=self._settings.jobs_max_audio_seconds,
        )
        return asked, await self._translator.clip(audio, asked, limits)

    async def translate(
        self, caller: Caller, prepared: tuple[TranslateRequest, Clip], address: str
    ) -> dict[str, Any]:
        """The answer, as plain data. Raises Problem."""
        asked, clip = prepared
        timeout_s = self._settings.translate_timeout_seconds + PATIENCE * clip.duration_ms / 1000
        return await self._translator.translate(caller, asked, clip, address=address, timeout_s=timeout_s)
