"""Utterances that belong together (session-protocol 4.7; TC-UG-01 to 10 of the earlier server)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from linguad.core.clock import Clock
from linguad.core.groups import PLAYING_S, GroupRules, Groups, Place
from linguad.core.job import Context

EPOCH_MS = 1_700_000_000_000


class Talk:
    """A session's groups; every utterance takes a second, and its result comes at once."""

    def __init__(self, **rules: float) -> None:
        self.groups = Groups("s-1", Clock(EPOCH_MS / 1000), GroupRules(**rules))

    def say(
        self, index: int, at: float, text: str = "", lang: str = "es", late_s: float = 0.0
    ) -> Place | None:
        source = text or f"heard {index}"
        return self.groups.heard(index, lang, source, f"oído {index}", at + 1 + late_s, (at, at + 1))

    def context(self, at: float, lang: str = "es") -> str:
        found = self.groups.context(lang, at)
        return found.text if found else ""


def test_first_utterance_begins_a_group() -> None:
    talk = Talk()
    assert talk.say(0, 4.0) == Place(f"group_s-1_{EPOCH_MS + 5000}", 0)


def test_same_group_inside_the_window() -> None:
    talk = Talk()
    first, second = talk.say(0, 0.0), talk.say(1, 2.9)
    assert first
    assert second
    assert (second.group_id, second.part_index) == (first.group_id, 1)


def test_new_group_outside_the_window() -> None:
    talk = Talk()
    first, second = talk.say(0, 0.0), talk.say(1, 3.1)
    assert first
    assert second
    assert second.group_id != first.group_id
    assert second.part_index == 0


def test_result_that_comes_late_belongs_where_it_was_spoken() -> None:
    talk = Talk()
    first, second = talk.say(0, 0.0), talk.say(1, 2.0, late_s=20.0)
    assert first
    assert second
    assert second.group_id == first.group_id


def test_playback_moves_the_window() -> None:
    talk = Talk()
    first = talk.say(0, 0.0)
    assert first
    assert talk.groups.play_started(first.group_id, 2.0)
    assert talk.groups.play_ended(first.group_id, 9.0)
    second = talk.say(1, 10.9)
    assert second
    assert second.group_id == first.group_id


def test_group_is_open_while_it_is_played_but_not_for_ever() -> None:
    for began_at, same in ((2 + PLAYING_S, True), (2.1 + PLAYING_S, False)):
        talk = Talk()
        first = talk.say(0, 0.0)
        assert first
        talk.groups.play_started(first.group_id, 2.0)
        second = talk.say(1, began_at)
        assert second
        assert (second.group_id == first.group_id) is same


def test_who_speaks_does_not_play() -> None:
    talk = Talk()
    first = talk.say(0, 0.0)
    assert first
    talk.groups.play_started(first.group_id, 2.0)
    talk.groups.spoke()
    second = talk.say(1, 20.0)
    assert second
    assert second.group_id != first.group_id


def test_playback_of_unknown_groups_means_nothing() -> None:
    talk = Talk()
    assert not talk.groups.play_started("group_s-1_1", 0.0)
    talk.say(0, 0.0)
    assert not talk.groups.play_started("group_s-2_1", 2.0)
    assert not talk.groups.play_ended("group_s-2_1", 9.0)
    assert talk.context(9.0) == ""


def test_blank_text_does_not_enter() -> None:
    talk = Talk()
    assert talk.say(0, 0.0, text="  \n") is None
    assert talk.context(1.0) == ""


def test_failed_translation_enters_with_its_source() -> None:
    talk = Talk()
    talk.groups.heard(0, "es", "hello", "", 1.0, (0.0, 1.0))
    assert talk.context(1.5) == "User: hello"


def test_context_is_what_was_said_in_order_of_speaking() -> None:
    talk = Talk()
    for index in (1, 0, 1):
        talk.say(index, 0.5 * index)
    assert talk.context(2.0) == "User: heard 0\nTarget: oído 0\nUser: heard 1\nTarget: oído 1"
    assert talk.groups.context("es", 2.0) == Context(f"group_s-1_{EPOCH_MS + 1500}", 2, talk.context(2.0))


def test_each_language_sees_its_own_translation() -> None:
    talk = Talk()
    first, second = talk.say(0, 0.0), talk.groups.heard(0, "fr", "heard 0", "entendu 0", 1.2, (0.0, 1.0))
    assert first == second
    assert talk.context(1.5, "fr") == "User: heard 0\nTarget: entendu 0"
    assert talk.context(1.5, "de") == "User: heard 0"


def test_context_does_not_cross_groups() -> None:
    talk = Talk()
    talk.say(0, 0.0)
    assert talk.context(4.0) == ""
    talk.say(1, 4.0)
    assert "0" not in talk.context(5.0)


def test_no_more_parts_than_may_be_and_places_are_never_given_twice() -> None:
    talk = Talk(max_parts=2)
    places = [talk.say(index, index * 0.5) for index in range(4)]
    assert [place.part_index for place in places if place] == [0, 1, 2, 3]
    assert talk.context(2.6) == "User: heard 2\nTarget: oído 2\nUser: heard 3\nTarget: oído 3"


def test_oldest_parts_go_when_the_text_is_too_long() -> None:
    talk = Talk(max_context_chars=40)
    for index in range(3):
        talk.say(index, index * 0.5)
    assert talk.context(2.0) == "User: heard 2\nTarget: oído 2"


def test_one_long_part_keeps_its_end_on_a_character_border() -> None:
    talk = Talk(max_context_chars=10)
    talk.groups.heard(0, "es", "e\u0301" * 400, "", 1.0, (0.0, 1.0))
    text = talk.context(1.5)
    assert text == "e\u0301" * 5
    talk = Talk(max_context_chars=9)
    talk.groups.heard(0, "es", "e\u0301" * 400, "", 1.0, (0.0, 1.0))
    assert talk.context(1.5) == "e\u0301" * 4


def test_no_context_where_none_is_wanted() -> None:
    talk = Talk(max_context_chars=0)
    assert talk.say(0, 0.0) is not None
    assert talk.context(1.5) == ""


def test_closed_group_is_not_gone_on_with() -> None:
    talk = Talk()
    first = talk.say(0, 0.0)
    talk.groups.close()
    second = talk.say(1, 0.0)
    assert first
    assert second
    assert second.group_id != first.group_id


@given(
    st.lists(
        st.tuples(
            st.integers(0, 12), st.floats(0, 20), st.sampled_from(["say", "play", "end", "spoke", "close"])
        ),
        max_size=60,
    )
)
def test_whatever_happens_places_and_texts_hold(events: list[tuple[int, float, str]]) -> None:
    talk = Talk(max_parts=3, max_context_chars=60)
    last, places = "", dict[tuple[str, int], int]()
    entered: dict[str, list[int]] = {}
    for index, at, what in events:
        match what:
            case "say":
                place = talk.say(index, at)
                assert place
                last = place.group_id
                known = places.setdefault((place.group_id, index), place.part_index)
                assert known == place.part_index
                given_out = entered.setdefault(place.group_id, [])
                if place.part_index not in given_out:
                    assert place.part_index == len(given_out)
                    given_out.append(place.part_index)
                text = talk.context(at + 1)
                assert len(text) <= 60
                assert text.count("User: ") <= 3
                members = [number for (group, number) in places if group == last]
                heard = [
                    int(line.removeprefix("User: heard ")) for line in text.splitlines() if "User" in line
                ]
                assert set(heard) <= set(members)
                assert heard == sorted(heard)
            case "play":
                talk.groups.play_started(last, at)
            case "end":
                talk.groups.play_ended(last, at)
            case "spoke":
                talk.groups.spoke()
            case "close":
                talk.groups.close()
