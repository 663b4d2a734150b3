"""Utterances that belong together (session-protocol 4.7; TC-UG-01 to 10 of the earlier server)."""

from __future__ import annotations

import pickle
from itertools import accumulate
from typing import Any

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


def test_late_result_does_not_enter_the_group_that_came_after() -> None:
    talk = Talk()
    first, second = talk.say(0, 0.0), talk.say(2, 10.0)
    assert first
    assert second
    assert talk.say(0, 0.0, lang="fr", late_s=11.0) == first
    assert talk.say(1, 1.5, late_s=10.0) == Place(first.group_id, 1)
    assert talk.context(11.5) == "User: heard 2\nTarget: oído 2"
    assert talk.say(3, 11.5) == Place(second.group_id, 1)


def test_first_result_of_what_was_spoken_long_before_has_a_group_of_its_own() -> None:
    talk = Talk()
    second = talk.say(1, 10.0)
    first = talk.say(0, 0.0, late_s=11.0)
    assert first
    assert second
    assert first.group_id != second.group_id
    assert talk.context(11.5) == "User: heard 1\nTarget: oído 1"
    assert talk.say(2, 11.5) == Place(second.group_id, 1)


def test_repeat_after_the_end_opens_nothing() -> None:
    talk = Talk()
    first = talk.say(0, 0.0)
    talk.groups.close()
    assert talk.say(0, 0.0) == first
    assert talk.context(1.5) == ""


def test_index_that_is_used_again_much_later_is_another_utterance() -> None:
    talk = Talk()
    first, again = talk.say(0, 0.0), talk.say(0, 60.0, text="something else")
    assert first
    assert again
    assert again.group_id != first.group_id
    assert talk.context(61.5) == "User: something else\nTarget: oído 0"


def test_results_in_reverse_order_belong_together() -> None:
    talk = Talk()
    places = [talk.say(index, 3.0 * index, late_s=20.0) for index in (3, 2, 1, 0)]
    assert [place.part_index for place in places if place] == [0, 1, 2, 3]
    assert talk.context(10.5).startswith("User: heard 0\n")


def test_group_is_open_from_its_creation_when_the_first_result_was_late() -> None:
    talk = Talk()
    first, second = talk.say(0, 0.0, late_s=19.0), talk.say(1, 21.5)
    assert first
    assert second == Place(first.group_id, 1)


def test_what_was_spoken_in_two_windows_belongs_to_the_later_group() -> None:
    talk = Talk()
    talk.say(0, 0.0)
    later = talk.say(2, 20.0)
    assert later
    long_one = talk.groups.heard(1, "es", "a long one", "", 22.0, (2.0, 19.0))
    assert long_one == Place(later.group_id, 1)


def test_playback_opens_no_group_that_is_over() -> None:
    talk = Talk()
    first, later = talk.say(0, 0.0), talk.say(2, 20.0)
    assert first
    assert later
    talk.groups.play_started(later.group_id, 22.0)
    between = talk.say(1, 10.0, late_s=12.0)
    assert between
    assert between.group_id not in (first.group_id, later.group_id)


def test_playback_ends_with_its_group() -> None:
    talk = Talk()
    first = talk.say(0, 0.0)
    assert first
    talk.groups.play_started(first.group_id, 2.0)
    talk.groups.close()
    second, third = talk.say(1, 3.0), talk.say(2, 50.0)
    assert second
    assert third
    assert third.group_id != second.group_id


def test_length_is_counted_with_line_breaks() -> None:
    both = "User: ab\nTarget: cd\nUser: ef"
    for longest, text in ((len(both), both), (len(both) - 1, "User: ef")):
        talk = Talk(max_context_chars=longest)
        talk.groups.heard(0, "es", "ab", "cd", 1.0, (0.0, 1.0))
        talk.groups.heard(1, "es", "ef", "", 2.0, (1.0, 2.0))
        assert talk.context(2.5) == text


def test_vowel_signs_stay_with_their_letters() -> None:
    for syllable in ("कि", "กั"):
        talk = Talk(max_context_chars=9)
        talk.groups.heard(0, "es", syllable * 400, "", 1.0, (0.0, 1.0))
        assert talk.context(1.5) == syllable * 4


class Heard:
    """What a context may say of one utterance, told from the results alone."""

    def __init__(self) -> None:
        self.source = ""
        self.translations: dict[str, str] = {}

    def lines(self, lang: str) -> list[str]:
        found = self.translations.get(lang)
        return [f"User: {self.source}"] + ([f"Target: {found}"] if found else [])


def expected(members: dict[int, Heard], lang: str, max_parts: int, longest: int) -> str:
    """Trimmed as promised: to so many parts, then without the oldest, then to the end of the last one."""
    parts = ["\n".join(members[index].lines(lang)) for index in sorted(members)[-max_parts:]]
    while len(parts) > 1 and len("\n".join(parts)) > longest:
        del parts[0]
    return "\n".join(parts)[-longest:].lstrip()


UTTERANCES = 8
results = st.tuples(
    st.just("say"),
    st.integers(0, UTTERANCES - 1),
    st.sampled_from(["es", "fr"]),
    st.integers(0, 90),
    st.booleans(),
)
playback = st.tuples(st.sampled_from(["play", "end", "spoke", "close", "wait"]), st.integers(0, UTTERANCES))


@given(
    gaps=st.lists(st.sampled_from([0.0, 0.5, 2.0, 2.5, 9.0]), min_size=UTTERANCES, max_size=UTTERANCES),
    max_parts=st.integers(1, 4),
    longest=st.integers(1, 120),
    events=st.lists(results | playback, max_size=60),
)
def test_whatever_comes_in_whatever_order_places_and_contexts_hold(
    gaps: list[float], max_parts: int, longest: int, events: list[tuple[Any, ...]]
) -> None:
    groups = Groups("s-1", Clock(), GroupRules(max_parts=max_parts, max_context_chars=longest))
    began = [end + index for index, end in enumerate(accumulate(gaps))]
    places: dict[int, Place] = {}
    members: dict[str, dict[int, Heard]] = {}
    now = 0.0
    for what, number, *rest in events:
        match what:
            case "say":
                lang, length, translated = rest
                now = max(now, began[number] + 1)
                text = f"{number}" * length
                source, translation = text, f"{lang}{text}" if translated else ""
                place = groups.heard(
                    number, lang, source, translation, now, (began[number], began[number] + 1)
                )
                assert (place is None) is (not source)
                if place is None:
                    continue
                assert places.setdefault(number, place) == place, "an utterance has one place"
                heard = members.setdefault(place.group_id, {}).setdefault(number, Heard())
                assert place.part_index == list(members[place.group_id]).index(number), (
                    "counted as they enter"
                )
                heard.source = source[-longest:]
                if translation:
                    heard.translations[lang] = translation[-longest:]
            case "play" if number in places:
                groups.play_started(places[number].group_id, now)
            case "end" if number in places:
                groups.play_ended(places[number].group_id, now)
            case "spoke":
                groups.spoke()
            case "wait":
                now += number
            case "close":
                groups.close()
                assert groups.context("es", now) is None
        for lang in ("es", "fr"):
            if (context := groups.context(lang, now)) is not None:
                of_group = members[context.group_id]
                assert context.part_index == len(of_group)
                assert context.text == expected(of_group, lang, max_parts, longest)
                assert len(context.text) <= longest


@given(st.lists(st.integers(0, 20).map(lambda quarters: quarters / 4), min_size=2, max_size=8))
def test_together_exactly_if_the_pause_is_no_longer_than_the_window(gaps: list[float]) -> None:
    groups = Groups("s-1", Clock(), GroupRules())
    at, before, late = 0.0, None, 0.0
    for index, gap in enumerate(gaps):
        at += gap
        place = groups.heard(index, "es", "text", "", at + 1, (at, at + 1))
        assert place
        if before is not None:
            assert (place.group_id == before.group_id) is (at - late <= 2.0)
        before, late = place, at + 1
        at += 1


def test_memory_is_bounded_however_long_the_session_and_its_texts_are() -> None:
    """Texts of the open group only, at most 8 parts of 800 characters and a short translation each."""
    for gap in (1.0, 10.0):
        talk = Talk()
        for index in range(3000):
            talk.say(index, index * gap, text="x" * 3000)
            talk.say(index + 3000, index * gap - 11.0, text="x" * 3000, late_s=11.0)
        talk.groups.close()
        closed = len(pickle.dumps(talk.groups))
        for index in range(6000, 6100):
            talk.say(index, 40_000.0 + index, text="x" * 3000)
        assert closed < 8 * 1024
        assert len(pickle.dumps(talk.groups)) < closed + 8 * 1024
