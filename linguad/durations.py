"""Durations by bucket for Prometheus, where each result is timed: a fifth of the cost of its own histogram.

For one thread, that of the event loop.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry


class Durations:
    """Mutable state: how many durations fell into each bucket, and their sum."""

    __slots__ = ("bounds", "counts", "seconds")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` are the upper ends of the buckets in s, ascending; there is one more beyond the last."""
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.seconds += seconds

    @property
    def total(self) -> int:
        """How many there were."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Their mean in s; 0 if there were none."""
        return self.seconds / self.total if any(self.counts) else 0.0


class DurationMetric(Collector):
    """One metric; with a label, one `Durations` for each of its values, which are all known beforehand."""

    def __init__(
        self,
        name: str,
        documentation: str,
        bounds: Sequence[float],
        label: str = "",
        values: Sequence[str] = ("",),
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self.name = name
        self.documentation = documentation
        self.label = label
        self._parts = {value: Durations(bounds) for value in values}
        registry.register(self)

    def __getitem__(self, value: str) -> Durations:
        """The part of a label's value."""
        return self._parts[value]

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """The metric without values."""
        yield HistogramMetricFamily(self.name, self.documentation, labels=[self.label] if self.label else [])

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The metric as it is now."""
        for family in self.describe():
            for value, part in self._parts.items():
                buckets, below = [], 0
                for bound, count in zip((*part.bounds, float("inf")), part.counts, strict=True):
                    below += count
                    buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), below))
                family.add_metric([value] if self.label else [], buckets, part.seconds)
            yield family


def percentile(bounds: Sequence[float], counts: Sequence[int], percent: float) -> float:
    """The duration that so many percent do not exceed, s, as exact as the buckets are; 0 if there were none.

    Of what is beyond the last bound only that is known.
    """
    wanted, seen, lower = sum(counts) * percent / 100, 0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count and seen + count >= wanted:
            return lower + (bound - lower) * (wanted - seen) / count
        seen, lower = seen + count, bound
    return lower if any(counts) else 0.0
