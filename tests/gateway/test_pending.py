"""Answers to utterances: one each, translations in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from linguad.gateway.stream.pending import Answer, Asked, Pending
from linguad.wire.public import Empty, Error, Final

KINDS = ("final", "empty", "error")


def message(kind: str, index: int) -> Answer:
    if kind == "final":
        return Final(text="t", audio="", utterance_index=index, text_asr="a", tts_format="", duration_ms=0)
    if kind == "empty":
        return Empty(utterance_index=index, reason="silence_detected")
    return Error(code="c", message="m", retryable=True, request_id="r", utterance_index=index)


def indexes(answers: list[Answer]) -> list[int | None]:
    return [answer.utterance_index for answer in answers]


def test_a_final_waits_for_those_before_it_and_an_error_does_not() -> None:
    pending = Pending()
    for index in range(4):
        pending.ask(index, Asked())
    assert pending.answer(2, message("final", 2)) == []
    assert indexes(pending.answer(3, message("error", 3))) == [3]
    assert pending.is_answered(2)
    assert not pending.is_done(2)
    assert indexes(pending.answer(0, message("empty", 0))) == [0]
    assert indexes(pending.answer(1, message("final", 1))) == [1, 2]
    assert pending.open == []
    assert all(pending.answer(index, message("final", index)) == [] for index in range(4))


def test_what_is_overdue_is_told_in_order_and_what_is_held_is_not() -> None:
    pending = Pending()
    for index, due_at in ((0, 5.0), (1, 3.0), (2, 4.0)):
        pending.ask(index, Asked(due_at=due_at))
    pending.answer(2, message("final", 2))
    assert pending.due() == 3.0
    assert pending.overdue(10.0) == [0, 1]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("ask"), st.integers(0, 12)),
            st.tuples(st.sampled_from(KINDS), st.integers(0, 12)),
        ),
        max_size=60,
    )
)
def test_any_history_keeps_the_rules(history: list[tuple[str, int]]) -> None:
    pending = Pending()
    asked: set[int] = set()
    left: list[Answer] = []
    for kind, index in history:
        if kind == "ask":
            if not pending.is_done(index):
                asked.add(index)
            pending.ask(index, Asked())
        else:
            left += pending.answer(index, message(kind, index))
    for index in pending.open:
        if not pending.is_answered(index):
            left += pending.answer(index, message("error", index))
    answered = indexes(left)
    assert len(answered) == len(set(answered))
    assert asked <= set(answered)
    finals = [answer.utterance_index for answer in left if isinstance(answer, Final)]
    assert finals == sorted(finals)
    assert pending.open == []
