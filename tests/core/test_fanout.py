"""One utterance into several languages: lanes that no node refuses (node-protocol 0.3, 6.2)."""

from __future__ import annotations

from core.support import request
from hypothesis import given
from hypothesis import strategies as st

from linguad.core.fanout import MAX_OWN_LANES, Fanout


def lanes(*utterances: str) -> list[str]:
    """The lane of each utterance, written as `0es`, of one session."""
    fanout = Fanout()
    return [fanout.place(request(int(one[0]), tgt=one[1:])).lane for one in utterances]


def test_one_language_has_the_plain_lane() -> None:
    assert lanes("0es", "1es", "1es", "0es") == ["s-1"] * 4


def test_a_session_that_changes_its_language_stays_there() -> None:
    assert lanes("0es", "1fr", "2es") == ["s-1"] * 3


def test_further_languages_of_an_utterance_get_their_own_and_keep_it() -> None:
    assert lanes("0es", "0fr", "1fr", "1es", "2fr") == ["s-1", "s-1#fr", "s-1#fr", "s-1", "s-1#fr"]


def test_a_late_utterance_of_a_language_that_went_on_has_its_own() -> None:
    assert lanes("0es", "1fr", "0es") == ["s-1", "s-1", "s-1#es"]


def test_a_pair_of_languages_is_for_the_plain_lane() -> None:
    fanout = Fanout()
    pairs = [fanout.place(request(0, tgt=tgt, lang_a="en", lang_b="es")) for tgt in ("es", "fr")]
    assert [(placed.lang_a, placed.lang_b) for placed in pairs] == [("en", "es"), (None, None)]


def test_lanes_are_bounded() -> None:
    fanout = Fanout()
    own = [fanout.place(request(0, tgt=f"x{number}")).lane for number in range(MAX_OWN_LANES + 10)]
    assert len(set(own)) == MAX_OWN_LANES + 1
    assert own[-1] == "s-1"


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["es", "fr", "zh"])), unique=True))
def test_no_lane_has_an_index_twice(utterances: list[tuple[int, str]]) -> None:
    """In order of index; the dispatcher renames what comes too late (test_dispatch)."""
    fanout = Fanout()
    in_order = sorted(utterances, key=lambda one: one[0])
    placed = [fanout.place(request(index, tgt=tgt)) for index, tgt in in_order]
    names = [(one.lane, one.utterance_index) for one in placed]
    assert len(set(names)) == len(names)
