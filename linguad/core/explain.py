"""Why a job has the node it has, or none: the slow and complete twin of selection (node-protocol 5.3).

`survey` and `describe` change nothing; `Refusals` only counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from linguad.core.fleet import Fleet
from linguad.core.health import Status
from linguad.core.job import Attempt, Job, MissingReason
from linguad.core.key import ANY, Key
from linguad.core.languages import Languages
from linguad.core.node import Node
from linguad.core.rules import JobRules
from linguad.core.services import Services, WhyNot
from linguad.core.waiting import WaitingRoom
from linguad.errors import ErrorCode
from linguad.pools import MAX_EXCLUDED

MAX_JOBS = 50
"""Jobs explained at once, the newest ones; a trace may have any number."""

MAX_SURVEYS = 3
"""Open jobs explained at once together with their candidates, the oldest ones; each looks at all nodes."""

MAX_CANDIDATES = 1_000
"""Nodes listed for one job, the best ones; all are counted."""

SURVEY_S = 1.0
"""How long refused jobs of one key share a survey, so that many refusals cost no more than a few."""

MAX_SHARED = 1_000
"""Surveys shared at once."""

NODES_PER_S = 10_000
"""Nodes looked at per second for refused jobs of any key, so that strange requests cannot stop the rest."""


class Veto(StrEnum):
    """Why a node does not get a job; in the order that decides ties of the summary (node-protocol 5.3)."""

    OFFLINE = "offline"
    STATUS_NOT_READY = "status_not_ready"
    NOT_IN_PUBLIC_POOL = "not_in_public_pool"
    GPU_UNAVAILABLE = "gpu_unavailable"
    MODEL_NOT_AVAILABLE = "model_not_available"
    CAPACITY_EXCEEDED = "capacity_exceeded"
    RESOURCE_THRESHOLD_EXCEEDED = "resource_threshold_exceeded"
    """Only a penalty of the score: counted, but such a node may be chosen (resolution 27)."""
    LANG_PAIR_UNSUPPORTED = "lang_pair_unsupported"
    ASR_LANG_UNSUPPORTED = "asr_lang_unsupported"
    TTS_LANG_UNSUPPORTED = "tts_lang_unsupported"
    SRC_AUTO_NO_CANDIDATE = "src_auto_no_candidate"
    FEATURE_UNSUPPORTED = "feature_unsupported"
    """Only where features are required."""
    NOT_PAIRED = "not_paired"
    """The session asked for another node."""
    NOT_IN_ELIGIBLE_POOL = "not_in_eligible_pool"
    """Its capability pool is none of those the job may go to."""


class Candidate(Struct, frozen=True, kw_only=True):
    """A node as selection sees it for one job; seconds, and audio seconds per second."""

    node_id: str
    status: str
    pool: int | None
    """Its capability pool."""
    veto: Veto | None
    missing_types: dict[str, WhyNot]
    failed_before: bool
    """It failed this job, so it is asked only when no other node is left."""
    excluded: bool
    overloaded: bool
    """Above the resource threshold, or with tasks in its GPU queue."""
    slots: int
    slots_used: int
    finish_s: float | None
    """When the node would be done with the job, penalties added; None if it cannot do it."""
    speed: float | None
    backlog_s: float | None
    penalty_s: float | None
    sticky: bool
    """The session's node so far."""
    selected: bool
    """A selection now would take it."""


class Survey(Struct, frozen=True, kw_only=True):
    """The whole fleet as selection sees it for one job."""

    total_nodes: int
    reason: str
    """The summary label: `no_nodes`, the largest counter, or `unknown` if there is none."""
    breakdown: dict[str, int]
    missing_types: dict[str, WhyNot]
    """Needed types that nodes lack, each with the most frequent reason."""
    candidates: list[Candidate]
    """The best first, those with a veto behind."""
    more_candidates: int = 0


def survey(
    fleet: Fleet,
    key: Key,
    route: int,
    audio_s: float,
    failed: Sequence[int] = (),
    sticky: int = -1,
    tenant: str = "",
) -> Survey:
    """What a selection would find now; `failed` are the rows that failed the job."""
    return _summed_up(_candidates(fleet, key, route, audio_s, failed, sticky, tenant))


def _candidates(
    fleet: Fleet,
    key: Key,
    route: int,
    audio_s: float,
    failed: Sequence[int] = (),
    sticky: int = -1,
    tenant: str = "",
) -> list[Candidate]:
    excluded = failed[-MAX_EXCLUDED:] if _others_are_ready(fleet, key, failed) else ()
    seen = {row["row"]: row for row in fleet.explain(key, route, audio_s, excluded, sticky, tenant)}
    candidates = []
    for node in fleet.nodes.values():
        row = fleet.row_of(node.id)
        assert row is not None, "every node has a row"
        entry = seen.get(row, {})
        used = fleet.slots_used(node.id)
        missing = missing_types(node, key.needs)
        eligible = entry and "not_ready" not in entry["vetoes"]
        candidates.append(
            Candidate(
                node_id=node.id,
                status=node.status.value,
                pool=node.pool,
                veto=_standing_veto(node, key, missing)
                or (None if eligible else Veto.STATUS_NOT_READY)
                or (Veto.CAPACITY_EXCEEDED if used >= node.slots else None),
                missing_types=missing,
                failed_before=row in failed,
                excluded=row in excluded,
                overloaded=bool(entry and entry["penalty_s"]) or bool(node.usage.gpu_queue_length),
                slots=node.slots,
                slots_used=used,
                finish_s=entry.get("finish_s"),
                speed=entry.get("speed"),
                backlog_s=entry.get("backlog_s"),
                penalty_s=entry.get("penalty_s"),
                sticky=row == sticky,
                selected=bool(entry.get("selected")),
            )
        )
    return candidates


def missing_types(node: Node, needs: Services) -> dict[str, WhyNot]:
    """The needed service types a node cannot do now, each with its reason."""
    lacking = int(needs) & ~int(node.services.running)
    if not lacking:
        return {}
    return {str(kind.name).lower(): node.services.why_not(kind) for kind in Services if kind & lacking}


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


def describe(job: Job, now: float, waiting: WaitingRoom, surveyed: Survey | None) -> dict[str, object]:
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
        "asked_of_nodes": {
            "src": job.key.src,
            "tgt": job.key.tgt,
            "both_ways": job.key.two_way,
            "services": job.key.needs.names,
            "features": job.key.features.names,
            "node": job.key.node or None,
            "pools": job.key.pools,
        },
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
    return [describe(job, now, waiting, surveys.get(job.id)) for job in jobs]


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
        if key.node:
            return MissingReason.NO_NODE, ErrorCode.NODE_UNAVAILABLE
        if self._fleet.has_ready(key):
            return MissingReason.OVERLOADED, ErrorCode.NODE_OVERLOADED
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
        candidates = _candidates(self._fleet, job.key, 0, job.seconds)
        for candidate in candidates:
            if candidate.veto is not None:
                self._fleet.nodes[candidate.node_id].passed_over(candidate.veto, candidate.missing_types)
        if len(self._shared) >= MAX_SHARED:
            self._shared.clear()
        surveyed = replace(_summed_up(candidates), candidates=[])
        self._shared[job.key] = now, surveyed
        return surveyed


def _others_are_ready(fleet: Fleet, key: Key, failed: Sequence[int]) -> bool:
    """Whether nodes that failed before stay excluded: while another one could do the job."""
    rows = {fleet.row_of(node.id): node for node in fleet.nodes.values()} if failed else {}
    return any(
        row is not None and row not in failed and node.status is Status.READY and fleet.fits(row, key)
        for row, node in rows.items()
    )


def _standing_veto(node: Node, key: Key, missing: dict[str, WhyNot]) -> Veto | None:
    """The first filter, of those in front of the slots, that a node does not pass."""
    rules = node.rules
    if not node.online:
        return Veto.OFFLINE
    if node.status is not Status.READY:
        return Veto.STATUS_NOT_READY
    if not node.has_gpu and (rules.require_gpu == "always" or (rules.require_gpu != "never" and missing)):
        return Veto.GPU_UNAVAILABLE
    if key.node and key.node != node.id:
        return Veto.NOT_PAIRED
    if not key.node and not node.accepts_public:
        return Veto.NOT_IN_PUBLIC_POOL
    if key.pools and node.pool not in key.pools:
        return Veto.NOT_IN_ELIGIBLE_POOL
    if missing:
        return Veto.MODEL_NOT_AVAILABLE
    if key.features & ~node.features:
        return Veto.FEATURE_UNSUPPORTED
    return _language_veto(node.languages, key)


def _language_veto(languages: Languages, key: Key) -> Veto | None:
    src, tgt, needs, two_way = key[:4]
    if languages.serve(src, tgt, needs) and (not two_way or languages.serve(tgt, src, needs)):
        return None
    if not needs & Services.NMT:
        return Veto.ASR_LANG_UNSUPPORTED
    if two_way or src == ANY:
        return Veto.SRC_AUTO_NO_CANDIDATE
    if src not in languages.asr:
        return Veto.ASR_LANG_UNSUPPORTED
    if languages.serve(src, tgt, needs & ~(Services.TTS | Services.TONE)):
        return Veto.TTS_LANG_UNSUPPORTED
    return Veto.LANG_PAIR_UNSUPPORTED


def _summed_up(candidates: list[Candidate]) -> Survey:
    counted = [one for one in candidates if not one.excluded]
    counts = Counter(one.veto for one in counted if one.veto is not None)
    counts[Veto.RESOURCE_THRESHOLD_EXCEEDED] = sum(one.overloaded for one in counted if one.veto is None)
    largest = max(Veto, key=counts.__getitem__)
    reasons: dict[str, Counter[WhyNot]] = {}
    for one in counted:
        if one.veto in (Veto.MODEL_NOT_AVAILABLE, Veto.GPU_UNAVAILABLE):
            for kind, why in one.missing_types.items():
                reasons.setdefault(kind, Counter())[why] += 1
    ranked = sorted(candidates, key=_rank)
    return Survey(
        total_nodes=len(counted),
        reason="no_nodes" if not counted else largest if counts[largest] else "unknown",
        breakdown={veto: counts[veto] for veto in Veto if counts[veto]},
        missing_types={kind: max(WhyNot, key=found.__getitem__) for kind, found in reasons.items()},
        candidates=ranked[:MAX_CANDIDATES],
        more_candidates=max(0, len(ranked) - MAX_CANDIDATES),
    )


def _rank(one: Candidate) -> tuple[bool, bool, float, str]:
    return one.veto is not None, one.excluded, one.finish_s or 0.0, one.node_id


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
