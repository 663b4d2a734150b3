"""Errors that clients show in a modal dialog come rarely."""

from __future__ import annotations

from linguad.core.throttle import ErrorThrottle


def test_one_of_a_kind_per_interval() -> None:
    throttle = ErrorThrottle(5.0)
    asked = [("A", 0.0), ("A", 4.9), ("B", 4.9), ("A", 5.0), ("A", 9.9), ("B", 9.9), ("A", 10.0)]
    assert [throttle.allows(code, now) for code, now in asked] == [True, False, True, True, False, True, True]


def test_what_was_refused_does_not_count_as_sent() -> None:
    throttle = ErrorThrottle(5.0)
    assert throttle.allows("A", 0.0)
    assert not any(throttle.allows("A", now / 10) for now in range(1, 50))
    assert throttle.allows("A", 5.0)
