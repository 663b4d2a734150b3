"""The page of metrics is true; dashboard and alerts name metrics that exist; alerts have their runbooks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, CollectorRegistry, Histogram, generate_latest

from linguad import metrics
from linguad.counters import ReadCounter, values
from linguad.durations import DurationMetric, percentile
from linguad.metrics_page import page, shown

ROOT = Path(__file__).parents[1]
FOREIGN = ("python_", "process_")
"""Metrics of the client library about the process."""

FROZEN = [
    "stats_requests_total",
    "stats_stale_total",
    "stats_request_duration_seconds",
    "dashboard_snapshot_age_seconds",
    "service_catalog_fail_count",
    "service_catalog_last_success_age_seconds",
    "web_task_pause_ms",
    "slow_path_total",
    "web_task_finalized_total",
    "no_available_node_total",
    "phase3_pool_selected_total",
    "phase3_pool_attempt_total",
    "model_na_received_total",
    "model_na_rate_limited_total",
    "model_na_marked_total",
    "model_na_by_service_total",
    "model_na_by_reason_total",
    "model_na_rate_limited_by_node_total",
    "model_na_marked_by_node_total",
    "model_na_other_service_total",
    "model_na_other_reason_total",
    "model_na_other_rate_limited_node_total",
    "model_na_other_marked_node_total",
    "phase2_redis_op_total",
    "phase2_inbox_pending",
    "phase2_dlq_moved_total",
    "phase2_presence_heartbeat_total",
    "reserve_attempt_total",
    "dispatch_latency_seconds",
    "ack_timeout_total",
    "node_overload_reject_total",
    "session_actor_backlog_size",
    "duplicate_finalize_suppressed_total",
    "duplicate_job_blocked_total",
    "result_gap_timeout_total",
    "average_finalize_latency_ms",
    "jobs_total",
    "nodes_total",
    "sessions_total",
    "node_selection_duration_seconds",
    "redis_op_duration_seconds",
]
"""Names of pools-and-cluster 7.5, of E5 and of the deployment guide; what the cluster has is tested there."""


def series() -> set[str]:
    """Every name that a query may ask for."""
    found = set()
    for one in shown():
        ends = ("_bucket", "_sum", "_count") if one.kind == "histogram" else ("",)
        found |= {one.name + end for end in ends}
    return found


def asked(query: str) -> set[str]:
    """The names of our metrics in a query."""
    return set(re.findall(r"\b(?:linguad|scheduler)_\w+", re.sub(r"\{[^}]*\}", "", query)))


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((ROOT / "etc/prometheus/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries_of_the_dashboard() -> list[str]:
    board = json.loads((ROOT / "etc/grafana/linguad.json").read_text())
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return found + [str(one.get("query")) for one in board["templating"]["list"]]


def test_the_page_is_up_to_date() -> None:
    assert (ROOT / "docs/metrics.md").read_text() == page()


def test_every_registered_metric_is_on_the_page() -> None:
    registered = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in REGISTRY.collect()
        if not family.name.startswith(FOREIGN)
    }
    assert registered == {one.name for one in shown()}


def test_the_frozen_names_are_there() -> None:
    assert {f"scheduler_{name}" for name in FROZEN} <= {one.name for one in shown()}


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    queries = queries_of_the_dashboard()
    assert all(asked(query) <= series() for query in queries), queries
    names = set().union(*map(asked, queries))
    assert {"linguad_stage_seconds_bucket", "linguad_reruns_total", "linguad_quality_by_pair_total"} <= names


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_metrics_that_exist_and_has_its_runbook(rule: dict[str, Any]) -> None:
    assert asked(rule["expr"]) <= series()
    assert asked(rule["expr"]) or rule["alert"] == "LinguadDown"
    assert rule["labels"]["severity"] in ("warning", "critical")
    file, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^## (\w+)$", (ROOT / file).read_text(), flags=re.MULTILINE)
    assert anchor in [heading.lower() for heading in headings]
    assert anchor == rule["alert"].lower()


def test_every_runbook_entry_has_its_alert() -> None:
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs/alerts.md").read_text(), flags=re.MULTILINE)
    assert headings == [rule["alert"] for rule in rules()]


def test_the_runbook_names_metrics_that_exist() -> None:
    quoted = re.findall(r"`([^`]+)`", (ROOT / "docs/alerts.md").read_text())
    assert set().union(*map(asked, quoted)) <= series() | {one.name for one in shown()}


def test_an_instance_without_others_is_one() -> None:
    program = "from linguad.metrics import INSTANCES as it; print(it.collect()[0].samples[0].value)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1.0\n"


@given(st.lists(st.floats(0, 20, allow_nan=False)))
def test_durations_are_what_the_library_would_count(durations: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bounds = (0.001, 0.1, 1.0, 10.0)
    mine = DurationMetric("a_seconds", "What.", bounds, "stage", ("x", "y"), registry=ours)
    other = Histogram("a_seconds", "What.", ["stage"], buckets=bounds, registry=theirs)
    for stage in ("x", "y"):
        other.labels(stage)
    for seconds in durations:
        mine["x"].observe(seconds)
        other.labels("x").observe(seconds)
    for name in ("a_seconds_bucket", "a_seconds_count", "a_seconds_sum"):
        for stage in ("x", "y"):
            for bound in ("0.001", "0.1", "1.0", "10.0", "+Inf") if name.endswith("bucket") else ("",):
                labels = {"stage": stage} | ({"le": bound} if bound else {})
                theirs_said = theirs.get_sample_value(name, labels)
                assert ours.get_sample_value(name, labels) == pytest.approx(theirs_said)
    assert mine["x"].total == len(durations)


@given(st.lists(st.floats(0, 4, allow_nan=False), min_size=1), st.floats(0, 100))
def test_a_percentile_is_as_exact_as_the_buckets(durations: list[float], percent: float) -> None:
    bounds = (1.0, 2.0, 3.0, 4.0)
    metric = DurationMetric("a_seconds", "What.", bounds, registry=CollectorRegistry())
    for seconds in durations:
        metric[""].observe(seconds)
    found = percentile(bounds, metric[""].counts, percent)
    ordered = sorted(durations)
    exact = ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
    below = ordered[max(0, int(len(ordered) * percent / 100) - 1)]
    assert below - 1.0 <= found <= exact + 1.0


def test_no_durations_have_no_percentile_and_no_mean() -> None:
    metric = DurationMetric("a_seconds", "What.", (1.0,), registry=CollectorRegistry())
    assert (percentile((1.0,), metric[""].counts, 95), metric[""].mean) == (0.0, 0.0)
    metric[""].observe(7.0)
    assert (percentile((1.0,), metric[""].counts, 95), metric[""].mean) == (1.0, 7.0)


def test_counters_that_are_kept_elsewhere() -> None:
    registry = CollectorRegistry()
    counter = ReadCounter("a_total", "What.", ["why"], registry=registry)
    assert b"# TYPE a_total counter" in generate_latest(registry)
    counter.set_function(lambda: {("b",): 3})
    assert registry.get_sample_value("a_total", {"why": "b"}) == 3


def test_reading_a_counter() -> None:
    before = values(metrics.RESULTS_DROPPED).get(("a test",), 0)
    metrics.RESULTS_DROPPED.labels("a test").inc(2)
    assert values(metrics.RESULTS_DROPPED)[("a test",)] == before + 2
