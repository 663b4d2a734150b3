"""Probation, quarantine and amnesty: what failed jobs bring upon a node, and when they do not."""

from __future__ import annotations

from typing import Any

from core.support import Desk, only, sent, told

from linguad.core.actions import Forgiven, StoodStill
from linguad.core.health import Health, Status
from linguad.core.job import AttemptEnd
from linguad.core.rules import NodeRules


def degraded(rules: NodeRules | None = None) -> Health:
    """A node that three failed jobs made degraded at second 10."""
    health = Health(rules or NodeRules())
    health.heartbeat(True, 0.0)
    for _ in range(3):
        health.job_failed(10.0, 10.0)
    return health


class TestProbation:
    def test_back_with_the_next_healthy_heartbeat_but_on_probation(self) -> None:
        health = degraded()
        assert health.state is Status.DEGRADED
        health.heartbeat(True, 11.0)
        assert (health.state, health.on_probation) == (Status.READY, True)

    def test_an_answer_ends_it(self) -> None:
        health = degraded()
        health.heartbeat(True, 11.0)
        health.job_answered()
        assert not health.on_probation

    def test_an_answer_to_a_job_from_before_does_not(self) -> None:
        health = degraded()
        health.job_answered()
        health.heartbeat(True, 11.0)
        assert health.on_probation

    def test_a_failure_brings_quarantine_twice_as_long_each_time(self) -> None:
        health, now, waits = degraded(), 20.0, []
        for _ in range(7):
            health.heartbeat(True, now)
            assert health.state is Status.READY
            health.job_failed(now, now)
            assert health.state is Status.DEGRADED
            waits.append(health.quarantined_until - now)
            health.heartbeat(True, health.quarantined_until - 0.1)
            assert health.state is Status.DEGRADED
            now = health.quarantined_until
        assert waits == [30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0]

    def test_quarantine_has_an_end_however_often_it_came(self) -> None:
        health = degraded()
        health.heartbeat(True, 11.0)
        health.failed_probations = 1_000_000
        health.job_failed(11.0, 11.0)
        assert health.quarantined_until == 611.0

    def test_a_failure_of_a_job_from_before_does_not_count(self) -> None:
        health = degraded()
        health.heartbeat(True, 11.0)
        health.job_failed(12.0, 9.0)
        assert (health.state, health.failed_probations) == (Status.READY, 0)

    def test_a_new_registration_does_not_end_it(self) -> None:
        health = degraded()
        health.heartbeat(True, 11.0)
        health.job_failed(11.0, 11.0)
        health.registered()
        health.heartbeat(True, 12.0)
        assert health.state is Status.DEGRADED
        health.heartbeat(True, 41.0)
        assert (health.state, health.on_probation) == (Status.READY, True)

    def test_some_answers_in_a_row_clear_the_record(self) -> None:
        health = degraded()
        health.heartbeat(True, 11.0)
        health.job_failed(11.0, 11.0)
        health.heartbeat(True, 50.0)
        for _ in range(5):
            assert health.failed_probations == 1
            health.job_answered()
        assert health.failed_probations == 0

    def test_bad_heartbeats_alone_bring_none(self) -> None:
        health = Health(NodeRules())
        health.heartbeat(True, 0.0)
        for _ in range(3):
            health.heartbeat(False, 1.0)
        health.heartbeat(True, 2.0)
        assert (health.state, health.on_probation) == (Status.READY, False)

    def test_one_job_at_a_time(self) -> None:
        desk = Desk()
        desk.node("a", cap=4)
        for number in range(3):
            desk.answer(desk.submit(0, f"s-{number}").attempts[0], "failed")
            desk.dispatch.session_ended(f"s-{number}", desk.now)
        assert desk.fleet.nodes["a"].status is Status.DEGRADED
        desk.beat("a")
        first, second = desk.submit(0, "s-8"), desk.submit(0, "s-9")
        assert first.attempts
        assert not second.attempts
        assert [message.job_id for message in sent(desk.answer(first.attempts[0]))] == [second.id]
        assert all(desk.submit(0, f"s-2{number}").attempts for number in range(3))


class TestAmnesty:
    def desk(self, **rules: Any) -> Desk:
        desk = Desk(**rules)
        desk.node("a")
        return desk

    def test_deadlines_that_passed_while_we_stood_still_wait_for_what_lies_unread(self) -> None:
        desk = self.desk()
        job = desk.submit()
        due = desk.dispatch.due()
        assert due is not None
        desk.now = due + 30.0
        actions = desk.dispatch.tick(desk.now)
        assert [action.seconds for action in only(StoodStill, actions)] == [30.0]
        assert told(desk.answer(job.attempts[0])) == ["0:hola"]

    def test_who_does_not_answer_then_either_is_given_up_but_not_blamed(self) -> None:
        desk = self.desk()
        job = desk.submit()
        desk.now = (desk.dispatch.due() or 0.0) + 30.0
        desk.dispatch.tick(desk.now)
        actions = desk.wait(2.0)
        assert job.attempts[0].end is AttemptEnd.TIMEOUT
        assert only(Forgiven, actions) == [Forgiven("a", "standstill")]

    def test_being_a_little_late_is_no_standstill(self) -> None:
        desk = self.desk()
        job = desk.submit()
        desk.now = (desk.dispatch.due() or 0.0) + 0.9
        actions = desk.dispatch.tick(desk.now)
        assert only(StoodStill, actions) == only(Forgiven, actions) == []
        assert job.attempts[0].end is AttemptEnd.TIMEOUT

    def test_nobody_is_blamed_while_we_drain(self) -> None:
        desk = self.desk()
        desk.dispatch.amnesty.draining = True
        for number in range(3):
            actions = desk.answer(desk.submit(0, f"s-{number}").attempts[0], "failed")
            assert only(Forgiven, actions) == [Forgiven("a", "drain")]
        assert desk.fleet.nodes["a"].status is Status.READY

    def test_heartbeats_that_lie_unread_after_a_standstill(self) -> None:
        desk = self.desk()
        assert desk.fleet.scan(desk.now) == []
        assert desk.fleet.scan(desk.now + 300.0) == []
        assert [node.id for node in desk.fleet.scan(desk.now + 305.1)] == ["a"]
