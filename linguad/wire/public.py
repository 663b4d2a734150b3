"""Messages between an app and the public API on `/v1/stream` (gateway 6.2, 6.3)."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from linguad.wire.common import FEW, Count, FeatureFlags, Int, Short, Wire

Reference = Annotated[str, Meta(max_length=128)]
"""A name that a caller gives to something of his."""

Credential = Annotated[str, Meta(max_length=4096)]
"""An API key or a token."""


class Auth(Wire, frozen=True, tag="auth"):
    """Who speaks; the first message, only if the upgrade request carried no credential."""

    token: Credential


class Start(Wire, frozen=True, tag="start"):
    """Begin a session; what is left out is as the tenant has it, or as `started` tells.

    `segmentation` is `utterance` (each `audio` is a whole utterance, the default) or `stream` (the server
    cuts). With `binary_audio` audio may come in binary frames, too: the bytes of a `chunk`, nothing else.
    """

    src_lang: Short | None = None
    tgt_lang: Short | None = None
    audio_format: Short | None = None
    """`pcm16` or `opus` (Plan A)."""
    sample_rate: Count | None = None
    """Of PCM16, Hz."""
    dialect: Short | None = None
    features: FeatureFlags | None = None
    mode: Short | None = None
    """`one_way` or `two_way_auto`, which needs `lang_a` and `lang_b`."""
    lang_a: Short | None = None
    lang_b: Short | None = None
    auto_langs: Annotated[list[Short], FEW] | None = None
    segmentation: Short | None = None
    partials: bool | None = None
    """Whether `partial` is wanted; so it is with `stream` if nothing is said."""
    events: bool | None = None
    tts: bool | None = None
    output_format: Short | None = None
    """Of the speech in `final`: `pcm16` (the default), `wav`, `ogg_opus` or `packets`."""
    binary_audio: bool | None = None
    acks: bool | None = None
    """Whether `audio_ack` is wanted, for apps that send what has no answer again on another connection."""
    usage: bool | None = None
    """Whether `usage` is wanted, every few seconds in which something was charged."""
    client_ref: Reference | None = None


class Init(Start, frozen=True, tag="init"):
    """`auth` and `start` in one, for apps written to the older documents."""

    api_key: Credential | None = None


class Audio(Wire, frozen=True, tag="audio"):
    """A whole utterance, or the next piece of a stream; `data` is the older name of `chunk`.

    `is_final` ends the utterance. `seq` counts messages; that some are missing is told once.
    """

    chunk: str | None = None
    data: str | None = None
    seq: Count | None = None
    is_final: bool = False
    ts_ms: Int | None = None


class End(Wire, frozen=True, tag="end"):
    """Ends the running utterance and, with `close`, the session after its last result."""

    close: bool = False


class Cancel(Wire, frozen=True, tag="cancel"):
    """Drops the utterances that have no answer yet; each is answered by `empty`, `cancelled`."""


class Ping(Wire, frozen=True, tag="ping"):
    """Answered at once."""

    id: Short | None = None


StreamMessage = Auth | Start | Init | Audio | End | Cancel | Ping
"""App to gateway."""


class Usage(Wire, frozen=True):
    """What was used: audio taken in, and seconds that are charged, where this connection can tell."""

    audio_ms: Count
    billed_seconds: Count | None = None


class Spent(Wire, frozen=True, tag="usage"):
    """What the session is charged until now, to apps that ask for it; and to all when little is left.

    With `left_seconds` a quota will end the session after so much more speech.
    """

    audio_ms: Count
    billed_seconds: Count
    balance_seconds: Int | None = None
    left_seconds: Count | None = None


class StreamLimits(Wire, frozen=True):
    """What a session of `/v1/stream` has to keep to."""

    max_message_bytes: Count
    max_inflight_utterances: Count
    max_utterance_seconds: Count
    max_messages_per_second: Count
    idle_seconds: Count
    max_seconds: Count


class Started(Wire, frozen=True, tag="started"):
    """The session exists; this is what holds for it."""

    session_id: Short
    trace_id: Short
    request_id: Short
    src_lang: Short
    tgt_lang: Short
    audio_format: Short
    sample_rate: Count
    segmentation: Short
    partials: bool
    events: bool
    tts: bool
    output_format: Short
    binary_audio: bool
    limits: StreamLimits
    client_ref: Reference | None = None


class Partial(Wire, frozen=True, tag="partial"):
    """Source text so far; replaces the one before. None comes after the `final` of its utterance."""

    text: str
    utterance_index: Int
    is_final: bool


class Final(Wire, frozen=True, tag="final"):
    """An utterance, translated (`text`) and spoken (`audio`, base64); in the order of the indexes."""

    text: str
    audio: str
    utterance_index: Int
    text_asr: str
    tts_format: Short
    """`pcm16`, `wav`, `ogg_opus`, or of packets what they are, in practice `opus`; "" without speech."""
    duration_ms: Count
    """From its last audio to this message."""
    tts_sample_rate: Count | None = None
    src_lang_detected: Short | None = None
    group_id: Short | None = None
    part_index: Int | None = None
    usage: Usage | None = None
    late: bool = False
    """True for an utterance that was reported `empty`, `gap_timeout` before: it comes behind later ones."""


class Empty(Wire, frozen=True, tag="empty"):
    """An utterance that has nothing to say: `silence_detected`, `merged` with the next one, `cancelled`,
    `gap_timeout` or `pending_overflow_evict` (later ones were not kept waiting for it)."""

    utterance_index: Int
    reason: Short


class Event(Wire, frozen=True, tag="event"):
    """A step in the life of an utterance; only if `start` asked for them."""

    event: Short
    utterance_index: Int
    status: Short
    elapsed_ms: Int | None = None


class Error(Wire, frozen=True, tag="error"):
    """Something went wrong; with `utterance_index` it is the answer to that utterance.

    `code` is stable, `retryable` says whether the same may succeed later.
    """

    code: Short
    message: str
    retryable: bool
    request_id: Short
    utterance_index: Int | None = None
    details: Any = None


class AudioAck(Wire, frozen=True, tag="audio_ack"):
    """All audio up to this `seq` is answered; only if `start` asked for it."""

    seq: Count


class Ended(Wire, frozen=True, tag="ended"):
    """The session is over; no answer comes after it."""

    session_id: Short
    reason: Short
    usage: Usage


class Pong(Wire, frozen=True, tag="pong"):
    """The answer to `ping`, with the same `id`."""

    id: Short | None = None


StreamAnswer = Started | Spent | Partial | Final | Empty | Event | Error | AudioAck | Ended | Pong
"""Gateway to app."""
