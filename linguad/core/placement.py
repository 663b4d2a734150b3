"""From waiting to a node: which job goes next, and where (node-protocol 5, 6.4).

Jobs of a lane are sent in order of utterance; a waiting job holds back the later ones. What came free in a
step is given out once, by `settle`, when the step is complete.
"""

from __future__ import annotations

from linguad.core.actions import Action, Assign, Progress
from linguad.core.assignment import assign_message
from linguad.core.attempts import Attempts
from linguad.core.deadlines import Deadlines
from linguad.core.fleet import Fleet
from linguad.core.job import Job, JobStatus
from linguad.core.lanes import Lane
from linguad.core.rules import JobRules
from linguad.core.waiting import WaitingRoom
from linguad.pools import MAX_EXCLUDED

TURN_OVERFLOW_SLOTS = 2
"""Slots above its cap a node may give to slices of a turn it has begun (resolution 26)."""


class Placement:
    """Mutable state: who waits, and the lanes whose head changed in this step."""

    def __init__(self, fleet: Fleet, rules: JobRules, attempts: Attempts, deadlines: Deadlines[str]) -> None:
        self._fleet = fleet
        self._rules = rules
        self.waiting = WaitingRoom()
        self._attempts = attempts
        self._deadlines = deadlines
        self._stirred: dict[str, None] = {}

    def full_for(self, tenant: str) -> bool:
        """Whether another job of this tenant may not wait."""
        rules, waiting = self._rules, self.waiting
        return len(waiting) >= rules.max_waiting or waiting.of_tenant(tenant) >= rules.max_waiting_per_tenant

    def pend(self, job: Job, now: float) -> None:
        """Let a job wait for a node; `settle` gives it one if it is its lane's turn and one is free."""
        job.status = JobStatus.PENDING
        wait_until = min(now + self._rules.pending_timeout_s, job.created_at + self._rules.max_age_s)
        self._deadlines.set(job.id, wait_until)
        self.waiting.add(job)
        self._stirred[job.request.lane] = None

    def settle(self, now: float, actions: list[Action]) -> list[Action]:
        """Send what this step made possible: slots came back, and lanes got another job at their head."""
        stirred, self._stirred = self._stirred, {}
        for row in self._attempts.freed():
            self._wake_row(row, now, actions)
        for lane in stirred:
            self._advance(lane, now, actions)
        return actions

    def _advance(self, lane: str, now: float, actions: list[Action]) -> None:
        """Send as many waiting jobs of a lane as have a free node, in order."""
        while (job := self.waiting.head(lane)) is not None and self._send(job, now, actions):
            pass

    def _send(self, job: Job, now: float, actions: list[Action]) -> bool:
        audio = job.audio
        assert audio is not None, "a job keeps its audio until it is over"
        lane = job.lane
        if now - lane.used_at > self._rules.lane_idle_s:
            lane.row = -1
        row = self._choose(job, lane, audio.seconds)
        if row is None:
            return False
        self.waiting.send(job)
        index, turn_id = job.request.utterance_index, job.request.turn_id
        job.next_number = lane.number_for(index, turn_id, job.next_number)
        attempt = self._attempts.start(job, row, now)
        job.status = JobStatus.ASSIGNED
        lane.sent(index, turn_id, attempt.number, row, now)
        node = self._fleet.node_at(row)
        limit_s = self._rules.running_timeout_s(audio.seconds)
        learned_s = self._fleet.speeds.deadline_s(node.id, job.key)
        self._deadlines.set(job.id, now + (limit_s if learned_s is None else min(limit_s, learned_s)))
        actions.append(Assign(job, attempt, assign_message(job, attempt, node)))
        actions.append(Progress(job, "DISPATCHED"))
        return True

    def _choose(self, job: Job, lane: Lane, audio_s: float) -> int | None:
        """A row with a slot taken: the turn's own node, else the best, else one that failed before."""
        if (
            lane.turn_id == job.request.turn_id
            and lane.row not in job.excluded_rows
            and self._fleet.fits(lane.row, job.key)
            and self._fleet.table.take(lane.row, audio_s, TURN_OVERFLOW_SLOTS)
        ):
            return lane.row
        sticky = lane.row if self._rules.sticky else -1
        failed = job.excluded_rows
        row = self._fleet.select(job.key, lane.route, audio_s, failed[-MAX_EXCLUDED:], sticky)
        if row is None and failed and not self._fleet.has_ready(job.key, besides=failed):
            row = self._fleet.select(job.key, lane.route, audio_s)
        return row

    def withdraw(self, job: Job) -> None:
        """A job waits no more, though no node was found."""
        self.waiting.remove(job)
        self._stirred[job.request.lane] = None

    def wake(self, node_id: str, now: float) -> list[Action]:
        """A node can do more than before; jobs that waited for it are sent."""
        actions: list[Action] = []
        row = self._fleet.row_of(node_id)
        if row is not None:
            self._wake_row(row, now, actions)
        return actions

    def _wake_row(self, row: int, now: float, actions: list[Action]) -> None:
        """A node may have room: offer it the queues it serves, in the order of fairness."""
        for key in self.waiting.keys():  # noqa: SIM118 -- a snapshot, not a dict
            if not self._fleet.fits(row, key):
                continue
            for job in self.waiting.offers(key):
                if self._send(job, now, actions):
                    self._advance(job.request.lane, now, actions)
                elif not job.excluded_rows:
                    break
