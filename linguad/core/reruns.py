"""Repeated recognitions, which nodes count for themselves since their start (pools-and-cluster 7.3, D-40)."""

from __future__ import annotations

from msgspec import Struct

from linguad.wire.node import RerunMetrics

NONE = RerunMetrics()


class Reruns(Struct):
    """Mutable state: their sums over all nodes, whatever becomes of these."""

    triggered: int = 0
    successful: int = 0
    failed: int = 0
    timed_out: int = 0
    improved: int = 0

    def report(self, before: RerunMetrics, said: RerunMetrics) -> None:
        """A node said another total than before; a smaller one tells that it was started anew."""
        if said.total_reruns < before.total_reruns:
            before = NONE
        self.triggered += said.total_reruns - before.total_reruns
        self.successful += max(0, said.successful_reruns - before.successful_reruns)
        self.failed += max(0, said.failed_reruns - before.failed_reruns)
        self.timed_out += max(0, said.timeout_reruns - before.timeout_reruns)
        self.improved += max(0, said.quality_improvements - before.quality_improvements)
