"""The `job_assign` of an attempt (node-protocol 2.5)."""

from __future__ import annotations

from linguad.core.job import Attempt, Job
from linguad.core.node import Node
from linguad.core.utterance import CutReason
from linguad.wire.language import AUTO, normalize
from linguad.wire.node import JobAssign

TWO_WAY = "two_way_auto"


def assign_message(job: Job, attempt: Attempt, node: Node, *, with_context: bool = True) -> JobAssign:
    """What the node is sent; exactly one slice flag is set, in the words of the node's generation.

    Without context the node learns nothing of what others were told.
    """
    request, audio = job.request, job.audio
    context = request.context if with_context else None
    assert audio is not None, "a job keeps its audio until it is over"
    paused = request.reason is CutReason.TIMEOUT
    continues = request.reason.speech_continues
    old = node.oldest_generation
    # a node that knows both languages may turn the direction round, whatever the target
    both_ways = request.mode == TWO_WAY or normalize(request.src_lang) == AUTO
    return JobAssign(
        job_id=attempt.wire_job_id,
        attempt_id=attempt.number,
        session_id=attempt.wire_session_id,
        utterance_index=request.utterance_index,
        src_lang=request.src_lang,
        tgt_lang=request.tgt_lang,
        dialect=request.dialect,
        features=request.features,
        pipeline=request.pipeline,
        audio=audio.base64,
        audio_format=audio.format,
        sample_rate=audio.sample_rate,
        mode=request.mode,
        lang_a=request.lang_a if both_ways else None,
        lang_b=request.lang_b if both_ways else None,
        auto_langs=request.auto_langs,
        enable_streaming_asr=request.enable_streaming_asr,
        partial_update_interval_ms=request.partial_update_interval_ms,
        trace_id=request.trace_id,
        group_id=context.group_id if context else None,
        part_index=context.part_index if context else None,
        context_text=context.text if context else None,
        padding_ms=request.padding_ms,
        is_manual_cut=not paused and not continues,
        is_timeout_triggered=continues if old else paused,
        is_max_duration_triggered=continues and not old,
        is_pause_triggered=paused and old,
        turn_id=request.turn_id,
    )
