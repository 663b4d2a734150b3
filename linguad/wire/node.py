"""Messages between the scheduler and a compute node on `/ws/node` (node-protocol 2)."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from linguad.wire.common import (
    Count,
    ExtraResult,
    FeatureFlags,
    PipelineConfig,
    SegmentsMeta,
    Wire,
    required,
)


class GpuInfo(Wire, frozen=True):
    """One GPU: name and memory (GiB)."""

    name: str = required("")
    memory_gb: float = required(0)


class HardwareInfo(Wire, frozen=True):
    """The machine of a node; `gpus` is absent when the node's probe found none (node-protocol 2.12)."""

    cpu_cores: float = required(0)
    memory_gb: float = required(0)
    gpus: list[GpuInfo] | None = None


class InstalledModel(Wire, frozen=True):
    """A model on the node's disk."""

    model_id: str
    kind: str = required("other")
    src_lang: str | None = None
    tgt_lang: str | None = None
    dialect: str | None = None
    version: str | None = None
    enabled: bool | None = None


class InstalledService(Wire, frozen=True):
    """A service of a node; `type`, `device` and `status` are free text because real nodes invent values."""

    service_id: str
    type: str
    device: str = required("gpu")
    status: str = required("error")
    version: str | None = None
    model_id: str | None = None
    engine: str | None = None
    mem_mb: float | None = None
    warmup_ms: float | None = None
    last_error: str | None = None


class CapabilityByType(Wire, frozen=True):
    """What the node itself says about one service type."""

    type: str
    ready: bool = required(False)
    reason: str | None = None
    ready_impl_ids: list[str] | None = None
    devices: list[str] | None = None


class LanguagePair(Wire, frozen=True):
    """A directed pair of languages."""

    src: str
    tgt: str
    semantic_on_src: bool | None = None
    semantic_on_tgt: bool | None = None


class NmtCapability(Wire, frozen=True):
    """A translation rule of a node (table in node-protocol 2.12)."""

    model_id: str = required("")
    languages: list[str] | None = None
    rule: str = required("")
    blocked_pairs: list[LanguagePair] | None = None
    supported_pairs: list[LanguagePair] | None = None


class NodeLanguageCapabilities(Wire, frozen=True):
    """The languages of a node; which members are present tells its generation (node-protocol 2.14)."""

    asr_languages: list[str] | None = None
    tts_languages: list[str] | None = None
    semantic_languages: list[str] | None = None
    nmt_capabilities: list[NmtCapability] | None = None
    supported_language_pairs: list[LanguagePair] | None = None
    semantic_core_ready: bool | None = None


class ResourceUsage(Wire, frozen=True):
    """Load of a node, percent 0-100, and what it says it is working on."""

    cpu_percent: float | None = None
    gpu_percent: float | None = None
    gpu_mem_percent: float | None = None
    mem_percent: float | None = None
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

    service_efficiencies: dict[str, float] | None = None


class NodeRegister(Wire, frozen=True, tag="node_register"):
    """First message of a node (node-protocol 2.2); everything but `type` may be missing."""

    node_id: str | None = None
    version: str | None = None
    capability_schema_version: str | None = None
    platform: str | None = None
    hardware: HardwareInfo | None = None
    installed_models: list[InstalledModel] | None = None
    installed_services: list[InstalledService] | None = None
    capability_by_type: list[CapabilityByType] | None = None
    features_supported: FeatureFlags | None = None
    advanced_features: list[str] | None = None
    accept_public_jobs: bool | None = None
    language_capabilities: NodeLanguageCapabilities | None = None
    max_concurrent_jobs: Annotated[int, Meta(ge=1, le=64)] | None = None
    """Our addition: how many jobs the node takes at once."""


class NodeHeartbeat(Wire, frozen=True, tag="node_heartbeat"):
    """Every 15 s; services, capabilities and languages replace what was known (node-protocol 2.4)."""

    node_id: str
    timestamp: int | None = None
    resource_usage: ResourceUsage | None = None
    installed_models: list[InstalledModel] | None = None
    installed_services: list[InstalledService] | None = None
    capability_by_type: list[CapabilityByType] | None = None
    rerun_metrics: RerunMetrics | None = None
    processing_metrics: ProcessingMetrics | None = None
    language_capabilities: NodeLanguageCapabilities | None = None
    max_concurrent_jobs: Annotated[int, Meta(ge=1, le=64)] | None = None


class JobAck(Wire, frozen=True, tag="job_ack"):
    """The node took the job; real nodes never send it (node-protocol 2.7)."""

    job_id: str
    node_id: str | None = None
    attempt_id: int | None = None
    session_id: str | None = None
    trace_id: str | None = None


class JobStarted(Wire, frozen=True, tag="job_started"):
    """The node began the job; real nodes never send it (node-protocol 2.7)."""

    job_id: str
    node_id: str | None = None
    attempt_id: int | None = None
    session_id: str | None = None
    trace_id: str | None = None


class JobError(Wire, frozen=True):
    """Why a job failed on its node."""

    code: str = required("PROCESSING_ERROR")
    message: str = required("")
    details: Any = None


class JobResult(Wire, frozen=True, tag="job_result"):
    """What came of a job (node-protocol 2.8); `tts_audio` is base64 in `tts_format`."""

    job_id: str
    node_id: str
    success: bool
    attempt_id: int | None = None
    session_id: str | None = None
    utterance_index: int | None = None
    text_asr: str | None = None
    text_translated: str | None = None
    tts_audio: str | None = None
    tts_format: str | None = None
    extra: ExtraResult | None = None
    processing_time_ms: Annotated[float, Meta(ge=0)] | None = None
    error: JobError | None = None
    trace_id: str | None = None
    node_completed_at_ms: float | None = None
    asr_quality_level: str | None = None
    reason_codes: list[str] | None = None
    quality_score: float | None = None
    rerun_count: Count | None = None
    segments_meta: SegmentsMeta | None = None


class NodeAsrPartial(Wire, frozen=True, tag="asr_partial"):
    """Source text so far (node-protocol 2.9)."""

    job_id: str
    node_id: str
    text: str
    is_final: bool = required(False)
    session_id: str | None = None
    utterance_index: int | None = None
    trace_id: str | None = None


class NodeError(Wire, frozen=True, tag="node_error"):
    """A node reports trouble of its own (node-protocol 2.10)."""

    node_id: str | None = None
    code: str = required("")
    message: str = required("")
    details: Any = None


class RequestPairingCode(Wire, frozen=True, tag="request_pairing_code"):
    """A node asks for a pairing code to show its owner (node-protocol 2.11)."""


NodeMessage = (
    NodeRegister
    | NodeHeartbeat
    | JobResult
    | JobAck
    | JobStarted
    | NodeAsrPartial
    | NodeError
    | RequestPairingCode
)
"""Node to scheduler."""


class NodeRegisterAck(Wire, frozen=True, tag="node_register_ack"):
    """The node is known under `node_id` from now on (node-protocol 2.3)."""

    node_id: str
    message: str
    status: str


class JobAssign(Wire, frozen=True, tag="job_assign"):
    """One utterance to work on (node-protocol 2.5); `audio` is base64, ids are those of the attempt."""

    job_id: str
    attempt_id: int
    session_id: str
    utterance_index: int
    src_lang: str
    tgt_lang: str
    pipeline: PipelineConfig
    audio: str
    audio_format: str
    sample_rate: int
    trace_id: str
    dialect: str | None = None
    features: FeatureFlags | None = None
    mode: str | None = None
    lang_a: str | None = None
    lang_b: str | None = None
    auto_langs: list[str] | None = None
    enable_streaming_asr: bool | None = None
    partial_update_interval_ms: int | None = None
    group_id: str | None = None
    part_index: int | None = None
    context_text: str | None = None
    padding_ms: int | None = None
    is_manual_cut: bool = False
    is_timeout_triggered: bool = False
    is_max_duration_triggered: bool = False
    is_pause_triggered: bool = False
    """Only for nodes of the oldest generation (node-protocol 2.14)."""
    turn_id: str | None = None


class JobCancel(Wire, frozen=True, tag="job_cancel"):
    """Abort a job; there is no reply (node-protocol 2.6)."""

    job_id: str
    trace_id: str | None = None
    reason: str | None = None


class SchedulerError(Wire, frozen=True, tag="error"):
    """Why a registration was refused; today's nodes only log it (node-protocol 2.10)."""

    code: str
    message: str
    details: Any = None


class PairingCode(Wire, frozen=True, tag="pairing_code"):
    """A code a person types into a session to use just this node."""

    code: str
    expires_at_ms: int


SchedulerMessage = NodeRegisterAck | JobAssign | JobCancel | SchedulerError | PairingCode
"""Scheduler to node."""
