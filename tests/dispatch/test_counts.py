"""What the engine counts: quality of results, models that nodes lack, slow steps, deadlines, slots."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import pytest
from core.support import Desk, fault, sound
from core.support import request as wanted
from prometheus_client import REGISTRY

from linguad import metrics
from linguad.core.actions import StoodStill
from linguad.core.job import Job, Outcome
from linguad.dispatch.engine import Engine
from linguad.dispatch.missing import MAX_NODES
from linguad.dispatch.quality import MAX_CODES, Quality
from linguad.errors import CloseReason
from linguad.net.outbox import Budget
from linguad.wire.common import ExtraResult
from linguad.wire.node import JobError


class Silent:
    """Nodes and sessions that take everything."""

    def send(self, _node_id: str, _text: str) -> bool:
        return True

    def close(self, _node_id: str, _reason: CloseReason) -> None: ...

    def resolve(self, _job: Job, _outcome: Outcome) -> None: ...

    def progress(self, _job: Job, _event: str) -> None: ...

    def partial(self, _job: Job, _text: str, _is_final: bool) -> None: ...

    def nodes_changed(self) -> None: ...


class Office:
    """An engine on a desk's dispatcher."""

    def __init__(self, slow_path_s: float = 60.0) -> None:
        self.desk = Desk()
        self.engine = Engine(
            self.desk.dispatch, Budget(2**30), lambda: self.desk.now, slow_path_s=slow_path_s
        )
        self.engine.connect(Silent(), Silent())

    def submit(self, index: int = 0, **members: Any) -> Job:
        before = set(self.desk.dispatch.jobs)
        self.engine.submit(wanted(index, now=self.desk.now, **members), sound())
        (job_id,) = set(self.desk.dispatch.jobs) - before
        return self.desk.dispatch.jobs[job_id]

    def answer(self, job: Job, kind: str = "complete", **members: Any) -> None:
        self.engine.perform(self.desk.answer(job.attempts[-1], kind, **members))


@contextmanager
def moved(name: str, by: float = 1, **labels: str) -> Iterator[None]:
    """The metric goes up by so much."""
    before = REGISTRY.get_sample_value(name, labels) or 0.0
    yield
    assert (REGISTRY.get_sample_value(name, labels) or 0.0) - before == by


@pytest.fixture
def office() -> Office:
    office = Office()
    office.desk.node("a", cap=50)
    return office


def test_quality_by_node_and_by_pair(office: Office) -> None:
    with (
        moved("linguad_quality_by_node_total", 1, node="a", level="bad"),
        moved("linguad_quality_by_pair_total", 1, pair="en>es", level="bad"),
        moved("linguad_reason_codes_by_node_total", 1, node="a", code="low_lang_prob"),
        moved("linguad_reason_codes_by_pair_total", 1, pair="en>es", code="low_lang_prob"),
    ):
        codes = ["low_lang_prob", "low_lang_prob"]
        office.answer(office.submit(0), asr_quality_level="bad", reason_codes=codes, rerun_count=2)
    office.desk.now += 2.0
    job = office.submit(1, room_id="r-1")
    office.desk.now += 0.5
    office.answer(job, extra=ExtraResult(language_probability=0.55))
    office.answer(office.submit(2), "empty")
    told = office.engine.quality.told()
    assert told["e2e_latency"] == {"p50_ms": 500.0, "p95_ms": 500.0, "p99_ms": 500.0, "count": 2}
    assert (told["bad_segment_rate"], told["rerun_trigger_rate"]) == (0.5, 0.5)
    assert {one["key"]: one["count"] for one in told["lang_prob_distribution"]}["0.4-0.6"] == 1
    room, single = told["by_mode"]["room"], told["by_mode"]["single"]
    assert (room["e2e_latency"]["count"], room["bad_segment_rate"]) == (1, 0.0)
    assert (single["e2e_latency"]["count"], single["bad_segment_rate"]) == (1, 1.0)


def test_the_surest_language_is_in_the_last_range(office: Office) -> None:
    office.answer(office.submit(), extra=ExtraResult(language_probability=1.0))
    assert office.engine.quality.told()["lang_prob_distribution"][-1] == {"key": "0.8-1.0", "count": 1}


def test_codes_that_nodes_make_up_do_not_make_the_metrics_grow(office: Office) -> None:
    for number in range(3 * MAX_CODES):
        office.answer(
            office.submit(number), reason_codes=[f"made up {number}"], asr_quality_level=f"l{number}"
        )
    lines = [
        sample
        for family in (metrics.REASONS_BY_NODE.collect(), metrics.QUALITY_BY_NODE.collect())
        for metric in family
        for sample in metric.samples
        if sample.labels["node"] == "a" and "made up" in str(sample.labels.get("code", "made up"))
    ]
    assert len({str(sample.labels) for sample in lines}) < 2 * MAX_CODES
    assert isinstance(office.engine.quality, Quality)


def lacking(service: str, reason: str | None = "downloading") -> JobError:
    return JobError("MODEL_NOT_AVAILABLE", "no model", {"service_id": service, "reason": reason})


def test_reports_of_missing_models(office: Office) -> None:
    with (
        moved("scheduler_model_na_received_total", 2),
        moved("scheduler_model_na_marked_total", 1),
        moved("scheduler_model_na_rate_limited_total", 0),
        moved("scheduler_model_na_by_service_total", 1, service_id="nmt-service"),
        moved("scheduler_model_na_by_reason_total", 1, reason="downloading"),
        moved("scheduler_model_na_by_reason_total", 1, reason="unknown"),
        moved("scheduler_model_na_marked_by_node_total", 1, node_id="a"),
    ):
        office.answer(office.submit(0), "failed", error=lacking("nmt-service"))
        office.engine.service_missing("a", "phantom", "unknown")


def test_reports_that_come_too_fast(office: Office) -> None:
    with (
        moved("scheduler_model_na_received_total", 31),
        moved("scheduler_model_na_rate_limited_total", 1),
        moved("scheduler_model_na_rate_limited_by_node_total", 1, node_id="a"),
    ):
        for _ in range(31):
            office.engine.service_missing("a", "nmt-service", "error")


def test_many_nodes_that_lack_models_are_counted_together(office: Office) -> None:
    others = "scheduler_model_na_other_marked_node_total"
    before = REGISTRY.get_sample_value(others) or 0.0
    for number in range(MAX_NODES + 5):
        office.desk.node(f"n-{number}")
        office.engine.service_missing(f"n-{number}", "nmt-service", "error")
    assert (REGISTRY.get_sample_value(others) or 0.0) - before == 5


def slow_steps(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What was said about slow steps."""
    said = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    return [one for one in said if one["event"] == "slow_path"]


def test_a_slow_step_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "linguad")
    office = Office(slow_path_s=0.0)
    with moved("scheduler_slow_path_total", 1, path="submit"):
        office.submit()
    (said,) = slow_steps(caplog)
    assert (said["path"], said["level"], said["actions"]) == ("submit", "warning", 1)
    assert said["decide_ms"] >= 0
    assert said["perform_ms"] >= 0


def test_a_fast_step_is_not(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "linguad")
    with moved("scheduler_slow_path_total", 0, path="submit"):
        office.submit()
    assert slow_steps(caplog) == []


def test_a_standstill_and_an_action_with_a_bug(
    office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with moved("linguad_standstills_total"):
        office.engine.perform([StoodStill(3.0)])
    job = office.submit()

    def broken(_self: Silent, _job: Job, _outcome: Outcome) -> None:
        raise ValueError("bug")

    monkeypatch.setattr(Silent, "resolve", broken)
    with moved("linguad_actions_failed_total"):
        office.answer(job)
    assert "action_failed" in caplog.text


def test_times_of_decisions_and_of_sending(office: Office) -> None:
    with (
        moved("scheduler_node_selection_duration_seconds_count", 2),
        moved("scheduler_dispatch_latency_seconds_count", 1),
    ):
        office.submit(0)
        office.submit(1, tgt="fr")


def test_what_no_step_led_to_is_timed_from_its_own_beginning(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.submit(0, tgt="fr")
    actions = office.desk.node("b", "en", "fr")
    later = perf_counter() + 1_000
    monkeypatch.setattr("linguad.dispatch.engine.perf_counter", lambda: later)
    with moved("scheduler_dispatch_latency_seconds_bucket", 1, le="0.0001"):
        office.engine.perform(actions)


def test_slots_taken_and_refused(office: Office) -> None:
    office.submit(0)
    assert (office.engine.selections.reserved, office.engine.selections.refused) == (1, 0)
    office.submit(0, session="s-2", tgt="fr")
    assert (office.engine.selections.reserved, office.engine.selections.refused) == (1, 1)


def test_nodes_that_do_not_answer_in_time(office: Office) -> None:
    job = office.submit()
    with moved("scheduler_ack_timeout_total", 1):
        while not job.attempts[0].end:
            due = office.engine.due()
            assert due is not None
            office.desk.now = due
            office.engine.tick(due)


def test_outcomes(office: Office) -> None:
    office.answer(office.submit(0))
    office.answer(office.submit(1), "empty")
    office.answer(office.submit(2), "failed", error=fault("Unsupported audio format"))
    assert office.engine.outcomes == {"completed": 1, "silence_detected": 1, "job_failed": 1}
