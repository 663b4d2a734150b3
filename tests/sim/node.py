"""A compute node that behaves, and misbehaves, as real ones do (node-protocol 0.3, 1.1, 2.8)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from linguad.wire import codec
from linguad.wire.common import ExtraResult
from linguad.wire.node import (
    InstalledService,
    JobAssign,
    JobCancel,
    JobError,
    JobResult,
    NmtCapability,
    NodeHeartbeat,
    NodeLanguageCapabilities,
    NodeRegister,
    NodeRegisterAck,
)

from . import speech
from .server import Link, Server
from .world import World

HEARTBEAT_S = 15.0
RECONNECT_S = 5.0

BUFFERED_S = {"090d": float("inf"), "baaf": 5.0, "head": 10.0}
"""Audio of an open turn below which a node of each generation keeps a slice back."""

ERRORS = (
    JobError(code="PROCESSING_ERROR", message="SEM_REPAIR_UNAVAILABLE: SERVICE_NOT_AVAILABLE"),
    JobError(code="PROCESSING_ERROR", message="GPU lease timeout"),
    JobError(code="PROCESSING_ERROR", message="Opus packet is broken"),
    JobError(code="MODEL_NOT_AVAILABLE", message="", details={"service_id": "nmt"}),
    JobError(code="NMT_TIMEOUT", message=""),
)


@dataclass(frozen=True)
class Faults:
    """How often a node does what it should not: chances per job, and mean seconds between, 0 for never."""

    mute: float = 0.0
    """No result at all."""
    late: float = 0.0
    """A result after its deadline."""
    twice: float = 0.0
    """The same result again."""
    error: float = 0.0
    foreign: float = 0.0
    """A result for a job of somebody else."""
    dies_every_s: float = 0.0
    """The socket breaks; the process goes on and comes back."""
    restarts_every_s: float = 0.0
    """The process dies; a new one has no id and remembers nothing."""
    hangs_every_s: float = 0.0
    """The process stands still for a minute, the socket open."""
    ails_every_s: float = 0.0
    """Its services stop for a while."""

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in asdict(self).items() if value) or "sound"


@dataclass(frozen=True)
class NodeSpec:
    """A node before it was switched on."""

    name: str
    codes: tuple[str, ...]
    generation: str = "head"
    cap: int = 4
    speed: float = 0.3
    """Processing seconds per second of audio."""
    faults: Faults = Faults()


@dataclass
class Process:
    """What a node's process remembers; gone when it restarts."""

    node_id: str | None = None
    jobs: set[str] = field(default_factory=set)
    utterances: set[tuple[str, int]] = field(default_factory=set)
    highest: dict[str, int] = field(default_factory=dict)
    busy_until: dict[str, float] = field(default_factory=dict)
    kept: dict[tuple[str, str | None, str], list[tuple[JobAssign, list[bytes]]]] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)


class SimNode:
    """One node, from its first connection on."""

    def __init__(self, world: World, server: Server, spec: NodeSpec) -> None:
        self.untranslated = 0
        """Results spoilt by the order in which jobs came, which the scheduler must prevent."""
        self.duplicates = 0
        """Jobs whose names it knew already."""
        self.faulty = True
        """Whether its faults are still switched on."""
        self._world = world
        self._server = server
        self._spec = spec
        self._process = Process()
        self._link: Link | None = None
        self._hangs = False
        self._ails = False
        self._beats = 0
        self.open()
        for seconds, happens in (
            (spec.faults.dies_every_s, self._die),
            (spec.faults.restarts_every_s, self._restart),
            (spec.faults.hangs_every_s, self._hang),
            (spec.faults.ails_every_s, self._ail),
        ):
            if seconds:
                self._world.after(world.random.expovariate(1 / seconds), self._again, seconds, happens)

    # Connection

    def open(self) -> None:
        """Connect; a node that knows its id reports before it registers."""
        if self._hangs:
            self._world.after(RECONNECT_S, self.open)
            return
        self._link = link = self._server.connect(self)
        if self._process.node_id is not None:
            self._heartbeat()
        self._world.after(self._world.between(0.1, 3.0), self._register, link)

    def closed(self, link: Link) -> None:
        """The server ended the connection; every node comes back after a while, whatever the reason."""
        if link is self._link:
            self._link = None
            self._world.after(RECONNECT_S, self.open)

    def receive(self, link: Link, text: str) -> None:
        """A frame of the server; a process that stands still loses it."""
        if link is not self._link or self._hangs:
            return
        match codec.scheduler_messages.decode(text):
            case NodeRegisterAck() as ack:
                self._process.node_id = ack.node_id
                self._beats += 1
                self._beat(self._beats)
            case JobAssign() as job if self._process.node_id is not None:
                self._work(job)
            case JobCancel() as cancel:
                self._process.cancelled.add(cancel.job_id)

    def _send(self, message: Any) -> None:
        if self._link is not None and self._link.up and not self._hangs:
            self._link.to_server(codec.encode(message))

    def _register(self, link: Link) -> None:
        if link is not self._link:
            return
        codes, generation = list(self._spec.codes), self._spec.generation
        rules = [NmtCapability(model_id="m", rule="any_to_any", languages=codes)]
        offer = NodeLanguageCapabilities(
            asr_languages=codes,
            tts_languages=codes,
            semantic_languages=codes,
            nmt_capabilities=None if generation == "head" else rules,
            semantic_core_ready=None if generation == "090d" else True,
        )
        self._send(
            NodeRegister(
                node_id=self._process.node_id,
                version="2.0.0",
                installed_services=self._services(),
                language_capabilities=offer,
                max_concurrent_jobs=self._spec.cap,
            )
        )

    def _services(self) -> list[InstalledService]:
        status = "stopped" if self._ails else "running"
        return [InstalledService(service_id=kind, type=kind, status=status) for kind in ("asr", "nmt", "tts")]

    def _beat(self, number: int) -> None:
        if number == self._beats:
            self._heartbeat()
            self._world.after(HEARTBEAT_S + self._world.between(0.0, 3.0), self._beat, number)

    def _heartbeat(self) -> None:
        if self._process.node_id is not None:
            self._send(NodeHeartbeat(node_id=self._process.node_id, installed_services=self._services()))

    # Work

    def _work(self, job: JobAssign) -> None:
        process, faults = self._process, self._spec.faults
        flags = (
            job.is_manual_cut,
            job.is_timeout_triggered,
            job.is_max_duration_triggered,
            job.is_pause_triggered,
        )
        assert sum(flags) == 1, f"exactly one flag: {flags}"
        utterance = job.session_id, job.utterance_index
        if job.job_id in process.jobs or utterance in process.utterances:
            self.duplicates += 1
            kind = "DUPLICATE_JOB_ID" if job.job_id in process.jobs else "DUPLICATE_UTTERANCE_INDEX"
            self._reply(process, self._failed(job, JobError(code="PROCESSING_ERROR", message=kind)), 0.01)
            return
        process.jobs.add(job.job_id)
        process.utterances.add(utterance)
        packets = speech.decode(job.audio)
        seconds = 0.3 + len(packets) * 0.02 * self._spec.speed * self._world.between(0.8, 1.3)
        start = max(self._world.now, process.busy_until.get(job.session_id, 0.0))
        process.busy_until[job.session_id] = start + seconds
        wait = start + seconds - self._world.now
        if self.faulty and self._world.chance(faults.mute):
            return
        if self.faulty and self._world.chance(faults.error):
            self._reply(process, self._failed(job, self._world.random.choice(ERRORS)), wait)
            return
        if self.faulty and self._world.chance(faults.late):
            wait += self._world.between(60.0, 120.0)
        too_low = process.highest.get(job.session_id, -1) > job.utterance_index
        process.highest[job.session_id] = max(process.highest.get(job.session_id, -1), job.utterance_index)
        self.untranslated += too_low
        for result in self._results(job, packets, translated=not too_low):
            self._reply(process, result, wait)
            if self.faulty and self._world.chance(faults.twice):
                self._reply(process, result, wait + self._world.between(0.0, 40.0))
        if self.faulty and self._world.chance(faults.foreign):
            self._reply(process, self._said(job, packets, job_id=self._server.latest_job), wait)

    def _results(self, job: JobAssign, packets: list[bytes], translated: bool) -> list[JobResult]:
        """What a job comes to, by the habits of the node's generation; nothing where it keeps the audio."""
        process, generation = self._process, self._spec.generation
        continues = job.is_timeout_triggered if generation == "090d" else job.is_max_duration_triggered
        turn = job.session_id, job.turn_id, job.tgt_lang
        kept = process.kept.setdefault(turn, [])
        if continues:
            kept.append((job, packets))
            if sum(len(held) for _, held in kept) * 0.02 < BUFFERED_S[generation]:
                return []
            if generation == "head":
                return [self._heard(job, packets)]
        else:
            kept.append((job, packets))
        del process.kept[turn]
        whole = [packet for _, held in kept for packet in held]
        answers = [self._said(job, whole) if translated else self._heard(job, whole)]
        if generation == "baaf" and self._world.chance(0.5):
            answers += [
                self._nothing(earlier, "NO_TEXT_ASSIGNED") for earlier, _ in kept if earlier is not job
            ]
        return answers

    def _reply(self, process: Process, result: JobResult, wait: float) -> None:
        self._world.after(wait, self._finish, process, result)

    def _finish(self, process: Process, result: JobResult) -> None:
        """A result that is ready while the socket is down is lost, and with its process."""
        if process is not self._process or self._link is None:
            return
        if result.job_id in process.cancelled and self._world.chance(0.7):
            result = JobResult(
                job_id=result.job_id,
                node_id=result.node_id,
                success=True,
                extra=ExtraResult(reason="ASR_EMPTY"),
            )
        self._world.say(result.node_id, f"-> {result.job_id} {result.text_asr!r} {result.error or ''}")
        self._send(result)

    def _said(self, job: JobAssign, packets: list[bytes], **members: Any) -> JobResult:
        if speech.is_silent(packets):
            return self._nothing(job, "ASR_EMPTY")
        text = speech.text_of(packets)
        return self._result(
            job, **({"text_asr": text, "text_translated": text, "tts_audio": "AAAA"} | members)
        )

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
            "node_id": self._process.node_id or "",
            "success": True,
            "attempt_id": job.attempt_id,
            "session_id": job.session_id,
            "utterance_index": job.utterance_index,
            "processing_time_ms": 300.0,
        }
        return JobResult(**(defaults | members))

    # Faults

    def _again(self, mean_s: float, happens: Any) -> None:
        if self.faulty:
            happens()
            self._world.after(self._world.random.expovariate(1 / mean_s), self._again, mean_s, happens)

    def _die(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            self._world.say(self._spec.name, "its socket breaks")
            self._world.after(RECONNECT_S, self.open)
            link.cut()

    def _restart(self) -> None:
        self._world.say(self._spec.name, "its process restarts")
        self._process = Process()
        self._die()

    def _hang(self) -> None:
        if not self._hangs:
            self._world.say(self._spec.name, "stands still")
            self._hangs = True
            self._world.after(60.0, self._go_on)

    def _go_on(self) -> None:
        self._hangs = False

    def _ail(self) -> None:
        self._ails = True
        self._world.after(self._world.between(5.0, 60.0), self._recover)

    def _recover(self) -> None:
        self._ails = False
