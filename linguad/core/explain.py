"""Why a job has the node it has, or none: the slow and complete twin of selection (node-protocol 5.3).

`survey` and `describe` change nothing; `Refusals` only counts.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from linguad.core.capability import PoolRules
from linguad.core.fleet import Fleet
from linguad.core.job import Attempt, Job, MissingReason
from linguad.core.key import Key
from linguad.core.rules import JobRules
from linguad.core.survey import Survey, Tally, Veto, asked_of_nodes, candidates, survey
from linguad.core.waiting import WaitingRoom
from linguad.errors import ErrorCode

MAX_JOBS = 50
"""Jobs explained at once, the newest ones; a trace may have any number."""

MAX_SURVEYS = 3
"""Open jobs explained at once together with their candidates, the oldest ones; each looks at all nodes."""

SURVEY_S = 1.0
"""How long refused jobs of one key share a survey, so that many refusals cost no more than a few."""

MAX_SHARED = 1_000
"""Surveys shared at once."""

NODES_PER_S = 10_000
"""Nodes looked at per second for refused jobs of any key, so that strange requests cannot stop the rest."""


def find(jobs: Mapping[str, Job], name: str) -> list[Job]:
    """Jobs by job id, a node's job id, trace id (session or utterance), or `SESSION:INDEX`; oldest first."""
    job = jobs.get(name.partition("~")[0])
    if job is not None and (name == job.id or any(name == one.wire_job_id for one in job.attempts)):
        return [job]
    session, _, number = name.rpartition(":")
    index = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else -1
    found = [
        job
        for job in jobs.values()
        if ((request := job.request).trace_id == name or (name and request.utterance_trace == name))
        or (request.utterance_index == index and request.session_id == session)
    ]
    return found[-MAX_JOBS:]


def describe(
    job: Job, now: float, waiting: WaitingRoom, pools: PoolRules, surveyed: Survey | None
) -> dict[str, object]:
    """A job as JSON, without what was said; times in seconds since the job was made."""
    request, outcome = job.request, job.outcome
    ahead, same_key = waiting.place(job)
    return {
        "job_id": job.id,
        "session_id": request.session_id,
        "utterance_index": request.utterance_index,
        "trace_id": request.trace_id,
        "utterance_trace_id": request.utterance_trace or None,
        "turn_id": request.turn_id,
        "tenant": request.tenant,
        "src": request.src_lang,
        "tgt": request.tgt_lang,
        "asked_of_nodes": asked_of_nodes(job.key, pools),
        "cut_reason": request.reason.value,
        "features_wanted": job.wanted.names,
        "audio_s": job.seconds,
        "status": job.status.value,
        "age_s": round(now - job.created_at, 3),
        "took_s": round(job.finished_at - job.created_at, 3) if job.status.final else None,
        "attempts": [_attempt(attempt, job.created_at) for attempt in job.attempts],
        "waiting": {"earlier_of_session": ahead, "all_alike": same_key} if job in waiting else None,
        "reason": outcome.missing if outcome is not None else None,
        "error": outcome.error if outcome is not None else None,
        "details": outcome.details if outcome is not None else None,
        "now": surveyed,
    }


def explain(
    jobs: list[Job], now: float, fleet: Fleet, waiting: WaitingRoom, rules: JobRules
) -> list[dict[str, object]]:
    """Jobs as JSON, some of them, open ones first, with the nodes they could go to now."""
    surveys: dict[str, Survey] = {}
    for job in sorted(jobs, key=lambda job: job.status.final)[:MAX_SURVEYS]:
        lane, failed = job.lane, job.excluded_rows
        tenant = job.request.tenant
        sticky = lane.row if rules.affinity_of(tenant) == "session" else -1
        surveys[job.id] = survey(fleet, job.key, lane.route, job.seconds, failed, sticky, tenant)
    return [describe(job, now, waiting, fleet.rules.pools, surveys.get(job.id)) for job in jobs]


_NOT_LOOKED = Survey(total_nodes=0, reason="unknown", breakdown={}, missing_types={}, candidates=[])


class Refusals:
    """What refused jobs are told about the nodes; every look counts on each node why it was passed over."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._shared: dict[Key, tuple[float, Survey]] = {}
        self._credit = float(NODES_PER_S)
        self._credited_at = 0.0

    def verdict(self, key: Key) -> tuple[MissingReason, ErrorCode]:
        """What a job is told that waited in vain for a node that fits its key (node-protocol 6.8)."""
        if not key.node and self._fleet.has_ready(key):
            return MissingReason.OVERLOADED, ErrorCode.NODE_OVERLOADED
        if self._fleet.would_serve(key):
            return MissingReason.NO_NODE, ErrorCode.SCHEDULER_DEPENDENCY_DOWN
        if key.node:
            return MissingReason.NO_NODE, ErrorCode.NODE_UNAVAILABLE
        if key.features and self._fleet.has_ready(key.work):
            return MissingReason.NO_NODE, ErrorCode.UNSUPPORTED_FEATURE
        return MissingReason.NO_NODE, ErrorCode.NO_AVAILABLE_NODE

    def details(self, job: Job, error: ErrorCode, now: float) -> dict[str, object]:
        """Languages, the summary label, and the types of service that were missing (node-protocol 5.8)."""
        at, surveyed = self._shared.get(job.key, (0.0, _NOT_LOOKED))
        if surveyed is _NOT_LOOKED or now - at >= SURVEY_S:
            surveyed = self._look(job, now)
        full = error is ErrorCode.NODE_OVERLOADED and surveyed.breakdown.get(Veto.CAPACITY_EXCEEDED)
        details: dict[str, object] = {
            "src": job.request.src_lang,
            "tgt": job.request.tgt_lang,
            "reason": str(Veto.CAPACITY_EXCEEDED) if full else surveyed.reason,
        }
        if error is ErrorCode.UNSUPPORTED_FEATURE:
            details["features"] = job.key.features.names
        if surveyed.missing_types:
            details["missing_types"] = {kind: str(why) for kind, why in surveyed.missing_types.items()}
        return details

    def _look(self, job: Job, now: float) -> Survey:
        self._credit += (now - self._credited_at) * NODES_PER_S
        self._credit, self._credited_at = min(self._credit, float(NODES_PER_S)), now
        if self._credit < 0:
            return _NOT_LOOKED
        self._credit -= len(self._fleet.nodes)
        found = candidates(self._fleet, job.key, 0, job.seconds)
        for one in found:
            if one.veto is not None:
                self._fleet.nodes[one.node_id].passed_over(one.veto, one.missing_types)
        if len(self._shared) >= MAX_SHARED:
            self._shared.clear()
        tally = Tally(most=0)
        tally.add(found)
        surveyed = replace(tally.survey(), more_candidates=0)
        self._shared[job.key] = now, surveyed
        return surveyed


def _attempt(attempt: Attempt, created_at: float) -> dict[str, object]:
    ended_at = attempt.ended_at
    return {
        "number": attempt.number,
        "node_id": attempt.node_id,
        "wire_job_id": attempt.wire_job_id,
        "wire_session_id": attempt.wire_session_id,
        "state": attempt.state.name.lower(),
        "chosen": attempt.chosen,
        "pool": attempt.pool,
        "fallback": attempt.fallback,
        "features": attempt.features.names,
        "end": attempt.end,
        "sent_s": round(attempt.sent_at - created_at, 3),
        "ended_s": round(ended_at - created_at, 3) if ended_at is not None else None,
    }
