"""Counts what nodes say about models they lack (pools-and-cluster 5.7, 7.3)."""

from __future__ import annotations

from prometheus_client import Counter

from linguad import metrics
from linguad.core.actions import ServiceMissing
from linguad.core.services import Mark

MAX_SERVICES, MAX_REASONS, MAX_NODES = 200, 200, 100
"""Label values; what comes later is counted without its name."""


class MissingModels:
    """Mutable state: the names that have a count of their own."""

    def __init__(self) -> None:
        self._services = metrics.FewValues(MAX_SERVICES)
        self._reasons = metrics.FewValues(MAX_REASONS)
        self._limited = metrics.FewValues(MAX_NODES)
        self._marked = metrics.FewValues(MAX_NODES)

    def count(self, said: ServiceMissing) -> None:
        """A node said it lacks a service."""
        metrics.MODEL_NA_RECEIVED.inc()
        _by(self._services, said.service_id, metrics.MODEL_NA_BY_SERVICE, metrics.MODEL_NA_OTHER_SERVICE)
        _by(self._reasons, said.reason, metrics.MODEL_NA_BY_REASON, metrics.MODEL_NA_OTHER_REASON)
        if said.mark is Mark.TOO_MANY:
            metrics.MODEL_NA_LIMITED.inc()
            _by(self._limited, said.node_id, metrics.MODEL_NA_LIMITED_BY_NODE, metrics.MODEL_NA_OTHER_LIMITED)
        elif said.mark is Mark.HOLDS:
            metrics.MODEL_NA_MARKED.inc()
            _by(self._marked, said.node_id, metrics.MODEL_NA_MARKED_BY_NODE, metrics.MODEL_NA_OTHER_MARKED)


def _by(few: metrics.FewValues, name: str, counter: Counter, others: Counter) -> None:
    if (label := few(name)) == metrics.OTHER:
        others.inc()
    else:
        counter.labels(label).inc()
