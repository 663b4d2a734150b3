"""What a node's process makes of its jobs, by the habits of its generation (node-protocol 0.3, 2.8)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from linguad.wire.common import ExtraResult
from linguad.wire.language import AUTO
from linguad.wire.node import JobAssign, JobError, JobResult

from . import speech
from .world import World

BUFFERED_S = {"090d": float("inf"), "baaf": 5.0, "head": 10.0}
"""Audio of an open turn below which a node of each generation keeps a slice back."""

ERRORS = (
    JobError(code="PROCESSING_ERROR", message="SEM_REPAIR_UNAVAILABLE: SERVICE_NOT_AVAILABLE"),
    JobError(code="PROCESSING_ERROR", message="GPU lease timeout"),
    JobError(code="PROCESSING_ERROR", message="Opus packet is broken"),
    JobError(code="MODEL_NOT_AVAILABLE", message="", details={"service_id": "nmt"}),
    JobError(code="NMT_TIMEOUT", message=""),
)

Turn = tuple[str, str | None, str]


@dataclass(frozen=True)
class JobFaults:
    """How often a node does with a job what it should not: chances."""

    mute: float = 0.0
    """No result at all."""
    late: float = 0.0
    """A result after its deadline."""
    twice: float = 0.0
    """The same result again."""
    error: float = 0.0
    foreign: float = 0.0
    """A result for a job of somebody else."""


SOUND = JobFaults()


@dataclass
class Worker:
    """The memory of one process; a restart makes a new one."""

    world: World
    generation: str
    speed: float
    """Processing seconds per second of audio."""
    complaints: Counter[str]
    """What the scheduler must prevent: results `untranslated` for the order of jobs, and `duplicate` jobs."""
    node_id: str | None = None
    cancelled: set[str] = field(default_factory=set)
    _jobs: set[str] = field(default_factory=set)
    _utterances: set[tuple[str, int]] = field(default_factory=set)
    _highest: dict[str, int] = field(default_factory=dict)
    _busy_until: dict[str, float] = field(default_factory=dict)
    _kept: dict[Turn, list[tuple[JobAssign, list[bytes]]]] = field(default_factory=dict)

    def take(self, job: JobAssign, faults: JobFaults, foreign_job: str) -> list[tuple[float, JobResult]]:
        """Do a job; what is to be sent, each after so many seconds."""
        self._check_flags(job)
        utterance = job.session_id, job.utterance_index
        if job.job_id in self._jobs or utterance in self._utterances:
            self.complaints["duplicate"] += 1
            kind = "DUPLICATE_JOB_ID" if job.job_id in self._jobs else "DUPLICATE_UTTERANCE_INDEX"
            return [(0.01, self._failed(job, JobError(code="PROCESSING_ERROR", message=kind)))]
        self._jobs.add(job.job_id)
        self._utterances.add(utterance)
        packets, world = speech.decode(job.audio), self.world
        wait = self._busy_for(job, len(packets) * 0.02)
        if world.chance(faults.mute):
            return []
        if world.chance(faults.error):
            return [(wait, self._failed(job, world.random.choice(ERRORS)))]
        if world.chance(faults.late):
            wait += world.between(*world.random.choice([(5.0, 25.0), (60.0, 120.0)]))
        too_low = self._highest.get(job.session_id, -1) > job.utterance_index
        self._highest[job.session_id] = max(self._highest.get(job.session_id, -1), job.utterance_index)
        self.complaints["untranslated"] += too_low
        answers = []
        for result in self._results(job, packets, translated=not too_low):
            answers.append((wait, result))
            if world.chance(faults.twice):
                answers.append((wait + world.between(0.0, 40.0), result))
        if world.chance(faults.foreign):
            answers.append((wait, self._said(job, packets, job_id=foreign_job)))
        return answers

    def empty(self, result: JobResult) -> JobResult:
        """What comes of a job that was cancelled before it was done."""
        extra = ExtraResult(reason="ASR_EMPTY")
        return JobResult(job_id=result.job_id, node_id=result.node_id, success=True, extra=extra)

    def _check_flags(self, job: JobAssign) -> None:
        manual, pause = job.is_manual_cut, job.is_pause_triggered
        flags = manual, pause, job.is_timeout_triggered, job.is_max_duration_triggered
        assert sum(flags) == 1, f"exactly one flag: {flags}"

    def _busy_for(self, job: JobAssign, audio_s: float) -> float:
        """Utterances of a session are done one after another."""
        now = self.world.now
        start = max(now, self._busy_until.get(job.session_id, 0.0))
        done = start + 0.3 + audio_s * self.speed * self.world.between(0.8, 1.3)
        self._busy_until[job.session_id] = done
        return done - now

    def _results(self, job: JobAssign, packets: list[bytes], translated: bool) -> list[JobResult]:
        """What a job comes to; nothing where its audio is kept for what follows."""
        continues = job.is_timeout_triggered if self.generation == "090d" else job.is_max_duration_triggered
        turn = job.session_id, job.turn_id, job.tgt_lang
        kept = self._kept.setdefault(turn, [])
        kept.append((job, packets))
        if continues:
            if sum(len(held) for _, held in kept) * 0.02 < BUFFERED_S[self.generation]:
                return []
            if self.generation == "head":
                return [self._heard(job, packets)]
        del self._kept[turn]
        whole = [packet for _, held in kept for packet in held]
        answers = [self._said(job, whole) if translated else self._heard(job, whole)]
        if self.generation == "baaf" and self.world.chance(0.5):
            answers += [
                self._nothing(earlier, "NO_TEXT_ASSIGNED") for earlier, _ in kept if earlier is not job
            ]
        return answers

    def _said(self, job: JobAssign, packets: list[bytes], **members: Any) -> JobResult:
        if speech.is_silent(packets):
            return self._nothing(job, "ASR_EMPTY")
        text, extra = speech.text_of(packets), None
        if job.src_lang == AUTO and job.lang_a and job.lang_b:
            extra = ExtraResult(detected_src_lang=self.world.random.choice((job.lang_a, job.lang_b)))
        said = {"text_asr": text, "extra": extra}
        if job.pipeline.use_nmt:
            said |= {"text_translated": text, "tts_audio": "AAAA"}
        return self._result(job, **(said | members))

    def _heard(self, job: JobAssign, packets: list[bytes]) -> JobResult:
        if speech.is_silent(packets):
            return self._nothing(job, "ASR_EMPTY")
        return self._result(job, text_asr=speech.text_of(packets), text_translated="", tts_audio="")

    def _nothing(self, job: JobAssign, reason: str) -> JobResult:
        return self._result(job, text_asr="", text_translated="", extra=ExtraResult(reason=reason))

    def _failed(self, job: JobAssign, error: JobError) -> JobResult:
        return self._result(job, success=False, error=error)

    def _result(self, job: JobAssign, **members: Any) -> JobResult:
        defaults = {
            "job_id": job.job_id,
            "node_id": self.node_id or "",
            "success": True,
            "attempt_id": job.attempt_id,
            "session_id": job.session_id,
            "utterance_index": job.utterance_index,
            "processing_time_ms": 300.0,
        }
        return JobResult(**(defaults | members))
