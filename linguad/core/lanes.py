"""Lanes: where the jobs of a session that a node must see in order go (node-protocol 5.6, 6.2)."""

from __future__ import annotations

from msgspec import Struct, field

from linguad.core.job import Job


class Lane(Struct):
    """An ordering context of a session; mutable: its node, its turn, and how far each wire session went."""

    route: int
    """Hash that chooses the preferred pool."""
    row: int = -1
    """Node of the last job."""
    turn_id: str = ""
    used_at: float = 0.0
    highest: dict[int, int] = field(default_factory=dict)
    """Highest utterance index sent under each attempt number, that is in each wire session."""

    def number_for(self, index: int, wanted: int) -> int:
        """The attempt number from `wanted` on whose wire session has not gone as far as this utterance.

        Nodes do not translate a lower index after a higher one, and refuse the same one (node-protocol 0.3).
        """
        while self.highest.get(wanted, -1) >= index:
            wanted += 1
        return wanted

    def sent(self, job: Job, row: int, now: float) -> None:
        """The job went to the node of this row as its newest attempt."""
        self.row, self.turn_id, self.used_at = row, job.request.turn_id, now
        number = job.attempts[-1].number
        self.highest[number] = max(self.highest.get(number, -1), job.request.utterance_index)


class SessionJobs(Struct):
    """The open jobs of a session in order of submission, and its lanes."""

    open: dict[str, Job] = field(default_factory=dict)
    lanes: dict[str, Lane] = field(default_factory=dict)
