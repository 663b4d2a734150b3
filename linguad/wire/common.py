"""Objects that occur on the node wire and on the session wire alike."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, field

Count = Annotated[int, Meta(ge=0)]
"""A non-negative whole number."""

Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
"""A number from 0 to 1."""


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

    reason: str | None = None
    """`NO_TEXT_ASSIGNED` or `ASR_EMPTY` where the result carries no text on purpose."""
    detected_src_lang: str | None = None
    language_probability: Fraction | None = None
    language_probabilities: dict[str, float] | None = None
    emotion: str | None = None
    speech_rate: float | None = None
    voice_style: str | None = None
    service_timings: ServiceTimings | None = None


class SegmentsMeta(Wire, frozen=True):
    """Speech segments of an utterance: how many, largest gap (s), mean duration (s)."""

    count: Count
    max_gap: float
    avg_duration: float
