"""A compute node: its connection, its heartbeats, and what befalls it (node-protocol 0.3, 1.1)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from linguad.wire import codec
from linguad.wire.common import FeatureFlags
from linguad.wire.node import (
    HEARTBEAT_ACK,
    HardwareInfo,
    InstalledService,
    JobAck,
    JobAssign,
    JobCancel,
    JobResult,
    JobStarted,
    NmtCapability,
    NodeAsrPartial,
    NodeHeartbeat,
    NodeLanguageCapabilities,
    NodeRegister,
    NodeRegisterAck,
    PairingCode,
    RequestPairingCode,
    SchedulerError,
)

from .cable import LAG_S, Cable
from .server import Server
from .worker import SOUND, JobFaults, Worker
from .world import World

HEARTBEAT_S = 15.0
RECONNECT_S = 5.0


@dataclass(frozen=True)
class NodeFaults:
    """What befalls a node: mean seconds between, 0 for never."""

    dies_every_s: float = 0.0
    """The socket breaks; the process goes on and comes back."""
    restarts_every_s: float = 0.0
    """The process dies; a new one has no id and remembers nothing."""
    hangs_every_s: float = 0.0
    """The process stands still for a while, the socket open."""
    vanishes_every_s: float = 0.0
    """The network loses the connection, and tells nobody."""
    dozes_every_s: float = 0.0
    """It reads nothing for a while, but goes on working and sending."""
    ails_every_s: float = 0.0
    """Its services stop for a while."""
    registers_every_s: float = 0.0
    """It registers once more on the same connection."""
    pairs_every_s: float = 0.0
    """Its owner wants a pairing code."""
    recaps_every_s: float = 0.0
    """It takes another number of jobs at once."""
    cloned_every_s: float = 0.0
    """Another machine comes with a copy of its disk, and so with its id."""


@dataclass(frozen=True)
class NodeSpec:
    """A node before it was switched on."""

    name: str
    codes: tuple[str, ...]
    generation: str = "head"
    cap: int = 4
    speed: float = 0.3
    """Processing seconds per second of audio."""
    lag_s: float = LAG_S
    talks: bool = False
    """It tells how far it is with each job; no real node does."""
    features: tuple[str, ...] = ()
    memory_gb: int = 32
    faults: NodeFaults = NodeFaults()
    job_faults: JobFaults = SOUND


class SimNode:
    """One node, from its first connection on."""

    def __init__(self, world: World, server: Server, spec: NodeSpec, node_id: str | None = None) -> None:
        self.complaints: Counter[str] = Counter()
        """See `Worker`."""
        self.faulty = True
        """Whether its faults are still switched on."""
        self.clones: list[SimNode] = []
        self._world = world
        self._server = server
        self._spec = spec
        self._worker = self._new_worker(node_id)
        self._cable: Cable | None = None
        self._cap = spec.cap
        self._hangs_until = 0.0
        self._ails = False
        self._retired = False
        self._beats = 0
        self.open()
        faults = spec.faults
        for seconds, happens in (
            (faults.dies_every_s, self._die),
            (faults.restarts_every_s, self._restart),
            (faults.hangs_every_s, self._hang),
            (faults.vanishes_every_s, self._vanish),
            (faults.dozes_every_s, self._doze),
            (faults.ails_every_s, self._ail),
            (faults.registers_every_s, self._register_again),
            (faults.pairs_every_s, self._ask_for_code),
            (faults.recaps_every_s, self._recap),
            (faults.cloned_every_s, self._be_cloned),
        ):
            world.again_and_again(seconds, happens, lambda: self.faulty)

    def _new_worker(self, node_id: str | None = None) -> Worker:
        return Worker(self._world, self._spec.generation, self._spec.speed, self.complaints, node_id)

    @property
    def _hangs(self) -> bool:
        return self._world.now < self._hangs_until

    # Connection

    def open(self) -> None:
        """Connect; a node that knows its id reports before it registers."""
        if self._retired:
            return
        if self._hangs:
            self._world.after(RECONNECT_S, self.open)
            return
        self._cable = cable = self._server.connect_node(self, self._spec.lag_s)
        if self._worker.node_id is not None:
            self._heartbeat()
        self._world.after(self._world.between(0.1, 3.0), self._register, cable)

    def retire(self) -> None:
        """Be switched off for good."""
        self._retired, self.faulty = True, False
        cable, self._cable = self._cable, None
        if cable is not None:
            cable.hang_up()

    def closed(self, cable: Cable) -> None:
        """The server ended the connection; every node comes back after a while, whatever the reason."""
        if cable is self._cable:
            self._cable = None
            self._world.after(RECONNECT_S, self.open)

    def receive(self, cable: Cable, text: str) -> None:
        """A frame of the server."""
        if cable is not self._cable:
            return
        match codec.scheduler_messages.decode(text):
            case NodeRegisterAck() as ack:
                self._worker.node_id = ack.node_id
                self._beats += 1
                self._beat(self._beats)
            case JobAssign() as job if self._worker.node_id is not None:
                self._work(job)
            case JobCancel() as cancel:
                self._worker.cancelled.add(cancel.job_id)
            case PairingCode(code=code):
                self._server.codes.append(code)
            case SchedulerError(code="NODE_ID_CONFLICT"):
                self._world.say(self._spec.name, "its id belongs to another one")
                self._worker.node_id = None

    def _send(self, message: Any) -> None:
        if self._cable is not None and not self._hangs:
            self._cable.send(codec.encode(message))

    def _register(self, cable: Cable) -> None:
        if cable is not self._cable:
            return
        spec = self._spec
        codes = list(spec.codes)
        rules = [NmtCapability(model_id="m", rule="any_to_any", languages=codes)]
        offer = NodeLanguageCapabilities(
            asr_languages=codes,
            tts_languages=codes,
            semantic_languages=codes,
            nmt_capabilities=None if spec.generation == "head" else rules,
            semantic_core_ready=None if spec.generation == "090d" else True,
        )
        self._send(
            NodeRegister(
                node_id=self._worker.node_id,
                version="2.0.0",
                platform="linux",
                hardware=HardwareInfo(cpu_cores=8, memory_gb=spec.memory_gb),
                features_supported=FeatureFlags(**dict.fromkeys(spec.features, True)),
                advanced_features=[HEARTBEAT_ACK] if spec.talks else None,
                installed_services=self._services(),
                language_capabilities=offer,
                max_concurrent_jobs=self._cap,
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
        if self._worker.node_id is not None:
            self._send(
                NodeHeartbeat(
                    node_id=self._worker.node_id,
                    installed_services=self._services(),
                    max_concurrent_jobs=self._cap,
                )
            )

    # Work

    def _work(self, job: JobAssign) -> None:
        faults = self._spec.job_faults if self.faulty else SOUND
        answers = self._worker.take(job, faults, self._server.accounts.latest_job)
        if self._spec.talks:
            self._tell(job)
        for wait, result in answers:
            self._world.after(wait, self._finish, self._worker, result)

    def _tell(self, job: JobAssign) -> None:
        """How far it is, in the messages that were meant for this."""
        who = {"job_id": job.job_id, "node_id": self._worker.node_id or ""}
        self._send(JobAck(**who))
        self._world.after(0.1, self._send, JobStarted(**who))
        self._world.after(0.5, self._send, NodeAsrPartial(**who, text=""))

    def _finish(self, worker: Worker, result: JobResult) -> None:
        """A result that is ready while the socket is down is lost, and with its process."""
        if worker is not self._worker or self._cable is None:
            return
        if self._hangs:
            self._world.after(self._hangs_until - self._world.now, self._finish, worker, result)
            return
        if result.job_id in worker.cancelled and self._world.chance(0.7):
            result = worker.empty(result)
        self._world.say(result.node_id, f"-> {result.job_id} {result.text_asr!r} {result.error or ''}")
        self._send(result)

    # Faults

    def _die(self) -> None:
        cable, self._cable = self._cable, None
        if cable is not None:
            self._world.say(self._spec.name, "its socket breaks")
            self._world.after(RECONNECT_S, self.open)
            cable.hang_up()

    def _restart(self) -> None:
        self._world.say(self._spec.name, "its process restarts")
        self._worker = self._new_worker()
        self._die()

    def _hang(self) -> None:
        if not self._hangs:
            seconds = self._world.between(5.0, 90.0)
            self._world.say(self._spec.name, f"stands still for {seconds:.1f} s")
            self._hangs_until = self._world.now + seconds
            if self._cable is not None:
                self._cable.stop_reading(seconds)

    def _vanish(self) -> None:
        if self._cable is not None:
            self._world.say(self._spec.name, "its connection leads nowhere")
            self._cable.tear()
            self._world.after(self._world.random.choice([2.0, 20.0, 80.0]), self._give_up, self._cable)

    def _give_up(self, cable: Cable) -> None:
        if cable is self._cable:
            self._die()

    def _doze(self) -> None:
        if self._cable is not None:
            self._world.say(self._spec.name, "reads nothing")
            self._cable.stop_reading(self._world.between(1.0, 60.0))

    def _ail(self) -> None:
        self._ails = True
        self._world.after(self._world.between(5.0, 60.0), self._recover)

    def _recover(self) -> None:
        self._ails = False

    def _register_again(self) -> None:
        if self._cable is not None:
            self._register(self._cable)

    def _ask_for_code(self) -> None:
        self._send(RequestPairingCode())

    def _recap(self) -> None:
        self._cap = self._world.random.randint(1, 4)

    def _be_cloned(self) -> None:
        node_id, spec = self._worker.node_id, self._spec
        if node_id is not None and not self.clones:
            self._world.say(spec.name, f"another machine says that it is {node_id}")
            name = f"{spec.name}'"
            clone = replace(spec, name=name, memory_gb=64, faults=NodeFaults(), job_faults=SOUND)
            self.clones.append(SimNode(self._world, self._server, clone, node_id))
