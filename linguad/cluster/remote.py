"""Jobs on their way between instances: from the engine into letters and back (design 7).

Nothing here waits. Letters between two processes come in order and none is lost, unless the way to Redis is
interrupted or one of them dies. What was under way then starts anew; whoever has not noticed learns of it by
telling what is still waited for, as everybody does from time to time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import trio

from linguad import log
from linguad.core.actions import Action, Assign, Cancel, Tell
from linguad.core.afar import Afar
from linguad.core.guests import Guests
from linguad.metrics import REMOTE_JOBS, child
from linguad.wire import codec
from linguad.wire.letters import Letter
from linguad.wire.letters_jobs import (
    JobAssigned,
    JobCalledOff,
    JobRefused,
    JobsLost,
    JobsOpen,
    NodeSaid,
)
from linguad.wire.letters_nodes import NodeOverridden
from linguad.wire.node import JobAck, JobResult, JobStarted, NodeAsrPartial
from linguad.wire.override import Override

CHECK_S = 5.0
"""How often owners are told what is still waited for, s: so long an interruption may go unnoticed there."""

CALL_OFF_S = 60.0
"""How long it makes sense to tell that something is over, s; the job has an end of its own by then."""

ANSWER_S = 300.0
"""How long an answer of a node may be on its way, s; the asker knows whether it still wants it."""

L = TypeVar("L", bound=Letter)

logger = log.get(__name__)


class Mail(Protocol):
    """The bus, as far as it is used here."""

    def on(self, kind: type[L], handle: Callable[[str, L, bytes], None]) -> None:
        """Have letters of a kind handled."""
        ...

    def send(self, instance: str, letter: Letter, *, lane: str, expires_s: float, audio: bytes = b"") -> bool:
        """Send a letter; False if it surely will not be delivered."""
        ...


class Others(Protocol):
    """The peers, as far as they are used here."""

    def alive(self) -> Mapping[str, object]:
        """All other instances that live, by name."""
        ...

    def when_gone(self, do: Callable[[str], None]) -> None:
        """Call with the name of each that dies."""
        ...

    def when_new(self, do: Callable[[str], None]) -> None:
        """Call with the name of each that comes."""
        ...


class Desk(Protocol):
    """The engine, as far as it is used here."""

    def perform(self, actions: list[Action]) -> None:
        """Do what the core decided."""
        ...

    def result(self, message: JobResult, node_id: str) -> None:
        """A node answered."""
        ...

    def progress(self, message: JobAck | JobStarted | NodeAsrPartial, node_id: str) -> None:
        """A node told how far it is."""
        ...

    def override(self, node_id: str, said: Override) -> bool:
        """An operator says something about a known node."""
        ...


class Remote:
    """Mutable state: the owners whom we told last that we wait for something."""

    def __init__(
        self,
        desk: Desk,
        afar: Afar,
        guests: Guests,
        mail: Mail,
        others: Others,
        now: Callable[[], float],
    ) -> None:
        self._desk = desk
        self._afar = afar
        self._guests = guests
        self._mail = mail
        self._others = others
        self._now = now
        self._told: set[str] = set()
        mail.on(JobAssigned, self._assigned)
        mail.on(JobCalledOff, self._called_off)
        mail.on(JobsOpen, self._checked)
        mail.on(NodeOverridden, self._overridden)
        mail.on(JobRefused, self._refused)
        mail.on(NodeSaid, self._said)
        mail.on(JobsLost, self._lost)
        others.when_gone(self._gone)
        others.when_new(self._tell_open)

    async def run(self) -> None:
        """Look from time to time whether something was left behind, for ever."""
        while True:
            await trio.sleep(CHECK_S)
            self.check()

    def check(self) -> None:
        """Tell owners what we wait for, while it is something; for every few seconds."""
        for owner in self._told | self._afar.owners():
            self._tell_open(owner)

    def up(self) -> None:
        """Other instances can be asked again."""
        self._desk.perform(self._afar.in_reach(True, self._now()))
        for name in list(self._others.alive()):
            self._tell_open(name)

    def down(self) -> None:
        """Other instances cannot be asked, and letters may be lost."""
        now = self._now()
        self._desk.perform(self._afar.in_reach(False, now))
        for owner in self._afar.owners():
            self._desk.perform(self._afar.out_of_touch(owner, now))
        for asker in self._guests.askers():
            self._desk.perform(self._guests.out_of_touch(asker, now))

    # The engine's port

    def assign(self, action: Assign) -> None:
        """Ask the owner of the node of an attempt."""
        job, attempt, message = action.job, action.attempt, action.message
        now = self._now()
        within_s = max(0.0, attempt.deadline - now)
        letter = JobAssigned(
            node=attempt.node_id,
            job=attempt.wire_job_id,
            session=attempt.wire_session_id,
            trace=message.trace_id,
            seconds=job.seconds,
            after=self._afar.before(attempt),
            within_s=within_s,
            in_turn=attempt.chosen == "turn",
            deferrable=job.deferrable,
        )
        frame = codec.encode(message).encode()
        if self._mail.send(attempt.owner, letter, lane=attempt.node_id, expires_s=within_s, audio=frame):
            child(REMOTE_JOBS, "asked").inc()
        else:
            child(REMOTE_JOBS, "unsent").inc()
            self._desk.perform(self._afar.refused(attempt.owner, attempt.wire_job_id, now))

    def cancel(self, action: Cancel) -> None:
        """Tell the owner of a node that an attempt is given up."""
        message = action.message
        letter = JobCalledOff(node=action.node_id, job=message.job_id, reason=message.reason or "")
        self._mail.send(action.owner, letter, lane=action.node_id, expires_s=CALL_OFF_S)

    def tell(self, action: Tell) -> None:
        """Answer another instance."""
        letter = action.letter
        if isinstance(letter, JobRefused):
            child(REMOTE_JOBS, f"declined_{letter.why}").inc()
        audio = action.frame.encode()
        if not self._mail.send(action.instance, letter, lane=letter.node, expires_s=ANSWER_S, audio=audio):
            self._desk.perform(self._guests.out_of_touch(action.instance, self._now()))

    def override(self, owner: str, node_id: str, said: Override) -> bool:
        """Tell an owner what an operator says about its node; False if it cannot be told."""
        letter = NodeOverridden(node=node_id, said=said)
        return self._mail.send(owner, letter, lane=node_id, expires_s=CALL_OFF_S)

    # Letters to owners

    def _assigned(self, asker: str, letter: JobAssigned, audio: bytes) -> None:
        self._desk.perform(self._guests.assigned(asker, letter, audio.decode(), self._now()))

    def _called_off(self, asker: str, letter: JobCalledOff, _audio: bytes) -> None:
        self._desk.perform(self._guests.called_off(asker, letter, self._now()))

    def _checked(self, asker: str, letter: JobsOpen, _audio: bytes) -> None:
        self._desk.perform(self._guests.checked(asker, letter, self._now()))

    def _overridden(self, _instance: str, letter: NodeOverridden, _audio: bytes) -> None:
        if self._guests.is_here(letter.node):
            self._desk.override(letter.node, letter.said)

    # Letters to askers

    def _refused(self, owner: str, letter: JobRefused, _audio: bytes) -> None:
        child(REMOTE_JOBS, "refused").inc()
        logger.debug("job_refused", job=letter.job, node=letter.node, instance=owner, why=letter.why)
        self._desk.perform(self._afar.refused(owner, letter.job, self._now()))

    def _said(self, _owner: str, letter: NodeSaid, audio: bytes) -> None:
        match codec.node_messages.decode(audio):
            case JobResult() as message:
                child(REMOTE_JOBS, "answered").inc()
                self._desk.result(message, letter.node)
            case JobAck() | JobStarted() | NodeAsrPartial() as message:
                self._desk.progress(message, letter.node)

    def _lost(self, owner: str, letter: JobsLost, _audio: bytes) -> None:
        child(REMOTE_JOBS, "lost").inc(len(letter.jobs))
        self._desk.perform(self._afar.lost(owner, letter.jobs, self._now()))

    # Other instances come and go

    def _gone(self, instance: str) -> None:
        now = self._now()
        self._told.discard(instance)
        self._desk.perform(self._guests.out_of_touch(instance, now))
        self._desk.perform(self._afar.owner_gone(instance, now))

    def _tell_open(self, owner: str) -> None:
        """Tell an owner what we wait for: always after an interruption, else while there is something."""
        jobs = self._afar.open(owner)
        if self._mail.send(owner, JobsOpen(jobs=jobs), lane="jobs", expires_s=CHECK_S * 2):
            self._told.discard(owner)
            if jobs:
                self._told.add(owner)
