"""docs/metrics.md, printed from the metrics: `python -m linguad.metrics_page`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client.metrics import MetricWrapperBase

from linguad import metrics
from linguad.counters import ReadMetric
from linguad.durations import DurationMetric

_HEAD = """\
# Metrics

Printed from the metrics by `python -m linguad.metrics_page`; a test compares.

`GET /metrics` on the scheduler's port (5010) gives them as Prometheus text. It is open to everybody: it names
nodes, but no job and no client. Names that begin with `scheduler_` are those of the earlier server and stay.
Times are seconds unless the name says otherwise; a histogram has `_bucket`, `_sum` and `_count`. Labels that
peers can make up have a bounded number of values; what comes later is `other`.

`etc/grafana/linguad.json` is a dashboard, and `etc/prometheus/alerts.yml` has rules, each with its entry in
[alerts](alerts.md).
"""

_GROUPS = {
    "scheduler_": "Of the earlier server",
    "linguad_": "Of linguad",
}


class Shown(NamedTuple):
    """A metric as the page shows it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    what: str


def shown() -> list[Shown]:
    """Every metric, by name."""
    return sorted(_found())


def page() -> str:
    """The whole page as Markdown."""
    lines, found = [_HEAD], shown()
    for prefix, title in _GROUPS.items():
        lines += [f"## {title}\n", "| Metric | Type | Labels | What it is |", "| --- | --- | --- | --- |"]
        lines += [
            f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.what} |"
            for one in found
            if one.name.startswith(prefix)
        ]
        lines.append("")
    return "\n".join(lines)


def _found() -> Iterator[Shown]:
    for metric in vars(metrics).values():
        match metric:
            case MetricWrapperBase():
                labels, kind = tuple(metric._labelnames), str(metric._type)
            case DurationMetric():
                labels, kind = ((metric.label,) if metric.label else ()), "histogram"
            case ReadMetric():
                labels, kind = metric.labels, next(metric.describe()).type
            case _:
                continue
        (family,) = metric.describe()
        name = f"{family.name}_total" if kind == "counter" else family.name
        yield Shown(name, kind, labels, family.documentation)


if __name__ == "__main__":
    print(page(), end="")
