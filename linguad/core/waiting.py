"""Jobs that wait for a node: one queue per index key, in order within each lane (resolution 30).

Only the first waiting job of a lane may be sent, so that a node sees the utterances of a session in order.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator

from linguad.core.job import Job
from linguad.core.node import Key


class WaitingRoom:
    """Mutable state: per key the jobs in order of arrival, per lane its jobs in order of utterance."""

    def __init__(self) -> None:
        self._queues: dict[Key, dict[str, Job]] = {}
        self._lanes: dict[str, list[Job]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, job: Job) -> bool:
        return job.id in self._queues.get(job.key, ())

    def add(self, job: Job) -> None:
        """Let a job wait; a retried one comes before the later utterances of its lane."""
        self._queues.setdefault(job.key, {})[job.id] = job
        insort(self._lanes.setdefault(job.request.lane, []), job, key=_utterance_index)
        self._size += 1

    def remove(self, job: Job) -> None:
        """The job waits no more."""
        queue = self._queues[job.key]
        del queue[job.id]
        if not queue:
            del self._queues[job.key]
        lane = self._lanes[job.request.lane]
        lane.remove(job)
        if not lane:
            del self._lanes[job.request.lane]
        self._size -= 1

    def head(self, lane: str) -> Job | None:
        """The next job of a lane."""
        jobs = self._lanes.get(lane)
        return jobs[0] if jobs else None

    def keys(self) -> list[Key]:
        """Keys somebody waits for."""
        return list(self._queues)

    def heads(self, key: Key) -> Iterator[Job]:
        """Jobs of a key that may be sent now, oldest first; jobs may be removed meanwhile."""
        for job in list(self._queues.get(key, {}).values()):
            if self.head(job.request.lane) is job:
                yield job


def _utterance_index(job: Job) -> int:
    return job.request.utterance_index
