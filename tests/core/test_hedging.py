"""A second attempt beside a slow first one: off by default, within a budget, never delivered twice."""

from __future__ import annotations

from typing import Any

import pytest
from core.support import Desk, only, sent, told

from linguad.core.actions import Cancel
from linguad.core.job import AttemptEnd, Chosen, Job
from linguad.core.utterance import CutReason


def hedged(**rules: Any) -> tuple[Desk, Job]:
    """A job that took 80 % of its time, so that a second node has it as well."""
    desk = Desk(**({"hedge_percent": 100.0} | rules))
    desk.node("a")
    desk.node("b")
    job = desk.submit()
    desk.wait(0.8 * (job.attempts[0].deadline - desk.now))
    return desk, job


def test_off_by_default() -> None:
    desk, job = hedged(hedge_percent=0.0)
    desk.wait(5.0)
    assert len(job.attempts) == 1


def test_a_slow_job_goes_to_a_second_node_under_names_of_its_own() -> None:
    desk, job = hedged()
    first, second = job.attempts
    assert {first.node_id, second.node_id} == {"a", "b"}
    assert (second.chosen, second.wire_job_id) == (Chosen.HEDGE, "job-1~r2")
    assert (desk.used("a"), desk.used("b")) == (1, 1)
    assert job.lane.row == first.row


@pytest.mark.parametrize("winner", [0, 1])
def test_the_first_usable_answer_wins_and_the_other_is_cancelled(winner: int) -> None:
    desk, job = hedged()
    actions = desk.answer(job.attempts[winner])
    loser = job.attempts[1 - winner]
    assert told(actions) == ["0:hola"]
    assert [action.message.job_id for action in only(Cancel, actions)] == [loser.wire_job_id]
    assert loser.end is AttemptEnd.SUPERSEDED
    assert told(desk.answer(loser)) == []
    assert (desk.used("a"), desk.used("b")) == (0, 0)


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_of_one_leaves_the_other(failing: int) -> None:
    desk, job = hedged()
    assert sent(desk.answer(job.attempts[failing], "failed")) == []
    assert told(desk.answer(job.attempts[1 - failing])) == ["0:hola"]


def test_the_end_of_the_first_ones_time_leaves_the_second() -> None:
    desk, job = hedged()
    assert told(desk.wait(job.attempts[0].deadline - desk.now)) == []
    assert [attempt.end for attempt in job.attempts] == [AttemptEnd.TIMEOUT, None]
    assert told(desk.answer(job.attempts[1])) == ["0:hola"]


@pytest.mark.parametrize("dead", [0, 1])
def test_the_death_of_one_node_leaves_the_other(dead: int) -> None:
    desk, job = hedged()
    assert sent(desk.lose(job.attempts[dead].node_id)) == []
    assert told(desk.answer(job.attempts[1 - dead])) == ["0:hola"]


def test_the_end_of_the_session_ends_both() -> None:
    desk, _ = hedged()
    actions = desk.dispatch.session_ended("s-1", desk.now)
    assert {action.message.job_id for action in only(Cancel, actions)} == {"job-1", "job-1~r2"}
    assert (desk.used("a"), desk.used("b")) == (0, 0)


def test_without_a_free_node_there_is_none() -> None:
    desk = Desk(hedge_percent=100.0)
    desk.node("a")
    job = desk.submit()
    desk.wait(0.8 * (job.attempts[0].deadline - desk.now))
    assert len(job.attempts) == 1


def test_the_budget_is_kept() -> None:
    desk = Desk(hedge_percent=10.0)
    desk.node("a", cap=64)
    desk.node("b", cap=64)
    jobs = [desk.submit(0, f"s-{number}") for number in range(40)]
    desk.wait(0.8 * (jobs[0].attempts[0].deadline - desk.now))
    assert sum(len(job.attempts) - 1 for job in jobs) == 4


def test_a_turn_whose_slices_lie_on_a_node_is_not_torn_apart() -> None:
    desk = Desk(hedge_percent=100.0)
    desk.node("a")
    desk.node("b")
    desk.submit(0, reason=CutReason.MAX_DURATION, turn_id="t")
    closing = desk.submit(1, turn_id="t")
    desk.wait(0.8 * (closing.attempts[0].deadline - desk.now))
    assert len(closing.attempts) == 1
