"""Whole conversations with unreliable nodes, one per seed; see `run.py`."""

from __future__ import annotations

import pytest
from sim.run import run
from sim.server import Share

from linguad.sessions.serve import Sessions

SEEDS = 300

ONCE_WRONG = (1197, 2207)
"""Seeds beyond these that found something."""


@pytest.mark.parametrize("seed", [*range(SEEDS), *ONCE_WRONG])
def test_nothing_is_lost_doubled_or_leaked(seed: int) -> None:
    replay = f"replay: python -m tests.sim --seed {seed}"
    try:
        found = run(seed)
    except Exception as error:
        error.add_note(replay)
        raise
    if found:
        pytest.fail("\n".join([*found, replay]), pytrace=False)


def test_a_seed_repeats_exactly() -> None:
    logs: list[list[str]] = [[], []]
    for log in logs:
        run(7, log.append)
    assert logs[0] == logs[1]
    assert len(logs[0]) > 50


def test_a_bug_that_the_daemon_outlives_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Sessions, "progress")
    with pytest.raises(AssertionError, match="action_failed"):
        run(7)


def test_what_is_not_given_back_is_noticed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Share, "give", lambda _share, _size: None)
    with pytest.raises(AssertionError, match=r"jobs have \d+ bytes of audio, \d+ are counted"):
        run(7)
