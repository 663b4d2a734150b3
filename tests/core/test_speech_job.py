"""Asynchronous translations: every history of steps ends once, and no step undoes an end."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from linguad.core.speech_job import (
    MAX_RUNS,
    JobStatus,
    SpeechJob,
    begun,
    cancelled,
    failed,
    interrupted,
    lost,
    succeeded,
)

STEPS: dict[str, Any] = {
    "begin": begun,
    "interrupt": interrupted,
    "succeed": lambda job, now: succeeded(job, now, b"{}"),
    "fail": lambda job, now: failed(job, now, lost("why")),
    "cancel": cancelled,
}
ALLOWED = {
    JobStatus.QUEUED: {"begin", "fail", "cancel"},
    JobStatus.RUNNING: {"interrupt", "succeed", "fail", "cancel"},
}


def job() -> SpeechJob:
    return SpeechJob(id="sj_1", tenant_id="t", key_id="k", fields={}, address="", created_at=0)


@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=20))
def test_any_history(names: list[str]) -> None:
    now_at, current = 0.0, job()
    for name in names:
        now_at += 1
        moved = STEPS[name](current, now_at)
        assert (moved is not None) == (name in ALLOWED.get(current.status, set()))
        if moved is None:
            continue
        assert (moved.id, moved.created_at, moved.fields) == (current.id, current.created_at, current.fields)
        current = moved
        assert current.runs <= MAX_RUNS
        assert (current.finished_at is None) == current.open
        assert (current.result is not None) == (current.status is JobStatus.SUCCEEDED)
        assert (current.error is not None) == (current.status is JobStatus.FAILED)
        assert current.open or current.finished_at == now_at


def test_a_job_that_ends_the_process_each_time_is_given_up() -> None:
    current = job()
    for run in range(1, MAX_RUNS + 1):
        started = begun(current, run)
        assert started is not None
        assert (started.runs, started.started_at) == (run, run)
        after = interrupted(started, run + 0.5)
        assert after is not None
        current = after
    assert current.status is JobStatus.FAILED
    assert (current.error or {})["code"] == "job_lost"
