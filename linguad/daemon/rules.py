"""What the settings mean for the core and for sockets: its own rules, in seconds, counts and bytes."""

from __future__ import annotations

import os

from linguad.config import Config, Server
from linguad.config import Nodes as NodeSettings
from linguad.config import Sessions as SessionSettings
from linguad.core.capability import ALL_SERVICES, CapabilityPool, Pin, PoolRules
from linguad.core.groups import GroupRules
from linguad.core.rooms import RoomRules
from linguad.core.rules import JobRules, NodeRules, SessionRules
from linguad.core.services import CORE_SERVICES, MarkRules, Services
from linguad.core.utterance import CutRules
from linguad.net.outbox import Budget
from linguad.net.websocket import LinkSettings
from linguad.pools import NodeTable

MEMORY_SHARE = 4
"""One part in so many of the machine's memory may hold buffers, where no limit is set."""


def memory_budget(server: Server) -> Budget:
    """What all buffers together may hold."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Budget(server.max_buffered_bytes or memory_bytes // MEMORY_SHARE)


def node_table(config: Config) -> NodeTable:
    """An empty table of nodes, whose choices nobody can foretell."""
    pools = config.pools
    return NodeTable(
        hash_seed=pools.hash_seed,
        rng_seed=int.from_bytes(os.urandom(8), "little") or 1,
        choices=pools.choices,
        max_members=pools.max_members,
        pools=pools.count,
        policy=pools.policy,
        sticky_ratio=pools.keep_ratio,
        sticky_margin_s=pools.keep_margin_seconds,
    )


def session_rules(config: Config) -> SessionRules:
    """Timing and limits of sessions."""
    sessions = config.sessions
    return SessionRules(
        cut=CutRules(
            pause_s=sessions.pause_ms / 1000,
            max_duration_ms=sessions.max_duration_ms,
            max_bytes=sessions.max_utterance_bytes,
            max_chunk_s=sessions.max_chunk_seconds,
            final_grace_s=sessions.final_reorder_grace_ms / 1000,
            padding_manual_ms=sessions.padding_manual_ms,
            padding_auto_ms=sessions.padding_auto_ms,
            short_ms=sessions.short_merge_threshold_ms,
            held_ms=sessions.short_hold_cap_ms,
            short_release_s=sessions.short_release_ms / 1000,
            silence_packet_bytes=sessions.silence_packet_bytes,
            silence_rms=sessions.silence_rms,
            burst_cuts=sessions.burst_cuts,
            cuts_per_second=sessions.cuts_per_second,
        ),
        gap_s=sessions.gap_timeout_ms / 1000,
        max_undelivered=sessions.max_undelivered_results,
        max_open=sessions.max_open_utterances,
        detach_grace_s=sessions.detach_grace_seconds,
        gateway_detach_grace_s=sessions.gateway_detach_grace_seconds,
        reorder_wait_s=sessions.utterance_reorder_wait_ms / 1000,
        idempotency_s=config.jobs.idempotency_ttl_seconds,
        hint_language=sessions.hint_language,
        burst_ms=sessions.mobile_burst_ms,
        # all of them must fit into the outbox at once, be the speech converted to PCM16
        kept_results=min(sessions.resume_results, sessions.outbound_queue_messages // 2),
        kept_bytes=min(sessions.resume_bytes, sessions.outbound_queue_bytes // 16),
        binary_frames=sessions.binary_frames,
        groups=GroupRules(
            window_s=sessions.group_window_ms / 1000,
            max_parts=sessions.group_max_parts,
            max_context_chars=sessions.context_max_chars,
        ),
        rooms=RoomRules(
            max_members=sessions.max_room_members,
            max_rooms=sessions.max_rooms,
            idle_s=sessions.room_idle_minutes * 60,
        ),
    )


def node_rules(config: Config) -> NodeRules:
    """Health and choice of nodes."""
    nodes = config.nodes
    return NodeRules(
        heartbeat_timeout_s=nodes.heartbeat_timeout_seconds,
        scan_interval_s=nodes.status_scan_interval_seconds,
        warmup_timeout_s=nodes.warmup_timeout_seconds,
        health_check_count=nodes.health_check_count,
        failure_window=nodes.failure_window,
        failure_count=nodes.failure_count,
        consecutive_failure_count=nodes.consecutive_failure_count,
        quarantine_s=nodes.quarantine_seconds,
        quarantine_max_s=nodes.quarantine_max_seconds,
        require_gpu=nodes.require_gpu,
        overrides=nodes.overrides,
        max_concurrent_jobs=nodes.max_concurrent_jobs,
        resource_threshold=config.pools.resource_threshold,
        overload_penalty_s=config.pools.overload_penalty_seconds,
        gpu_queue_task_s=config.pools.gpu_queue_task_seconds,
        pools=pool_rules(config),
        marks=MarkRules(
            ttl_s=nodes.unavailable_ttl_seconds,
            window_s=nodes.unavailable_window_seconds,
            max_reports=nodes.unavailable_max_reports,
        ),
    )


def pool_rules(config: Config) -> PoolRules:
    """Which nodes may do whose jobs."""
    pools = config.pools
    capability = [
        CapabilityPool(id=pool.id, name=name, services=Services.of(pool.required_services))
        for name, pool in pools.capability.items()
    ]
    return PoolRules(
        pools=tuple(sorted(capability, key=lambda pool: pool.id)),
        compared=CORE_SERVICES if pools.match_scope == "core_only" else ALL_SERVICES,
        exact=pools.match_mode == "exact",
        strict=pools.strict_eligibility,
        fallback=pools.fallback,
        tenants={
            tenant: Pin(pool=pools.capability[chosen.pool].id, strict=chosen.strict)
            for tenant, chosen in pools.tenants.items()
        },
        hash_seed=pools.hash_seed,
    )


def job_rules(config: Config) -> JobRules:
    """How long jobs wait and run, and how often they are tried."""
    jobs = config.jobs
    return JobRules(
        timeout_base_s=jobs.timeout_base_seconds,
        timeout_factor=jobs.timeout_factor,
        timeout_min_s=jobs.timeout_min_seconds,
        timeout_max_s=jobs.timeout_max_seconds,
        pending_timeout_s=jobs.pending_timeout_seconds,
        failover_max_attempts=jobs.failover_max_attempts,
        max_age_s=jobs.job_max_age_seconds,
        send_cancel=jobs.send_cancel,
        terminal_retention_s=jobs.terminal_retention_seconds,
        late_result_s=config.sessions.late_result_window_ms / 1000,
        max_waiting=jobs.max_waiting,
        max_waiting_per_tenant=jobs.max_waiting_per_tenant,
        affinity=jobs.affinity,
        spread_tenants=frozenset(jobs.spread_tenants),
        spread_window_s=jobs.spread_window_seconds,
        require_features=jobs.features == "require",
        require_features_tenants=frozenset(jobs.require_features_tenants),
        pairing_allow_fallback=config.nodes.pairing_allow_fallback,
        explained_jobs=jobs.explained_jobs,
        hedge_percent=jobs.hedge_percent,
        hedge_part=jobs.hedge_after,
        lane_idle_s=jobs.affinity_idle_minutes * 60,
    )


def link_settings(
    server: Server, settings: SessionSettings | NodeSettings, *, may_ping: bool = True
) -> LinkSettings:
    """Limits of the sockets of sessions or nodes."""
    return LinkSettings(
        max_message_bytes=settings.max_message_bytes,
        outbox_messages=settings.outbound_queue_messages,
        outbox_bytes=settings.outbound_queue_bytes,
        handshake_seconds=server.handshake_seconds,
        write_seconds=server.write_timeout_seconds,
        ping_seconds=server.ping_interval_seconds,
        idle_seconds=server.idle_timeout_seconds,
        may_ping=may_ping,
    )
