"""No engine at all: every job is answered at once with a fixed text and its own audio.

For benches and tests, which measure linguad and not a node; so it does not even have a process of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

from linguad.errors import ErrorCode
from linguad.wire.common import ExtraResult, ServiceTimings
from linguad.wire.node import JobAssign
from linguad.worker.engines.base import Kind
from linguad.worker.runner import JobFailed, Offer, Outcome, Service, offer

NAME = "echo"

TEXT = "echo"
"""What is always heard, and its translation into every language."""

_TIMINGS = ServiceTimings(asr_ms=0, nmt_ms=0, tts_ms=0, total_ms=0)


class Echo:
    """A runner that serves every pair of the languages it is given."""

    def __init__(self, languages: Sequence[str]) -> None:
        codes = sorted(set(languages))
        self._offer = offer(
            [
                Service(service_id="echo-asr", kind=Kind.ASR, languages=codes),
                Service(service_id="echo-nmt", kind=Kind.NMT, pairs=list(permutations(codes, 2))),
                Service(service_id="echo-tts", kind=Kind.TTS, languages=codes),
            ]
        )

    def offer(self) -> Offer:
        """Always the same."""
        return self._offer

    async def run(self, job: JobAssign) -> Outcome:
        """The fixed text and the job's audio, as far as its pipeline asks for them. Raises JobFailed."""
        if job.audio_format not in ("opus", "pcm16"):
            raise JobFailed(ErrorCode.PROCESSING_ERROR, f"Unsupported audio format: {job.audio_format[:32]}")
        stages = job.pipeline
        return Outcome(
            text_asr=TEXT,
            text_translated=TEXT if stages.use_nmt else None,
            tts_audio=job.audio if stages.use_tts else None,
            tts_format=job.audio_format if stages.use_tts else None,
            extra=ExtraResult(service_timings=_TIMINGS),
        )
