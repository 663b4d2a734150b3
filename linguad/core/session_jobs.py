"""The open jobs of one session, and which of them a node works on together."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct, field

from linguad.core.job import Attempt, Job, JobRequest
from linguad.core.lanes import Lane


class SessionJobs(Struct):
    """Mutable state: the open jobs of a session in order of submission, and its lanes."""

    open: dict[str, Job] = field(default_factory=dict)
    lanes: dict[str, Lane] = field(default_factory=dict)

    def lane_of(self, request: JobRequest, route: Callable[[str, str], int]) -> Lane:
        """The lane of a job, made on first use; `route` hashes the session id, or the tenant."""
        lane = self.lanes.get(request.lane)
        if lane is None:
            lane = self.lanes[request.lane] = Lane(request.lane, route(request.session_id, request.tenant))
        return lane

    def running_beside(self, job: Job) -> list[Job]:
        """Jobs of the same turn and language that nodes work on."""
        lane, turn_id = job.request.lane, job.request.turn_id
        return [
            other
            for other in self.open.values()
            if other is not job
            and other.open_attempts
            and other.request.lane == lane
            and other.request.turn_id == turn_id
        ]

    def slices_before(self, closing: Job) -> list[Job]:
        """The slices of a turn that are still open when its closing job ends (node-protocol 6.5)."""
        return [other for other in self.open.values() if other.precedes(closing)]

    def turn_lies_with(self, job: Job, attempt: Attempt) -> bool:
        """Whether an attempt of the job that ends a turn went where all its open slices are."""
        return job.deferrable or all(slice_.lies_with(attempt) for slice_ in self.slices_before(job))

    def abandoned_by(self, job: Job) -> list[Job]:
        """Slices whose turn ended without a closing job, seen when the next turn begins."""
        request = job.request
        others = [other for other in self.open.values() if other.request.lane == request.lane]
        closed = {other.request.turn_id for other in others if not other.deferrable}
        return [
            other
            for other in others
            if other.heard
            and other.request.turn_id != request.turn_id
            and other.request.turn_id not in closed
        ]


def by_turn(jobs: Iterable[Job]) -> list[list[Job]]:
    """Jobs of some sessions, those of one turn and language together."""
    turns: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        turns.setdefault((job.request.lane, job.request.turn_id), []).append(job)
    return list(turns.values())
