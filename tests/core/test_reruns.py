"""Reruns are summed over nodes and over their restarts, each once (D-40)."""

from __future__ import annotations

from core.support import Desk
from hypothesis import given
from hypothesis import strategies as st

from linguad.core.reruns import NONE, Reruns
from linguad.wire.node import RerunMetrics


def said(total: int, **members: int) -> RerunMetrics:
    return RerunMetrics(total_reruns=total, **members)


@given(st.lists(st.lists(st.integers(0, 50), min_size=1), min_size=1))
def test_totals_of_each_life_of_a_node_add_up(lives: list[list[int]]) -> None:
    """A life is what a node counts from its start on; the next one begins below where that one ended."""
    reruns, before, expected = Reruns(), NONE, 0
    for steps in lives:
        total = 0
        for step in steps:
            total += step
            if total >= before.total_reruns or total == step:
                reruns.report(before, said(total))
                expected += total - (before.total_reruns if total >= before.total_reruns else 0)
                before = said(total)
    assert reruns.triggered == expected


def test_heartbeats_of_several_nodes_and_a_restart() -> None:
    desk = Desk()
    desk.node("a")
    desk.node("b")
    desk.beat("a", rerun_metrics=said(5, successful_reruns=3, timeout_reruns=1, quality_improvements=2))
    desk.beat("a", rerun_metrics=said(5, successful_reruns=3, timeout_reruns=1, quality_improvements=2))
    desk.beat("b", rerun_metrics=said(4, failed_reruns=4))
    assert desk.fleet.reruns == Reruns(9, 3, 4, 1, 2)
    desk.lose("a")
    desk.node("a")
    desk.beat("a", rerun_metrics=said(6, successful_reruns=4, timeout_reruns=1, quality_improvements=2))
    assert desk.fleet.reruns == Reruns(10, 4, 4, 1, 2), "it only connected again"
    desk.beat("a", rerun_metrics=said(2, successful_reruns=1))
    assert desk.fleet.reruns == Reruns(12, 5, 4, 1, 2), "it was started anew"
    desk.beat("a")
    assert desk.fleet.reruns.triggered == 12
