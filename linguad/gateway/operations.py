"""The table of what the public API can do, for its documents; other parts add their rows (gateway 2)."""

from __future__ import annotations

from linguad.core.tenant import Scope
from linguad.gateway.answers import Translation
from linguad.gateway.openapi import FORM, JSON, TEXT, Operation, Parameter
from linguad.gateway.request import TranslateRequest

UPLOAD = (
    (400, "malformed_multipart"),
    (400, "invalid_json"),
    (400, "invalid_field"),
    (400, "missing_audio"),
    (408, "request_timeout"),
    (413, "payload_too_large"),
    (413, "audio_too_long"),
    (415, "unsupported_media_type"),
    (415, "unsupported_audio_format"),
    (422, "invalid_field"),
    (422, "invalid_audio"),
    (422, "invalid_sample_rate"),
    (422, "unsupported_language"),
    (422, "unsupported_feature"),
)
"""Errors of a form with audio, as `form`, `sound` and `request` raise them."""

TRANSLATING = (
    (402, "insufficient_balance"),
    (429, "too_many_sessions"),
    (429, "quota_exceeded"),
    (502, "translation_failed"),
    (502, "upstream_session_lost"),
    (502, "upstream_protocol_error"),
    (503, "no_capacity"),
    (503, "model_unavailable"),
    (503, "upstream_unavailable"),
    (504, "translation_timeout"),
)
"""Errors of a translation itself (gateway 8.4)."""

IDEMPOTENT = ((409, "idempotency_in_progress"), (422, "idempotency_mismatch"))
"""Errors of an operation that takes `Idempotency-Key` (gateway 11.8)."""

IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    type=str,
    where="header",
    description="Names this request; sent again within a day it gets the same answer and is not done twice.",
)

OPERATIONS = (
    Operation(
        method="GET",
        path="/health",
        id="health",
        summary="Whether the API answers at all",
        tag="health",
        open=True,
        response=str,
        response_media=TEXT,
    ),
    Operation(
        method="POST",
        path="/v1/speech/translate",
        id="translate",
        summary="Translate an utterance and wait for it",
        tag="speech",
        scope=Scope.TRANSLATE,
        parameters=(IDEMPOTENCY_KEY,),
        request=TranslateRequest,
        media=(FORM, JSON),
        audio=True,
        json_fields=("features", "auto_langs"),
        response=Translation,
        problems=UPLOAD + TRANSLATING + IDEMPOTENT,
    ),
)
"""Operations of the gateway's own views."""
