"""Objects that occur on the node wire and on the session wire alike."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, field

LARGEST = 2**53 - 1
"""Largest number in a message, either way: JavaScript is exact up to here, and no text of it is long."""

Int = Annotated[int, Meta(ge=-LARGEST, le=LARGEST)]
"""A whole number."""

Count = Annotated[int, Meta(ge=0, le=LARGEST)]
"""A non-negative whole number."""

Number = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]
"""A number that is neither infinite nor NaN."""

Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
"""A number from 0 to 1."""

SHORT_CHARS = 256

Short = Annotated[str, Meta(max_length=SHORT_CHARS)]
"""An id, a name, a code, a language: what is kept, compared or used as a key, unlike free text."""

FEW = Meta(max_length=64)
"""Limit of a list that is short in any honest message."""

MANY = Meta(max_length=1000)
"""Limit of a list or map of languages, services or models."""

MOST = Meta(max_length=10_000)
"""Limit of a list of language pairs: all directed pairs of a hundred languages."""


class Wire(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Base of every wire object: immutable, and what equals its default is not written."""


def required(default: Any) -> Any:
    """A member the protocol requires: written even when it equals what a missing one is read as."""
    return field(default_factory=lambda: default)


class FeatureFlags(Wire, frozen=True):
    """Optional abilities a job asks for or a node claims (session-protocol 2.5.1)."""

    emotion_detection: bool | None = None
    voice_style_detection: bool | None = None
    speech_rate_detection: bool | None = None
    speech_rate_control: bool | None = None
    speaker_identification: bool | None = None
    persona_adaptation: bool | None = None


class PipelineConfig(Struct, frozen=True, kw_only=True):
    """Which stages a job runs (session-protocol 2.5.2, node-protocol 2.13); always written whole."""

    use_asr: bool = True
    use_nmt: bool = True
    use_tts: bool = True
    use_semantic: bool = False
    use_tone: bool = False
    use_phonetic: bool = False
    use_lexicon: bool = False


class ServiceTimings(Wire, frozen=True):
    """Time in each stage inside the node, ms (session-protocol 2.5.4)."""

    asr_ms: Count | None = None
    nmt_ms: Count | None = None
    tts_ms: Count | None = None
    total_ms: Count | None = None


class ExtraResult(Wire, frozen=True):
    """What a node may tell beside the texts (node-protocol 2.13); other members are dropped at the edge."""

    reason: Short | None = None
    """`NO_TEXT_ASSIGNED` or `ASR_EMPTY` where the result carries no text on purpose."""
    detected_src_lang: Short | None = None
    language_probability: Fraction | None = None
    language_probabilities: Annotated[dict[Short, Number], MANY] | None = None
    emotion: Short | None = None
    speech_rate: Number | None = None
    voice_style: Short | None = None
    service_timings: ServiceTimings | None = None
    features_applied: Annotated[list[Short], FEW] | None = None
    """Ours: those of the features asked for that the node claims (session-protocol 2.5.1)."""


class SegmentsMeta(Wire, frozen=True):
    """Speech segments of an utterance: how many, largest gap (s), mean duration (s)."""

    count: Count
    max_gap: Number
    avg_duration: Number
