"""The rows of a time line: order, gaps, early finals, merges, tries and stages."""

from __future__ import annotations

import pytest
from core.support import Desk

from linguad.core.job import Job
from linguad.core.timeline import MAX_ROWS, Row, of_conversation, rows
from linguad.core.utterance import CutReason


def lines(desk: Desk, name: str = "s-1") -> list[Row]:
    return rows(of_conversation(desk.dispatch.jobs, [], name), lambda now: round(now * 1000))


def later(desk: Desk, seconds: float) -> None:
    desk.now += seconds


def test_gaps_and_early_finals() -> None:
    desk = Desk()
    desk.node("a", cap=20)
    desk.submit(0, seconds=1.0)
    later(desk, 1.1)  # its first sound came 100 ms after the last of the one before
    desk.submit(1, seconds=1.0)
    later(desk, 3.0)
    desk.submit(4, seconds=1.0)
    later(desk, 0.1)  # sent faster than it was spoken
    desk.submit(5, seconds=1.0)
    found = lines(desk)
    assert [row.index for row in found] == [0, 1, 4, 5]
    assert [row.since_previous_ms for row in found] == [None, 100.0, 2000.0, -900.0]
    assert [row.early_final for row in found] == [True, False, False, False]
    assert [row.missing_before for row in found] == [[], [], [2, 3], []]


def test_only_finals_of_the_client_are_early() -> None:
    desk = Desk()
    desk.node("a", cap=20)
    desk.submit(0, reason=CutReason.TIMEOUT)
    later(desk, 1.0)
    desk.submit(1)
    assert [row.early_final for row in lines(desk)] == [False, False]


def test_languages_of_a_room_are_rows_of_their_own() -> None:
    desk = Desk()
    desk.node("a", "en", "es", "fr", cap=20)
    for index in (0, 1):
        for tgt in ("fr", "es"):
            desk.submit(index, tgt=tgt, lane=f"s-1#{tgt}", room_id="r-1")
        later(desk, 5.0)
    found = lines(desk)
    assert [(row.index, row.tgt) for row in found] == [(0, "es"), (0, "fr"), (1, "es"), (1, "fr")]
    assert [row.since_previous_ms for row in found] == [None, None, 4000.0, 4000.0]
    assert all(row.in_room for row in found)


def test_attempts_stages_and_outcomes() -> None:
    desk = Desk()
    desk.node("a")
    job = desk.submit()
    later(desk, 0.2)
    desk.node("b")
    desk.answer(job.attempts[0], "failed")
    later(desk, 0.5)
    (row,) = lines(desk)
    assert (row.outcome, row.node_id, row.stages.total_ms, row.stages.node_ms) == ("open", "b", None, None)
    desk.answer(job.attempts[1])
    job.delivered_at, job.node_s = desk.now + 0.1, 0.3
    (row,) = lines(desk)
    assert [(one.node_id, one.end) for one in row.attempts] == [("a", "failed"), ("b", "ok")]
    assert (row.outcome, row.error, row.node_id, row.late) == ("completed", None, "b", False)
    stages = row.stages
    assert stages.queue_ms == pytest.approx(200)
    assert (stages.send_ms, stages.node_ms, stages.reorder_ms) == (
        pytest.approx(200),
        pytest.approx(300),
        pytest.approx(100),
    )
    assert stages.total_ms == pytest.approx(800)
    assert row.delivered_at_ms == round((desk.now + 0.1) * 1000)


def test_merged_and_failed() -> None:
    desk = Desk(pending_timeout_s=1.0)
    desk.node("a")
    slice_ = desk.submit(0, reason=CutReason.MAX_DURATION, turn_id="t")
    end = desk.submit(1, turn_id="t")
    desk.answer(end.attempts[0])
    desk.submit(2, tgt="fr")
    desk.wait(2.0)
    found = {row.index: row for row in lines(desk)}
    assert slice_.status.final
    assert (found[0].merged, found[0].outcome) == (True, "merged")
    assert (found[1].merged, found[1].outcome) == (False, "completed")
    assert (found[2].outcome, found[2].error) == ("no_available_node", "NO_AVAILABLE_NODE")
    assert (found[2].node_id, found[2].attempts) == (None, [])


def test_a_long_conversation_is_told_from_its_end() -> None:
    desk = Desk(max_waiting=MAX_ROWS + 10, max_waiting_per_tenant=MAX_ROWS + 10)
    desk.node("a", cap=1)
    jobs: list[Job] = [desk.submit(index) for index in range(MAX_ROWS + 5)]
    found = lines(desk)
    assert (len(found), found[-1].job_id) == (MAX_ROWS, jobs[-1].id)
