"""Any history of the dispatcher: nothing is lost, doubled, leaked or left waiting for nothing."""

from __future__ import annotations

from typing import Any

from core.support import Desk, languages, request, services, sound
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from linguad.core.actions import Action, Assign, AttemptEnded, AudioReleased, Cancel, Deliver
from linguad.core.health import Status
from linguad.core.job import Attempt, Job, JobStatus
from linguad.core.placement import TURN_OVERFLOW_SLOTS
from linguad.core.utterance import CutReason
from linguad.wire.node import JobAck, JobStarted, NodeAsrPartial

node_ids = st.sampled_from("abcd")
speakers = st.sampled_from("xyz")
offers = st.sampled_from([("en", "es"), ("en", "es", "fr"), ("zh", "es"), ("fr",)])
languages_asked = st.sampled_from(
    [
        {"src": "en", "tgt": "es"},
        {"src": "en", "tgt": "es"},
        {"src": "en", "tgt": "fr"},
        {"src": "zh", "tgt": "es"},
        {"src": "auto", "tgt": "es"},
        {"src": "auto", "tgt": "es", "lang_a": "en", "lang_b": "es"},
    ]
)
answers = st.sampled_from(["complete", "complete", "heard", "empty", "no_text", "failed"])


class AnyHistory(RuleBasedStateMachine):
    """The dispatcher beside what a bystander writes down."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(max_waiting=6)
        self.sessions = {"x": "x-0", "y": "y-0", "z": "z-0"}
        self.next_index: dict[str, int] = {}
        self.turns: dict[str, int] = {}
        self.jobs: list[Job] = []
        self.attempts: list[Attempt] = []
        self.open: dict[int, tuple[Job, Attempt]] = {}
        self.delivered: dict[str, list[bool]] = {}
        self.ended: set[str] = set()
        self.abandoned: set[str] = set()
        self.wire_ids: set[str] = set()
        self.gone_to: dict[tuple[str, str], int] = {}
        self.audio = 0

    def see(self, actions: list[Action]) -> None:
        """Write down what the dispatcher wants, and check what can be checked at once."""
        for action in actions:
            match action:
                case Assign():
                    self._see_assign(action)
                case AttemptEnded():
                    del self.open[id(action.attempt)]
                case Cancel():
                    assert action.message.job_id not in {
                        attempt.wire_job_id for _, attempt in self.open.values()
                    }
                case Deliver():
                    self._see_delivery(action)
                case AudioReleased():
                    self.audio -= action.size

    def _see_assign(self, action: Assign) -> None:
        attempt, message = action.attempt, action.message
        assert attempt.node_id in self.desk.connections
        assert action.job.request.session_id not in self.ended
        assert message.job_id not in self.wire_ids
        self.wire_ids.add(message.job_id)
        wire_session = attempt.node_id, message.session_id
        assert self.gone_to.get(wire_session, -1) < message.utterance_index, (
            "the node would leave it untranslated"
        )
        self.gone_to[wire_session] = message.utterance_index
        self.open[id(attempt)] = action.job, attempt
        self.attempts.append(attempt)

    def _see_delivery(self, action: Deliver) -> None:
        assert action.job.request.session_id not in self.ended
        before = self.delivered.setdefault(action.job.id, [])
        assert before in ([], [False]), "once, and once more if it brings text after all"
        before.append(action.outcome.result is not None)
        assert len(before) == 1 or before[-1]

    @rule(node_id=node_ids, codes=offers, cap=st.integers(1, 3))
    def register(self, node_id: str, codes: tuple[str, ...], cap: int) -> None:
        """A node comes, comes back, or takes over from its own older socket."""
        before = self.desk.connections.get(node_id)
        self.see(self.desk.node(node_id, *codes, cap=cap))
        if before is not None:
            assert self.desk.dispatch.connection_lost(node_id, before, self.desk.now) == []

    @precondition(lambda self: self.desk.connections)
    @rule(
        which=st.integers(0, 9),
        codes=st.none() | offers,
        runs=st.booleans(),
        cap=st.none() | st.integers(1, 3),
    )
    def heartbeat(self, which: int, codes: tuple[str, ...] | None, runs: bool, cap: int | None) -> None:
        node_id = sorted(self.desk.connections)[which % len(self.desk.connections)]
        members: dict[str, Any] = {"max_concurrent_jobs": cap}
        members["installed_services"] = services("asr", "nmt", "tts") if runs else []
        if codes is not None:
            members["language_capabilities"] = languages(*codes)
        self.see(self.desk.beat(node_id, **members))

    @precondition(lambda self: self.desk.connections)
    @rule(which=st.integers(0, 9))
    def lose(self, which: int) -> None:
        self.see(self.desk.lose(sorted(self.desk.connections)[which % len(self.desk.connections)]))

    @rule(
        speaker=speakers,
        asked=languages_asked,
        reason=st.sampled_from(
            [CutReason.MANUAL, CutReason.MANUAL, CutReason.TIMEOUT, CutReason.MAX_DURATION]
        ),
        step=st.sampled_from([1, 1, 1, 2, 0, -1]),
        refuse=st.sampled_from([False] * 9 + [True]),
    )
    def submit(self, speaker: str, asked: dict[str, str], reason: CutReason, step: int, refuse: bool) -> None:
        session = self.sessions[speaker]
        index = max(0, self.next_index.get(session, -1) + step)
        self.next_index[session] = max(index, self.next_index.get(session, -1))
        turn = self.turns.setdefault(session, 0)
        if not reason.speech_continues:
            self.turns[session] += 1
        made = request(index, session, reason=reason, now=self.desk.now, turn_id=f"{session}:{turn}", **asked)
        audio = sound(2.0, data=bytes(len(self.jobs) % 7 + 1))
        self.audio += len(audio.base64)
        job, actions = self.desk.dispatch.submit(made, audio, self.desk.now, refuse=refuse)
        self.jobs.append(job)
        self.see(actions)

    @precondition(lambda self: self.attempts)
    @rule(which=st.integers(0, 99), kind=answers, by=st.sampled_from(["", "", "", "", "a"]))
    def answer(self, which: int, kind: str, by: str) -> None:
        """In time, late, twice, or from a node that was never asked."""
        self.see(self.desk.answer(self.attempts[-1 - which % len(self.attempts)], kind, by=by))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 99), kind=answers)
    def answer_in_time(self, which: int, kind: str) -> None:
        _, attempt = list(self.open.values())[which % len(self.open)]
        self.see(self.desk.answer(attempt, kind))

    @precondition(lambda self: self.attempts)
    @rule(which=st.integers(0, 99), how=st.integers(0, 2))
    def progress(self, which: int, how: int) -> None:
        attempt = self.attempts[which % len(self.attempts)]
        said = (
            JobAck(job_id=attempt.wire_job_id),
            JobStarted(job_id=attempt.wire_job_id),
            NodeAsrPartial(job_id=attempt.wire_job_id, node_id=attempt.node_id, text="hel"),
        )[how]
        self.see(self.desk.dispatch.progress(said, attempt.node_id))

    @rule(speaker=speakers)
    def end_session(self, speaker: str) -> None:
        """A session ends for good; its speaker opens another one."""
        session = self.sessions[speaker]
        self.sessions[speaker] = f"{speaker}-{len(self.ended) + 1}"
        self.abandoned |= {
            job.id for job in self.jobs if job.request.session_id == session and not job.status.final
        }
        self.ended.add(session)
        self.see(self.desk.dispatch.session_ended(session, self.desk.now))

    @rule(seconds=st.sampled_from([0.5, 5.0, 10.0, 30.0, 62.0, 301.0]))
    def wait(self, seconds: float) -> None:
        self.see(self.desk.wait(seconds))
        for node in self.desk.fleet.scan(self.desk.now):
            self.see(self.desk.lose(node.id))

    @invariant()
    def slots_taken_are_attempts_that_hold_one(self) -> None:
        table = self.desk.fleet.table
        holding = [attempt for _, attempt in self.open.values() if attempt.holds_slot]
        assert table.statistics()["used"] == len(holding)
        for node_id, node in self.desk.fleet.nodes.items():
            held = sum(attempt.node_id == node_id for attempt in holding)
            row = self.desk.fleet.row_of(node_id)
            assert row is not None
            assert table.used(row) == held
            assert held == 0 or node.online

    @invariant()
    def every_open_job_waits_or_runs_and_has_a_deadline(self) -> None:
        dispatch = self.desk.dispatch
        alive = [job for job in self.jobs if not job.status.final]
        assert dispatch.open_jobs == len(alive)
        assert len(dispatch.waiting) == sum(job.status is JobStatus.PENDING for job in alive)
        running = {job.id: attempt for job, attempt in self.open.values()}
        assert len(running) == len(self.open)
        for job in alive:
            waits = job in dispatch.waiting
            assert waits == (job.status is JobStatus.PENDING)
            assert waits == (not job.open_attempts)
            assert [attempt for attempt in (running.get(job.id),) if attempt] == job.open_attempts
            assert dispatch._deadlines._at[job.id] > self.desk.now
        due = dispatch.due()
        assert (due is None) == (not alive)
        assert due is None or due <= min(dispatch._deadlines._at.values())

    @invariant()
    def audio_is_held_for_open_jobs_alone(self) -> None:
        held = sum(len(job.audio.base64) for job in self.jobs if job.audio is not None)
        assert held == self.audio
        assert all((job.audio is None) == job.status.final for job in self.jobs)

    @invariant()
    def every_ended_job_was_delivered(self) -> None:
        for job in self.jobs:
            due = job.status.final and job.id not in self.abandoned
            assert bool(self.delivered.get(job.id)) == due

    @invariant()
    def nobody_waits_while_a_node_is_free(self) -> None:
        fleet, waiting = self.desk.fleet, self.desk.dispatch.waiting
        for key in waiting.keys():  # noqa: SIM118 -- a method of the waiting room
            for job in waiting.offers(key):
                for node in fleet.nodes.values():
                    row = fleet.row_of(node.id)
                    assert row is not None
                    free = node.status is Status.READY and fleet.table.used(row) < node.slots
                    assert not (free and fleet.fits(row, key) and row not in job.excluded_rows)

    @invariant()
    def caps_are_kept(self) -> None:
        """The largest cap any node ever had here, and the slots an open turn may take beyond."""
        for node_id in self.desk.fleet.nodes:
            assert self.desk.used(node_id) <= 3 + TURN_OVERFLOW_SLOTS

    def teardown(self) -> None:
        """After the last node is lost and time passed nothing is left."""
        for node_id in sorted(self.desk.connections):
            self.see(self.desk.lose(node_id))
        self.see(self.desk.wait(10.0))
        assert self.desk.dispatch.open_jobs == 0
        assert not self.open
        assert self.audio == 0
        assert self.desk.dispatch.due() is None
        self.every_ended_job_was_delivered()
        self.see(self.desk.wait(301.0))
        self.desk.fleet.scan(self.desk.now)
        assert len(self.desk.dispatch.jobs) == len(self.jobs)
        assert all(self.desk.dispatch.attempts.find(name) is None for name in self.wire_ids)
        assert self.desk.fleet.table.statistics() == dict.fromkeys(self.desk.fleet.table.statistics(), 0)


AnyHistory.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestAnyHistory = AnyHistory.TestCase
