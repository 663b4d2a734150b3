"""Asynchronous translations: what is kept of one, and how it comes to its end (gateway 11.6).

    queued --begun--> running --result--> succeeded
                      running --problem--> failed
                      running --the process ends--> queued, at most so many times, then failed
    queued, running --its owner gives it up--> cancelled

Each step takes a job and returns it one step further, or None where that step is not possible any more.
Times are Unix seconds.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

MAX_RUNS = 3
"""So often a job is begun: one that ends the process each time must not do so for ever."""


class JobStatus(StrEnum):
    """How far a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN = frozenset({JobStatus.QUEUED, JobStatus.RUNNING})
"""What still has something to be done."""


class SpeechJob(Struct, frozen=True, kw_only=True):
    """One recording on its way to its translation; the recording itself is a file."""

    id: str
    tenant_id: str
    key_id: str
    fields: dict[str, str]
    """The form without its audio."""
    address: str
    """Where the request came from."""
    created_at: float
    webhook_id: str | None = None
    """The webhook that is told, whatever events it wants."""
    status: JobStatus = JobStatus.QUEUED
    runs: int = 0
    """How often it was begun."""
    started_at: float | None = None
    finished_at: float | None = None
    result: bytes | None = None
    """The answer as JSON, once it has succeeded."""
    error: dict[str, Any] | None = None
    """What was wrong, once it has failed: `code`, `message`, `status`, `retryable`."""

    @property
    def open(self) -> bool:
        """Whether something is still to be done."""
        return self.status in OPEN


def begun(job: SpeechJob, now: float) -> SpeechJob | None:
    """The job as it is worked on."""
    if job.status is not JobStatus.QUEUED:
        return None
    return replace(job, status=JobStatus.RUNNING, runs=job.runs + 1, started_at=now)


def interrupted(job: SpeechJob, now: float) -> SpeechJob | None:
    """The job after its process has ended in the middle."""
    if job.status is not JobStatus.RUNNING:
        return None
    if job.runs >= MAX_RUNS:
        return failed(job, now, lost("It was begun several times and never came to an end; send it again."))
    return replace(job, status=JobStatus.QUEUED, started_at=None)


def succeeded(job: SpeechJob, now: float, result: bytes) -> SpeechJob | None:
    """The job with its result."""
    if job.status is not JobStatus.RUNNING:
        return None
    return replace(job, status=JobStatus.SUCCEEDED, finished_at=now, result=result)


def failed(job: SpeechJob, now: float, error: dict[str, Any]) -> SpeechJob | None:
    """The job with what was wrong; one that is queued may fail too, if it cannot even be begun."""
    if not job.open:
        return None
    return replace(job, status=JobStatus.FAILED, finished_at=now, error=error)


def cancelled(job: SpeechJob, now: float) -> SpeechJob | None:
    """The job that its owner has given up."""
    if not job.open:
        return None
    return replace(job, status=JobStatus.CANCELLED, finished_at=now)


def lost(message: str) -> dict[str, Any]:
    """The error of a job that the server could not bring to an end."""
    return {"code": "job_lost", "message": message, "status": 500, "retryable": True}
