"""The numbers an operator looks at first: for dashboards, and for the history of a day."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from linguad import metrics
from linguad.core.health import Status
from linguad.core.job import MissingReason
from linguad.durations import percentile
from linguad.ops.instance import Instance

WINDOW_S = 60
"""Rates and percentiles are those of the last minute."""

FAILURES = (
    MissingReason.JOB_FAILED,
    MissingReason.JOB_TIMEOUT,
    MissingReason.NO_NODE,
    MissingReason.OVERLOADED,
    MissingReason.NODE_LOST,
)
"""Outcomes that are somebody's fault; silence and what was cancelled are not."""

GAUGES = {
    "sessions": "sessions with a connection",
    "sessions_detached": "sessions that wait for their client to come back",
    "nodes_ready": "nodes that get work",
    "nodes_online": "nodes that are connected",
    "slots": "jobs that the ready nodes can do at once",
    "slots_used": "slots of all nodes that jobs hold",
    "jobs_open": "jobs that are not over",
    "jobs_waiting": "jobs that wait for a node",
    "results_per_minute": "utterances that got their text in the last minute",
    "failures_per_minute": "utterances that failed in the last minute",
    "queue_p95_ms": "from the cut of an utterance to its node, 95th percentile of the last minute",
    "total_p50_ms": "from the last sound of an utterance to its result, median of the last minute",
    "total_p95_ms": "the same, 95th percentile",
    "loop_lag_ms": "longest time the event loop was late in the last minute",
    "buffered_bytes": "bytes held for connections and jobs",
}
"""Every gauge, with what it is."""


class _Moment(NamedTuple):
    results: int
    failures: int
    stages: tuple[tuple[int, ...], ...]
    lag_s: float


class Meter:
    """Mutable state: the counters of the last minute, second by second."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._moments: deque[_Moment] = deque(maxlen=WINDOW_S + 1)
        self.lag_s = 0.0
        """The longest lag of the event loop since the last tick; whoever samples it writes it here."""
        self.tick()

    def tick(self) -> None:
        """A second has passed."""
        outcomes = self._instance.outcomes
        stages = tuple(tuple(metrics.STAGE_SECONDS[stage].counts) for stage in metrics.STAGES)
        failures = sum(outcomes.get(reason, 0) for reason in FAILURES)
        self._moments.append(_Moment(outcomes.get("completed", 0), failures, stages, self.lag_s))
        self.lag_s = 0.0

    def stages(self) -> dict[str, dict[str, float]]:
        """Median and 95th percentile of each stage in the last minute, ms."""
        return {
            stage: {"p50_ms": self._percentile_ms(stage, 50), "p95_ms": self._percentile_ms(stage, 95)}
            for stage in metrics.STAGES
        }

    def read(self) -> dict[str, float]:
        """All gauges."""
        instance, first, last = self._instance, self._moments[0], self._moments[-1]
        fleet, dispatch = instance.dispatch.fleet, instance.dispatch
        attached, detached = instance.session_counts()
        ready = [node for node in fleet.nodes.values() if node.status is Status.READY]
        return {
            "sessions": attached,
            "sessions_detached": detached,
            "nodes_ready": len(ready),
            "nodes_online": sum(node.online for node in fleet.nodes.values()),
            "slots": sum(node.slots for node in ready),
            "slots_used": sum(fleet.slots_used(node_id) for node_id in fleet.nodes),
            "jobs_open": dispatch.open_jobs,
            "jobs_waiting": len(dispatch.waiting),
            "results_per_minute": last.results - first.results,
            "failures_per_minute": last.failures - first.failures,
            "queue_p95_ms": self._percentile_ms("queue", 95),
            "total_p50_ms": self._percentile_ms("total", 50),
            "total_p95_ms": self._percentile_ms("total", 95),
            "loop_lag_ms": round(max(moment.lag_s for moment in self._moments) * 1000, 3),
            "buffered_bytes": instance.buffered_bytes,
        }

    def _percentile_ms(self, stage: str, percent: float) -> float:
        number = metrics.STAGES.index(stage)
        before, now = self._moments[0].stages[number], self._moments[-1].stages[number]
        bounds = metrics.STAGE_SECONDS[stage].bounds
        counts = [late - early for early, late in zip(before, now, strict=True)]
        return round(percentile(bounds, counts, percent) * 1000, 3)
