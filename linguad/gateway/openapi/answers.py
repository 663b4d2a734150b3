"""What the public API answers, as it is documented (gateway 5.3, 11.2)."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from linguad.wire.common import ServiceTimings


class Charged(Struct, frozen=True, kw_only=True):
    """What a translation costs."""

    audio_ms: Annotated[int, Meta(description="Audio that was translated, in ms.")]
    billed_seconds: Annotated[int, Meta(description="The same in whole seconds, rounded up.")]


class Translated(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A translated recording; texts are empty and `no_speech` is true where nothing was said."""

    text: Annotated[str, Meta(description="The translation.")]
    text_asr: Annotated[str, Meta(description="What was heard.")]
    audio_tts: Annotated[
        str, Meta(description="The translation spoken, in base64; empty where there is none.")
    ]
    tts_format: Annotated[str, Meta(description="Format of `audio_tts`, as asked for by `output_format`.")]
    duration_ms: Annotated[int, Meta(description="From admission to result, in ms.")]
    session_id: str
    trace_id: str
    usage: Charged
    tts_sample_rate: Annotated[int, Meta(description="Of `audio_tts`, in Hz; left out without it.")] = 0
    no_speech: bool = False
    src_lang_detected: str | None = None
    service_timings: ServiceTimings | None = None
    quality: Any = None


class Translation(Translated, frozen=True, kw_only=True, omit_defaults=True):
    """A translated utterance, as the answer to the request for it."""

    request_id: str


class WrongField(Struct, frozen=True, kw_only=True):
    """A field that cannot be used, and why."""

    field: str
    reason: str


class ErrorBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why there is no result."""

    code: Annotated[str, Meta(description="Stable, for programs.")]
    message: Annotated[str, Meta(description="One sentence for a person, with the cure.")]
    status: int
    request_id: str
    retryable: Annotated[bool, Meta(description="Whether the same request may succeed later.")]
    trace_id: str | None = None
    details: Annotated[
        list[WrongField] | dict[str, Any] | None, Meta(description="Of wrong input, each field.")
    ] = None


class Error(Struct, frozen=True, kw_only=True):
    """The body of every answer that is an error."""

    error: ErrorBody
