"""Whole conversations on several instances, one per seed; see `several.py`."""

from __future__ import annotations

import pytest
from sim.several import run

SEEDS = 200

ONCE_WRONG = (1011,)
"""Seeds beyond these that found something."""


@pytest.mark.parametrize("seed", [*range(SEEDS), *ONCE_WRONG])
def test_nothing_is_lost_doubled_or_leaked_between_instances(seed: int) -> None:
    replay = f"replay: python -m tests.sim --several --seed {seed}"
    try:
        found = run(seed)
    except Exception as error:
        error.add_note(replay)
        raise
    if found:
        pytest.fail("\n".join([*found, replay]), pytrace=False)


def test_a_seed_of_several_instances_repeats_exactly() -> None:
    logs: list[list[str]] = [[], []]
    for log in logs:
        run(7, log.append)
    assert logs[0] == logs[1]
    assert len(logs[0]) > 50
