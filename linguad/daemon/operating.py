"""What operators look at: the routes of the scheduler's port beside those of nodes and pools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from heapq import nlargest

import msgspec
from quart_trio import QuartTrio

from linguad import metrics
from linguad.core.fleet import Fleet
from linguad.core.health import Status
from linguad.core.job import MissingReason
from linguad.ops.history import add_history_route
from linguad.ops.instance import Instance
from linguad.ops.live import add_live_route
from linguad.ops.old_metrics import add_metrics_route, overload_rejects
from linguad.ops.old_paths import add_old_paths
from linguad.ops.query import answer_wrong
from linguad.ops.sessions import add_session_routes
from linguad.ops.statistics import add_stats_route
from linguad.ops.utterances import add_utterance_routes
from linguad.ops.viewers import Viewers, add_viewer_routes
from linguad.ops.watch import Watch


def show_state(instance: Instance) -> None:
    """Let the metrics that are no counters of their own read what is there when they are asked for."""
    dispatch, fleet = instance.dispatch, instance.dispatch.fleet
    metrics.BUFFERED_BYTES.set_function(lambda: instance.buffered_bytes)
    for status in Status:
        for gauge in (metrics.NODES, metrics.NODES_KNOWN):
            gauge.labels(status.value).set_function(partial(_count_nodes, fleet, status))
    metrics.POOL_MEMBERS.set_function(partial(_pool_members, instance))
    metrics.SESSIONS_KNOWN.set_function(lambda: instance.session_counts()[0])
    metrics.JOBS_OPEN.set_function(lambda: dispatch.open_jobs)
    metrics.BACKLOG.set_function(lambda: dispatch.open_jobs)
    metrics.JOBS_WAITING.set_function(lambda: len(dispatch.waiting))
    metrics.SLOTS.labels("ready").set_function(
        lambda: sum(node.slots for node in fleet.nodes.values() if node.status is Status.READY)
    )
    metrics.SLOTS.labels("used").set_function(
        lambda: sum(fleet.slots_used(name) + node.others_use for name, node in fleet.nodes.items())
    )
    metrics.FINALIZE_LATENCY.set_function(lambda: metrics.STAGE_SECONDS["cut"].mean * 1000)
    metrics.PAUSE_MS.set_function(lambda: instance.config.sessions.pause_ms)
    metrics.JOBS_FINISHED.set_function(
        lambda: {(came_to,): instance.outcomes.get(came_to, 0) for came_to in ("completed", *MissingReason)}
    )
    metrics.JOBS_TOTAL.set_function(lambda: _by_status(instance.outcomes))
    metrics.RESERVATIONS.set_function(
        lambda: {
            (name,): count for name, count in zip(("success", "fail"), instance.slots_asked(), strict=True)
        }
    )
    metrics.OVERLOAD_REJECTS.set_function(lambda: overload_rejects(fleet.nodes))
    metrics.RERUNS.set_function(
        lambda: {(name,): count for name, count in msgspec.structs.asdict(fleet.reruns).items()}
    )


def _count_nodes(fleet: Fleet, status: Status) -> int:
    return sum(node.status is status for node in fleet.nodes.values())


def _pool_members(instance: Instance) -> dict[tuple[str, ...], float]:
    fleet = instance.dispatch.fleet
    if pools := fleet.rules.pools.pools:
        ready = Counter(node.pool for node in fleet.nodes.values() if node.status is Status.READY)
        return {(str(pool.id),): ready[pool.id] for pool in pools[: metrics.MAX_VALUES]}
    served = nlargest(metrics.MAX_VALUES, instance.languages(), key=lambda one: one.ready_nodes)
    return {(f"{one.src}>{one.tgt}",): one.ready_nodes for one in served}


def _by_status(outcomes: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    """Outcomes of jobs in the few words of the earlier server."""
    words = {
        "completed": "completed",
        MissingReason.SILENCE: "without_text",
        MissingReason.MERGED: "without_text",
        MissingReason.CANCELLED: "cancelled",
    }
    found: dict[tuple[str, ...], float] = {}
    for came_to, count in outcomes.items():
        status = words.get(came_to, "failed")
        found[status,] = found.get((status,), 0) + count
    return found


def add_operating_routes(app: QuartTrio, instance: Instance, watch: Watch, token: str) -> Viewers:
    """Serve them; returns who may look at pages."""
    answer_wrong(app)
    viewers = Viewers(instance.config.server.pages, token)
    add_viewer_routes(app, viewers)
    add_stats_route(app, watch.snapshot)
    add_history_route(app, watch.history, viewers)
    add_live_route(app, watch.live, viewers)
    add_metrics_route(app, instance, watch.snapshot, viewers)
    add_session_routes(app, instance, token)
    add_utterance_routes(app, instance, token)
    add_old_paths(app)
    return viewers
