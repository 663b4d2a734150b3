"""What became of the utterances of a conversation, one row each: for `linguad trace` and the waterfall.

The chief complaint is that half of a sentence is lost. So a row tells how it was cut, what was held for it,
how long after the utterance before it began, and which indexes between them have no job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

from linguad.core.job import AttemptEnd, Job, MissingReason
from linguad.core.utterance import CutReason

MAX_ROWS = 500
"""Utterances told at once, the last ones."""

EARLY_FINAL_S = 0.3
"""Who goes on speaking so soon after a final was cut in the middle of a sentence, by his client.

Recordings may be sent faster than they were spoken, so that utterances overlap; that tells nothing.
"""


class Try(Struct, frozen=True, kw_only=True):
    """One dispatch to a node; ms since the last sound of the utterance."""

    number: int
    node_id: str
    chosen: str
    state: str
    end: str | None
    sent_ms: float
    ended_ms: float | None


class Stages(Struct, frozen=True, kw_only=True):
    """Where the time went, ms; what is not known yet, or never will be, is null."""

    cut_ms: float
    queue_ms: float | None
    send_ms: float | None
    node_ms: float | None
    reorder_ms: float | None
    total_ms: float | None


class Row(Struct, frozen=True, kw_only=True):
    """One utterance in one language; nothing that was said is in it."""

    session_id: str
    index: int
    job_id: str
    trace_id: str
    utterance_trace_id: str | None
    turn_id: str
    in_room: bool
    src: str
    tgt: str
    cut_reason: str
    duration_ms: int
    bytes: int
    held_ms: int
    """How much of it had been held, because it was too short to go alone."""
    merged: bool
    """Its text is in the row of a later slice of the same turn."""
    since_previous_ms: float | None
    """From the last sound of the utterance before it to its first; below 0 if they overlap."""
    missing_before: list[int]
    """Indexes between the row before and this one that have no job: silence, or refused."""
    early_final: bool
    """It was ended by its client, and the next one began at once."""
    status: str
    outcome: str
    """`completed`, `open`, or the reason why there is no text."""
    error: str | None
    late: bool
    node_id: str | None
    attempts: list[Try]
    stages: Stages
    last_audio_at_ms: int
    """Unix time of its last sound, from which the times of attempts and stages count."""
    delivered_at_ms: int | None
    """Unix time when its text left."""


def of_conversation(jobs: Mapping[str, Job], found: list[Job], name: str) -> list[Job]:
    """The jobs of a session, if this is the id of one, else those that were found by another name."""
    of_session = [job for job in jobs.values() if job.request.session_id == name]
    chosen = of_session or found
    chosen.sort(key=lambda job: (job.request.session_id, job.request.utterance_index, job.request.tgt_lang))
    return chosen[-MAX_ROWS:]


def rows(jobs: list[Job], epoch_ms: Callable[[float], int]) -> list[Row]:
    """A row for each job; `jobs` are in order, `epoch_ms` gives Unix time."""
    last: dict[tuple[str, str], Job] = {}
    before: dict[str, Job | None] = {}
    after: dict[str, Job] = {}
    for job in jobs:
        stream = job.request.session_id, job.request.tgt_lang
        earlier = before[job.id] = last.get(stream)
        if earlier is not None:
            after[earlier.id] = job
        last[stream] = job
    present = {(job.request.session_id, job.request.utterance_index) for job in jobs}
    return [_row(job, before[job.id], after.get(job.id), present, epoch_ms) for job in jobs]


def _row(
    job: Job,
    before: Job | None,
    after: Job | None,
    present: set[tuple[str, int]],
    epoch_ms: Callable[[float], int],
) -> Row:
    request, outcome = job.request, job.outcome
    since_s = None if before is None else _pause_s(before, job)
    follows_s = None if after is None else _pause_s(job, after)
    missing: list[int] = []
    if before is not None:
        between = range(before.request.utterance_index + 1, request.utterance_index)[:MAX_ROWS]
        missing = [index for index in between if (request.session_id, index) not in present]
    came_to = "open"
    if job.status.final:
        came_to = str(outcome.missing) if outcome is not None and outcome.missing else "completed"
        if job.delivered_at is not None:
            came_to = "completed"
    return Row(
        session_id=request.session_id,
        index=request.utterance_index,
        job_id=job.id,
        trace_id=request.trace_id,
        utterance_trace_id=request.utterance_trace or None,
        turn_id=request.turn_id,
        in_room=bool(request.room_id),
        src=request.src_lang,
        tgt=request.tgt_lang,
        cut_reason=request.reason.value,
        duration_ms=round(job.seconds * 1000),
        bytes=job.audio_bytes,
        held_ms=request.held_ms,
        merged=came_to == MissingReason.MERGED,
        since_previous_ms=None if since_s is None else round(since_s * 1000, 1),
        missing_before=missing,
        early_final=(
            request.reason is CutReason.MANUAL and follows_s is not None and abs(follows_s) < EARLY_FINAL_S
        ),
        status=job.status.value,
        outcome=came_to,
        error=str(outcome.error)
        if outcome is not None and outcome.error and came_to != "completed"
        else None,
        late=job.late,
        node_id=_node(job),
        attempts=[
            Try(
                number=attempt.number,
                node_id=attempt.node_id,
                chosen=attempt.chosen,
                state=attempt.state.name.lower(),
                end=attempt.end,
                sent_ms=_ms(request.last_audio_at, attempt.sent_at),
                ended_ms=None if attempt.ended_at is None else _ms(request.last_audio_at, attempt.ended_at),
            )
            for attempt in job.attempts
        ],
        stages=_stages(job),
        last_audio_at_ms=epoch_ms(request.last_audio_at),
        delivered_at_ms=None if job.delivered_at is None else epoch_ms(job.delivered_at),
    )


def _pause_s(before: Job, job: Job) -> float:
    return job.request.last_audio_at - job.seconds - before.request.last_audio_at


def _node(job: Job) -> str | None:
    """The node whose answer counted; else the last one that was asked."""
    counted = [one for one in job.attempts if one.end in (AttemptEnd.OK, AttemptEnd.EMPTY, AttemptEnd.MERGED)]
    chosen = counted or job.attempts
    return chosen[-1].node_id if chosen else None


def _stages(job: Job) -> Stages:
    """Those of the attempt that brought the text, as the client was told them (TimeBreakdown)."""
    request = job.request
    sent_at = job.attempts[-1].sent_at if job.attempts else None
    answered_at, node_s, delivered_at = None, job.node_s, job.delivered_at
    for attempt in job.attempts:
        if attempt.end is AttemptEnd.OK:
            sent_at, answered_at = attempt.sent_at, attempt.ended_at
    away_ms = None if answered_at is None or sent_at is None else _ms(sent_at, answered_at)
    node_ms = None if node_s is None else round(node_s * 1000, 3)
    return Stages(
        cut_ms=_ms(request.last_audio_at, request.cut_at),
        queue_ms=None if sent_at is None else _ms(request.cut_at, sent_at),
        send_ms=None if away_ms is None or node_ms is None else round(max(0.0, away_ms - node_ms), 3),
        node_ms=node_ms,
        reorder_ms=None if delivered_at is None or answered_at is None else _ms(answered_at, delivered_at),
        total_ms=None if delivered_at is None else _ms(request.last_audio_at, delivered_at),
    )


def _ms(start: float, end: float) -> float:
    return max(0.0, round((end - start) * 1000, 3))
