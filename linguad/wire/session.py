"""Messages between the scheduler and a client on `/ws/session` (session-protocol 2)."""

from __future__ import annotations

from typing import Annotated, Any

from linguad.wire.common import (
    FEW,
    Count,
    ExtraResult,
    FeatureFlags,
    Int,
    Number,
    PipelineConfig,
    SegmentsMeta,
    ServiceTimings,
    Short,
    Wire,
)
from linguad.wire.room import (
    RemoteSpeakingEnd,
    RemoteSpeakingStart,
    RoomCreate,
    RoomCreateAck,
    RoomError,
    RoomExpired,
    RoomJoin,
    RoomLeave,
    RoomMembers,
    RoomRawVoicePreference,
    WebrtcAnswer,
    WebrtcIce,
    WebrtcOffer,
)


class Resume(Wire, frozen=True):
    """Our addition, in `session_init`: the client wants to go on after a lost connection.

    Empty, it only asks for a session that can be resumed. With the id and the `resume_token` of such a
    session it asks for the rest of that one; `delivery` is the number of the last result it has.
    """

    session_id: Short | None = None
    resume_token: Short | None = None
    delivery: Count = 0


class SessionInit(Wire, frozen=True, tag="session_init"):
    """First message of a client (session-protocol 2.2.1).

    With the `pairing_code` that a node shows, only this node does the jobs of the session.
    """

    client_version: Short
    platform: Short
    src_lang: Short
    tgt_lang: Short
    dialect: Short | None = None
    features: FeatureFlags | None = None
    pairing_code: Short | None = None
    tenant_id: Short | None = None
    mode: Short | None = None
    lang_a: Short | None = None
    lang_b: Short | None = None
    auto_langs: Annotated[list[Short], FEW] | None = None
    enable_streaming_asr: bool | None = None
    partial_update_interval_ms: Count | None = None
    trace_id: Short | None = None
    locale: Short | None = None
    """Our addition: language of the hints, `en` or `zh`."""
    resume: Resume | None = None
    use_binary_frame: bool | None = None
    """Our addition: the client can send its audio in binary frames (session-protocol 1.7.3)."""
    audio_format: Short | None = None
    """Our addition: what its chunks are, `opus` or `pcm16`; told by the first of them if left out (1.7.2)."""
    sample_rate: Count | None = None
    """Our addition: of its chunks, Hz; only 16000, where whole utterances state their own."""
    pipeline: PipelineConfig | None = None
    """Our addition: the stages of its jobs, where an utterance does not state its own."""


class AudioChunk(Wire, frozen=True, tag="audio_chunk"):
    """Some audio of the running utterance, base64; `is_final` asks for a cut (session-protocol 2.2.2)."""

    session_id: Short
    seq: Count
    is_final: bool
    payload: str | None = None
    client_timestamp_ms: Count | None = None


class Utterance(Wire, frozen=True, tag="utterance"):
    """A whole utterance in one message; its languages override the session's (session-protocol 2.2.3)."""

    session_id: Short
    utterance_index: Count
    manual_cut: bool
    src_lang: Short
    tgt_lang: Short
    audio: str
    audio_format: Short
    sample_rate: Count
    dialect: Short | None = None
    features: FeatureFlags | None = None
    mode: Short | None = None
    lang_a: Short | None = None
    lang_b: Short | None = None
    auto_langs: Annotated[list[Short], FEW] | None = None
    enable_streaming_asr: bool | None = None
    partial_update_interval_ms: Count | None = None
    trace_id: Short | None = None
    pipeline: PipelineConfig | None = None


class ClientHeartbeat(Wire, frozen=True, tag="client_heartbeat"):
    """The client is alive; answered at once (session-protocol 2.2.4)."""

    session_id: Short
    timestamp: Int


class SessionClose(Wire, frozen=True, tag="session_close"):
    """The client ends its session (session-protocol 2.2.5)."""

    session_id: Short
    reason: Short


class TtsStarted(Wire, frozen=True, tag="tts_started"):
    """The client began to play speech; its microphone is muted (session-protocol 2.2.6)."""

    session_id: Short
    trace_id: Short
    group_id: Short
    ts_start_ms: Int


class TtsPlayEnded(Wire, frozen=True, tag="tts_play_ended"):
    """The client finished playing (session-protocol 2.2.7)."""

    session_id: Short
    trace_id: Short
    group_id: Short
    ts_end_ms: Int


class SessionUpdate(Wire, frozen=True, tag="session_update"):
    """Our addition: other languages from the next utterance on; what is left out stays as it was.

    What is being spoken keeps the languages it began with. `tgt_lang` and `src_lang` without `lang_a` and
    `lang_b` end two-way mode.
    """

    session_id: Short
    src_lang: Short | None = None
    tgt_lang: Short | None = None
    dialect: Short | None = None
    features: FeatureFlags | None = None
    mode: Short | None = None
    lang_a: Short | None = None
    lang_b: Short | None = None
    auto_langs: Annotated[list[Short], FEW] | None = None
    preferred_lang: Short | None = None
    """What it wants to hear in its room."""


class ResultAck(Wire, frozen=True, tag="result_ack"):
    """Our addition: the client has all results up to this `delivery`; they need not be kept for it."""

    session_id: Short
    delivery: Count


ClientMessage = (
    SessionInit
    | AudioChunk
    | Utterance
    | ClientHeartbeat
    | SessionClose
    | TtsStarted
    | TtsPlayEnded
    | SessionUpdate
    | ResultAck
    | RoomCreate
    | RoomJoin
    | RoomLeave
    | RoomRawVoicePreference
    | WebrtcOffer
    | WebrtcAnswer
    | WebrtcIce
    | RemoteSpeakingStart
    | RemoteSpeakingEnd
)
"""Client to scheduler."""


class SessionInitAck(Wire, frozen=True, tag="session_init_ack"):
    """The session exists; always the first frame of a connection (session-protocol 2.4.1).

    `assigned_node_id` is the node of its pairing code; if the code cannot be used it is left out, and an
    `error` INVALID_PAIRING_CODE follows.

    The rest is ours, for clients that sent `resume`. With `recovered` true the session goes on: the results
    after the client's `delivery` follow, and it sends its audio after `audio_seq` again. With false it is a
    new one, and what had no result is lost; if the old one is remembered, `delivery` and
    `last_utterance_index` say how far that came.
    """

    session_id: Short
    message: str
    trace_id: Short
    protocol_version: Short
    use_binary_frame: bool
    negotiated_codec: Short
    negotiated_audio_format: Short
    negotiated_sample_rate: Int
    negotiated_channel_count: Int
    assigned_node_id: Short | None = None
    resume_token: Short | None = None
    """Secret with which this session can be resumed."""
    resume_within_ms: Int | None = None
    """How long it is kept without a connection."""
    recovered: bool | None = None
    """Whether the session that was named goes on; left out if none was."""
    delivery: Int | None = None
    audio_seq: Int | None = None
    """The last `seq` that came; left out if none did."""
    last_utterance_index: Int | None = None


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

    cut_ms: Number
    queue_ms: Number
    send_ms: Number
    node_ms: Number
    reorder_ms: Number
    total_ms: Number
    attempts: Int


class TranslationResult(Wire, frozen=True, tag="translation_result"):
    """An utterance, recognised, translated and spoken (session-protocol 2.4.2); `tts_audio` is base64."""

    session_id: Short
    utterance_index: Int
    job_id: Short
    text_asr: str
    text_translated: str
    tts_audio: str
    tts_format: Short
    trace_id: Short
    extra: ExtraResult | None = None
    group_id: Short | None = None
    part_index: Int | None = None
    service_timings: ServiceTimings | None = None
    network_timings: NetworkTimings | None = None
    time_breakdown: TimeBreakdown | None = None
    scheduler_sent_at_ms: Int | None = None
    asr_quality_level: Short | None = None
    reason_codes: Annotated[list[Short], FEW] | None = None
    quality_score: Number | None = None
    rerun_count: Int | None = None
    segments_meta: SegmentsMeta | None = None
    processing_time_ms: Int | None = None
    late: bool = False
    """Our addition: the index had been reported missing before."""
    utterance_trace_id: Short | None = None
    """Our addition: names this utterance in logs, `explain` and traces (W3C trace id)."""
    delivery: Int | None = None
    """Our addition, for resume: number of this result among all that the session was sent, from 1."""


class AsrPartial(Wire, frozen=True, tag="asr_partial"):
    """Source text so far; replaces the one before (session-protocol 2.4.3)."""

    session_id: Short
    utterance_index: Int
    job_id: Short
    text: str
    is_final: bool
    trace_id: Short


class ServerHeartbeat(Wire, frozen=True, tag="server_heartbeat"):
    """Answer to a client's heartbeat; `timestamp` is the server's epoch in ms."""

    session_id: Short
    timestamp: Int


class SessionCloseAck(Wire, frozen=True, tag="session_close_ack"):
    """The session is gone; the socket may go on with another one."""

    session_id: Short


class ErrorMessage(Wire, frozen=True, tag="error"):
    """Something the client sent is wrong; old web clients show it in a modal (session-protocol 2.4.6)."""

    code: Short
    message: str
    details: Any = None
    trace_id: Short | None = None


class MissingResult(Wire, frozen=True, tag="missing_result"):
    """This utterance has no result, or not yet (session-protocol 2.4.7, resolution 19 for the reasons)."""

    session_id: Short
    utterance_index: Int
    reason: Short
    created_at_ms: Int
    trace_id: Short | None = None
    delivery: Int | None = None
    """As in `translation_result`."""


class UiEvent(Wire, frozen=True, tag="ui_event"):
    """Progress of an utterance, and the channel for problems of jobs (session-protocol 2.4.8)."""

    trace_id: Short
    session_id: Short
    job_id: Short
    utterance_index: Int
    event: Short
    status: Short
    elapsed_ms: Int | None = None
    error_code: Short | None = None
    hint: str | None = None
    hint_en: str | None = None
    hint_zh: str | None = None
    details: Any = None


class Backpressure(Wire, frozen=True, tag="backpressure"):
    """Hold your audio for a while; only `PAUSE` is safe with old clients (session-protocol 2.4.12)."""

    action: Short
    resume_after_ms: Int
    message: str | None = None


class SessionUpdateAck(Wire, frozen=True, tag="session_update_ack"):
    """Our addition: the languages that hold now, or after what is being spoken if `after_running`."""

    session_id: Short
    src_lang: Short
    tgt_lang: Short
    after_running: bool
    lang_a: Short | None = None
    lang_b: Short | None = None


class AudioAck(Wire, frozen=True, tag="audio_ack"):
    """Our addition, for resume: the client has acknowledged the results of all audio up to this `seq`.

    That is `audio_bytes` of what the session was sent, before base64.
    """

    session_id: Short
    seq: Int
    audio_bytes: Int


class GoAway(Wire, frozen=True, tag="go_away"):
    """Our addition, for resume: the connection will be closed in so long; connect again and resume."""

    session_id: Short
    time_left_ms: Int
    message: str


class LanguageDetected(Wire, frozen=True, tag="language_detected"):
    """Which language was heard, for mobile clients."""

    session_id: Short
    lang: Short
    confidence: Number


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
    | SessionUpdateAck
    | AudioAck
    | GoAway
    | LanguageDetected
    | WebrtcOffer
    | WebrtcAnswer
    | WebrtcIce
    | RemoteSpeakingStart
    | RemoteSpeakingEnd
)
"""Scheduler to client."""
