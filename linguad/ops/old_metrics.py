"""`GET /api/v1/metrics`: counters as JSON, member for member as the earlier server told them (7.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from heapq import nlargest
from typing import Any

import msgspec
import prometheus_client
from quart import Response
from quart_trio import QuartTrio

from linguad import metrics
from linguad.core.node import Node
from linguad.core.survey import Veto
from linguad.counters import values
from linguad.ops.instance import Instance
from linguad.ops.snapshot import Snapshot
from linguad.ops.viewers import Viewers

TOP = 20
"""Services, reasons and nodes that are told by name."""

SAMPLE_NODES = 5

NO_LOCKS = (
    "node_registry_nodes_read_total",
    "node_registry_nodes_write_total",
    "node_registry_reserved_jobs_write_total",
    "node_registry_unavailable_services_write_total",
    "node_registry_exclude_reason_stats_read_total",
    "node_registry_exclude_reason_stats_write_total",
    "other_total",
)
"""Locks of the earlier server, for which nobody waits here."""


def add_metrics_route(app: QuartTrio, instance: Instance, snapshot: Snapshot, viewers: Viewers) -> None:
    """Serve it on an app."""

    @app.get("/api/v1/metrics")
    @viewers.only
    async def old_metrics() -> Response:
        body = counted(instance, snapshot)
        return Response(msgspec.json.encode(body), content_type="application/json")


def counted(instance: Instance, snapshot: Snapshot) -> dict[str, Any]:
    """All of it."""
    services, reruns = instance.services.state(), instance.dispatch.fleet.reruns
    finalized = {reason: count for (reason,), count in values(metrics.FINALIZED).items()}
    slow = sum(values(metrics.SLOW_PATHS).values())
    return {
        "stats": {
            "requests_total": _total(metrics.STATS_REQUESTS),
            "stale_total": _total(metrics.STATS_STALE),
            "snapshot_updated_at_ms": snapshot.updated_at_ms,
        },
        "service_catalog": {
            "fetched_at_ms": services.fetched_at_ms,
            "last_success_at_ms": services.last_success_at_ms,
            "fail_count": services.fail_count,
            "last_error": services.last_error,
        },
        "model_not_available": {
            "received_total": _total(metrics.MODEL_NA_RECEIVED),
            "rate_limited_total": _total(metrics.MODEL_NA_LIMITED),
            "marked_total": _total(metrics.MODEL_NA_MARKED),
            "by_service_top": _top(metrics.MODEL_NA_BY_SERVICE),
            "by_reason_top": _top(metrics.MODEL_NA_BY_REASON),
            "rate_limited_by_node_top": _top(metrics.MODEL_NA_LIMITED_BY_NODE),
            "marked_by_node_top": _top(metrics.MODEL_NA_MARKED_BY_NODE),
            "other_service_total": _total(metrics.MODEL_NA_OTHER_SERVICE),
            "other_reason_total": _total(metrics.MODEL_NA_OTHER_REASON),
            "other_rate_limited_node_total": _total(metrics.MODEL_NA_OTHER_LIMITED),
            "other_marked_node_total": _total(metrics.MODEL_NA_OTHER_MARKED),
        },
        "dispatch_exclude": {"by_reason": excluded(instance.dispatch.fleet.nodes)},
        "web_task_segmentation": {
            "finalized_total": sum(finalized.values()),
            "finalized_by_send_total": finalized.get("send", 0),
            "finalized_by_pause_total": finalized.get("timeout", 0),
            "pause_ms": instance.config.sessions.pause_ms,
            "empty_finalize_total": 0,
            "index_gap_total": 0,
        },
        "observability": {
            "slow_lock_wait_total": 0,
            "slow_path_total": slow,
            "lock_wait_warn_ms": 0,
            "path_warn_ms": round(instance.config.log.slow_path_ms),
            "slow_lock_wait_by_lock": dict.fromkeys(NO_LOCKS, 0),
            "slow_path_by_path": {
                "node_registry_select_node_with_features_total": 0,
                "node_registry_select_node_with_models_total": 0,
                "other_total": slow,
            },
        },
        "rerun": {
            "trigger_count": reruns.triggered,
            "success_count": reruns.successful,
            "timeout_count": reruns.timed_out,
            "quality_improvements": reruns.improved,
            "context_reset_count": 0,
        },
        "asr": instance.result_quality(),
    }


def excluded(nodes: Mapping[str, Node]) -> list[dict[str, Any]]:
    """By reason: how often a known node was passed over when a job found none, and some of these nodes."""
    counts: Counter[str] = Counter()
    samples: dict[str, list[str]] = {}
    for node in nodes.values():
        for reason, count in node.no_work.items():
            counts[reason] += count
            if len(sample := samples.setdefault(reason, [])) < SAMPLE_NODES:
                sample.append(node.id)
    return [
        {"reason": reason, "total": total, "sample_node_ids": samples[reason]}
        for reason, total in counts.most_common()
    ]


REJECTS = {Veto.CAPACITY_EXCEEDED: "full", Veto.STATUS_NOT_READY: "not_ready"}
"""Reasons as the earlier server's metric calls them; all others are `other`."""

MAX_REJECTING = 100


def overload_rejects(nodes: Mapping[str, Node]) -> dict[tuple[str, ...], float]:
    """`excluded` by node, of those that were passed over most."""
    found: dict[tuple[str, ...], float] = {}
    passed_over = [node for node in nodes.values() if node.no_work]
    for node in nlargest(MAX_REJECTING, passed_over, key=lambda node: node.no_work.total()):
        for reason, count in node.no_work.items():
            label = next((name for veto, name in REJECTS.items() if veto == reason), "other")
            found[node.id, label] = found.get((node.id, label), 0) + count
    return found


def _total(counter: prometheus_client.Counter) -> int:
    return sum(values(counter).values())


def _top(counter: prometheus_client.Counter) -> list[dict[str, Any]]:
    largest = nlargest(TOP, values(counter).items(), key=lambda one: one[1])
    return [{"key": key, "count": count} for (key,), count in largest]
