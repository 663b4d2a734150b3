"""Lanes: where the jobs of a session that a node must see in order go (node-protocol 5.6, 6.2)."""

from __future__ import annotations

from msgspec import Struct, field

from linguad.core.job import Job

MAX_NUMBERS = 8
"""Wire sessions of a lane in use at once; more than a job has attempts."""


class Lane(Struct):
    """An ordering context of a session; mutable: its node, its turn, and how far each wire session went."""

    route: int
    """Hash that chooses the preferred pool."""
    row: int = -1
    """Node of the last job."""
    turn_id: str = ""
    used_at: float = 0.0
    base: int = 1
    """Lowest attempt number in use; those below are behind us."""
    turn_number: int = 1
    """Attempt number of the last slice of the turn, which the next one shares."""
    highest: dict[int, int] = field(default_factory=dict)
    """Highest utterance index sent under each attempt number in use, that is in each wire session."""

    def number_for(self, job: Job) -> int:
        """The attempt number for a job: its own, its turn's, or a fresh one if that has gone as far already.

        Nodes do not translate a lower index after a higher one, and refuse the same one (node-protocol 0.3).
        """
        number = max(job.next_number, self.base)
        if job.request.turn_id == self.turn_id:
            number = max(number, self.turn_number)
        if self.highest.get(number, -1) < job.request.utterance_index:
            return number
        return max(number, *self.highest) + 1

    def sent(self, job: Job, row: int, now: float) -> None:
        """The job went to the node of this row as its newest attempt."""
        number = job.attempts[-1].number
        self.row, self.turn_id, self.turn_number, self.used_at = row, job.request.turn_id, number, now
        self.highest[number] = max(self.highest.get(number, -1), job.request.utterance_index)
        while len(self.highest) > MAX_NUMBERS:
            del self.highest[min(self.highest)]
            self.base = min(self.highest)


class SessionJobs(Struct):
    """The open jobs of a session in order of submission, and its lanes."""

    open: dict[str, Job] = field(default_factory=dict)
    lanes: dict[str, Lane] = field(default_factory=dict)
