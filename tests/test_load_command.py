"""Who speaks when in `linguad load`, and what it says in the end."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linguad.commands.load import report
from linguad.commands.speakers import Record, schedule


@given(st.integers(1, 20), st.integers(1, 20), st.floats(0.1, 1000), st.integers())
def test_everybody_has_a_turn(people: int, utterances: int, per_s: float, seed: int) -> None:
    dealt = schedule(people, utterances, per_s, Random(seed))
    assert [len(times) for times in dealt] == [utterances] * people
    assert all(times == sorted(times) for times in dealt)
    for turn in range(utterances - 1):
        assert max(times[turn] for times in dealt) <= min(times[turn + 1] for times in dealt)
    assert dealt == schedule(people, utterances, per_s, Random(seed))


def test_the_rate_is_that_of_all_together() -> None:
    dealt = schedule(100, 100, 50.0, Random(1))
    assert max(times[-1] for times in dealt) == pytest.approx(100 * 100 / 50, rel=0.05)


def test_the_report() -> None:
    record = Record(planned=101, said=100, latencies_ms=[float(n) for n in range(100, 0, -1)])
    record.ended("completed", 100)
    record.ended("not_said")
    told = report(record, sessions=4, took_s=50.0)
    assert told["latency"] == {"p50_ms": 51.0, "p90_ms": 91.0, "p99_ms": 100.0, "max_ms": 100.0}
    assert (told["utterances_per_s"], told["stages"]) == (2.0, {})
    assert told["outcomes"] == {"completed": 100, "not_said": 1}
