"""Nodes without engines, for rehearsals: they take as long as their speed says, and fail as they are told.

Everything but the work is that of the reference node (`agent.py`), over a real connection.
"""

from __future__ import annotations

from base64 import b64decode
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import trio
from trio_websocket import WebSocketConnection

from linguad import audio
from linguad.errors import AudioError, ErrorCode
from linguad.wire.common import ExtraResult, ServiceTimings
from linguad.wire.node import GpuInfo, HardwareInfo, JobAssign
from linguad.worker.agent import Agent, AgentSettings, Dial
from linguad.worker.engines.base import Kind
from linguad.worker.pipeline import ASR_EMPTY
from linguad.worker.profile import Nodes
from linguad.worker.runner import JobFailed, Offer, Outcome, Service, offer

TEXT = "simulated"
"""What is always heard, and its translation."""

SILENCE_SECONDS = 600.0
"""How long a job that is never answered lies about, unless it is cancelled: no server waits so long."""

STAGES = {Kind.ASR: 0.5, Kind.NMT: 0.2, Kind.TTS: 0.3}
"""What part of its work a node tells to be which stage."""

GOING_AWAY = 1001


class Simulated:
    """A runner of one node, that counts in `counts` what its jobs came to."""

    def __init__(self, kind: Nodes, speed: float, chance: Random, counts: Counter[str]) -> None:
        """`speed` is in audio seconds per second."""
        self.busy = 0
        """Jobs that are worked on."""
        self._kind = kind
        self._speed = speed
        self._chance = chance
        self._counts = counts
        device, pairs = "gpu" if kind.gpus else "cpu", kind.served()

        def service(stage: Kind) -> str:
            return f"simulated-{stage}"

        heard, spoken = sorted({src for src, _ in pairs}), sorted({tgt for _, tgt in pairs})
        self._offer = offer(
            [
                Service(service_id=service(Kind.ASR), kind=Kind.ASR, device=device, languages=heard),
                Service(service_id=service(Kind.NMT), kind=Kind.NMT, device=device, pairs=pairs),
                Service(service_id=service(Kind.TTS), kind=Kind.TTS, device=device, languages=spoken),
            ]
        )

    def offer(self) -> Offer:
        """Always the same."""
        return self._offer

    async def run(self, job: JobAssign) -> Outcome:
        """Take the time it takes; then the fixed text and the job's own audio. Raises JobFailed."""
        kind, luck = self._kind, self._chance.random()
        work_s = self._seconds(job) / self._speed
        self.busy += 1
        try:
            if luck < kind.silent:
                self._counts["silent"] += 1
                await trio.sleep(SILENCE_SECONDS)
            await trio.sleep(work_s)
        finally:
            self.busy -= 1
        if luck < kind.silent + kind.failing:
            self._counts["failed"] += 1
            raise JobFailed(ErrorCode.PROCESSING_ERROR, "this node is told to fail sometimes")
        if luck < kind.silent + kind.failing + kind.empty:
            self._counts["empty"] += 1
            return Outcome(extra=ExtraResult(reason=ASR_EMPTY))
        self._counts["answered"] += 1
        stages = job.pipeline
        return Outcome(
            text_asr=TEXT,
            text_translated=TEXT if stages.use_nmt else None,
            tts_audio=job.audio if stages.use_tts else None,
            tts_format=job.audio_format if stages.use_tts else None,
            extra=ExtraResult(service_timings=_timings(work_s)),
        )

    def cpu_percent(self) -> float:
        """As busy as its slots are."""
        return 100.0 * min(1.0, self.busy / self._kind.slots)

    def memory_percent(self) -> float:
        """Never short of it."""
        return 50.0

    def _seconds(self, job: JobAssign) -> float:
        """Length of the audio. Raises JobFailed."""
        try:
            return audio.duration_ms(b64decode(job.audio), job.audio_format, job.sample_rate) / 1000
        except (AudioError, ValueError) as error:
            raise JobFailed(ErrorCode.PROCESSING_ERROR, f"Unsupported audio format: {error}") from error


def simulated_node(
    name: str, kind: Nodes, speed: float, chance: Random, dial: Dial, counts: Counter[str]
) -> Agent:
    """A node of this kind under this id; `counts` gets what becomes of its jobs and connections."""
    runner = Simulated(kind, speed, chance, counts)
    gpus = [GpuInfo(name=gpu, memory_gb=24) for gpu in kind.gpus]
    return Agent(
        runner,
        _losing(dial, kind.lost_after_s, chance, counts) if kind.lost_after_s else dial,
        AgentSettings(name=name, node_id=name, max_jobs=kind.slots, reconnect_seconds=1.0),
        HardwareInfo(cpu_cores=8, memory_gb=32, gpus=gpus or None),
        load=runner,
    )


def _losing(dial: Dial, after_s: float, chance: Random, counts: Counter[str]) -> Dial:
    """The same way to a scheduler, over connections that do not last."""

    @asynccontextmanager
    async def connected() -> AsyncIterator[WebSocketConnection]:
        async def lose() -> None:
            await trio.sleep(chance.expovariate(1 / after_s))
            counts["lost"] += 1
            await ws.aclose(GOING_AWAY, "lost, as it is told")

        async with dial() as ws, trio.open_nursery() as nursery:
            nursery.start_soon(lose)
            yield ws
            nursery.cancel_scope.cancel()

    return connected


def _timings(work_s: float) -> ServiceTimings:
    asr, nmt, tts = (round(work_s * 1000 * STAGES[stage]) for stage in (Kind.ASR, Kind.NMT, Kind.TTS))
    return ServiceTimings(asr_ms=asr, nmt_ms=nmt, tts_ms=tts, total_ms=asr + nmt + tts)
