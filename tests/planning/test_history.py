"""A log as nodes and arrivals: what is taken from it, what is left out, and what cannot be replayed."""

from __future__ import annotations

import json
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linguad.errors import LinguadError
from linguad.planning.history import History, Reader
from linguad.planning.model import Rules, simulate


def finished(second: float, **members: Any) -> bytes:
    """A line of the log."""
    line = {
        "timestamp": f"2026-01-02T03:{int(second) // 60:02}:{second % 60:06.3f}Z",
        "level": "info",
        "event": "job_finished",
        "logger": "linguad.dispatch.engine",
        "session": "s-1",
        "job": "job-1",
        "src": "en",
        "tgt": "es",
        "audio_seconds": 4.0,
        "outcome": "completed",
        "attempts": 1,
        "node": "node-1",
        "node_seconds": 1.0,
        "seconds": 1.5,
    }
    return json.dumps(line | members).encode()


def registered(node: str, cap: int) -> bytes:
    """A line of the log."""
    return json.dumps({"event": "node_registered", "node": node, "link": "l", "cap": cap}).encode()


def read(*lines: bytes, any_pair: bool = False) -> History:
    """A history of these lines."""
    reader = Reader()
    reader.read(lines)
    return reader.history(slots=4, any_pair=any_pair)


def test_jobs_begin_when_their_utterances_ended() -> None:
    found = read(finished(20), finished(12.5, session="s-2"), finished(15, tgt="fr"))
    assert [(one.at, one.session) for one in found.arrivals] == [
        (0, "s-2#es"),
        (2.5, "s-1#fr"),
        (7.5, "s-1#es"),
    ]
    assert found.end_s == 9.0
    assert found.pairs == [("en", "es"), ("en", "fr")]
    assert [one.pair for one in found.arrivals] == [0, 1, 0]


def test_nodes_are_as_fast_as_they_were() -> None:
    found = read(
        registered("node-1", 2),
        finished(10, node_seconds=1.0),
        finished(20, node_seconds=3.0),
        finished(30, node="node-2", tgt="fr", audio_seconds=1.0, node_seconds=2.0),
    )
    first, second = found.nodes
    assert (first.id, first.slots, first.speed, first.pairs) == ("node-1", 2, 2.0, (0,))
    assert (second.id, second.slots, second.speed, second.pairs) == ("node-2", 4, 0.5, (1,))
    # as much work on its own node as it was
    assert [one.audio_s * one.effort for one in found.arrivals] == pytest.approx([2.0, 6.0, 1.0])


def test_every_node_may_serve_every_pair() -> None:
    found = read(finished(10), finished(20, node="node-2", tgt="fr"), any_pair=True)
    assert [node.pairs for node in found.nodes] == [(0, 1), (0, 1)]


def test_jobs_that_found_no_node_are_part_of_the_load() -> None:
    found = read(
        finished(10), finished(30, outcome="no_available_node", node=None, node_seconds=None, seconds=10.0)
    )
    assert [(one.at, one.effort) for one in found.arrivals] == [(0.0, 1.0), (11.5, 1.0)]
    assert len(found.nodes) == 1


def test_what_is_left_out_is_counted() -> None:
    found = read(
        registered("lazy", 4),
        finished(10),
        finished(11, outcome="cancelled"),
        finished(12, outcome="merged"),
        finished(13, audio_seconds=0.0),
        b"2026-01-02 systemd[1]: Started linguad.",
        b"[1, 2]",
        b'{"event":"job_finished","timestamp":"yesterday","audio_seconds":1,"outcome":"completed"}',
        b'{"event":"started","port":5010}',
        b"",
    )
    assert len(found.arrivals) == 1
    assert (found.left_out, found.idle, found.strange) == (3, 1, 3)


def test_what_became_of_the_jobs() -> None:
    found = read(
        finished(10, seconds=1.5, node_seconds=1.0),
        finished(11, seconds=1.25, node_seconds=1.0),
        finished(12, seconds=2.0, node_seconds=1.0, node="node-2"),
    )
    logged = found.logged
    assert (logged.total_p50_ms, logged.total_p99_ms, logged.moved) == (1500.0, 2000.0, 0.5)
    assert logged.utilisation == pytest.approx(1.5 / 3.5)
    assert logged.imbalance == pytest.approx(2 / 1.5)
    assert found.round_trip_s == 0.25


def test_more_load_is_the_same_in_less_time() -> None:
    found = read(finished(10), finished(20))
    assert [one.at for one in found.faster(1)] == [0.0, 10.0]
    assert [one.at for one in found.faster(4)] == [0.0, 2.5]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([], "no job_finished"),
        ([b"hello", registered("node-1", 4)], "no job_finished"),
        ([finished(1, node_seconds=None)], "earlier version"),
        ([finished(1, outcome="no_available_node", node=None)], "no job was"),
        ([finished(1, outcome="cancelled")], "no job was"),
    ],
)
def test_a_log_that_cannot_be_replayed(lines: list[bytes], problem: str) -> None:
    with pytest.raises(LinguadError, match=problem):
        read(*lines)


numbers = st.none() | st.booleans() | st.floats(-10, 1e300) | st.floats(0, 100) | st.text(max_size=5)
jobs = st.fixed_dictionaries(
    {"event": st.just("job_finished"), "outcome": st.sampled_from(["completed", "job_failed", "cancelled"])},
    optional={
        "timestamp": st.datetimes().map(lambda moment: moment.isoformat()) | st.text(max_size=5),
        "node": st.none() | st.sampled_from(["a", "b"]),
        **dict.fromkeys(("seconds", "audio_seconds", "node_seconds"), numbers),
    },
)


@given(st.lists(jobs | st.text()))
def test_nothing_in_a_log_breaks_it(lines: list[object]) -> None:
    reader = Reader()
    reader.read([*(json.dumps(line).encode() for line in lines), finished(10)])
    found = reader.history(slots=4, any_pair=False)
    assert len(found.arrivals) >= 1
    assert all(0 < node.speed < inf for node in found.nodes)
    assert all(one.at >= 0 and one.audio_s > 0 and 0 < one.effort < inf for one in found.arrivals)
    run = simulate(found.nodes, found.arrivals, Rules(), start_s=0.0, end_s=found.end_s)
    assert run.arrived <= len(found.arrivals)
