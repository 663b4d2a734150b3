"""What a `start` asks for, checked and completed (gateway 5.1, 6.2, 8.2)."""

from __future__ import annotations

import re

from msgspec import Struct

from linguad.core.sound import OPUS, PCM16, SAMPLE_RATE
from linguad.core.tenant import Tenant
from linguad.gateway.talk import TalkSpec
from linguad.web.problems import Problem
from linguad.wire.common import FeatureFlags
from linguad.wire.language import AUTO, normalize
from linguad.wire.public import Start

UTTERANCE, STREAM = "utterance", "stream"
SEGMENTATIONS = (UTTERANCE, STREAM)
OUTPUT_FORMATS = (PCM16, "wav", "ogg_opus", "packets")
MIN_RATE, MAX_RATE = 8_000, 48_000
"""Hz."""

ONE_WAY, TWO_WAY = "one_way", "two_way_auto"

_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{1,8}){0,3}")


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
    """What a `start` means for a tenant. Raises Problem, which names the member and what is allowed."""
    mode = _one_of("mode", start.mode, (ONE_WAY, TWO_WAY))
    lang_a, lang_b = start.lang_a, start.lang_b
    if mode == TWO_WAY:
        for field, code in (("lang_a", lang_a), ("lang_b", lang_b)):
            if not code:
                raise Problem.wrong_field(field, "is needed for mode two_way_auto")
            _check_language(field, code, tenant)
    src = start.src_lang or (AUTO if mode == TWO_WAY else tenant.default_src_lang)
    tgt = start.tgt_lang or (lang_b if mode == TWO_WAY and lang_b else tenant.default_tgt_lang)
    if normalize(src) != AUTO:
        _check_language("src_lang", src, tenant)
    _check_language("tgt_lang", tgt, tenant)
    for number, code in enumerate(start.auto_langs or ()):
        _check_language(f"auto_langs[{number}]", code, tenant)
    terms = _terms(start)
    spec = TalkSpec(
        src_lang=src,
        tgt_lang=tgt,
        audio_format=terms.audio_format,
        dialect=start.dialect,
        features=_features(start.features, tenant),
        mode=mode,
        lang_a=lang_a,
        lang_b=lang_b,
        auto_langs=start.auto_langs,
        tts=start.tts is not False,
        acks=terms.acks and terms.streams,
        trace_id=trace_id,
    )
    return Opening(spec, terms)


def _terms(start: Start) -> Terms:
    segmentation = _one_of("segmentation", start.segmentation, SEGMENTATIONS) or UTTERANCE
    audio_format = start.audio_format or PCM16
    if audio_format not in (PCM16, OPUS):
        reason = f"allowed are {PCM16} and {OPUS}"
        raise Problem.wrong_field("audio_format", reason, "unsupported_audio_format", 415)
    rate = SAMPLE_RATE if start.sample_rate is None else start.sample_rate
    if not MIN_RATE <= rate <= MAX_RATE:
        reason = f"allowed are {MIN_RATE} to {MAX_RATE} Hz"
        raise Problem.wrong_field("sample_rate", reason, "invalid_sample_rate")
    return Terms(
        audio_format=audio_format,
        sample_rate=rate if audio_format == PCM16 else SAMPLE_RATE,
        segmentation=segmentation,
        partials=segmentation == STREAM if start.partials is None else start.partials,
        events=bool(start.events),
        output_format=_one_of("output_format", start.output_format, OUTPUT_FORMATS) or PCM16,
        binary_audio=bool(start.binary_audio),
        acks=bool(start.acks),
        client_ref=start.client_ref,
    )


def _one_of(field: str, value: str | None, allowed: tuple[str, ...]) -> str | None:
    if value is not None and value not in allowed:
        raise Problem.wrong_field(field, f"allowed are {', '.join(allowed)}")
    return value


def _check_language(field: str, code: str, tenant: Tenant) -> None:
    known = tenant.allowed_languages
    if normalize(code) == AUTO:
        reason = "auto is allowed for src_lang only"
    elif not _LANGUAGE.fullmatch(code):
        reason = "is no language code such as en or zh"
    elif known is not None and normalize(code) not in {normalize(allowed) for allowed in known}:
        reason = f"this account may use {', '.join(known)}"
    else:
        return
    raise Problem.wrong_field(field, reason, "unsupported_language")


def _features(asked: FeatureFlags | None, tenant: Tenant) -> FeatureFlags | None:
    if asked is None or tenant.allowed_features is None:
        return asked
    for name in asked.__struct_fields__:
        if getattr(asked, name) and name not in tenant.allowed_features:
            reason = f"this account may use {', '.join(tenant.allowed_features) or 'none'}"
            raise Problem.wrong_field(f"features.{name}", reason, "unsupported_feature")
    return asked
