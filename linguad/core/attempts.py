"""Attempts by the names nodes know them by, and the slots they hold (design 5.5, 5.6).

Rules: an open attempt holds one slot of its node, but for slices a node may keep back: those hold it only for
a while (node-protocol 5.4). `start` is called with a slot taken; `_give_back` is the only place where one
goes back, once.
"""

from __future__ import annotations

from collections.abc import Iterable

from linguad.core.actions import Action, AttemptEnded, Cancel
from linguad.core.deadlines import Deadlines
from linguad.core.fleet import Fleet
from linguad.core.job import Attempt, AttemptEnd, AttemptState, Chosen, Job
from linguad.core.key import Features
from linguad.core.rules import JobRules
from linguad.wire.node import JobCancel, JobResult

Held = tuple[Job, Attempt]
"""An attempt with its job."""


class Attempts:
    """Mutable state: every remembered attempt by its wire id, and the open ones by node."""

    def __init__(self, fleet: Fleet, rules: JobRules) -> None:
        self._fleet = fleet
        self.rules = rules
        self._releases: Deadlines[str] = Deadlines()
        self._by_wire: dict[str, Held] = {}
        self._on_node: dict[str, dict[str, Held]] = {}
        self._freed: dict[int, None] = {}

    def find(self, wire_job_id: str) -> Held | None:
        """The job and attempt a node means by this id."""
        return self._by_wire.get(wire_job_id)

    def start(self, job: Job, row: int, chosen: Chosen, deadline: float, now: float) -> Attempt:
        """A new attempt on the node of a row, whose slot was taken; its wire names are fresh (6.2)."""
        node = self._fleet.node_at(row)
        number = job.next_number
        attempt = Attempt(
            number=number,
            node_id=node.id,
            row=row,
            wire_job_id=f"{job.id}~r{number}" if number > 1 else job.id,
            wire_session_id=job.lane.wire_session(number),
            sent_at=now,
            deadline=deadline,
            chosen=chosen,
            features=job.wanted & node.features if job.wanted else Features.NONE,
            owner=node.owner,
        )
        job.next_number += 1
        job.attempts.append(attempt)
        self._by_wire[attempt.wire_job_id] = (job, attempt)
        self._on_node.setdefault(node.id, {})[attempt.wire_job_id] = (job, attempt)
        if job.deferrable:
            self._releases.set(attempt.wire_job_id, now + self.rules.deferred_release_s)
        return attempt

    def end(self, job: Job, attempt: Attempt, end: AttemptEnd, now: float) -> AttemptEnded:
        """An open attempt ends; its slot goes back, if it still has one."""
        assert attempt.open, "an attempt ends once"
        attempt.state, attempt.end, attempt.ended_at = AttemptState.FINISHED, end, now
        held = self._on_node[attempt.node_id]
        del held[attempt.wire_job_id]
        if not held:
            del self._on_node[attempt.node_id]
        self._give_back(job, attempt)
        return AttemptEnded(job, attempt)

    def finish(self, job: Job, attempt: Attempt, end: AttemptEnd, now: float, actions: list[Action]) -> None:
        """An attempt came to something, if it was not given up before; its node did well."""
        if attempt.open:
            actions.append(self.end(job, attempt, end, now))
            usable = end in (AttemptEnd.OK, AttemptEnd.EMPTY)
            self._fleet.job_ended(attempt.row, now, usable=usable, blame=False, sent_at=attempt.sent_at)

    def answered(
        self, job: Job, attempt: Attempt, end: AttemptEnd, now: float, actions: list[Action]
    ) -> None:
        """An answer ends the job: its attempt ends, if it was not given up before, and any other one."""
        for other in job.open_attempts:
            if other is not attempt:
                self.call_off(job, other, AttemptEnd.SUPERSEDED, "superseded", now, actions)
        self.finish(job, attempt, end, now, actions)

    def learn(self, job: Job, attempt: Attempt, message: JobResult, now: float) -> None:
        """A usable answer tells how fast its node is."""
        processing_s = (message.processing_time_ms or 0.0) / 1000
        timings = message.extra.service_timings if message.extra else None
        waited_s = now - attempt.sent_at
        self._fleet.answered(attempt.row, job.key, job.seconds, processing_s, waited_s, timings)

    def call_off(
        self, job: Job, attempt: Attempt, end: AttemptEnd, reason: str, now: float, actions: list[Action]
    ) -> None:
        """An open attempt is given up, and its node is told if that is wanted; an owner is told always."""
        actions.append(self.end(job, attempt, end, now))
        if self.rules.send_cancel or attempt.owner:
            message = JobCancel(job_id=attempt.wire_job_id, trace_id=job.request.trace_id, reason=reason)
            actions.append(Cancel(attempt.node_id, message, attempt.owner))

    def set_aside(self, job: Job, attempt: Attempt) -> None:
        """The node is done with an open attempt for now, so its slot goes back."""
        self._give_back(job, attempt)

    def due(self) -> float | None:
        """When `tick` has something to do, monotonic s."""
        return self._releases.due()

    def tick(self, now: float) -> None:
        """Slots of slices that are kept back by now go back."""
        while (wire_job_id := self._releases.pop(now)) is not None:
            self._give_back(*self._by_wire[wire_job_id])

    def freed(self) -> list[int]:
        """Rows that got a slot back since the last call."""
        rows, self._freed = list(self._freed), {}
        return rows

    def _give_back(self, job: Job, attempt: Attempt) -> None:
        if attempt.holds_slot:
            assert job.audio is not None, "a job keeps its audio until it is over"
            attempt.holds_slot = False
            self._releases.set(attempt.wire_job_id, None)
            self._fleet.table.release(attempt.row, job.audio.seconds)
            self._freed[attempt.row] = None

    def open_on(self, node_id: str) -> list[Held]:
        """What runs on a node, each session's in order of utterance."""
        return sorted(self._on_node.get(node_id, {}).values(), key=_in_order)

    def open_of(self, owner: str) -> list[Held]:
        """What runs through another instance, each session's in order of utterance."""
        held = (one for there in self._on_node.values() for one in there.values() if one[1].owner == owner)
        return sorted(held, key=_in_order)

    def owners(self) -> set[str]:
        """The other instances through which something runs."""
        held = (attempt for there in self._on_node.values() for _, attempt in there.values())
        return {attempt.owner for attempt in held if attempt.owner}

    def open_among(self, owner: str, wire_job_ids: Iterable[str]) -> list[Held]:
        """Those of some attempts that run through another instance, each session's in order of utterance."""
        found = (self._by_wire.get(name) for name in wire_job_ids)
        return sorted((one for one in found if one and one[1].open and one[1].owner == owner), key=_in_order)

    def has_slice_beside(self, node_id: str, job: Job) -> bool:
        """Whether a node works on another slice of the same turn, or keeps it."""
        turn = job.request.lane, job.request.turn_id
        held = self._on_node.get(node_id, {}).values()
        return any(
            other is not job and (other.request.lane, other.request.turn_id) == turn for other, _ in held
        )

    def forget(self, job: Job) -> None:
        """Answers to this job are unknown from now on."""
        for attempt in job.attempts:
            self._by_wire.pop(attempt.wire_job_id, None)


def _in_order(held: Held) -> tuple[str, int]:
    return held[0].request.session_id, held[0].request.utterance_index
