"""What a `start` asks for, checked and completed as the fields of a translation (gateway 5.1, 6.2, 8.2)."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from linguad.core.sound import OPUS, PCM16, SAMPLE_RATE
from linguad.core.tenant import Tenant
from linguad.gateway.speech.request import FIELDS, parse_request
from linguad.gateway.speech.talk import TalkSpec
from linguad.web.problems import Problem
from linguad.wire.public import Start

UTTERANCE, STREAM = "utterance", "stream"
SEGMENTATIONS = (UTTERANCE, STREAM)


class Terms(Struct, frozen=True, kw_only=True):
    """What holds for a session beside what the core is told."""

    audio_format: str = PCM16
    sample_rate: int = SAMPLE_RATE
    """Of what the caller sends, Hz; the core gets SAMPLE_RATE."""
    segmentation: str = UTTERANCE
    partials: bool = False
    events: bool = False
    output_format: str = PCM16
    binary_audio: bool = False
    acks: bool = False
    usage: bool = False
    client_ref: str | None = None

    @property
    def streams(self) -> bool:
        """The server cuts."""
        return self.segmentation == STREAM


class Opening(Struct, frozen=True):
    """A session that is to be opened."""

    spec: TalkSpec
    terms: Terms


def opening_of(start: Start, tenant: Tenant, trace_id: str | None = None) -> Opening:
    """What a `start` means for a tenant. Raises Problem, which names the members and what is allowed."""
    request = parse_request({"output_format": PCM16} | _fields(start), tenant)
    audio_format = request.audio_format or PCM16
    if audio_format not in (PCM16, OPUS):
        reason = f"use {PCM16} or {OPUS} (framed packets); files are for POST /v1/speech/translate"
        raise Problem.wrong_field("audio_format", reason, "unsupported_audio_format", 415)
    segmentation = start.segmentation or UTTERANCE
    if segmentation not in SEGMENTATIONS:
        raise Problem.wrong_field("segmentation", f"use one of {', '.join(SEGMENTATIONS)}")
    rate = request.sample_rate if audio_format == PCM16 else None
    terms = Terms(
        audio_format=audio_format,
        sample_rate=rate or SAMPLE_RATE,
        segmentation=segmentation,
        partials=segmentation == STREAM if start.partials is None else start.partials,
        events=bool(start.events),
        output_format=request.output_format,
        binary_audio=bool(start.binary_audio),
        acks=bool(start.acks),
        usage=bool(start.usage),
        client_ref=start.client_ref,
    )
    spec = TalkSpec(
        src_lang=request.src_lang,
        tgt_lang=request.tgt_lang,
        audio_format=audio_format,
        dialect=request.dialect,
        features=request.features,
        mode=request.mode,
        lang_a=request.lang_a,
        lang_b=request.lang_b,
        auto_langs=request.auto_langs,
        tts=request.tts,
        acks=terms.acks and terms.streams,
        trace_id=trace_id,
    )
    return Opening(spec, terms)


def _fields(start: Start) -> dict[str, str]:
    """The members that a translation has, too, as the fields of its form."""
    given = ((name, getattr(start, name)) for name in FIELDS)
    return {name: _text(value) for name, value in given if value is not None}


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
