"""Letters on their way out, and what becomes of those that come in."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from linguad.core.incoming import MAX_ACCOUNTS, Incoming, Verdict
from linguad.core.outgoing import Outgoing
from linguad.wire.letters import Envelope

LETTER = Envelope(
    kind="k", body=b"1", sender="a", to="me", account="acc", seq=1, lane="l", at_ms=0, expires_ms=100
)


def judge(incoming: Incoming, now_ms: float = 0, **more: object) -> Verdict:
    """The verdict on a letter that differs in these fields."""
    known = {"outlives": False, "deliveries": 1}
    known |= {name: more.pop(name) for name in list(more) if name in known}  # type: ignore[misc]
    return incoming.judge(msgspec.structs.replace(LETTER, **more), now_ms, **known)  # type: ignore[arg-type]


class TestIncoming:
    def test_a_letter_is_delivered_once(self) -> None:
        incoming = Incoming("me", 3)
        assert judge(incoming) is Verdict.DELIVER
        assert judge(incoming) is Verdict.DUPLICATE
        assert judge(incoming, account="other") is Verdict.DELIVER
        assert judge(incoming, seq=3) is Verdict.DELIVER
        assert judge(incoming, seq=2) is Verdict.DUPLICATE

    def test_nothing_old_is_delivered(self) -> None:
        incoming = Incoming("me", 3)
        assert judge(incoming, 99.9) is Verdict.DELIVER
        assert judge(incoming, 100, seq=2) is Verdict.EXPIRED
        assert judge(incoming, 0, seq=2) is Verdict.DUPLICATE

    def test_letters_to_the_dead(self) -> None:
        incoming = Incoming("me", 3)
        assert judge(incoming, to="dead") is Verdict.LATE_HEIR
        assert judge(incoming, to="dead", outlives=True, deliveries=3) is Verdict.DELIVER
        assert judge(incoming, to="dead", outlives=True, deliveries=4) is Verdict.DEAD
        assert judge(incoming, 100, to="dead", outlives=True) is Verdict.EXPIRED
        assert judge(incoming) is Verdict.DELIVER, "they do not count in our accounts"

    def test_accounts_are_forgotten_oldest_first(self) -> None:
        incoming = Incoming("me", 3)
        for number in range(MAX_ACCOUNTS):
            judge(incoming, account=str(number))
        judge(incoming, account="0", seq=2)
        judge(incoming, account="one more")
        assert judge(incoming, account="0", seq=2) is Verdict.DUPLICATE
        assert judge(incoming, account="1") is Verdict.DELIVER


def put(outgoing: Outgoing, size: int, expires_at: float = 1e9) -> bool:
    return outgoing.put("k", bytes(size), b"", "lane", expires_at)


class TestOutgoing:
    def test_the_bound_counts_what_waits_and_what_is_written(self) -> None:
        outgoing = Outgoing("acc", 100)
        assert put(outgoing, 60)
        assert not put(outgoing, 41)
        assert put(outgoing, 40)
        outgoing.written(outgoing.batch(1, 1000), 0, 0)
        assert (outgoing.unacknowledged_bytes, outgoing.written_bytes, len(outgoing)) == (100, 60, 1)
        assert not put(outgoing, 1)
        outgoing.done(60, 1)
        assert put(outgoing, 60)

    def test_a_batch_is_bounded_but_never_empty(self) -> None:
        outgoing = Outgoing("acc", 1000)
        for size in (300, 10, 10, 10):
            put(outgoing, size)
        assert [letter.size for letter in outgoing.batch(9, 100)] == [300]
        assert [letter.size for letter in outgoing.batch(2, 1000)] == [300, 10]
        assert [letter.seq for letter in outgoing.batch(9, 1000)] == [1, 2, 3, 4]

    def test_what_waited_too_long_is_taken_out(self) -> None:
        outgoing = Outgoing("acc", 1000)
        for expires_at in (5, 1, 9):
            put(outgoing, 10, expires_at)
        assert [letter.seq for letter in outgoing.expire(5)] == [1, 2]
        assert [letter.seq for letter in outgoing.batch(9, 1000)] == [3]
        assert outgoing.unacknowledged_bytes == 10

    def test_what_was_refused_blocks_until_something_is_taken(self) -> None:
        outgoing = Outgoing("acc", 1000)
        put(outgoing, 10)
        outgoing.blocked = True
        assert not put(outgoing, 10)
        outgoing.written(outgoing.batch(9, 1000), 0, 0)
        assert put(outgoing, 10)

    def test_what_was_refused_and_has_expired_does_not_block_for_ever(self) -> None:
        outgoing = Outgoing("acc", 1000)
        put(outgoing, 10, 5)
        outgoing.blocked = True
        outgoing.expire(5)
        assert put(outgoing, 10)

    def test_an_empty_inbox_is_the_truth(self) -> None:
        outgoing = Outgoing("acc", 100)
        put(outgoing, 90)
        outgoing.written(outgoing.batch(9, 1000), 0, 0)
        put(outgoing, 10)
        # Redis lost its data: the letter, and the count
        outgoing.written(outgoing.batch(9, 1000), 0, 0)
        assert outgoing.unacknowledged_bytes == 10
        outgoing.done(10, 0)
        assert outgoing.unacknowledged_bytes == 0


@given(
    st.lists(st.tuples(st.sampled_from(["put", "write", "read", "lose"]), st.integers(0, 40)), max_size=200)
)
def test_both_ends_agree_whatever_happens(steps: list[tuple[str, int]]) -> None:
    """Against a naive inbox: all that is taken arrives once and in order, and the bound holds."""
    outgoing, incoming = Outgoing("acc", 100), Incoming("me", 3)
    inbox: list[Envelope] = []
    done = taken = 0
    got: list[int] = []
    for what, number in steps:
        if what == "put":
            taken += put(outgoing, number)
        elif what in ("write", "lose"):
            batch, before = outgoing.batch(1 + number % 5, 50), len(inbox)
            inbox += [
                msgspec.structs.replace(LETTER, seq=one.seq, body=one.body, expires_ms=10**9) for one in batch
            ]
            if what == "write":  # else it came through, and nobody knows
                outgoing.written(batch, done, before)
        else:
            for letter in inbox[:number]:
                done += letter.size
                if incoming.judge(letter, 0, outlives=False, deliveries=1) is Verdict.DELIVER:
                    got.append(letter.seq)
            del inbox[:number]
        assert outgoing.unacknowledged_bytes <= 100
    while batch := outgoing.batch(9, 50):
        inbox += [
            msgspec.structs.replace(LETTER, seq=one.seq, body=one.body, expires_ms=10**9) for one in batch
        ]
        outgoing.written(batch, done, len(inbox) - len(batch))
    rest = (one for one in inbox if incoming.judge(one, 0, outlives=False, deliveries=1) is Verdict.DELIVER)
    got += [letter.seq for letter in rest]
    assert got == list(range(1, taken + 1))
