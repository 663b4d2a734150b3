"""When a client tries again, and when it gives up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linguad.client.backoff import FIRST_S, LONGEST_S, Backoff


def pauses(backoff: Backoff, now: float) -> list[float]:
    """All pauses of a row of attempts that fail at once."""
    waited = []
    while (pause := backoff.lost(now)) is not None:
        waited.append(pause)
        now += pause
    return waited


def test_pauses_double_up_to_the_longest() -> None:
    waited = pauses(Backoff(20.0, chance=lambda: 0.0), 100.0)
    assert waited[:7] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0])
    assert sum(waited) == pytest.approx(20.0)


def test_connection_that_held_ends_the_row() -> None:
    backoff = Backoff(20.0, chance=lambda: 0.0)
    pauses(backoff, 100.0)
    backoff.connected(200.0)
    assert backoff.lost(206.0) == FIRST_S


def test_connections_that_break_at_once_are_a_row() -> None:
    backoff, now, count = Backoff(20.0, chance=lambda: 0.0), 0.0, 0
    while (pause := backoff.lost(now)) is not None:
        count += 1
        now += pause
        backoff.connected(now)
        now += FIRST_S / 2
    assert count < 12


@given(st.floats(0.0, 1.0), st.floats(0.0, 100.0))
def test_it_never_waits_longer_than_it_may(chance: float, give_up_s: float) -> None:
    waited = pauses(Backoff(give_up_s, chance=lambda: chance), 0.0)
    assert all(0 < pause <= LONGEST_S for pause in waited)
    assert sum(waited) == pytest.approx(give_up_s)


def test_time_left_is_that_of_the_row() -> None:
    backoff = Backoff(20.0)
    assert backoff.left(5.0) == 20.0
    backoff.lost(5.0)
    assert backoff.left(12.0) == 13.0
