"""From waiting to a node: which job goes next, and where (node-protocol 5, 6.4).

Jobs of a lane are sent in order of utterance; a waiting job holds back the later ones. What came free in a
step is given out once, by `settle`, when the step is complete.
"""

from __future__ import annotations

from msgspec.structs import replace

from linguad.core import probes
from linguad.core.actions import Action, Assign, NobodyFree, Progress
from linguad.core.asking import key_for
from linguad.core.assignment import assign_message
from linguad.core.attempts import Attempts
from linguad.core.deadlines import Deadlines
from linguad.core.fleet import Fleet
from linguad.core.health import Status
from linguad.core.hedging import Hedging
from linguad.core.job import Attempt, Chosen, Job, JobRequest, JobStatus, Outcome
from linguad.core.key import Features, Key
from linguad.core.lanes import KEEPS_BELOW_S, Lane
from linguad.core.rules import JobRules
from linguad.core.utterance import CutReason
from linguad.core.waiting import WaitingRoom
from linguad.pools import MAX_EXCLUDED

TURN_OVERFLOW_SLOTS = 2
"""Slots above its cap a node may give to slices of a turn it has begun (resolution 26)."""

FEW_KEYS = 64
"""Up to so many keys that somebody waits for are looked at one by one."""

LAST_CHANCE = 0.5
"""Part of the time until `answer_by` an attempt may take, so that another one is possible (resolution 24)."""

Choice = tuple[int, Chosen]
"""A row with a slot taken, and why it is this one."""


class Placement:
    """Mutable state: who waits, and the lanes whose head changed in this step."""

    def __init__(self, fleet: Fleet, rules: JobRules, attempts: Attempts, deadlines: Deadlines[str]) -> None:
        self._fleet = fleet
        self.rules = rules
        self.waiting = WaitingRoom()
        self._attempts = attempts
        self._deadlines = deadlines
        self._hedging = Hedging(rules.hedge_percent, rules.hedge_part)
        self._stirred: dict[str, None] = {}

    def change_rules(self, rules: JobRules) -> None:
        """Live by other rules from now on; what was decided for a job stays."""
        self.rules = self._attempts.rules = rules
        self._hedging = Hedging(rules.hedge_percent, rules.hedge_part)

    def key_of(self, request: JobRequest) -> Key:
        """What a job asks of a node; for a two-way job it depends on who is there."""
        wanted = Features.of(request.features)
        return key_for(
            self._fleet,
            request.src_lang,
            request.tgt_lang,
            request.pipeline,
            request.lang_a,
            request.lang_b,
            among=request.auto_langs or (),
            speakers=bool(wanted) and Features.SPEAKER_IDENTIFICATION in wanted,
            features=wanted if self.rules.requires_features(request.tenant) else Features.NONE,
            node=request.node_id,
            session=request.session_id,
            tenant=request.tenant,
        )

    def full_for(self, tenant: str) -> bool:
        """Whether another job of this tenant may not wait."""
        rules, waiting = self.rules, self.waiting
        return len(waiting) >= rules.max_waiting or waiting.of_tenant(tenant) >= rules.max_waiting_per_tenant

    def pend(self, job: Job, now: float) -> None:
        """Let a job wait for a node; `settle` gives it one if it is its lane's turn and one is free."""
        job.status, job.in_vain = JobStatus.PENDING, False
        wait_until = min(now + self.rules.pending_timeout_s, job.created_at + self.rules.max_age_s)
        if job.request.answer_by is not None:
            wait_until = min(wait_until, max(now, job.request.answer_by))
        self._deadlines.set(job.id, wait_until)
        self.waiting.add(job)
        self._stirred[job.request.lane] = None

    def pend_again(self, turn: list[Job], outcome: Outcome | None, now: float) -> None:
        """Let jobs of one turn, in order, wait for another node, on which they share a wire session."""
        first = turn[0]
        wanted = max(job.next_number for job in turn)
        number = first.lane.number_for(first.request.utterance_index, first.request.turn_id, wanted)
        for job in turn:
            job.next_number, job.outcome = number, outcome
            job.key = self.key_of(job.request)
            self.pend(job, now)

    def settle(self, now: float, actions: list[Action]) -> list[Action]:
        """Send what this step made possible: slots came back, and lanes got another job at their head."""
        stirred, self._stirred = self._stirred, {}
        for row in self._attempts.freed():
            self._wake_row(row, now, actions)
        for lane in stirred:
            self._advance(lane, now, actions)
        return actions

    def hedge(self, job: Job, now: float, actions: list[Action], *, alone: bool) -> None:
        """Send a job that takes suspiciously long to another node too, if budget and fleet allow.

        Not if it is not `alone`: no other node could do without the earlier slices of its turn.
        """
        job.hedge_at = None
        if not alone or len(job.open_attempts) > 1 or not self._hedging.affordable or job.key.node:
            return
        busy = [attempt.row for attempt in job.open_attempts]
        excluded = [*job.excluded_rows, *busy][-MAX_EXCLUDED:]
        row = self._fleet.select(job.key, job.lane.route, job.seconds, excluded, tenant=job.request.tenant)
        if row is None:
            return
        self._hedging.spend()
        index, turn_id = job.request.utterance_index, job.request.turn_id
        job.next_number = job.lane.number_for(index, turn_id, max(2, job.next_number))
        self._assign(job, row, Chosen.HEDGE, now, actions)

    def watch(self, job: Job) -> None:
        """Be woken when the next thing is due for a job with open attempts."""
        times = [attempt.deadline for attempt in job.open_attempts]
        if job.hedge_at is not None:
            times.append(job.hedge_at)
        self._deadlines.set(job.id, min(times))

    def reconsider(self) -> None:
        """A node offers less than before: jobs that waited for both directions may be content with one."""
        for key in self.waiting.keys():  # noqa: SIM118 -- a snapshot, not a dict
            if key.two_way and not self._fleet.serves(key):
                for job in self.waiting.jobs(key):
                    self.waiting.remove(job)
                    job.key = self.key_of(job.request)
                    self.waiting.add(job)
                    self._stirred[job.request.lane] = None

    def withdraw(self, job: Job) -> None:
        """A job waits no more, though no node was found."""
        self.waiting.remove(job)
        self._stirred[job.request.lane] = None

    def widen(self, job: Job, now: float) -> None:
        """The one node it was for cannot be had, and any other will do."""
        self.withdraw(job)
        job.request = replace(job.request, node_id="")
        job.key = self.key_of(job.request)
        self.pend(job, now)

    def wake(self, node_id: str, now: float, *, known: bool = False) -> list[Action]:
        """A node can do more than before; jobs that waited for it are sent.

        If what it can do is `known`, it is in all the keys of the index that it fits.
        """
        actions: list[Action] = []
        row = self._fleet.row_of(node_id)
        if row is not None:
            self._wake_row(row, now, actions, known=known)
        return actions

    def _wake_row(self, row: int, now: float, actions: list[Action], *, known: bool = True) -> None:
        """A node may have room: offer it the queues it serves, in the order of fairness."""
        if known and self.waiting.key_count > FEW_KEYS:
            keys = self.waiting.keys_among(self._fleet.keys_of(row), self._fleet.node_at(row).id)
        else:
            keys = self.waiting.keys()
        for key in keys:
            if not self._fleet.fits(row, key):
                continue
            for job in self.waiting.offers(key):
                if self._send(job, now, actions):
                    self._advance(job.request.lane, now, actions)
                elif not job.excluded_rows and not self._waits_for_its_turn(job):
                    break

    def _advance(self, lane: str, now: float, actions: list[Action]) -> None:
        """Send as many waiting jobs of a lane as have a free node, in order."""
        while (job := self.waiting.head(lane)) is not None and self._send(job, now, actions):
            pass

    def _send(self, job: Job, now: float, actions: list[Action]) -> bool:
        lane, request = job.lane, job.request
        if now - lane.used_at > self.rules.lane_idle_s or not self._fleet.is_at(lane.row, lane.node_id):
            lane.row = -1
        choice = self._choose(job, lane, now)
        if choice is None:
            if not job.in_vain and not job.key.node and not self._waits_for_its_turn(job):
                job.in_vain = True
                actions.append(NobodyFree(job, probes.refusing(self._fleet, job)))
            return False
        row, chosen = choice
        self.waiting.send(job)
        index, turn_id = request.utterance_index, request.turn_id
        moves = row != lane.row and self.rules.affinity_of(request.tenant) != "session" and lane.used_at > 0
        if moves or lane.would_miss(row, index, lane.number_for(index, turn_id, job.next_number)):
            lane.begin_segment()
        job.next_number = lane.number_for(index, turn_id, job.next_number)
        job.status = JobStatus.ASSIGNED
        attempt = self._assign(job, row, chosen, now, actions)
        may_keep = request.reason is CutReason.TIMEOUT and job.seconds < KEEPS_BELOW_S
        lane.follow(turn_id, attempt, now, may_keep=may_keep)
        return True

    def _assign(self, job: Job, row: int, chosen: Chosen, now: float, actions: list[Action]) -> Attempt:
        deadline = self._deadline(job, row, now)
        attempt = self._attempts.start(job, row, chosen, deadline, now)
        if job.key.pools:
            attempt.pool = self._fleet.node_at(row).pool
            if len(job.key.pools) > 1:
                attempt.passed = probes.passed(self._fleet, job, attempt)
        job.lane.sent(job.request.utterance_index, attempt.number, row, now)
        if chosen is not Chosen.HEDGE and not job.deferrable:
            job.hedge_at = self._hedging.earn(now, deadline)
        self.watch(job)
        together = self.rules.affinity_of(job.request.tenant) != "spread"
        message = assign_message(job, attempt, self._fleet.node_at(row), with_context=together)
        actions.append(Assign(job, attempt, message))
        actions.append(Progress(job, "DISPATCHED"))
        return attempt

    def _deadline(self, job: Job, row: int, now: float) -> float:
        limit_s = self.rules.running_timeout_s(job.seconds)
        learned_s = self._fleet.speeds.deadline_s(self._fleet.node_at(row).id, job.key.work)
        if learned_s is not None:
            limit_s = min(limit_s, learned_s)
        if job.request.answer_by is not None:
            limit_s = min(limit_s, max(0.0, job.request.answer_by - now) * LAST_CHANCE)
        return now + limit_s

    def _choose(self, job: Job, lane: Lane, now: float) -> Choice | None:
        """The turn's own node, else the best, else one that failed before."""
        fleet, failed, affinity = self._fleet, job.excluded_rows, self.rules.affinity_of(job.request.tenant)
        bound = lane.turn_id == job.request.turn_id or (affinity != "session" and now < lane.held_until)
        if (
            bound
            and lane.row not in failed
            and fleet.fits(lane.row, job.key)
            and fleet.table.take(lane.row, job.seconds, TURN_OVERFLOW_SLOTS)
        ):
            return lane.row, Chosen.TURN
        if self._waits_for_its_turn(job):
            return None
        sticky = lane.row if affinity == "session" else -1
        avoided = lane.recent(now - self.rules.spread_window_s) if affinity == "spread" else []
        row = self._select(job, [*failed[-MAX_EXCLUDED:], *avoided], sticky)
        if row is None and avoided:
            row = self._select(job, failed[-MAX_EXCLUDED:], sticky)
        if row is not None:
            chosen = Chosen.PAIRED if job.key.node else Chosen.SESSION if row == sticky else Chosen.BEST
            return row, chosen
        if failed and not fleet.has_ready(job.key, besides=failed):
            row = fleet.select(job.key, lane.route, job.seconds, tenant=job.request.tenant)
        return None if row is None else (row, Chosen.AGAIN)

    def _waits_for_its_turn(self, job: Job) -> bool:
        """Whether only one node will do, be it busy: that with other slices of this turn (resolution 25)."""
        lane, fleet = job.lane, self._fleet
        if lane.turn_id != job.request.turn_id or lane.row in job.excluded_rows:
            return False
        if not fleet.fits(lane.row, job.key):
            return False
        node = fleet.node_at(lane.row)
        return node.status is Status.READY and self._attempts.has_slice_beside(node.id, job)

    def _select(self, job: Job, excluded: list[int], sticky: int) -> int | None:
        """The best row; among those that claim the abilities asked for, if one of them is free."""
        excluded, route, tenant = excluded[:MAX_EXCLUDED], job.lane.route, job.request.tenant
        if job.wanted and not job.key.features and not job.key.node:
            preferred = job.key._replace(features=job.wanted)
            row = self._fleet.select(preferred, route, job.seconds, excluded, sticky, tenant)
            if row is not None:
                return row
        return self._fleet.select(job.key, route, job.seconds, excluded, sticky, tenant)
