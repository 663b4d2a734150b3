"""Messages between the scheduler and a client on `/ws/session` (session-protocol 2)."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Raw

from linguad.wire.common import (
    Count,
    ExtraResult,
    FeatureFlags,
    PipelineConfig,
    SegmentsMeta,
    ServiceTimings,
    Wire,
)


class SessionInit(Wire, frozen=True, tag="session_init"):
    """First message of a client (session-protocol 2.2.1)."""

    client_version: str
    platform: str
    src_lang: str
    tgt_lang: str
    dialect: str | None = None
    features: FeatureFlags | None = None
    pairing_code: str | None = None
    tenant_id: str | None = None
    mode: str | None = None
    lang_a: str | None = None
    lang_b: str | None = None
    auto_langs: list[str] | None = None
    enable_streaming_asr: bool | None = None
    partial_update_interval_ms: Count | None = None
    trace_id: str | None = None
    locale: str | None = None
    """Our addition: language of the hints, `en` or `zh`."""


class AudioChunk(Wire, frozen=True, tag="audio_chunk"):
    """Some audio of the running utterance, base64; `is_final` asks for a cut (session-protocol 2.2.2)."""

    session_id: str
    seq: Count
    is_final: bool
    payload: str | None = None
    client_timestamp_ms: Count | None = None


class Utterance(Wire, frozen=True, tag="utterance"):
    """A whole utterance in one message; its languages override the session's (session-protocol 2.2.3)."""

    session_id: str
    utterance_index: Count
    manual_cut: bool
    src_lang: str
    tgt_lang: str
    audio: str
    audio_format: str
    sample_rate: Annotated[int, Meta(ge=8000, le=192000)]
    dialect: str | None = None
    features: FeatureFlags | None = None
    mode: str | None = None
    lang_a: str | None = None
    lang_b: str | None = None
    auto_langs: list[str] | None = None
    enable_streaming_asr: bool | None = None
    partial_update_interval_ms: Count | None = None
    trace_id: str | None = None
    pipeline: PipelineConfig | None = None


class ClientHeartbeat(Wire, frozen=True, tag="client_heartbeat"):
    """The client is alive; answered at once (session-protocol 2.2.4)."""

    session_id: str
    timestamp: int


class SessionClose(Wire, frozen=True, tag="session_close"):
    """The client ends its session (session-protocol 2.2.5)."""

    session_id: str
    reason: str


class TtsStarted(Wire, frozen=True, tag="tts_started"):
    """The client began to play speech; its microphone is muted (session-protocol 2.2.6)."""

    session_id: str
    trace_id: str
    group_id: str
    ts_start_ms: int


class TtsPlayEnded(Wire, frozen=True, tag="tts_play_ended"):
    """The client finished playing (session-protocol 2.2.7)."""

    session_id: str
    trace_id: str
    group_id: str
    ts_end_ms: int


class RoomCreate(Wire, frozen=True, tag="room_create"):
    """Open a room and be its first member (session-protocol 2.2.8)."""

    client_ts: int
    display_name: str | None = None
    preferred_lang: str | None = None


class RoomJoin(Wire, frozen=True, tag="room_join"):
    """Enter a room by its code."""

    room_code: str
    display_name: str | None = None
    preferred_lang: str | None = None


class RoomLeave(Wire, frozen=True, tag="room_leave"):
    """Leave a room; there is no reply."""

    room_code: str


class RoomRawVoicePreference(Wire, frozen=True, tag="room_raw_voice_preference"):
    """Whether the sender wants the raw voice of another member."""

    room_code: str
    target_session_id: str
    receive_raw_voice: bool


class WebrtcOffer(Wire, frozen=True, tag="webrtc_offer"):
    """Signalling, relayed untouched but for `to` (session-protocol 2.2.9)."""

    room_code: str
    to: str
    sdp: Raw


class WebrtcAnswer(Wire, frozen=True, tag="webrtc_answer"):
    """Signalling, relayed untouched but for `to`."""

    room_code: str
    to: str
    sdp: Raw


class WebrtcIce(Wire, frozen=True, tag="webrtc_ice"):
    """Signalling, relayed untouched but for `to`."""

    room_code: str
    to: str
    candidate: Raw


ClientMessage = (
    SessionInit
    | AudioChunk
    | Utterance
    | ClientHeartbeat
    | SessionClose
    | TtsStarted
    | TtsPlayEnded
    | RoomCreate
    | RoomJoin
    | RoomLeave
    | RoomRawVoicePreference
    | WebrtcOffer
    | WebrtcAnswer
    | WebrtcIce
)
"""Client to scheduler."""


class SessionInitAck(Wire, frozen=True, tag="session_init_ack"):
    """The session exists; always the first frame of a connection (session-protocol 2.4.1)."""

    session_id: str
    message: str
    trace_id: str
    protocol_version: str
    use_binary_frame: bool
    negotiated_codec: str
    negotiated_audio_format: str
    negotiated_sample_rate: int
    negotiated_channel_count: int
    assigned_node_id: str | None = None


class NetworkTimings(Wire, frozen=True):
    """Time between the parties, ms (session-protocol 5.7)."""

    web_to_scheduler_ms: Count | None = None
    scheduler_to_node_ms: Count | None = None
    node_to_scheduler_ms: Count | None = None
    scheduler_to_web_ms: Count | None = None


class TimeBreakdown(Wire, frozen=True):
    """Our addition: where the time of an utterance went, ms, from its last audio to the client's socket.

    `cut` last audio to cut, `queue` cut to dispatch, `send` dispatch to the node's answer less `node`,
    `node` the node's own time, `reorder` waiting for earlier utterances, `total` their sum.
    """

    cut_ms: float
    queue_ms: float
    send_ms: float
    node_ms: float
    reorder_ms: float
    total_ms: float
    attempts: int


class TranslationResult(Wire, frozen=True, tag="translation_result"):
    """An utterance, recognised, translated and spoken (session-protocol 2.4.2); `tts_audio` is base64."""

    session_id: str
    utterance_index: int
    job_id: str
    text_asr: str
    text_translated: str
    tts_audio: str
    tts_format: str
    trace_id: str
    extra: ExtraResult | None = None
    group_id: str | None = None
    part_index: int | None = None
    service_timings: ServiceTimings | None = None
    network_timings: NetworkTimings | None = None
    time_breakdown: TimeBreakdown | None = None
    scheduler_sent_at_ms: int | None = None
    asr_quality_level: str | None = None
    reason_codes: list[str] | None = None
    quality_score: float | None = None
    rerun_count: int | None = None
    segments_meta: SegmentsMeta | None = None
    processing_time_ms: int | None = None
    late: bool = False
    """Our addition: the index had been reported missing before."""


class AsrPartial(Wire, frozen=True, tag="asr_partial"):
    """Source text so far; replaces the one before (session-protocol 2.4.3)."""

    session_id: str
    utterance_index: int
    job_id: str
    text: str
    is_final: bool
    trace_id: str


class ServerHeartbeat(Wire, frozen=True, tag="server_heartbeat"):
    """Answer to a client's heartbeat; `timestamp` is the server's epoch in ms."""

    session_id: str
    timestamp: int


class SessionCloseAck(Wire, frozen=True, tag="session_close_ack"):
    """The session is gone; the socket may go on with another one."""

    session_id: str


class ErrorMessage(Wire, frozen=True, tag="error"):
    """Something the client sent is wrong; old web clients show it in a modal (session-protocol 2.4.6)."""

    code: str
    message: str
    details: Any = None
    trace_id: str | None = None


class MissingResult(Wire, frozen=True, tag="missing_result"):
    """This utterance has no result, or not yet (session-protocol 2.4.7, resolution 19 for the reasons)."""

    session_id: str
    utterance_index: int
    reason: str
    created_at_ms: int
    trace_id: str | None = None


class UiEvent(Wire, frozen=True, tag="ui_event"):
    """Progress of an utterance, and the channel for problems of jobs (session-protocol 2.4.8)."""

    trace_id: str
    session_id: str
    job_id: str
    utterance_index: int
    event: str
    status: str
    elapsed_ms: int | None = None
    error_code: str | None = None
    hint: str | None = None
    hint_en: str | None = None
    hint_zh: str | None = None
    details: Any = None


class RoomCreateAck(Wire, frozen=True, tag="room_create_ack"):
    """You are in this room (also sent to joiners, session-protocol 6.3)."""

    room_code: str
    room_id: str | None = None


class RoomMember(Wire, frozen=True):
    """A member of a room; `joined_at` is RFC 3339."""

    participant_id: str
    session_id: str
    raw_voice_preferences: dict[str, bool]
    joined_at: str
    display_name: str | None = None
    preferred_lang: str | None = None


class RoomMembers(Wire, frozen=True, tag="room_members"):
    """All members of a room, in the order they joined."""

    room_code: str
    members: list[RoomMember]


class RoomError(Wire, frozen=True, tag="room_error"):
    """A room request failed."""

    code: str
    message: str | None = None


class RoomExpired(Wire, frozen=True, tag="room_expired"):
    """Nobody spoke for too long; the room is gone."""

    room_code: str
    message: str


class Backpressure(Wire, frozen=True, tag="backpressure"):
    """Hold your audio for a while; only `PAUSE` is safe with old clients (session-protocol 2.4.12)."""

    action: str
    resume_after_ms: int
    message: str | None = None


class LanguageDetected(Wire, frozen=True, tag="language_detected"):
    """Which language was heard, for mobile clients."""

    session_id: str
    lang: str
    confidence: float


ServerMessage = (
    SessionInitAck
    | TranslationResult
    | AsrPartial
    | ServerHeartbeat
    | SessionCloseAck
    | ErrorMessage
    | MissingResult
    | UiEvent
    | RoomCreateAck
    | RoomMembers
    | RoomError
    | RoomExpired
    | Backpressure
    | LanguageDetected
    | WebrtcOffer
    | WebrtcAnswer
    | WebrtcIce
)
"""Scheduler to client."""
