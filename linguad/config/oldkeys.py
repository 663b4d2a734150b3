"""What became of each key of the earlier server's files: a setting of ours, or nothing, with the reason.

Keys of the scheduler's `config.toml` of all generations, and of the gateway's own (pools-and-cluster 9,
node-protocol 9, session-protocol 9, gateway 12). Older names of a table are first brought to the latest.
"""

from __future__ import annotations

ALIASES = (
    ("scheduler.redis_runtime.", "scheduler.phase2."),
    ("scheduler.pools.", "scheduler.phase3."),
)
"""Tables that had another name in another generation."""

NAMES = {
    "server.host": "server.host",
    "server.port": "server.port",
    "server.ws_max_message_bytes": "nodes.max_message_bytes",
    "server.ws_ping_interval_seconds": "server.ping_interval_seconds",
    "server.ws_idle_timeout_seconds": "server.idle_timeout_seconds",
    "model_hub.base_url": "hub.url",
    "scheduler.max_concurrent_jobs_per_node": "nodes.max_concurrent_jobs",
    "scheduler.node_health.heartbeat_timeout_seconds": "nodes.heartbeat_timeout_seconds",
    "scheduler.node_health.status_scan_interval_seconds": "nodes.status_scan_interval_seconds",
    "scheduler.node_health.health_check_count": "nodes.health_check_count",
    "scheduler.node_health.warmup_timeout_seconds": "nodes.warmup_timeout_seconds",
    "scheduler.node_health.failure_threshold.window_size": "nodes.failure_window",
    "scheduler.node_health.failure_threshold.failure_count": "nodes.failure_count",
    "scheduler.node_health.failure_threshold.consecutive_failure_count": "nodes.consecutive_failure_count",
    "scheduler.node_health.require_gpu": "nodes.require_gpu",
    "scheduler.node_health.register_timeout_seconds": "nodes.register_timeout_seconds",
    "scheduler.pairing.allow_fallback": "nodes.pairing_allow_fallback",
    "scheduler.model_not_available.unavailable_ttl_seconds": "nodes.unavailable_ttl_seconds",
    "scheduler.model_not_available.node_ratelimit_window_seconds": "nodes.unavailable_window_seconds",
    "scheduler.model_not_available.node_ratelimit_max": "nodes.unavailable_max_reports",
    "scheduler.job_timeout_seconds": "jobs.timeout_base_seconds",
    "scheduler.job_timeout.pending_timeout_seconds": "jobs.pending_timeout_seconds",
    "scheduler.job_timeout.failover_max_attempts": "jobs.failover_max_attempts",
    "scheduler.job_timeout.send_cancel": "jobs.send_cancel",
    "scheduler.job_timeout.dynamic_factor": "jobs.timeout_factor",
    "scheduler.job_timeout.min_seconds": "jobs.timeout_min_seconds",
    "scheduler.job_timeout.max_seconds": "jobs.timeout_max_seconds",
    "scheduler.job_timeout.job_max_age_seconds": "jobs.job_max_age_seconds",
    "scheduler.task_binding.spread_enabled": "jobs.affinity",
    "scheduler.task_binding.spread_window_seconds": "jobs.spread_window_seconds",
    "scheduler.web_task_segmentation.pause_ms": "sessions.pause_ms",
    "scheduler.web_task_segmentation.max_duration_ms": "sessions.max_duration_ms",
    "scheduler.web_task_segmentation.edge_stabilization.padding_manual_ms": "sessions.padding_manual_ms",
    "scheduler.web_task_segmentation.edge_stabilization.padding_auto_ms": "sessions.padding_auto_ms",
    "scheduler.web_task_segmentation.edge_stabilization.short_merge_threshold_ms": (
        "sessions.short_merge_threshold_ms"
    ),
    "scheduler.detach_grace_ms": "sessions.detach_grace_seconds",
    "scheduler.final_reorder_grace_ms": "sessions.final_reorder_grace_ms",
    "scheduler.short_hold_cap_ms": "sessions.short_hold_cap_ms",
    "scheduler.max_jobs_per_second_per_session": "sessions.cuts_per_second",
    "scheduler.gap_timeout_ms": "sessions.gap_timeout_ms",
    "scheduler.late_result_window_ms": "sessions.late_result_window_ms",
    "scheduler.utterance_reorder_wait_ms": "sessions.utterance_reorder_wait_ms",
    "scheduler.error_throttle_ms": "sessions.error_throttle_ms",
    "scheduler.outbound_queue_messages": "sessions.outbound_queue_messages",
    "scheduler.outbound_queue_bytes": "sessions.outbound_queue_bytes",
    "scheduler.observability.path_warn_ms": "log.slow_path_ms",
    "scheduler.load_balancer.strategy": "pools.policy",
    "scheduler.load_balancer.resource_threshold": "pools.resource_threshold",
    "scheduler.phase3.pool_count": "pools.count",
    "scheduler.phase3.hash_seed": "pools.hash_seed",
    "scheduler.phase3.pools": "pools.capability",
    "scheduler.phase3.tenant_overrides": "pools.tenants",
    "scheduler.phase3.pool_match_scope": "pools.match_scope",
    "scheduler.phase3.pool_match_mode": "pools.match_mode",
    "scheduler.phase3.strict_pool_eligibility": "pools.strict_eligibility",
    "scheduler.phase3.fallback_scan_all_pools": "pools.fallback",
    "scheduler.phase3.max_members": "pools.max_members",
    "scheduler.phase2.redis.url": "cluster.redis_url",
    "scheduler.phase2.redis.cluster_urls": "cluster.redis_urls",
    "scheduler.phase2.redis.key_prefix": "cluster.key_prefix",
    "scheduler.phase2.instance_id": "cluster.instance_id",
    "scheduler.phase2.dlq_maxlen": "cluster.dead_letters_kept",
}
"""Keys of the earlier scheduler and the settings that took their place."""

GATEWAY_NAMES = {
    "server.host": "gateway.host",
    "server.port": "gateway.port",
    "server.drain_seconds": "server.drain_seconds",
    "rate_limit.global_rps": "gateway.global_requests_per_second",
    "rate_limit.fail_mode": "gateway.limits_fail_mode",
    "rest.max_upload_bytes": "gateway.max_upload_bytes",
    "rest.timeout_seconds": "gateway.translate_timeout_seconds",
    "rest.max_audio_seconds": "gateway.max_audio_seconds",
    "rest.max_utterance_seconds": "gateway.max_utterance_seconds",
    "stream.max_message_bytes": "gateway.stream_max_message_bytes",
    "stream.max_inflight_utterances": "gateway.stream_max_inflight_utterances",
    "stream.idle_seconds": "gateway.stream_idle_seconds",
    "stream.max_seconds": "gateway.stream_max_seconds",
    "stream.ping_seconds": "gateway.stream_ping_interval_seconds",
    "stream.max_messages_per_second": "gateway.stream_max_messages_per_second",
    "stream.allow_query_api_key": "gateway.stream_allow_query_api_key",
    "stream.allow_first_message_auth": "gateway.stream_allow_first_message_auth",
    "auth.pepper_file": "gateway.pepper_file",
    "cors.allowed_origins": "gateway.cors_allowed_origins",
    "store.url": "store.url",
    "webhooks.timeout_seconds": "gateway.webhook_timeout_seconds",
    "webhooks.max_attempts": "gateway.webhook_max_attempts",
    "jobs.retention_hours": "gateway.jobs_retention_hours",
    "billing.overdraft_seconds": "gateway.billing_overdraft_seconds",
}
"""Keys of the earlier gateway."""

ENVIRONMENT = {"MODELS_DIR": "hub.models_dir", "MODEL_HUB_URL": "hub.url"}
"""Variables of the earlier programs that become settings; RUST_LOG and LOG_FORMAT become those of `[log]`."""

_TESTS = "it was for tests of the earlier server"
_TIMER = "nothing is looked for at intervals any more: each deadline has its own timer"
_AGAIN = "the link to Redis tries again by itself, ever later"
_CACHE = "there is no such cache"
_STREAM = "letters expire by themselves and are deleted when they are handled"
_LEASE = "leases follow from the heartbeats of nodes and instances"

DROPPED = {
    "model_hub.storage_path": "the hub keeps its index beside the models, in hub.models_dir",
    "scheduler.heartbeat_interval_seconds": _LEASE,
    "scheduler.node_health.heartbeat_interval_seconds": "nodes decide it; the server takes any interval",
    "scheduler.node_health.send_node_status": "no node ever understood that message",
    "scheduler.pairing.code_ttl_seconds": "a pairing code holds for five minutes",
    "scheduler.order_wait_ms": "the dispatcher does not wait for an index that does not exist",
    "scheduler.deferred_release_ms": "a deferred slice gives its slot back after 3 s",
    "scheduler.playing_cap_ms": "playback ends by what clients say, at most two minutes",
    "scheduler.job_timeout.scan_interval_ms": _TIMER,
    "scheduler.model_not_available.debounce_window_seconds": "it was only logged",
    "scheduler.task_binding.lease_seconds": "a job belongs to the instance of its session",
    "scheduler.task_binding.reserved_ttl_seconds": "a slot belongs to one attempt and ends with it",
    "scheduler.web_task_segmentation.edge_stabilization.hangover_auto_ms": (
        "it only delayed; a late chunk is waited for by sessions.final_reorder_grace_ms"
    ),
    "scheduler.web_task_segmentation.edge_stabilization.hangover_manual_ms": (
        "it only delayed; a late chunk is waited for by sessions.final_reorder_grace_ms"
    ),
    "scheduler.observability": "there is no lock to wait for",
    "scheduler.core_services": "services are known by their type, not by a fixed id",
    "scheduler.asr_rerun": "nodes decide about it",
    "scheduler.background_tasks": _TIMER,
    "scheduler.retry.phase2_group_create_retry_delay_ms": _AGAIN,
    "scheduler.retry.phase2_xreadgroup_retry_delay_ms": _AGAIN,
    "scheduler.retry": _CACHE,
    "scheduler.limits": _LEASE,
    "scheduler.timeouts": _TESTS,
    "scheduler.testing": _TESTS,
    "scheduler.performance": "queues grow by need, up to a bound of their own",
    "scheduler.developer": "linguad config show prints what is in force; SIGHUP reloads",
    "scheduler.phase2.enabled": "several instances need cluster.redis_url and nothing else",
    "scheduler.phase2.owner_ttl_seconds": _LEASE,
    "scheduler.phase2.stream_block_ms": _STREAM,
    "scheduler.phase2.stream_count": _STREAM,
    "scheduler.phase2.stream_group": "there is no group: an inbox has one reader",
    "scheduler.phase2.stream_maxlen": _STREAM,
    "scheduler.phase2.dlq_enabled": "dead letters are always kept, without audio",
    "scheduler.phase2.dlq_max_deliveries": (
        "a letter is read again only by heirs of a dead instance: cluster.max_deliveries"
    ),
    "scheduler.phase2.dlq_min_idle_ms": _TIMER,
    "scheduler.phase2.dlq_scan_interval_ms": _TIMER,
    "scheduler.phase2.dlq_scan_count": _TIMER,
    "scheduler.phase2.redis.mode": "a cluster is known by its list of addresses",
    "scheduler.phase2.redis.connection_timeout_ms": "a connection may take 5 s",
    "scheduler.phase2.redis.command_timeout_ms": "a command may take 3 s",
    "scheduler.phase2.node_snapshot": "instances fetch only what changed",
    "scheduler.phase2.schema_compat": "its keys in Redis are not used any more",
    "scheduler.phase3.enabled": "pools are always on",
    "scheduler.phase3.mode": "there is one mode, two levels",
    "scheduler.phase3.auto_generate_language_pools": "pools of language pairs are always made",
    "scheduler.phase3.auto_pool_config": "pools of language pairs make themselves",
    "scheduler.phase3.random_sample_size": "pools.choices nodes are compared, 3 by default",
    "scheduler.phase3.enable_session_affinity": "jobs.affinity says it",
    "scheduler.phase3.max_shard_id": "the number of pools follows the number of nodes",
    "scheduler.phase3.pool_reap_interval_seconds": "a pool without nodes is none",
    "scheduler.phase3.include_identity_pairs": "nobody translates a language into itself",
}
"""Keys of the earlier scheduler, or whole tables, that have no meaning any more, and why."""

GATEWAY_DROPPED = {
    "scheduler": "the public API and the scheduler are one process",
    "rate_limit.default_max_rps": "each tenant has its own: linguad tenant set",
    "rate_limit.default_max_sessions": "each tenant has its own: linguad tenant set",
    "tenant": "tenants and keys are in the store: linguad tenant create, linguad key create",
    "auth.cache_seconds": "keys are compared without a cache",
    "auth.generate_dev_key": "a first key is made unless gateway.production is set",
    "auth.dev_key_file": "the first key is in dev_api_key in the state directory",
    "admin": "the admin API is on the gateway's port, below /admin/v1",
    "env": "gateway.production says it",
}
"""The same for keys of the earlier gateway."""
