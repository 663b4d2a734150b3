"""What is left of the earlier server's configuration: log settings still read, and where its keys went."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

FILE_HINT = "this is a file of the earlier server; its keys have new names, see docs/settings.md"
"""Answer to a `config.toml` of the earlier server, known by its `[scheduler]` table."""

NAMES = {
    "server.host": "server.host",
    "server.port": "server.port",
    "scheduler.max_concurrent_jobs_per_node": "nodes.max_concurrent_jobs",
    "scheduler.node_health.heartbeat_timeout_seconds": "nodes.heartbeat_timeout_seconds",
    "scheduler.node_health.status_scan_interval_seconds": "nodes.status_scan_interval_seconds",
    "scheduler.node_health.health_check_count": "nodes.health_check_count",
    "scheduler.node_health.warmup_timeout_seconds": "nodes.warmup_timeout_seconds",
    "scheduler.node_health.failure_threshold.window_size": "nodes.failure_window",
    "scheduler.node_health.failure_threshold.failure_count": "nodes.failure_count",
    "scheduler.node_health.failure_threshold.consecutive_failure_count": "nodes.consecutive_failure_count",
    "scheduler.job_timeout_seconds": "jobs.timeout_base_seconds",
    "scheduler.job_timeout.pending_timeout_seconds": "jobs.pending_timeout_seconds",
    "scheduler.job_timeout.failover_max_attempts": "jobs.failover_max_attempts",
    "scheduler.job_timeout.send_cancel": "jobs.send_cancel",
    "scheduler.task_binding.spread_enabled": "jobs.affinity",
    "scheduler.web_task_segmentation.pause_ms": "sessions.pause_ms",
    "scheduler.web_task_segmentation.max_duration_ms": "sessions.max_duration_ms",
    "scheduler.web_task_segmentation.edge_stabilization.padding_manual_ms": "sessions.padding_manual_ms",
    "scheduler.web_task_segmentation.edge_stabilization.padding_auto_ms": "sessions.padding_auto_ms",
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
}
"""Keys of the earlier server and the settings that took their place."""

_LEVELS = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "warn": "warning",
    "error": "error",
    "off": "critical",
}
PACKAGES: dict[str, tuple[str, ...]] = {
    "websocket": ("net", "sessions", "nodes"),
    "dispatcher": ("dispatch",),
    "node_registry": ("nodes",),
    "session": ("sessions",),
    "result_queue": ("sessions",),
}
"""Modules of the earlier server and the packages that do their work now."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Log settings from an earlier source, or why it cannot be used."""

    source: str
    settings: dict[str, object]
    problem: str = ""


def log_settings(env: Mapping[str, str], directories: Iterable[Path]) -> list[Found]:
    """What LOG_FORMAT, RUST_LOG and the first `observability.json` in `directories` say about logging."""
    found = []
    if form := env.get("LOG_FORMAT"):
        known = form.lower() in ("json", "pretty")
        found.append(
            Found(
                source="LOG_FORMAT",
                settings={"format": form.lower()} if known else {},
                problem="" if known else "it is neither json nor pretty",
            )
        )
    if filters := env.get("RUST_LOG"):
        found.append(_from_filters(filters))
        return found
    files = (directory / "observability.json" for directory in directories)
    if path := next((file for file in files if file.is_file()), None):
        found.append(_from_file(path))
    return found


def _from_filters(filters: str) -> Found:
    """Read `info,lingua_scheduler::session=debug`."""
    default, modules = None, {}
    for part in filters.split(","):
        target, equals, level = part.strip().partition("=")
        if equals:
            modules[target] = level
        elif target.lower() in _LEVELS:
            default = target
    return _found("RUST_LOG", default, modules)


def _from_file(path: Path) -> Found:
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return Found(source=path.name, settings={}, problem="it cannot be read as JSON")
    if not isinstance(content, dict) or not isinstance(content.get("modules", {}), dict):
        return Found(source=path.name, settings={}, problem="it has another form")
    return _found(path.name, content.get("default_level"), content.get("modules", {}))


def _found(source: str, default: object, modules: Mapping[str, object]) -> Found:
    settings: dict[str, object] = {}
    levels: dict[str, str] = {}
    if level := _LEVELS.get(str(default).lower()):
        settings["level"] = level
    for target, given in modules.items():
        level = _LEVELS.get(str(given).lower())
        crate, _, module = target.partition("::")
        if level is None:
            continue
        if crate.startswith("lingua_node"):
            levels["worker"] = level
        elif target == "lingua_scheduler":
            settings["level"] = level
        elif crate == "lingua_scheduler":
            levels |= dict.fromkeys(PACKAGES.get(module.partition("::")[0], ()), level)
    if levels:
        settings["levels"] = levels
    return Found(source=source, settings=settings, problem="" if settings else "it names no level we know")
