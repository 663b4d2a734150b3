"""Messages between the scheduler and a compute node on `/ws/node` (node-protocol 2)."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from linguad.wire.common import (
    FEW,
    LARGEST,
    MANY,
    MOST,
    Count,
    ExtraResult,
    FeatureFlags,
    Int,
    Number,
    PipelineConfig,
    SegmentsMeta,
    Short,
    Wire,
    required,
)

HEARTBEAT_ACK = "heartbeat_ack"
"""Advanced feature with which a node asks to be told how it stands, after every heartbeat."""


class GpuInfo(Wire, frozen=True):
    """One GPU: name and memory (GiB)."""

    name: Short = required("")
    memory_gb: Number = required(0)


class HardwareInfo(Wire, frozen=True):
    """The machine of a node; `gpus` is absent when the node's probe found none (node-protocol 2.12)."""

    cpu_cores: Number = required(0)
    memory_gb: Number = required(0)
    gpus: Annotated[list[GpuInfo], FEW] | None = None


class InstalledModel(Wire, frozen=True):
    """A model on the node's disk."""

    model_id: Short
    kind: Short = required("other")
    src_lang: Short | None = None
    tgt_lang: Short | None = None
    dialect: Short | None = None
    version: Short | None = None
    enabled: bool | None = None


class InstalledService(Wire, frozen=True):
    """A service of a node; `type`, `device` and `status` are free text because real nodes invent values."""

    service_id: Short
    type: Short
    device: Short = required("gpu")
    status: Short = required("error")
    version: Short | None = None
    model_id: Short | None = None
    engine: Short | None = None
    mem_mb: Number | None = None
    warmup_ms: Number | None = None
    last_error: str | None = None


class CapabilityByType(Wire, frozen=True):
    """What the node itself says about one service type."""

    type: Short
    ready: bool = required(False)
    reason: Short | None = None
    ready_impl_ids: Annotated[list[Short], MANY] | None = None
    devices: Annotated[list[Short], FEW] | None = None


class LanguagePair(Wire, frozen=True):
    """A directed pair of languages."""

    src: Short
    tgt: Short
    semantic_on_src: bool | None = None
    semantic_on_tgt: bool | None = None


class NmtCapability(Wire, frozen=True):
    """A translation rule of a node (table in node-protocol 2.12)."""

    model_id: Short = required("")
    languages: Annotated[list[Short], MANY] | None = None
    rule: Short = required("")
    blocked_pairs: Annotated[list[LanguagePair], MOST] | None = None
    supported_pairs: Annotated[list[LanguagePair], MOST] | None = None


class NodeLanguageCapabilities(Wire, frozen=True):
    """The languages of a node; which members are present tells its generation (node-protocol 2.14)."""

    asr_languages: Annotated[list[Short], MANY] | None = None
    tts_languages: Annotated[list[Short], MANY] | None = None
    semantic_languages: Annotated[list[Short], MANY] | None = None
    nmt_capabilities: Annotated[list[NmtCapability], Meta(max_length=200)] | None = None
    supported_language_pairs: Annotated[list[LanguagePair], MOST] | None = None
    semantic_core_ready: bool | None = None


class ResourceUsage(Wire, frozen=True):
    """Load of a node, percent 0-100, and what it says it is working on."""

    cpu_percent: Number | None = None
    gpu_percent: Number | None = None
    gpu_mem_percent: Number | None = None
    mem_percent: Number | None = None
    running_jobs: Count | None = None
    gpu_queue_length: Count | None = None


class RerunMetrics(Wire, frozen=True, rename="camel"):
    """Counters of repeated recognitions since the node started."""

    total_reruns: Count = required(0)
    successful_reruns: Count = required(0)
    failed_reruns: Count = required(0)
    timeout_reruns: Count = required(0)
    quality_improvements: Count = required(0)


class ProcessingMetrics(Wire, frozen=True, rename="camel"):
    """Work per time of each service since the last heartbeat: audio ms per ms, NMT characters per s."""

    service_efficiencies: Annotated[dict[Short, Number], MANY] | None = None


class NodeRegister(Wire, frozen=True, tag="node_register"):
    """First message of a node (node-protocol 2.2); everything but `type` may be missing.

    The id of a connected node goes to the newcomer, and the older connection is closed with 4001. But if
    `platform` or `hardware` differ from those of that node, it is pinged first: if it answers within 2 s, the
    newcomer gets `error NODE_ID_CONFLICT` and is closed with 1008 (node-protocol 3.3).

    Of `advanced_features` one has a meaning: with `heartbeat_ack` every `node_heartbeat` gets that answer.
    """

    node_id: Short | None = None
    version: Short | None = None
    capability_schema_version: Short | None = None
    platform: Short | None = None
    hardware: HardwareInfo | None = None
    installed_models: Annotated[list[InstalledModel], MANY] | None = None
    installed_services: Annotated[list[InstalledService], MANY] | None = None
    capability_by_type: Annotated[list[CapabilityByType], MANY] | None = None
    features_supported: FeatureFlags | None = None
    advanced_features: Annotated[list[Short], FEW] | None = None
    accept_public_jobs: bool | None = None
    language_capabilities: NodeLanguageCapabilities | None = None
    max_concurrent_jobs: Annotated[int, Meta(ge=1, le=64)] | None = None
    """Our addition: how many jobs the node takes at once."""


class Register(NodeRegister, frozen=True, tag="register"):
    """`node_register` by the name it has in the documentation, where it lists no services.

    Then the language lists stand for them: `asr_languages` for asr, `tts_languages` for tts,
    `semantic_languages` for semantic; nmt is taken for granted. The answer is `node_register_ack`.
    """


class NodeHeartbeat(Wire, frozen=True, tag="node_heartbeat"):
    """Every 15 s; services, capabilities and languages replace what was known (node-protocol 2.4).

    What is missing keeps what was known. Without one for `nodes.heartbeat_timeout_seconds` a node is closed.
    """

    node_id: Short
    timestamp: Int | None = None
    resource_usage: ResourceUsage | None = None
    installed_models: Annotated[list[InstalledModel], MANY] | None = None
    installed_services: Annotated[list[InstalledService], MANY] | None = None
    capability_by_type: Annotated[list[CapabilityByType], MANY] | None = None
    rerun_metrics: RerunMetrics | None = None
    processing_metrics: ProcessingMetrics | None = None
    language_capabilities: NodeLanguageCapabilities | None = None
    max_concurrent_jobs: Annotated[int, Meta(ge=1, le=64)] | None = None


class Heartbeat(NodeHeartbeat, frozen=True, tag="heartbeat"):
    """`node_heartbeat` by the name it has in the documentation; it is answered with `heartbeat_ack`."""


class JobAck(Wire, frozen=True, tag="job_ack"):
    """The node took the job; real nodes never send it (node-protocol 2.7)."""

    job_id: Short
    node_id: Short | None = None
    attempt_id: Int | None = None
    session_id: Short | None = None
    trace_id: Short | None = None


class JobStarted(Wire, frozen=True, tag="job_started"):
    """The node began the job; real nodes never send it (node-protocol 2.7)."""

    job_id: Short
    node_id: Short | None = None
    attempt_id: Int | None = None
    session_id: Short | None = None
    trace_id: Short | None = None


class JobError(Wire, frozen=True):
    """Why a job failed on its node."""

    code: Short = required("PROCESSING_ERROR")
    message: str = required("")
    details: Any = None


class JobResult(Wire, frozen=True, tag="job_result"):
    """What came of a job (node-protocol 2.8); `tts_audio` is base64 in `tts_format`."""

    job_id: Short
    node_id: Short
    success: bool
    attempt_id: Int | None = None
    session_id: Short | None = None
    utterance_index: Int | None = None
    text_asr: str | None = None
    text_translated: str | None = None
    tts_audio: str | None = None
    tts_format: Short | None = None
    extra: ExtraResult | None = None
    processing_time_ms: Annotated[float, Meta(ge=0, le=LARGEST)] | None = None
    error: JobError | None = None
    trace_id: Short | None = None
    node_completed_at_ms: Number | None = None
    asr_quality_level: Short | None = None
    reason_codes: Annotated[list[Short], FEW] | None = None
    quality_score: Number | None = None
    rerun_count: Count | None = None
    segments_meta: SegmentsMeta | None = None


class ModelNotAvailable(Wire, frozen=True, tag="MODEL_NOT_AVAILABLE"):
    """A node lacks a model (node-protocol 7): the documented form of a `job_result` with that error.

    The job goes to another node, and the service counts as missing for a while; without `job_id` only the
    latter. `model_id` and `version` are other names of `service_id` and `service_version`.
    """

    node_id: Short | None = None
    job_id: Short | None = None
    service_id: Short | None = None
    model_id: Short | None = None
    service_version: Short | None = None
    version: Short | None = None
    reason: Short | None = None
    """`not_installed`, `downloading`, `verifying` or `error`."""


class NodeAsrPartial(Wire, frozen=True, tag="asr_partial"):
    """Source text so far (node-protocol 2.9)."""

    job_id: Short
    node_id: Short
    text: str
    is_final: bool = required(False)
    session_id: Short | None = None
    utterance_index: Int | None = None
    trace_id: Short | None = None


class NodeError(Wire, frozen=True, tag="node_error"):
    """A node reports trouble of its own (node-protocol 2.10)."""

    node_id: Short | None = None
    code: Short = required("")
    message: str = required("")
    details: Any = None


class RequestPairingCode(Wire, frozen=True, tag="request_pairing_code"):
    """A registered node asks for a code to show its owner (node-protocol 2.11); `pairing_code` answers."""


NodeMessage = (
    NodeRegister
    | Register
    | NodeHeartbeat
    | Heartbeat
    | JobResult
    | ModelNotAvailable
    | JobAck
    | JobStarted
    | NodeAsrPartial
    | NodeError
    | RequestPairingCode
)
"""Node to scheduler."""


class NodeRegisterAck(Wire, frozen=True, tag="node_register_ack"):
    """The node is known under `node_id` from now on (node-protocol 2.3)."""

    node_id: Short
    message: str
    status: Short


class HeartbeatAck(Wire, frozen=True, tag=HEARTBEAT_ACK):
    """How a node stands: the answer to `heartbeat`, and to `node_heartbeat` where it was asked for.

    `status` is registering, ready, degraded, draining or offline. Unless the node can get work, `message`
    says why in a sentence with the cure, and `reason` in a word: not_registered, registering, degraded,
    draining, gpu_required, gpu_usage_invalid, no_running_service, no_language_pair or not_public. `no_work`
    counts how often the node was passed over when a job found no node at all, by the reasons of
    `linguad explain`.
    """

    node_id: Short
    status: Short
    reason: Short | None = None
    message: str | None = None
    no_work: Annotated[dict[Short, Count], FEW] | None = None


class JobAssign(Wire, frozen=True, tag="job_assign"):
    """One utterance to work on (node-protocol 2.5); `audio` is base64, ids are those of the attempt."""

    job_id: Short
    attempt_id: Int
    session_id: Short
    utterance_index: Int
    src_lang: Short
    tgt_lang: Short
    pipeline: PipelineConfig
    audio: str
    audio_format: Short
    sample_rate: Int
    trace_id: Short
    dialect: Short | None = None
    features: FeatureFlags | None = None
    mode: Short | None = None
    lang_a: Short | None = None
    lang_b: Short | None = None
    auto_langs: Annotated[list[Short], FEW] | None = None
    enable_streaming_asr: bool | None = None
    partial_update_interval_ms: Int | None = None
    group_id: Short | None = None
    part_index: Int | None = None
    context_text: str | None = None
    padding_ms: Int | None = None
    is_manual_cut: bool = False
    is_timeout_triggered: bool = False
    is_max_duration_triggered: bool = False
    is_pause_triggered: bool = False
    """Only for nodes of the oldest generation (node-protocol 2.14)."""
    turn_id: Short | None = None


class JobCancel(Wire, frozen=True, tag="job_cancel"):
    """Abort a job; there is no reply (node-protocol 2.6)."""

    job_id: Short
    trace_id: Short | None = None
    reason: Short | None = None


class SchedulerError(Wire, frozen=True, tag="error"):
    """Why a registration was refused; today's nodes only log it (node-protocol 2.10)."""

    code: Short
    message: str
    details: Any = None


class PairingCode(Wire, frozen=True, tag="pairing_code"):
    """Six digits that a person types into a client.

    The first session that gives them as `pairing_code`, within five minutes, has all its jobs done by this
    node, be it public or not. A new code replaces the old one.
    """

    code: Short
    expires_at_ms: Int


SchedulerMessage = NodeRegisterAck | HeartbeatAck | JobAssign | JobCancel | SchedulerError | PairingCode
"""Scheduler to node."""
