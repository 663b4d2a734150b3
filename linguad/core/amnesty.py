"""Failures that may be our own do not count against nodes: while we stood still or are on our way out."""

from __future__ import annotations

from collections.abc import Mapping

from linguad.core.deadlines import Deadlines
from linguad.core.fleet import STANDSTILL_S
from linguad.core.job import Job

GRACE_S = 2.0
"""What a deadline gets that passed while our own process stood still: the answer may lie unread."""

AMNESTY_S = 5.0
"""After a standstill failures do not count against nodes for so long."""


class Amnesty:
    """Mutable state: until when nobody is blamed."""

    def __init__(self) -> None:
        self.draining = False
        """We are on our way out; what fails from now on is no fault of the nodes."""
        self._until = 0.0

    def why(self, now: float) -> str | None:
        """Why a failure would be forgiven now; None if it counts."""
        return "drain" if self.draining else "standstill" if now < self._until else None

    def notice(self, deadlines: Deadlines[str], jobs: Mapping[str, Job], now: float) -> float | None:
        """Seconds that nobody ran, if deadlines passed long ago; these wait for what the sockets hold."""
        due = deadlines.due()
        if due is None or now - due <= STANDSTILL_S or now < self._until:
            return None
        self._until = now + AMNESTY_S
        late = []
        while (job_id := deadlines.pop(now)) is not None:
            late.append(jobs[job_id])
        for job in late:
            for attempt in job.open_attempts:
                attempt.deadline = max(attempt.deadline, now + GRACE_S)
            deadlines.set(job.id, now + GRACE_S)
        return now - due
