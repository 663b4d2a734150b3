"""From a cut utterance to a node and back: the life of every job (node-protocol 6).

Rules:
- Each call changes the state completely and returns the actions in order; nothing else ever changes it.
- The audio of a job is kept until the job is over, so every failure before that can be repaired elsewhere.
"""

from __future__ import annotations

from msgspec.structs import replace

from linguad.core.actions import (
    Action,
    AudioReleased,
    Deliver,
    Dropped,
    Partial,
    Progress,
    StoodStill,
)
from linguad.core.amnesty import Amnesty
from linguad.core.attempts import Attempts, Held
from linguad.core.blame import Blame
from linguad.core.capability import NOWHERE
from linguad.core.deadlines import Deadlines, earliest
from linguad.core.explain import Refusals, explain, find
from linguad.core.failure import judge, wire_code
from linguad.core.fleet import Fleet
from linguad.core.health import Status
from linguad.core.history import History
from linguad.core.ids import Ids
from linguad.core.job import (
    Attempt,
    AttemptEnd,
    AttemptState,
    Job,
    JobRequest,
    JobStatus,
    MissingReason,
    Outcome,
    ResultClass,
    classify,
    node_gone,
    without_text,
)
from linguad.core.key import Features, Key
from linguad.core.node import Node
from linguad.core.placement import Placement
from linguad.core.rules import JobRules
from linguad.core.session_jobs import SessionJobs, by_turn
from linguad.core.utterance import Audio, CutReason
from linguad.errors import ErrorCode
from linguad.octets import decoded_size
from linguad.wire.node import (
    JobAck,
    JobResult,
    JobStarted,
    NodeAsrPartial,
    NodeHeartbeat,
    NodeRegister,
)
from linguad.wire.override import Override


class Dispatch:
    """All jobs, waiting and running, and the fleet they run on."""

    def __init__(self, fleet: Fleet, rules: JobRules, ids: Ids) -> None:
        self.fleet = fleet
        self.jobs: dict[str, Job] = {}
        self._ids = ids
        self._sessions: dict[str, SessionJobs] = {}
        self.attempts = Attempts(fleet, rules)
        self._refusals = Refusals(fleet)
        self._deadlines: Deadlines[str] = Deadlines()
        self._history = History(rules.terminal_retention_s, rules.explained_jobs)
        self.amnesty = Amnesty()
        self._blame = Blame(fleet, self.amnesty)
        self.placement = Placement(fleet, rules, self.attempts, self._deadlines)
        self.waiting = self.placement.waiting

    def submit(
        self, request: JobRequest, audio: Audio, now: float, *, refuse: bool = False
    ) -> tuple[Job, list[Action]]:
        """Make a job of an utterance and send it if a node is free, else let it wait.

        With `refuse` (no memory left for its audio) or too many waiting it fails with NODE_OVERLOADED.
        """
        session = self._sessions.setdefault(request.session_id, SessionJobs())
        job = Job(
            id=self._ids.job(),
            request=request,
            key=self.placement.key_of(request),
            lane=session.lane_of(request, self.fleet.route),
            audio=audio,
            seconds=audio.seconds,
            created_at=now,
            wanted=Features.of(request.features),
            audio_bytes=decoded_size(audio.base64),
        )
        actions: list[Action] = []
        for slice_ in session.abandoned_by(job):
            self._merge(slice_, now, actions)
        self.jobs[job.id] = session.open[job.id] = job
        if refuse or self.placement.full_for(request.tenant):
            self._refuse(job, MissingReason.OVERLOADED, ErrorCode.NODE_OVERLOADED, now, actions)
        elif job.key.pools == NOWHERE:
            self._refuse(job, MissingReason.NO_NODE, ErrorCode.NO_AVAILABLE_NODE, now, actions)
        else:
            self.placement.pend(job, now)
        return job, self.placement.settle(now, actions)

    def key_of(self, request: JobRequest) -> Key:
        """What such jobs ask of a node now."""
        return self.placement.key_of(request)

    def register(self, message: NodeRegister, connection: int, now: float) -> tuple[Node, list[Action]]:
        """A node registered over the connection of that generation; raises WireError when it must not."""
        node = self.fleet.register(message, connection, now)
        return node, self.offers_changed(node, now)

    def heartbeat(self, message: NodeHeartbeat, now: float) -> list[Action]:
        """A registered node reported; waiting jobs may have found their node."""
        node, changed = self.fleet.heartbeat(message, now)
        return self.offers_changed(node, now, known=not changed)

    def override(self, node_id: str, said: Override, now: float) -> list[Action]:
        """An operator says something about a known node; raises KeyError if there is none of that id."""
        return self.offers_changed(self.fleet.override(node_id, said), now)

    def offers_changed(self, node: Node, now: float, *, known: bool = False) -> list[Action]:
        """A node offers something else than before; what it can do is `known` as in `Placement.wake`."""
        actions: list[Action] = []
        if node.status is not Status.READY:
            self._move_unfinished_turns(node, now, actions)
        if not known:
            self.placement.reconsider()
        actions += self.placement.wake(node.id, now, known=known)
        return self.placement.settle(now, actions)

    def _move_unfinished_turns(self, node: Node, now: float, actions: list[Action]) -> None:
        """A node that gets no new jobs cannot get the rest of a turn: what it has of it goes elsewhere."""
        held = self.attempts.open_on(node.id)
        movable = [job for job, attempt in held if self.fleet.has_ready(job.key, besides=(attempt.row,))]
        for turn in by_turn(movable):
            if all(job.deferrable for job in turn):
                for job in turn:
                    for attempt in job.open_attempts:
                        self.attempts.call_off(
                            job, attempt, AttemptEnd.SUPERSEDED, "superseded", now, actions
                        )
                self._retry(turn, node_gone(now), now, actions)

    def result(self, message: JobResult, node_id: str, now: float) -> list[Action]:
        """A node answered (decision table of node-protocol 6.7); `node_id` is that of the connection."""
        found = self.attempts.find(message.job_id)
        if found is None:
            return [Dropped(node_id, message.job_id, "unknown_job")]
        job, attempt = found
        if attempt.node_id != node_id:
            return [Dropped(node_id, message.job_id, "wrong_node")]
        self.fleet.heard_from(node_id, now)
        actions: list[Action] = []
        kind = classify(message, deferrable=job.deferrable and job.request.pipeline.use_nmt)
        if job.status.final:
            self._answer_after_the_end(job, attempt, kind, message, now, actions)
        elif not (attempt.open or self._sessions[job.request.session_id].turn_lies_with(job, attempt)):
            actions.append(Dropped(node_id, message.job_id, "stale_attempt"))
        elif kind is ResultClass.NO_TEXT:
            self.attempts.answered(job, attempt, AttemptEnd.MERGED, now, actions)
            self._complete(
                job, JobStatus.COMPLETED_NO_TEXT, without_text(MissingReason.MERGED, now), now, actions
            )
        elif kind is ResultClass.COMPLETE:
            self._usable_answer(job, attempt, message, now, actions)
        elif not attempt.open:
            actions.append(Dropped(node_id, message.job_id, "stale_attempt"))
        elif kind is ResultClass.PARTIAL_TURN and attempt.heard:
            actions.append(Dropped(node_id, message.job_id, "duplicate"))
        elif kind is ResultClass.PARTIAL_TURN:
            self._heard_in_part(job, attempt, message, now, actions)
        elif kind is ResultClass.EMPTY:
            self.attempts.answered(job, attempt, AttemptEnd.EMPTY, now, actions)
            reason = MissingReason.MERGED if job.deferrable else MissingReason.SILENCE
            self._complete(job, JobStatus.COMPLETED_NO_TEXT, without_text(reason, now), now, actions)
        else:
            self._node_failed(job, attempt, message, now, actions)
        return self.placement.settle(now, actions)

    def progress(self, message: JobAck | JobStarted | NodeAsrPartial, node_id: str) -> list[Action]:
        """A node told that it took or began a job, or what it heard so far (node-protocol 2.7, 2.9)."""
        found = self.attempts.find(message.job_id)
        if found is None or found[1].node_id != node_id or not found[1].open:
            return [Dropped(node_id, message.job_id, "stale_progress")]
        job, attempt = found
        if isinstance(message, JobAck):
            if attempt.state >= AttemptState.ACCEPTED:
                return []
            attempt.state = AttemptState.ACCEPTED
            return [Progress(job, "NODE_ACCEPTED")]
        attempt.state = AttemptState.RUNNING
        if isinstance(message, NodeAsrPartial):
            return [Partial(job, message.text, message.is_final)]
        return []

    def service_missing(self, node_id: str, service_id: str, reason: str, now: float) -> list[Action]:
        """A registered node lacks a service it reports, whatever the job (node-protocol 7)."""
        actions = self._blame.lacks(node_id, service_id, reason, now)
        self.placement.reconsider()
        return self.placement.settle(now, actions)

    def connection_lost(self, node_id: str, connection: int, now: float) -> list[Action]:
        """A node's socket is gone: its open attempts end and their jobs go elsewhere (node-protocol 6.10)."""
        if not self.fleet.lost(node_id, connection):
            return []
        return self.lost(self.attempts.open_on(node_id), now)

    def freed(self, node_id: str, now: float) -> list[Action]:
        """A slot of a node came back that none of our own attempts had."""
        return self.placement.settle(now, self.placement.wake(node_id, now, known=True))

    def lost(self, held: list[Held], now: float) -> list[Action]:
        """Open attempts end because the sockets of their nodes are gone; their jobs go elsewhere."""
        actions: list[Action] = []
        homeless: list[Job] = []
        for job, attempt in held:
            actions.append(self.attempts.end(job, attempt, AttemptEnd.NODE_LOST, now))
            job.exclude(attempt.row)
            if not job.open_attempts:
                homeless.append(job)
        for turn in by_turn(homeless):
            self._retry(turn, node_gone(now), now, actions)
        self.placement.reconsider()
        return self.placement.settle(now, actions)

    def choose_again(self, job: Job, attempt: Attempt, now: float) -> list[Action]:
        """The node of an open attempt never got it: the job goes elsewhere, and nothing is counted.

        It goes with its turn, and its lane goes on under another name: what of it was sent to this node
        after the attempt has nothing to follow.
        """
        actions: list[Action] = [self.attempts.end(job, attempt, AttemptEnd.REFUSED, now)]
        job.lane.leave(attempt.row)
        if not job.open_attempts:
            self.placement.pend_again(self._turn_of(job, attempt, now, actions), job.outcome, now)
        return self.placement.settle(now, actions)

    def session_ended(self, session_id: str, now: float) -> list[Action]:
        """Nobody wants the results of a session any more: its jobs are cancelled, nothing is reported."""
        actions: list[Action] = []
        session = self._sessions.get(session_id)
        if session is None:
            return actions
        for job in list(session.open.values()):
            for attempt in job.open_attempts:
                self.attempts.call_off(job, attempt, AttemptEnd.CANCELLED, "session_closed", now, actions)
            self._close(job, JobStatus.CANCELLED, without_text(MissingReason.CANCELLED, now), now, actions)
        del self._sessions[session_id]
        return self.placement.settle(now, actions)

    def explain(self, name: str, now: float) -> list[dict[str, object]]:
        """All about the jobs meant by a job id, a node's job id, a trace id, or `SESSION:INDEX`."""
        return explain(find(self.jobs, name), now, self.fleet, self.waiting, self.placement.rules)

    @property
    def open_jobs(self) -> int:
        """Jobs that are not over."""
        return len(self.jobs) - len(self._history)

    def due(self) -> float | None:
        """When `tick` has something to do, monotonic s."""
        return earliest(self._deadlines.due(), earliest(self.attempts.due(), self.fleet.due()))

    def tick(self, now: float) -> list[Action]:
        """End what waited or ran too long; forget jobs that were over long enough ago."""
        actions: list[Action] = []
        if (stood_still_s := self.amnesty.notice(self._deadlines, self.jobs, now)) is not None:
            actions.append(StoodStill(stood_still_s))
        for node in self.fleet.tick(now):
            actions += self.placement.wake(node.id, now)
        self.attempts.tick(now)
        self.placement.settle(now, actions)
        while (job_id := self._deadlines.pop(now)) is not None:
            job = self.jobs[job_id]
            if job.status is JobStatus.PENDING:
                self._give_up_waiting(job, now, actions)
            else:
                self._look_after(job, now, actions)
            self.placement.settle(now, actions)
        self._history.age(now, self.attempts.forget, lambda job: self.jobs.pop(job.id))
        return actions

    def _look_after(self, job: Job, now: float, actions: list[Action]) -> None:
        """Something is due for a job that runs: its attempts end, or a second one begins."""
        for attempt in job.open_attempts:
            if attempt.deadline <= now:
                self._time_out(job, attempt, now, actions)
        if job.open_attempts:
            if job.hedge_at is not None and job.hedge_at <= now:
                alone = not self._sessions[job.request.session_id].slices_before(job)
                self.placement.hedge(job, now, actions, alone=alone)
            self.placement.watch(job)

    def _usable_answer(
        self, job: Job, attempt: Attempt, message: JobResult, now: float, actions: list[Action]
    ) -> None:
        """The first usable answer of any attempt ends the job."""
        self.attempts.learn(job, attempt, message, now)
        self.attempts.answered(job, attempt, AttemptEnd.OK, now, actions)
        if message.text_asr:
            actions.append(Progress(job, "ASR_FINAL"))
        if message.text_translated:
            actions.append(Progress(job, "NMT_DONE"))
        outcome = Outcome(result=message, attempt=attempt, received_at=now)
        self._complete(job, JobStatus.COMPLETED, outcome, now, actions)

    def _heard_in_part(
        self, job: Job, attempt: Attempt, message: JobResult, now: float, actions: list[Action]
    ) -> None:
        """The text of a slice whose translation comes with the end of its turn.

        Until then the job keeps its audio: if the node is lost, the next one needs all of the turn.
        """
        self.attempts.learn(job, attempt, message, now)
        attempt.heard, attempt.state = True, AttemptState.RUNNING
        self.attempts.set_aside(job, attempt)
        actions.append(Progress(job, "ASR_FINAL"))
        actions.append(Partial(job, message.text_asr or "", True))

    def _node_failed(
        self, job: Job, attempt: Attempt, message: JobResult, now: float, actions: list[Action]
    ) -> None:
        verdict = judge(message.error)
        actions.append(self.attempts.end(job, attempt, AttemptEnd.FAILED, now))
        actions += self._blame.erred(attempt.row, message.error, attempt.sent_at, now)
        self.placement.reconsider()
        if not verdict.same_node:
            job.exclude(attempt.row)
        outcome = Outcome(
            missing=MissingReason.JOB_FAILED,
            error=wire_code(message.error),
            details={"node_error": message.error.code[:64]} if message.error else None,
            received_at=now,
        )
        allowed = verdict.retry and not (verdict.same_node and job.renamed)
        job.renamed |= verdict.same_node
        self._another_attempt(job, attempt, outcome, now, actions, allowed=allowed)

    def _answer_after_the_end(
        self,
        job: Job,
        attempt: Attempt,
        kind: ResultClass,
        message: JobResult,
        now: float,
        actions: list[Action],
    ) -> None:
        """A job that ended without text may still get it, if it comes soon enough (node-protocol 6.7)."""
        rescued = (
            kind is ResultClass.COMPLETE
            and job.status in (JobStatus.COMPLETED_NO_TEXT, JobStatus.FAILED)
            and now - job.finished_at <= self.placement.rules.late_result_s
            and job.request.session_id in self._sessions
        )
        if not rescued:
            actions.append(Dropped(attempt.node_id, attempt.wire_job_id, "duplicate"))
            return
        job.status = JobStatus.COMPLETED
        actions.append(Deliver(job, Outcome(result=message, attempt=attempt, received_at=now)))

    def _give_up_waiting(self, job: Job, now: float, actions: list[Action]) -> None:
        key = job.key
        rules = self.placement.rules
        if key.node and rules.pairing_allow_fallback and now - job.created_at < rules.max_age_s:
            self.placement.widen(job, now)
        else:
            self._refuse(job, *self._refusals.verdict(key), now, actions)

    def _refuse(
        self, job: Job, missing: MissingReason, error: ErrorCode, now: float, actions: list[Action]
    ) -> None:
        """End a job no node could be found for; after a failed attempt that failure is the reason."""
        details = self._refusals.details(job, error, now)
        outcome = job.outcome or Outcome(missing=missing, error=error, details=details, received_at=now)
        self._complete(job, JobStatus.FAILED, outcome, now, actions)

    def _time_out(self, job: Job, attempt: Attempt, now: float, actions: list[Action]) -> None:
        if job.deferrable:
            self._merge(job, now, actions)
            return
        silent = self.fleet.node_at(attempt.row).last_answer_at > attempt.sent_at
        end = AttemptEnd.SILENT if silent else AttemptEnd.TIMEOUT
        once_more = not silent or all(earlier.end is not AttemptEnd.SILENT for earlier in job.attempts)
        self.attempts.call_off(job, attempt, end, "job_timeout", now, actions)
        actions += self._blame.failed(attempt.row, attempt.sent_at, now, guilty=not silent)
        job.exclude(attempt.row)
        outcome = Outcome(missing=MissingReason.JOB_TIMEOUT, error=ErrorCode.JOB_TIMEOUT, received_at=now)
        self._another_attempt(job, attempt, outcome, now, actions, allowed=once_more)

    def _another_attempt(
        self,
        job: Job,
        failed: Attempt,
        outcome: Outcome,
        now: float,
        actions: list[Action],
        *,
        allowed: bool,
    ) -> None:
        """An attempt failed: the job goes elsewhere, and with it what the node has of the same turn."""
        if job.open_attempts:
            return
        if not allowed or not self.placement.rules.may_retry(job, now):
            self._complete(job, JobStatus.FAILED, outcome, now, actions)
            return
        self._retry(self._turn_of(job, failed, now, actions), outcome, now, actions)

    def _turn_of(self, job: Job, failed: Attempt, now: float, actions: list[Action]) -> list[Job]:
        """A job with what nodes have of its turn and language, which is called off, in order of utterance."""
        turn = [job]
        for other in self._sessions[job.request.session_id].running_beside(job):
            for attempt in other.open_attempts:
                self.attempts.call_off(other, attempt, AttemptEnd.SUPERSEDED, "superseded", now, actions)
            if failed.row in job.excluded_rows:
                other.exclude(failed.row)
            turn.append(other)
        return sorted(turn, key=lambda one: one.request.utterance_index)

    def _retry(self, turn: list[Job], outcome: Outcome, now: float, actions: list[Action]) -> None:
        """Let jobs of one turn, in order, have another attempt each, or end them with this outcome.

        They share a wire session on their next node as they did on this one.
        """
        again = [job for job in turn if self.placement.rules.may_retry(job, now)]
        if again:
            self.placement.pend_again(again, outcome, now)
        for job in turn:
            if job not in again and not job.status.final:
                self._complete(job, JobStatus.FAILED, outcome, now, actions)

    def _complete(
        self, job: Job, status: JobStatus, outcome: Outcome, now: float, actions: list[Action]
    ) -> None:
        """End a job and report it; the end of a turn ends its slices that were kept back (6.5)."""
        self._close(job, status, outcome, now, actions)
        if not job.deferrable:
            self._end_slices(job, now, actions)
        actions.append(Deliver(job, outcome))

    def _end_slices(self, closing: Job, now: float, actions: list[Action]) -> None:
        """The end of a turn ends what lies beside it; no answer has the other slices, so they go on alone."""
        alone: list[Job] = []
        for slice_ in self._sessions[closing.request.session_id].slices_before(closing):
            if any(slice_.lies_with(attempt) for attempt in closing.attempts):
                self._merge(slice_, now, actions)
                continue
            slice_.request = replace(slice_.request, reason=CutReason.MANUAL)
            for attempt in slice_.open_attempts:
                self.attempts.call_off(slice_, attempt, AttemptEnd.SUPERSEDED, "superseded", now, actions)
            if slice_ not in self.waiting:
                alone.append(slice_)
        if alone:
            self._retry(alone, node_gone(now), now, actions)

    def _merge(self, slice_: Job, now: float, actions: list[Action]) -> None:
        """What a slice held is in another answer."""
        status = JobStatus.COMPLETED if slice_.heard else JobStatus.COMPLETED_NO_TEXT
        for attempt in slice_.open_attempts:
            self.attempts.finish(slice_, attempt, AttemptEnd.MERGED, now, actions)
        merged = without_text(MissingReason.MERGED, now)
        self._close(slice_, status, merged, now, actions)
        actions.append(Deliver(slice_, merged))

    def _close(
        self, job: Job, status: JobStatus, outcome: Outcome, now: float, actions: list[Action]
    ) -> None:
        if job in self.waiting:
            self.placement.withdraw(job)
        self._sessions[job.request.session_id].open.pop(job.id, None)
        job.status, job.finished_at = status, now
        # what was said and all else of size is not kept for late answers
        job.outcome = replace(outcome, result=None)
        job.request = replace(job.request, features=None, auto_langs=None, context=None)
        if job.audio is not None:
            actions.append(AudioReleased(len(job.audio.base64)))
            job.audio = None
        self._deadlines.set(job.id, None)
        self._history.add(job)
