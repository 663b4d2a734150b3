"""Limits of nodes, jobs and sessions, as the core wants them: seconds, counts, bytes (their specs 9)."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from linguad.core.capability import PoolRules
from linguad.core.groups import GroupRules
from linguad.core.rooms import RoomRules
from linguad.core.services import MarkRules
from linguad.core.utterance import CutRules
from linguad.wire.override import Override

if TYPE_CHECKING:
    from linguad.core.job import Job

Affinity = Literal["session", "turn", "spread"]
"""How long a session stays with a node (resolution 25)."""


class NodeRules(Struct, frozen=True, kw_only=True):
    """Health of nodes; seconds and counts (node-protocol 9)."""

    heartbeat_timeout_s: float = 45.0
    scan_interval_s: float = 5.0
    warmup_timeout_s: float = 60.0
    health_check_count: int = 1
    failure_window: int = 5
    failure_count: int = 3
    consecutive_failure_count: int = 3
    quarantine_s: float = 30.0
    quarantine_max_s: float = 600.0
    require_gpu: str = "never"
    max_concurrent_jobs: int = 4
    record_retention_s: float = 300.0
    marks: MarkRules = MarkRules()
    max_nodes: int = 100_000
    resource_threshold: float = 95.0
    overrides: Mapping[str, Override] = {}
    pools: PoolRules = PoolRules()
    overload_penalty_s: float = 5.0
    """Added to the expected finish of a node at or above `resource_threshold`."""
    remote_penalty_s: float = 0.2
    """Added to the expected finish of a node of another instance."""
    refused_s: float = 1.0
    """How long a node of another instance gets no new jobs after it was given one too many."""
    gpu_queue_task_s: float = 3.0
    """Audio that one task in a node's GPU queue stands for (resolution 31)."""


class JobRules(Struct, frozen=True, kw_only=True):
    """How long jobs wait and run, how often they are tried, and what is remembered of them."""

    timeout_base_s: float = 60.0
    timeout_factor: float = 0.5
    timeout_min_s: float = 15.0
    timeout_max_s: float = 120.0
    pending_timeout_s: float = 10.0
    failover_max_attempts: int = 3
    max_age_s: float = 150.0
    send_cancel: bool = True
    terminal_retention_s: float = 300.0
    late_result_s: float = 30.0
    max_waiting: int = 10_000
    max_waiting_per_tenant: int = 1_000
    affinity: Affinity = "session"
    spread_tenants: frozenset[str] = frozenset()
    """Tenants whose jobs are spread whatever `affinity` says."""
    spread_window_s: float = 30.0
    require_features: bool = False
    require_features_tenants: frozenset[str] = frozenset()
    """Tenants who get no result without the features they ask for, whatever `require_features` says."""
    pairing_allow_fallback: bool = False
    explained_jobs: int = 10_000
    """Ended jobs that can be explained; without audio and without results."""
    hedge_percent: float = 0.0
    """Second attempts beside slow ones, of 100 jobs; 0 makes none."""
    hedge_part: float = 0.8
    """Part of its time that a job may take before it counts as slow."""
    deferred_release_s: float = 3.0
    lane_idle_s: float = 1800.0

    def affinity_of(self, tenant: str) -> Affinity:
        """How long the sessions of a tenant stay with a node."""
        return "spread" if tenant in self.spread_tenants else self.affinity

    def requires_features(self, tenant: str) -> bool:
        """Whether the jobs of a tenant may only go to nodes with the features they ask for."""
        return self.require_features or tenant in self.require_features_tenants

    def may_retry(self, job: Job, now: float) -> bool:
        """Whether a job may have another attempt."""
        young = now - job.created_at < self.max_age_s
        in_time = job.request.answer_by is None or now < job.request.answer_by
        return young and in_time and job.tries <= self.failover_max_attempts

    def running_timeout_s(self, audio_s: float) -> float:
        """Time a node gets for this much audio (node-protocol 6.5)."""
        wanted = ceil(self.timeout_base_s + audio_s * self.timeout_factor)
        return float(min(self.timeout_max_s, max(self.timeout_min_s, wanted)))


class SessionRules(Struct, frozen=True, kw_only=True):
    """Timing and limits of sessions (session-protocol 9)."""

    cut: CutRules = CutRules()
    rooms: RoomRules = RoomRules()
    gap_s: float = 3.0
    max_undelivered: int = 128
    max_open: int = 64
    detach_grace_s: float = 30.0
    gateway_detach_grace_s: float = 600.0
    reorder_wait_s: float = 0.3
    idempotency_s: float = 300.0
    hint_language: str = "en"
    burst_ms: int = 1000
    """Mobile clients: whole utterances shorter than this are pieces of one; 0 takes them as they are."""
    kept_results: int = 128
    """Results that a client did not acknowledge, kept for a resume."""
    kept_bytes: int = 2 << 20
    """Bytes of these."""
    binary_frames: bool = False
    """Offer binary audio to clients that do not ask for it."""
    groups: GroupRules = GroupRules()
