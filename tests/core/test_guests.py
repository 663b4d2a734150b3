"""Jobs of other instances on our nodes, and ours on theirs: slots come back once, everything is told."""

from __future__ import annotations

from collections import Counter

import pytest
from core.support import Desk, fault, languages, services
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from linguad.core.actions import Action, Assign, Cancel, Deliver, Forgiven, Freed, Hand, ServiceMissing, Tell
from linguad.core.afar import Afar
from linguad.core.guests import Guests
from linguad.core.health import Status
from linguad.core.job import AttemptEnd, JobStatus, MissingReason
from linguad.core.key import Key
from linguad.core.rules import JobRules
from linguad.core.services import CORE_SERVICES, Mark, Services
from linguad.core.utterance import CutReason
from linguad.errors import ErrorCode
from linguad.wire.letters_jobs import (
    JobAssigned,
    JobCalledOff,
    JobRefused,
    JobsLost,
    JobsOpen,
    NodeSaid,
)
from linguad.wire.node import JobCancel, JobError, JobResult
from linguad.wire.override import Override
from linguad.wire.record import NodeRecord

EN_ES = Key("en", "es", CORE_SERVICES)


def asked(name: str = "j-1", node: str = "a", **members: object) -> JobAssigned:
    """What another instance asks for."""
    defaults = {"session": f"s-{name}", "trace": "t", "seconds": 1.0, "within_s": 60.0}
    return JobAssigned(node=node, job=name, **(defaults | members))  # type: ignore[arg-type]


def record(node: str = "far", **members: object) -> NodeRecord:
    """A node of instance `b`, ready for speech between English and Spanish."""
    defaults = {
        "owner": "b",
        "epoch": 1_000,
        "status": "ready",
        "slots": 2,
        "services": int(CORE_SERVICES),
        "installed": int(CORE_SERVICES),
        "languages": languages("en", "es"),
    }
    return NodeRecord(node=node, **(defaults | members))  # type: ignore[arg-type]


def why(actions: list[Action]) -> list[str]:
    """Reasons of the refusals among these."""
    letters = [action.letter for action in actions if isinstance(action, Tell)]
    return [letter.why for letter in letters if isinstance(letter, JobRefused)]


class Owner:
    """An instance with a node of two slots, and its guests."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.guests = Guests(self.desk.fleet, self.desk.dispatch.placement.rules, self.desk.dispatch.amnesty)
        self.desk.node("a", cap=2)

    def ask(self, name: str = "j-1", asker: str = "x", **members: object) -> list[Action]:
        return self.guests.assigned(asker, asked(name, **members), "frame", self.desk.now)

    def answer(self, name: str = "j-1", **members: object) -> list[Action]:
        said = {"text_asr": "hello", "text_translated": "hola"} | members
        message = JobResult(job_id=name, node_id="a", **({"success": True} | said))  # type: ignore[arg-type]
        return self.guests.said(message, "a", "said", self.desk.now)

    def wait(self, seconds: float) -> list[Action]:
        until, actions = self.desk.now + seconds, []
        while (due := self.guests.due()) is not None and due <= until:
            self.desk.now = due
            actions += self.guests.tick(due)
        self.desk.now = until
        return actions


class TestGuests:
    def test_a_guest_has_a_slot_from_the_frame_to_the_answer(self) -> None:
        owner = Owner()
        assert owner.ask() == [Hand("a", "frame")]
        assert (owner.desk.used("a"), owner.guests.slots("a")) == (1, Counter(x=1))
        assert owner.answer() == [Tell("x", NodeSaid(node="a", job="j-1"), "said"), Freed("a")]
        assert (owner.desk.used("a"), len(owner.guests)) == (0, 0)

    def test_a_full_node_refuses_others_and_frees_its_slots_for_all(self) -> None:
        owner = Owner()
        owner.ask("j-1")
        owner.ask("j-2", asker="y")
        job = owner.desk.submit()
        assert job.status is JobStatus.PENDING, "our own wait for guests, too"
        assert why(owner.ask("j-3")) == ["full"]
        assert Freed("a") in owner.answer("j-1")
        owner.desk.dispatch.freed("a", owner.desk.now)
        assert job.status is JobStatus.ASSIGNED

    def test_a_slice_of_a_turn_may_go_beyond_the_cap(self) -> None:
        owner = Owner()
        for name in ("j-1", "j-2"):
            owner.ask(name)
        assert owner.ask("j-3", in_turn=True) == [Hand("a", "frame")]

    def test_who_is_not_here_or_not_ready_is_refused(self) -> None:
        owner = Owner()
        assert why(owner.ask("j-1", node="nobody")) == ["not_here"]
        owner.desk.beat("a", installed_services=[])
        owner.desk.fleet.nodes["a"].health.state = Status.DEGRADED
        owner.desk.beat("a", installed_services=services("asr", status="error"))
        assert why(owner.ask("j-2")) == ["not_ready"]
        owner.desk.dispatch.amnesty.draining = True
        assert why(owner.ask("j-3")) == ["draining"]

    def test_what_follows_a_refused_job_is_refused(self) -> None:
        owner = Owner()
        owner.ask("j-1")
        owner.ask("j-2")
        assert why(owner.ask("j-3", session="s")) == ["full"]
        owner.answer("j-1")
        assert why(owner.ask("j-4", session="s")) == ["follows_refused"]
        owner.wait(61)
        assert owner.ask("j-5", session="s") == [Hand("a", "frame")]

    def test_what_the_node_never_got_is_missed(self) -> None:
        owner = Owner()
        assert why(owner.ask("j-2", session="s", after="j-1")) == ["misses_earlier"]
        owner.ask("j-3", session="t")
        assert owner.ask("j-4", session="t", after="j-3") == [Hand("a", "frame")]

    def test_a_letter_that_comes_twice_is_one_job(self) -> None:
        owner = Owner()
        owner.ask()
        assert owner.ask() == []
        owner.answer()
        assert owner.ask() == []

    def test_a_call_off_ends_it_once(self) -> None:
        owner = Owner()
        owner.ask()
        off = JobCalledOff(node="a", job="j-1", reason="superseded")
        assert owner.guests.called_off("y", off, owner.desk.now) == [], "not of that instance"
        cancel = JobCancel(job_id="j-1", trace_id="t", reason="superseded")
        assert owner.guests.called_off("x", off, owner.desk.now) == [Hand("a", cancel), Freed("a")]
        assert owner.guests.called_off("x", off, owner.desk.now) == []
        assert owner.answer()[0] == Tell("x", NodeSaid(node="a", job="j-1"), "said"), "late answers are told"

    def test_timeouts_of_a_node_that_answers_nobody_count_against_it(self) -> None:
        owner = Owner()
        for name in ("j-1", "j-2", "j-3"):
            owner.ask(name)
            owner.desk.now += 60
            off = JobCalledOff(node="a", job=name, reason="job_timeout")
            owner.guests.called_off("x", off, owner.desk.now)
        assert owner.desk.fleet.nodes["a"].status is Status.DEGRADED

    def test_while_we_drain_a_silent_node_is_forgiven(self) -> None:
        owner = Owner()
        owner.ask()
        owner.desk.dispatch.amnesty.draining = True
        off = JobCalledOff(node="a", job="j-1", reason="job_timeout")
        assert Forgiven("a", "drain") in owner.guests.called_off("x", off, owner.desk.now)

    def test_a_lost_node_is_told_to_every_asker(self) -> None:
        owner = Owner()
        owner.ask("j-1")
        owner.ask("j-2", asker="y")
        owner.desk.lose("a")
        told = owner.guests.node_lost("a", owner.desk.now)
        assert Tell("x", JobsLost(node="a", jobs=["j-1"])) in told
        assert Tell("y", JobsLost(node="a", jobs=["j-2"])) in told
        assert owner.desk.fleet.table.statistics()["used"] == 0

    def test_a_node_that_has_another_socket_by_now_keeps_its_guests(self) -> None:
        owner = Owner()
        owner.ask()
        owner.desk.node("a", cap=2)
        assert owner.guests.node_lost("a", owner.desk.now) == []

    def test_nobody_comes_back_for_the_jobs_of_a_dead_instance(self) -> None:
        owner = Owner()
        owner.ask()
        assert Freed("a") in owner.guests.out_of_touch("x", owner.desk.now)
        assert "j-1" not in owner.guests
        assert owner.guests.due() is None

    def test_a_check_ends_what_is_not_waited_for_and_tells_what_is_unknown(self) -> None:
        owner = Owner()
        owner.ask("j-1")
        owner.ask("j-2", asker="y")
        done = owner.guests.checked("x", JobsOpen(jobs=["j-9"]), owner.desk.now)
        assert why(done) == ["unknown"]
        assert Freed("a") in done
        assert owner.guests.slots("a") == Counter(y=1), "others are asked for themselves"

    def test_a_slice_gives_its_slot_back_before_its_answer(self) -> None:
        owner = Owner()
        owner.ask("j-1", deferrable=True)
        assert Freed("a") in owner.wait(3)
        assert (owner.desk.used("a"), len(owner.guests)) == (0, 1)
        owner.ask("j-2", deferrable=True)
        assert Freed("a") in owner.answer("j-2", text_translated="")
        assert len(owner.guests) == 2, "its translation comes with the end of the turn"

    def test_a_missing_model_is_seen_as_it_passes(self) -> None:
        owner = Owner()
        owner.ask()
        error = fault("", "MODEL_NOT_AVAILABLE")
        error = type(error)(code=error.code, message="", details={"service_id": "nmt-service"})
        assert ServiceMissing("a", "nmt-service") in owner.answer(success=False, error=error)
        assert not owner.desk.fleet.nodes["a"].services.running & Services.NMT

    def test_a_model_that_the_node_does_not_report_is_no_reason_to_avoid_it(self) -> None:
        owner = Owner()
        owner.ask()
        details = {"service_id": "made-up", "reason": "downloading"}
        error = JobError(code="MODEL_NOT_AVAILABLE", message="", details=details)
        said = ServiceMissing("a", "made-up", Mark.UNKNOWN, "downloading")
        assert said in owner.answer(success=False, error=error)

    def test_rules_that_changed_hold_for_guests_too(self) -> None:
        owner = Owner()
        owner.guests.change_rules(JobRules(send_cancel=False, late_result_s=5.0))
        owner.ask()
        assert owner.wait(60) == [Freed("a")]
        owner.wait(4.9)
        assert "j-1" in owner.guests
        owner.wait(0.2)
        assert "j-1" not in owner.guests

    def test_everything_is_forgotten(self) -> None:
        owner = Owner()
        owner.ask()
        actions = owner.wait(60)
        assert Hand("a", JobCancel(job_id="j-1", trace_id="t", reason="job_timeout")) in actions
        owner.wait(owner.desk.dispatch.placement.rules.late_result_s)
        assert "j-1" not in owner.guests
        assert owner.guests.due() is None


class Asker:
    """An instance without nodes that knows one of instance b."""

    def __init__(self, **members: object) -> None:
        self.desk = Desk()
        self.afar = Afar(self.desk.dispatch)
        self.learn(**members)

    def learn(self, node: str = "far", others: int = 0, **members: object) -> list[Action]:
        return self.afar.learned(record(node, **members), others, self.desk.now)


class TestAfar:
    def test_a_job_goes_through_the_owner(self) -> None:
        job, actions = (asker := Asker()).desk.submitted()
        (attempt,) = job.attempts
        assert (attempt.owner, attempt.node_id) == ("b", "far")
        assert [action.attempt for action in actions if isinstance(action, Assign)] == [attempt]
        asker.desk.answer(attempt)
        assert job.status is JobStatus.COMPLETED

    def test_a_node_here_is_preferred_while_it_is_as_good(self) -> None:
        asker = Asker(slots=10)
        asker.desk.node("near", cap=10)
        assert asker.desk.submit(session="s-1").attempts[0].node_id == "near"
        assert asker.desk.submit(session="s-2").attempts[0].node_id == "far", "which has less to do"

    def test_a_refused_job_chooses_again_and_nothing_is_counted(self) -> None:
        asker = Asker()
        job = asker.desk.submit()
        asker.desk.node("near")
        asker.afar.refused("b", job.attempts[0].wire_job_id, asker.desk.now)
        assert [attempt.node_id for attempt in job.attempts] == ["far", "near"]
        assert job.attempts[0].end is AttemptEnd.REFUSED
        assert (job.tries, job.excluded_rows) == (1, [])
        first, second = job.attempts
        assert first.wire_session_id != second.wire_session_id
        assert asker.afar.refused("b", first.wire_job_id, asker.desk.now) == [], "once"

    def test_who_refused_gets_nothing_for_a_while_but_counts_as_ready(self) -> None:
        asker = Asker()
        job = asker.desk.submit()
        asker.afar.refused("b", job.attempts[0].wire_job_id, asker.desk.now)
        assert job.status is JobStatus.PENDING
        assert asker.desk.fleet.has_ready(EN_ES)
        asker.desk.wait(0.9)
        assert job.status is JobStatus.PENDING
        asker.desk.wait(0.2)
        assert job.status is JobStatus.ASSIGNED
        assert len(job.attempts) == 2

    def test_a_job_that_is_refused_for_ever_is_told_that_nodes_are_busy(self) -> None:
        asker = Asker()
        job = asker.desk.submit()
        deliveries: list[Deliver] = []
        for _ in range(200):
            for attempt in job.open_attempts:
                asker.afar.refused("b", attempt.wire_job_id, asker.desk.now)
            deliveries += [one for one in asker.desk.wait(1.0) if isinstance(one, Deliver)]
        (delivery,) = deliveries
        assert delivery.outcome.error in (ErrorCode.NODE_OVERLOADED, ErrorCode.NODE_UNAVAILABLE)

    def test_a_turn_goes_together(self) -> None:
        asker = Asker()
        first = asker.desk.submit(0, reason=CutReason.MAX_DURATION, turn_id="t")
        second, _ = asker.desk.submitted(1, turn_id="t")
        assert asker.afar.before(second.attempts[0]) == first.attempts[0].wire_job_id
        asker.desk.node("near")
        actions = asker.afar.refused("b", second.attempts[0].wire_job_id, asker.desk.now)
        assert [one.owner for one in actions if isinstance(one, Cancel)] == ["b"], "the owner is told"
        assert {job.attempts[-1].node_id for job in (first, second)} == {"near"}

    def test_out_of_reach_it_says_so(self) -> None:
        asker = Asker()
        asker.afar.in_reach(False, asker.desk.now)
        job, actions = asker.desk.submitted()
        actions += asker.desk.wait(11)
        (delivery,) = [one for one in actions if isinstance(one, Deliver)]
        assert delivery.outcome.missing is MissingReason.NO_NODE
        assert delivery.outcome.error is ErrorCode.SCHEDULER_DEPENDENCY_DOWN
        asker.afar.in_reach(True, asker.desk.now)
        assert asker.desk.submit(1).status is JobStatus.ASSIGNED
        assert job.status is JobStatus.FAILED

    def test_a_dead_owner_takes_its_nodes_along(self) -> None:
        asker = Asker()
        job = asker.desk.submit()
        asker.desk.node("near")
        asker.afar.owner_gone("b", asker.desk.now)
        assert [attempt.end for attempt in job.attempts] == [AttemptEnd.NODE_LOST, None]
        assert asker.desk.fleet.nodes["far"].status is Status.OFFLINE
        assert asker.afar.owners() == set()

    def test_a_dead_owner_of_more_nodes_than_are_remembered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("linguad.core.fleet.MAX_OFFLINE_NODES", 1)
        asker = Asker(slots=1)
        asker.afar.learned(record("farther", slots=1), 0, asker.desk.now)
        jobs = [asker.desk.submit(session=f"s-{number}") for number in range(2)]
        assert {job.attempts[0].node_id for job in jobs} == {"far", "farther"}
        asker.afar.owner_gone("b", asker.desk.now)
        assert {job.status for job in jobs} == {JobStatus.PENDING}
        assert asker.desk.fleet.table.statistics()["used"] == 0
        asker.desk.fleet.scan(asker.desk.now)
        assert len(asker.desk.fleet.nodes) == 1

    def test_a_model_that_is_missing_there_is_told_by_the_owner_alone(self) -> None:
        asker = Asker()
        job = asker.desk.submit()
        details = {"service_id": "nmt-service"}
        error = JobError(code="MODEL_NOT_AVAILABLE", message="", details=details)
        actions = asker.desk.answer(job.attempts[0], "failed", error=error)
        assert [one for one in actions if isinstance(one, ServiceMissing)] == []
        assert job.attempts[0].end is AttemptEnd.FAILED

    def test_only_what_its_owner_lost_is_lost(self) -> None:
        asker = Asker()
        one, other = asker.desk.submit(session="s-1"), asker.desk.submit(session="s-2")
        asker.afar.lost("c", [one.attempts[0].wire_job_id], asker.desk.now)
        asker.afar.lost("b", [one.attempts[0].wire_job_id, "nothing"], asker.desk.now)
        assert [job.attempts[0].end for job in (one, other)] == [AttemptEnd.NODE_LOST, None]

    def test_health_is_judged_by_the_owner_alone(self) -> None:
        asker = Asker(slots=10)
        for number in range(5):
            job = asker.desk.submit(session=f"s-{number}")
            asker.desk.answer(job.attempts[0], "failed")
        assert asker.desk.fleet.nodes["far"].status is Status.READY

    def test_a_record_says_all_that_selection_needs(self) -> None:
        here = Desk()
        here.node("a", "en", "es", "fr", cap=3, accept_public_jobs=True)
        told = here.fleet.nodes["a"].record("b", "boot", 7, {"b": 2, "x": 1})
        asker = Asker()
        asker.afar.learned(told, told.others_use("x"), asker.desk.now)
        node = asker.desk.fleet.nodes["a"]
        assert (node.owner, node.connection, node.cap, node.slots) == ("b", 7, 3, 1)
        assert node.fits(Key("fr", "en", CORE_SERVICES))
        asker.learn("a", services=0)
        assert not node.fits(EN_ES)

    def test_what_operators_say_goes_with_a_node(self) -> None:
        here = Desk()
        here.node("a", cap=3)
        here.dispatch.override("a", Override(cap=1, note="loud fan"), here.now)
        told = here.fleet.nodes["a"].record("b", "boot", 7, {})
        asker = Asker()
        asker.afar.learned(told, 0, asker.desk.now)
        node = asker.desk.fleet.nodes["a"]
        assert (node.cap, node.said.note) == (1, "loud fan")
        asker.desk.node("a", cap=3)
        assert (node.owner, node.cap) == ("", 1)

    def test_a_node_that_comes_here_is_ours(self) -> None:
        asker = Asker(status="draining")
        asker.desk.node("far", cap=4)
        node = asker.desk.fleet.nodes["far"]
        assert (node.owner, node.status, node.slots) == ("", Status.READY, 4)
        assert asker.desk.submit().attempts[0].owner == ""


class AnyLetters(RuleBasedStateMachine):
    """Whatever letters come, slots that are out are guests that hold one, and a refused job has none."""

    def __init__(self) -> None:
        super().__init__()
        self.owner = Owner()
        self.names: list[str] = []
        self.slots: Counter[str] = Counter()

    @rule(
        asker=st.sampled_from("xy"),
        old=st.booleans(),
        in_turn=st.booleans(),
        deferrable=st.booleans(),
        session=st.sampled_from(["s", "t", ""]),
        after=st.sampled_from(["", "", "j-1", "j-2"]),
    )
    def ask(self, asker: str, old: bool, in_turn: bool, deferrable: bool, session: str, after: str) -> None:
        name = self.names[-1] if old and self.names else f"j-{len(self.names)}"
        known = name in self.owner.guests
        actions = self.owner.ask(
            name, asker, in_turn=in_turn, deferrable=deferrable, session=session or name, after=after
        )
        assert len(actions) == (0 if known else 1)
        if not known:
            self.names.append(name)
            assert (name in self.owner.guests) == isinstance(actions[0], Hand)

    @precondition(lambda self: self.names)
    @rule(which=st.integers(0, 30), heard=st.booleans(), success=st.booleans())
    def answer(self, which: int, heard: bool, success: bool) -> None:
        name = self.names[which % len(self.names)]
        if name in self.owner.guests:
            text = "" if heard else "hola"
            self.owner.answer(name, success=success, text_translated=text)

    @precondition(lambda self: self.names)
    @rule(which=st.integers(0, 30), asker=st.sampled_from("xy"))
    def call_off(self, which: int, asker: str) -> None:
        letter = JobCalledOff(node="a", job=self.names[which % len(self.names)], reason="job_timeout")
        self.owner.guests.called_off(asker, letter, self.owner.desk.now)

    @rule(asker=st.sampled_from("xy"), many=st.booleans())
    def check(self, asker: str, many: bool) -> None:
        letter = JobsOpen(jobs=self.names[-4:] if many else [])
        self.owner.guests.checked(asker, letter, self.owner.desk.now)
        if not many:
            assert asker not in self.owner.guests.slots("a")

    @rule(asker=st.sampled_from("xy"))
    def lose_touch(self, asker: str) -> None:
        self.owner.guests.out_of_touch(asker, self.owner.desk.now)
        assert asker not in self.owner.guests.askers()

    @rule()
    def move(self) -> None:
        """The node loses its socket and comes back."""
        self.owner.desk.lose("a")
        self.owner.guests.node_lost("a", self.owner.desk.now)
        assert len(self.owner.guests) == 0
        self.owner.desk.node("a", cap=2)

    @rule(seconds=st.sampled_from([0.5, 3.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.owner.wait(seconds)
        self.owner.desk.beat("a")

    @invariant()
    def slots_that_are_out_are_guests_that_hold_one(self) -> None:
        guests = self.owner.guests
        assert self.owner.desk.used("a") == guests.slots("a").total() <= len(guests)
        assert self.owner.desk.used("a") <= 2 + 2

    def teardown(self) -> None:
        self.owner.wait(200)
        self.slots_that_are_out_are_guests_that_hold_one()
        assert len(self.owner.guests) == 0
        assert not self.owner.guests.askers()
        assert self.owner.guests.due() is None


AnyLetters.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestAnyLetters = AnyLetters.TestCase
