"""Messages to the client about one job (session-protocol 2.4, 5.7; node-protocol 6.8)."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

from msgspec.structs import replace

from linguad.core.groups import Place
from linguad.core.job import Job, JobRequest, MissingReason, Outcome
from linguad.core.room_jobs import language_heard
from linguad.core.sound import PCM16
from linguad.errors import ErrorCode
from linguad.octets import decoded_size
from linguad.wire.common import ExtraResult, ServiceTimings
from linguad.wire.node import JobResult
from linguad.wire.session import (
    AsrPartial,
    LanguageDetected,
    MissingResult,
    NetworkTimings,
    TimeBreakdown,
    TranslationResult,
    UiEvent,
)


def translation_result(
    job: Job,
    outcome: Outcome,
    result: JobResult,
    now: float,
    epoch_ms: int,
    *,
    created_ms: int,
    place: Place | None = None,
    late: bool = False,
) -> TranslationResult:
    """A node's result as the client gets it; `epoch_ms` is wall time of `now`, `created_ms` of the job.

    `place` is that of the utterance in its group.
    """
    request = job.request
    breakdown = _time_breakdown(job, outcome, result, now)
    processing_ms = None if result.processing_time_ms is None else round(result.processing_time_ms)
    extra, attempt = result.extra, outcome.attempt
    if job.wanted:
        applied = attempt.features.names if attempt else []
        extra = replace(extra or ExtraResult(), features_applied=applied)
    timings = result.extra.service_timings if result.extra else None
    if timings is None and processing_ms is not None:
        timings = ServiceTimings(total_ms=processing_ms)
    uplink_ms = None
    if request.last_client_ms is not None and created_ms >= request.last_client_ms:
        uplink_ms = created_ms - request.last_client_ms
    return TranslationResult(
        session_id=request.session_id,
        utterance_index=request.utterance_index,
        job_id=job.id,
        text_asr=result.text_asr or "",
        text_translated=result.text_translated or "",
        tts_audio=_whole_samples(result),
        tts_format=result.tts_format or "pcm16",
        trace_id=request.trace_id,
        utterance_trace_id=request.utterance_trace or None,
        group_id=place.group_id if place else None,
        part_index=place.part_index if place else None,
        extra=extra,
        service_timings=timings,
        network_timings=NetworkTimings(
            web_to_scheduler_ms=uplink_ms,
            scheduler_to_node_ms=round(breakdown.queue_ms),
            node_to_scheduler_ms=round(breakdown.send_ms),
        ),
        time_breakdown=breakdown,
        scheduler_sent_at_ms=epoch_ms,
        asr_quality_level=result.asr_quality_level,
        reason_codes=result.reason_codes,
        quality_score=result.quality_score,
        rerun_count=result.rerun_count,
        segments_meta=result.segments_meta,
        # the earlier gateway reads it, whether the node says it or not
        processing_time_ms=round(breakdown.send_ms) if processing_ms is None else processing_ms,
        late=late,
    )


def _whole_samples(result: JobResult) -> str:
    """The speech of a result; web clients lose PCM16 with an odd number of bytes altogether (1.8)."""
    speech = result.tts_audio or ""
    if (result.tts_format or PCM16) != PCM16 or decoded_size(speech) % 2 == 0:
        return speech
    try:
        return b2a_base64(a2b_base64(speech)[:-1], newline=False).decode("ascii")
    except ValueError:
        return ""


def language_detected(job: Job, result: JobResult) -> LanguageDetected | None:
    """The language that was heard, as mobile clients are told it; None if the node does not say."""
    extra = result.extra
    if extra is None or not (language := language_heard(extra)):
        return None
    likely = (extra.language_probabilities or {}).get(language, 1.0)
    confidence = likely if extra.language_probability is None else extra.language_probability
    return LanguageDetected(
        session_id=job.request.session_id, lang=language, confidence=min(1.0, max(0.0, confidence))
    )


def asr_partial(job: Job, text: str, is_final: bool) -> AsrPartial:
    """What a node has heard so far of a job."""
    return AsrPartial(
        session_id=job.request.session_id,
        utterance_index=job.request.utterance_index,
        job_id=job.id,
        text=text,
        is_final=is_final,
        trace_id=job.request.trace_id,
    )


def missing_result(
    session_id: str, index: int, reason: MissingReason, trace_id: str, epoch_ms: int
) -> MissingResult:
    """An index that has no result, or not yet."""
    return MissingResult(
        session_id=session_id,
        utterance_index=index,
        reason=reason,
        created_at_ms=epoch_ms,
        trace_id=trace_id,
    )


def empty_result(session_id: str, index: int, trace_id: str, epoch_ms: int) -> TranslationResult:
    """A result without text, for those who wait for just that (session-protocol 1.11)."""
    return TranslationResult(
        session_id=session_id,
        utterance_index=index,
        job_id="",
        text_asr="",
        text_translated="",
        tts_audio="",
        tts_format="pcm16",
        trace_id=trace_id,
        scheduler_sent_at_ms=epoch_ms,
        processing_time_ms=0,
    )


def utterance_event(
    session_id: str, index: int, event: str, trace_id: str, details: dict[str, object] | None = None
) -> UiEvent:
    """A step in the life of an utterance that is no job, or not yet."""
    return UiEvent(
        trace_id=trace_id,
        session_id=session_id,
        job_id="",
        utterance_index=index,
        event=event,
        status="ok",
        details=details,
    )


def progress_event(job: Job, event: str, now: float) -> UiEvent:
    """A step in the life of a job."""
    return UiEvent(
        trace_id=job.request.trace_id,
        session_id=job.request.session_id,
        job_id=job.id,
        utterance_index=job.request.utterance_index,
        event=event,
        status="ok",
        elapsed_ms=_elapsed_ms(job, now),
    )


def failure_event(job: Job, outcome: Outcome, error: ErrorCode, language: str, now: float) -> UiEvent:
    """The end of a job that failed, with what to tell the user in both languages."""
    return _error_event(job.request, error, language, job.id, _elapsed_ms(job, now), outcome.details)


def refusal_event(
    request: JobRequest, error: ErrorCode, language: str, details: dict[str, object] | None = None
) -> UiEvent:
    """An utterance that was refused before it became a job, or would be."""
    return _error_event(request, error, language, "", 0, details)


def _error_event(
    request: JobRequest,
    error: ErrorCode,
    language: str,
    job_id: str,
    elapsed_ms: int,
    details: dict[str, object] | None,
) -> UiEvent:
    english, chinese = error.hint
    return UiEvent(
        trace_id=request.trace_id,
        session_id=request.session_id,
        job_id=job_id,
        utterance_index=request.utterance_index,
        event="ERROR",
        status="error",
        elapsed_ms=elapsed_ms,
        error_code=error,
        hint=chinese if language == "zh" else english,
        hint_en=english,
        hint_zh=chinese,
        details=details,
    )


def _elapsed_ms(job: Job, now: float) -> int:
    return max(0, round((now - job.created_at) * 1000))


def _time_breakdown(job: Job, outcome: Outcome, result: JobResult, now: float) -> TimeBreakdown:
    request = job.request
    sent_at = outcome.attempt.sent_at if outcome.attempt else job.created_at
    away_ms = max(0.0, (outcome.received_at - sent_at) * 1000)
    node_ms = min(away_ms, result.processing_time_ms or 0.0)
    return TimeBreakdown(
        cut_ms=_ms(request.last_audio_at, request.cut_at),
        queue_ms=_ms(request.cut_at, sent_at),
        send_ms=round(away_ms - node_ms, 3),
        node_ms=round(node_ms, 3),
        reorder_ms=_ms(outcome.received_at, now),
        total_ms=_ms(request.last_audio_at, now),
        attempts=len(job.attempts),
    )


def _ms(start: float, end: float) -> float:
    return max(0.0, round((end - start) * 1000, 3))
