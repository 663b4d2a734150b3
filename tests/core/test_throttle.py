"""Errors that clients show in a modal dialog come rarely."""

from __future__ import annotations

from linguad.core.throttle import MAX_KINDS, ErrorThrottle


def test_one_of_a_kind_per_interval() -> None:
    throttle = ErrorThrottle(5.0)
    asked = [("A", 0.0), ("A", 4.9), ("B", 4.9), ("A", 5.0), ("A", 9.9), ("B", 9.9), ("A", 10.0)]
    assert [throttle.allows(code, "it", now) for code, now in asked] == [
        True,
        False,
        True,
        True,
        False,
        True,
        True,
    ]


def test_what_was_refused_does_not_count_as_sent() -> None:
    throttle = ErrorThrottle(5.0)
    assert throttle.allows("A", "it", 0.0)
    assert not any(throttle.allows("A", "it", now / 10) for now in range(1, 50))
    assert throttle.allows("A", "it", 5.0)


def test_what_it_is_about_makes_another_kind() -> None:
    throttle = ErrorThrottle(5.0)
    assert [throttle.allows("A", about, 0.0) for about in ("audio", "tgt_lang", "audio")] == [
        True,
        True,
        False,
    ]
    assert throttle.swallowed == 1


def test_who_invents_kinds_is_throttled_too() -> None:
    throttle = ErrorThrottle(5.0)
    told = [throttle.allows("A", f"sentence {number}", 0.0) for number in range(1000)]
    assert told.count(True) == MAX_KINDS
    assert throttle.swallowed == 1000 - MAX_KINDS
    assert throttle.allows("B", "sentence 1", 0.0)
    assert throttle.allows("A", "sentence 999", 5.0)
