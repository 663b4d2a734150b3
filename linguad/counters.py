"""Metrics for Prometheus that are counted elsewhere anyway and read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import REGISTRY, Counter
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

Read = Callable[[], Mapping[tuple[str, ...], float]]
"""Gives the value for each combination of label values."""

Family = CounterMetricFamily | GaugeMetricFamily


class ReadMetric(Collector):
    """A metric that somebody else keeps."""

    family: type[CounterMetricFamily] | type[GaugeMetricFamily]

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self.name = name
        self.documentation = documentation
        self.labels = tuple(labels)
        self._read: Read = _nothing
        registry.register(self)

    def set_function(self, read: Read) -> None:
        """Say where the values are."""
        self._read = read

    def describe(self) -> Iterator[Family]:
        """The metric without values."""
        yield self.family(self.name, self.documentation, labels=self.labels)

    def collect(self) -> Iterator[Family]:
        """The metric as it is now."""
        for family in self.describe():
            for values, value in self._read().items():
                family.add_metric(values, value)
            yield family


class ReadCounter(ReadMetric):
    """A counter that somebody else keeps."""

    family = CounterMetricFamily


class ReadGauge(ReadMetric):
    """A gauge that somebody else keeps."""

    family = GaugeMetricFamily


def values(counter: Counter) -> dict[tuple[str, ...], int]:
    """What a counter has counted, by its label values."""
    found = {}
    for family in counter.collect():
        for sample in family.samples:
            if sample.name.endswith("_total"):
                found[tuple(sample.labels.values())] = int(sample.value)
    return found


def _nothing() -> Mapping[tuple[str, ...], float]:
    return {}
