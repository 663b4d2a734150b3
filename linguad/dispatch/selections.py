"""Counts what selections came to, by pool (pools-and-cluster 3.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client import Counter

from linguad import metrics
from linguad.core.capability import Probe
from linguad.core.job import Attempt, Job
from linguad.core.key import Key

MAX_KEPT = 1_000
"""Counters kept at hand; to look one up takes longer than to count."""


class Selections:
    """A pool is told by its id; without capability pools by the languages, as `en>es`."""

    def __init__(self) -> None:
        self._few = metrics.FewValues()
        self.reserved = 0
        """Slots that were taken for jobs."""
        self.refused = 0
        """How often no slot was free for a job."""
        self._found: dict[tuple[object, ...], tuple[Counter, Counter]] = {}

    def found(self, job: Job, attempt: Attempt) -> None:
        """A job got a node."""
        self.reserved += 1
        key = job.key
        asked = key.src, key.tgt, key.two_way, attempt.pool, attempt.fallback
        counters = self._found.get(asked)
        if counters is None:
            if len(self._found) >= MAX_KEPT:
                self._found.clear()
            pool = self._label(key, attempt.pool)
            selected = metrics.POOL_SELECTED.labels(pool, "hit", "true" if attempt.fallback else "false")
            counters = self._found[asked] = selected, metrics.POOL_ATTEMPTS.labels(pool, "success", "ok")
        for counter in counters:
            counter.inc()
        self._refused(key, attempt.passed)

    def missed(self, job: Job, refusing: Sequence[Probe]) -> None:
        """A job has to wait: none of these pools had a node for it."""
        self.refused += 1
        self._refused(job.key, refusing)
        if refusing:
            metrics.POOL_SELECTED.labels(self._label(job.key, refusing[0].pool), "miss", "false").inc()

    def given_up(self, job: Job, details: Mapping[str, object]) -> None:
        """A job ended without a node."""
        key = job.key
        selector = "phase3_type" if key.pools else "features" if key.features else "types"
        metrics.NO_NODE.labels(selector, details["reason"]).inc()
        missing = details.get("missing_types")
        for kind, why in missing.items() if isinstance(missing, dict) else ():
            metrics.MISSING_TYPES.labels(kind, why).inc()

    def _refused(self, key: Key, probes: Sequence[Probe]) -> None:
        for probe in probes:
            metrics.POOL_ATTEMPTS.labels(self._label(key, probe.pool), "fail", probe.reason).inc()

    def _label(self, key: Key, pool: int | None) -> str:
        if pool is not None:
            return self._few(str(pool))
        return self._few(f"{key.src}<>{key.tgt}" if key.two_way else f"{key.src}>{key.tgt}")
