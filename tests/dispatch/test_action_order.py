"""In which order nodes get what the core decided."""

from __future__ import annotations

from core.support import Desk, answer, request, sound

from linguad.core.job import Job, Outcome
from linguad.dispatch.engine import Engine
from linguad.errors import CloseReason
from linguad.net.outbox import Budget
from linguad.wire import codec
from linguad.wire.node import JobAssign, SchedulerMessage


class Peers:
    """Both sides of an engine: what nodes get is noted, and a session ends when another has its text."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.engine = Engine(self.desk.dispatch, Budget(1 << 30), lambda: self.desk.now)
        self.engine.connect(self, self)
        self.sent: list[SchedulerMessage] = []

    def send(self, node_id: str, text: str) -> bool:
        self.sent.append(codec.scheduler_messages.decode(text))
        return True

    def close(self, node_id: str, reason: CloseReason) -> None:
        raise AssertionError("nobody is closed here")

    def resolve(self, job: Job, outcome: Outcome) -> None:
        self.engine.session_ended("s-2")

    def progress(self, job: Job, event: str) -> None:
        pass

    def partial(self, job: Job, text: str, is_final: bool) -> None:
        pass

    def nodes_changed(self) -> None:
        pass


def test_what_a_result_leads_to_comes_after_what_was_decided_with_it() -> None:
    peers = Peers()
    peers.engine.perform(peers.desk.node("node-1", cap=2))
    for session, index in (("s-1", 0), ("s-2", 0), ("s-3", 0), ("s-3", 1)):
        peers.engine.submit(request(index, session), sound())
    job = next(iter(peers.desk.dispatch.jobs.values()))
    peers.sent.clear()
    peers.engine.result(answer(job.attempts[0]), "node-1")
    got = [message for message in peers.sent if isinstance(message, JobAssign)]
    assert [(job.session_id, job.utterance_index) for job in got] == [("s-3", 0), ("s-3", 1)]
