"""Pairing codes: one per node, for five minutes, for one use, not to be guessed (session-protocol 7)."""

from __future__ import annotations

from itertools import cycle

import pytest
from core.support import CountingIds, Desk

from linguad.core.pairing import CODE_TTL_S, PairingCodes
from linguad.core.tries import MAX_ADDRESSES, MAX_FAILED_TRIES, TRIES_S
from linguad.ids import RandomIds

HOME = "192.0.2.1"


@pytest.fixture
def codes() -> PairingCodes:
    return PairingCodes(CountingIds().pairing_code)


def test_code_names_its_node_once(codes: PairingCodes) -> None:
    made = codes.create("a", 0.0)
    assert (made.code, made.expires_at) == ("000001", CODE_TTL_S)
    assert codes.of("a", 1.0) == made
    assert codes.redeem("000001", HOME, 1.0) == "a"
    assert codes.of("a", 1.0) is None
    assert codes.redeem("000001", HOME, 1.0) is None


def test_new_code_replaces_the_old_one(codes: PairingCodes) -> None:
    old, new, other = codes.create("a", 0.0), codes.create("a", 1.0), codes.create("b", 2.0)
    assert codes.of("a", 2.0) == new
    assert codes.redeem(old.code, HOME, 2.0) is None
    assert codes.redeem(new.code, HOME, 2.0) == "a"
    assert codes.redeem(other.code, HOME, 2.0) == "b"


def test_code_expires(codes: PairingCodes) -> None:
    first, second = codes.create("a", 0.0), codes.create("b", 10.0)
    assert codes.redeem(first.code, HOME, CODE_TTL_S) is None
    assert codes.of("a", CODE_TTL_S) is None
    assert codes.redeem(second.code, HOME, CODE_TTL_S) == "b"


def test_live_codes_differ() -> None:
    drawn = cycle(["000007", "000007", "000008"])
    codes = PairingCodes(lambda: next(drawn))
    assert [codes.create(node, 0.0).code for node in "ab"] == ["000007", "000008"]


def test_guessing_is_stopped_and_goes_on_a_minute_later(codes: PairingCodes) -> None:
    code = codes.create("a", 0.0).code
    for _ in range(MAX_FAILED_TRIES):
        assert codes.redeem("999999", HOME, 1.0) is None
    assert codes.redeem(code, HOME, TRIES_S) is None
    assert codes.redeem(code, HOME, 1.0 + TRIES_S) == "a"


def test_who_guesses_does_not_stop_others(codes: PairingCodes) -> None:
    code = codes.create("a", 0.0).code
    for _ in range(MAX_FAILED_TRIES + 1):
        codes.redeem("999999", "198.51.100.7", 1.0)
    assert codes.redeem(code, HOME, 1.0) == "a"


def test_tries_that_are_not_looked_at_do_not_prolong_the_wait(codes: PairingCodes) -> None:
    code = codes.create("a", 0.0).code
    for second in range(30):
        codes.redeem("999999", HOME, second)
    assert codes.redeem(code, HOME, TRIES_S) == "a"


def test_memory_of_guesses_is_bounded(codes: PairingCodes) -> None:
    for number in range(MAX_ADDRESSES + 5):
        codes.redeem("999999", f"host-{number}", 1.0)
    assert len(codes._wrong) == MAX_ADDRESSES


def test_random_codes_have_six_digits() -> None:
    drawn = {RandomIds().pairing_code() for _ in range(100)}
    assert len(drawn) > 90
    assert all(len(code) == 6 and code.isdecimal() for code in drawn)


def test_code_goes_with_the_record_of_its_node() -> None:
    desk = Desk()
    desk.node("a")
    codes = desk.fleet.pairing
    code = codes.create("a", desk.now).code
    desk.lose("a")
    assert codes.of("a", desk.now) is not None
    desk.fleet.nodes["a"].last_heartbeat_at = desk.now - 1e6
    desk.fleet.scan(desk.now)
    assert codes.redeem(code, HOME, desk.now) is None
