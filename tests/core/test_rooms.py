"""Rooms (session-protocol 6 and 11.2): who is in, what members are told, whom results are for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest
from core.support import CountingIds
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import Raw

from linguad.core.clock import Clock
from linguad.core.room import Guest, Renumber, RoomOutput, Tell
from linguad.core.room_relay import MAX_SIGNAL_BYTES, SPEAKING_BURST
from linguad.core.rooms import RoomRequest, RoomRules, Rooms
from linguad.core.tries import MAX_FAILED_TRIES, TRIES_S
from linguad.errors import ErrorCode
from linguad.ids import RandomIds
from linguad.wire import session as wire
from linguad.wire.moment import rfc3339
from linguad.wire.room import RoomMember

EPOCH_S = 1_769_932_800.0


def result(speaker: str, index: int = 0, text: str = "hola", tgt: str = "es") -> wire.TranslationResult:
    return wire.TranslationResult(
        session_id=speaker,
        utterance_index=index,
        job_id=f"job-{speaker}-{index}-{tgt}",
        text_asr="hello",
        text_translated=text,
        tts_audio="AAAA",
        tts_format="pcm16",
        trace_id="t-1",
    )


class House:
    """Rooms with a clock of their own; sessions are `a`, `b`, ... and hear Spanish unless told otherwise."""

    def __init__(self, ids: CountingIds | None = None, **rules: Any) -> None:
        self.rooms = Rooms(RoomRules(**rules), ids or CountingIds(), Clock(EPOCH_S))
        self.now = 0.0
        self.guests: dict[str, Guest] = {}

    def guest(self, name: str, **members: Any) -> None:
        defaults = {"origin": "192.0.2.1", "speaks": "en", "hears": "es", "next_index": 0}
        self.guests[name] = Guest(session_id=name, **(defaults | members))

    def say(self, name: str, message: RoomRequest) -> list[RoomOutput]:
        if name not in self.guests:
            self.guest(name)
        return self.rooms.handle(self.guests[name], message, self.now)

    def create(self, name: str, lang: str | None = None, **members: Any) -> str:
        """A room of its own for a session; returns the code."""
        self.say(name, wire.RoomCreate(client_ts=0, preferred_lang=lang, **members))
        room = self.rooms.of(name)
        assert room is not None
        return room.code

    def join(self, name: str, code: str, lang: str | None = None, **members: Any) -> list[RoomOutput]:
        return self.say(name, wire.RoomJoin(room_code=code, preferred_lang=lang, **members))

    def together(self, *names: str, **langs: str) -> str:
        """A room with these sessions, and with those of `langs` with the languages they prefer."""
        first, *rest = [*((name, None) for name in names), *langs.items()]
        code = self.create(*first)
        for name, lang in rest:
            self.join(name, code, lang)
        return code

    def signal(self, name: str, to: str, code: str, payload: bytes = b'{"sdp": 1}') -> list[RoomOutput]:
        return self.say(name, wire.WebrtcOffer(room_code=code, to=to, sdp=Raw(payload)))

    def want(self, name: str, target: str, code: str, voice: bool) -> list[RoomOutput]:
        message = wire.RoomRawVoicePreference(
            room_code=code, target_session_id=target, receive_raw_voice=voice
        )
        return self.say(name, message)

    def starts(self, name: str, code: str) -> list[RoomOutput]:
        return self.say(name, wire.RemoteSpeakingStart(room_code=code, ts_ms=7, from_="somebody else"))

    def ends(self, name: str, code: str) -> list[RoomOutput]:
        return self.say(name, wire.RemoteSpeakingEnd(room_code=code, ts_ms=8))

    def deliver(self, speaker: str, index: int = 0, tgt: str = "es", echo: bool = False) -> list[RoomOutput]:
        room = self.rooms.of(speaker)
        assert room is not None
        return self.rooms.deliver(room.id, tgt, result(speaker, index, tgt=tgt), self.now, for_speaker=echo)


def told(outputs: list[Any]) -> list[str]:
    """Each message in a word: to whom, what it is, and what matters in it."""
    return list(_told(outputs))


def _told(outputs: list[Any]) -> Iterator[str]:
    for output in outputs:
        match output:
            case Renumber():
                yield f"{output.session_id} numbers from {output.next_index}"
            case Tell(message=wire.RoomMembers() as message):
                yield f"{output.session_id} members " + "".join(m.session_id for m in message.members)
            case Tell(message=wire.RoomCreateAck() as message):
                yield f"{output.session_id} in {message.room_code}"
            case Tell(message=wire.RoomError() as message):
                yield f"{output.session_id} {message.code}"
            case Tell(message=wire.RoomExpired()):
                yield f"{output.session_id} expired"
            case Tell(message=wire.TranslationResult() as message):
                sound = "" if message.tts_audio else " silently"
                yield f"{output.session_id} hears {message.session_id} as {message.utterance_index}{sound}"
            case Tell(message=wire.RemoteSpeakingStart() as message):
                yield f"{output.session_id} sees {message.from_} speak"
            case Tell(message=wire.RemoteSpeakingEnd() as message):
                yield f"{output.session_id} sees {message.from_} stop"
            case Tell(message=wire.WebrtcOffer() | wire.WebrtcAnswer() | wire.WebrtcIce() as message):
                yield f"{output.session_id} signal of {message.to}"


@pytest.fixture
def house() -> House:
    return House()


def test_creator_is_told_the_code_before_the_members(house: House) -> None:
    message = wire.RoomCreate(client_ts=0, display_name="Mina", preferred_lang="ko")
    ack, listing = house.say("a", message)
    assert isinstance(ack, Tell)
    assert ack.message == wire.RoomCreateAck(room_code="100001", room_id="id-1")
    assert isinstance(listing, Tell)
    member = RoomMember(
        participant_id="a",
        session_id="a",
        raw_voice_preferences={},
        joined_at="2026-02-01T08:00:00.000Z",
        display_name="Mina",
        preferred_lang="ko",
    )
    assert listing.message == wire.RoomMembers(room_code="100001", members=[member])


def test_moments_have_milliseconds() -> None:
    assert rfc3339(1_769_932_800_125) == "2026-02-01T08:00:00.125Z"


def test_room_transcript(house: House) -> None:
    """Session-protocol 11.2: a joiner is acknowledged like a creator, the others learn of it."""
    code = house.create("a")
    assert told(house.join("b", code)) == [f"b in {code}", "b members ab", "a members ab"]
    assert told(house.signal("a", "b", code)) == ["b signal of a"]
    assert told(house.signal("b", "a", code)) == ["a signal of b"]
    assert told(house.deliver("a", 41)) == ["b hears a as 0"]


def test_members_stand_in_the_order_of_joining(house: House) -> None:
    code = house.create("c")
    house.join("a", code)
    house.join("b", code)
    assert told(house.rooms.leave("c")) == ["c numbers from 0", "a members ab", "b members ab"]
    assert told(house.join("c", code))[1] == "c members abc"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("999999", ErrorCode.ROOM_NOT_FOUND),
        ("12345", ErrorCode.INVALID_ROOM_CODE),
        ("12345a", ErrorCode.INVALID_ROOM_CODE),
        ("１２３４５６", ErrorCode.INVALID_ROOM_CODE),
    ],
)
def test_wrong_codes_have_their_errors(house: House, code: str, error: ErrorCode) -> None:
    assert told(house.join("a", code)) == [f"a {error}"]
    assert house.rooms.of("a") is None


def test_joining_twice_is_refused(house: House) -> None:
    code = house.together("a", "b")
    assert told(house.join("b", code)) == ["b ALREADY_IN_ROOM"]


def test_full_room_takes_nobody_and_costs_nobody_the_room_it_is_in() -> None:
    house = House(max_members=2)
    code = house.together("a", "b")
    other = house.create("c")
    assert told(house.join("c", code)) == ["c ROOM_FULL"]
    assert house.rooms.of("c") is not None
    house.rooms.leave("b")
    assert told(house.join("c", code)) == ["c numbers from 0", f"c in {code}", "c members ac", "a members ac"]
    assert told(house.join("b", other)) == ["b ROOM_NOT_FOUND"]


def test_rooms_are_bounded_in_number() -> None:
    house = House(max_rooms=1)
    house.create("a")
    assert told(house.say("b", wire.RoomCreate(client_ts=0))) == ["b NODE_OVERLOADED"]


def test_session_is_in_one_room_only(house: House) -> None:
    first = house.together("a", "b")
    assert told(house.say("b", wire.RoomCreate(client_ts=0))) == [
        "b numbers from 0",
        "a members a",
        "b in 100002",
        "b members b",
    ]
    assert told(house.join("b", first))[0] == "b numbers from 0"
    assert len(house.rooms) == 1


def test_gateways_have_no_rooms(house: House) -> None:
    code = house.create("a")
    house.guest("g", is_gateway=True)
    assert told(house.join("g", code)) == ["g UNSUPPORTED_FEATURE"]
    assert told(house.say("g", wire.RoomCreate(client_ts=0))) == ["g UNSUPPORTED_FEATURE"]


def test_guessing_codes_is_stopped_for_a_while(house: House) -> None:
    code = house.create("a")
    house.guest("b", origin="198.51.100.7")
    for _ in range(MAX_FAILED_TRIES):
        house.join("b", "999999")
    assert told(house.join("b", code)) == ["b ROOM_NOT_FOUND"]
    assert told(house.join("c", code))[0] == f"c in {code}"
    house.now = TRIES_S
    assert told(house.join("b", code))[0] == f"b in {code}"


def test_leaving_tells_nobody_which_codes_exist(house: House) -> None:
    code = house.create("a")
    answers = [told(house.say("b", wire.RoomLeave(room_code=asked))) for asked in (code, "999999")]
    assert answers == [["b ROOM_NOT_FOUND"]] * 2
    assert house.rooms.of("a") is not None


def test_empty_room_is_gone_and_leaver_hears_nothing(house: House) -> None:
    code = house.create("a")
    assert told(house.say("a", wire.RoomLeave(room_code=code))) == ["a numbers from 0"]
    assert len(house.rooms) == 0
    assert told(house.join("b", code)) == ["b ROOM_NOT_FOUND"]
    assert house.rooms.due() is None


def test_live_codes_differ() -> None:
    class Repeating(CountingIds):
        drawn = cycle(["100007", "100007", "100008"])

        def room_code(self) -> str:
            return next(self.drawn)

    house = House(Repeating())
    assert [house.create(name) for name in "ab"] == ["100007", "100008"]


def test_random_codes_have_six_digits() -> None:
    drawn = [int(RandomIds().room_code()) for _ in range(200)]
    assert all(100_000 <= code <= 999_999 for code in drawn)
    assert len(set(drawn)) > 180


def test_quiet_room_expires_after_half_an_hour(house: House) -> None:
    code = house.together("a", "b")
    house.now = 1000.0
    house.rooms.spoke("a", house.now)
    house.rooms.spoke("nobody", house.now)
    assert house.rooms.tick(2799.9) == []
    assert told(house.rooms.tick(2800.0)) == [
        "a expired",
        "b expired",
        "a numbers from 0",
        "b numbers from 0",
    ]
    assert told(house.say("a", wire.RoomLeave(room_code=code))) == ["a ROOM_NOT_FOUND"]
    assert (len(house.rooms), house.rooms.members, house.rooms.due()) == (0, 0, None)


def test_results_and_joins_and_speaking_keep_a_room(house: House) -> None:
    code = house.create("a")
    for do in (
        lambda: house.join("b", code),
        lambda: house.deliver("a"),
        lambda: house.starts("a", code),
        lambda: house.ends("a", code),
    ):
        house.now += 1500.0
        do()
        assert house.rooms.tick(house.now + 1799.0) == []
    house.signal("a", "b", code)
    assert house.rooms.tick(house.now + 1800.0) != []


def test_signals_are_for_members_who_want_them(house: House) -> None:
    code = house.together("a", "b")
    other = house.create("c")
    assert house.signal("c", "a", code) == []
    assert house.signal("c", "a", other) == []
    assert house.signal("a", "c", code) == []
    assert house.signal("a", "a", code) == []
    assert house.signal("a", "b", code, b"1" * (MAX_SIGNAL_BYTES + 1)) == []
    house.want("b", "a", code, voice=False)
    assert house.signal("a", "b", code) == []
    assert told(house.signal("b", "a", code)) == ["a signal of b"]
    house.want("b", "a", code, voice=True)
    assert told(house.signal("a", "b", code)) == ["b signal of a"]


def test_signals_are_relayed_as_they_are(house: House) -> None:
    code = house.together("a", "b")
    message = wire.WebrtcIce(room_code=code, to="b", candidate=Raw(b'{ "a" : 1.0 }'))
    (output,) = house.say("a", message)
    assert output == Tell(
        "b", wire.WebrtcIce(room_code=code, to="a", candidate=Raw(b'{ "a" : 1.0 }')), optional=True
    )


def test_raw_voice_preference_is_shown_to_all_and_forgotten_with_its_target(house: House) -> None:
    code = house.together("a", "b", "c")
    outputs = house.want("b", "a", code, voice=False)
    assert told(outputs) == ["a members abc", "b members abc", "c members abc"]
    room = house.rooms.of("b")
    assert room is not None
    assert [member.raw_voice_preferences for member in room.listing().members] == [{}, {"a": False}, {}]
    assert house.want("b", "nobody", code, voice=False) == []
    house.rooms.leave("a")
    assert [member.raw_voice_preferences for member in room.listing().members] == [{}, {}]


def test_raw_voice_preference_needs_membership(house: House) -> None:
    code = house.create("a")
    assert told(house.want("b", "a", code, voice=False)) == ["b ROOM_NOT_FOUND"]


def test_speaking_is_relayed_under_the_true_name(house: House) -> None:
    code = house.together("a", "b", "c")
    assert told(house.starts("a", code)) == ["b sees a speak", "c sees a speak"]
    assert house.starts("a", code) == []
    assert told(house.ends("a", code)) == ["b sees a stop", "c sees a stop"]
    assert house.ends("a", code) == []
    assert house.starts("d", code) == []


def test_speaking_cannot_be_told_too_often(house: House) -> None:
    code = house.together("a", "b")
    count = 0
    for _ in range(50):
        count += len(house.starts("a", code)) + len(house.ends("a", code))
    assert count == 2 * SPEAKING_BURST
    house.now += 1.0
    assert told(house.starts("a", code)) == ["b sees a speak"]


def test_who_loses_its_connection_stops_speaking_and_is_welcomed_back(house: House) -> None:
    code = house.together("a", "b")
    house.starts("a", code)
    assert told(house.rooms.away("a", house.now)) == ["b sees a stop"]
    assert told(house.rooms.back("a")) == [f"a in {code}", "a members ab"]
    assert house.rooms.away("c", house.now) == house.rooms.back("c") == []


def test_session_that_ended_leaves(house: House) -> None:
    house.together("a", "b")
    assert told(house.rooms.ended("a")) == ["b members b"]
    assert house.rooms.ended("a") == []


def planned(house: House, speaker: str, src: str = "en", turn: str = "turn-1") -> list[str] | None:
    """The languages an utterance is translated to; None for that of the session itself."""
    plan = house.rooms.plan(speaker, src, turn)
    assert plan is not None
    return None if plan.own else plan.languages


def test_outside_rooms_nothing_is_planned(house: House) -> None:
    assert house.rooms.plan("a", "en", "turn-1") is None


def test_one_job_for_each_language_of_the_others(house: House) -> None:
    house.together(a="en", b="es", c="fr", d="ES", e="en")
    assert planned(house, "a") == ["es", "fr"]
    assert planned(house, "b", "es") == ["en", "fr"]
    assert planned(house, "b", "auto", "turn-2") == ["ES", "en", "fr"]


def test_who_prefers_nothing_hears_the_language_of_its_session(house: House) -> None:
    house.guest("b", hears="de")
    house.guest("c", hears="auto")
    house.guest("d", hears="it")
    house.together(a="en", b=None, c=None, d="auto")  # type: ignore[arg-type]
    assert planned(house, "a") == ["de", "it"]


def test_nobody_needs_a_translation_of_what_all_understand(house: House) -> None:
    house.together(a="en", b="en")
    assert planned(house, "a") == []


def test_turn_that_all_understood_goes_on_to_be_recognised(house: House) -> None:
    code = house.together(a="en", b="en")
    plans = [house.rooms.plan("a", "en", "turn-1")]
    house.join("c", code, "fr")
    plans += [house.rooms.plan("a", "en", turn) for turn in ("turn-1", "turn-2")]
    assert [(plan.languages, plan.recognised) for plan in plans if plan is not None] == [
        ([], True),
        (["fr"], True),
        (["fr"], False),
    ]


def test_language_that_the_speaker_reads_goes_first(house: House) -> None:
    house.together(a="fr", b="es", c="fr")
    assert planned(house, "a") == ["fr", "es"]


def test_speaker_alone_is_served_as_outside_rooms_until_its_turn_ends(house: House) -> None:
    code = house.create("a")
    assert planned(house, "a") is None
    house.join("b", code, "fr")
    assert planned(house, "a") is None
    assert planned(house, "a", turn="turn-2") == ["fr"]


def test_turn_keeps_its_languages_and_gains_new_ones(house: House) -> None:
    code = house.together(a="en", b="es", c="fr")
    house.rooms.leave("b")
    assert planned(house, "a") == ["fr"]
    house.join("d", code, "de")
    house.rooms.leave("c")
    assert planned(house, "a") == ["fr", "de"]
    assert planned(house, "a", turn="turn-2") == ["de"]


def test_three_languages_each_member_gets_only_its_own(house: House) -> None:
    house.together(a="en", b="es", c="fr", d="de")
    assert told(house.deliver("a", 0, "fr")) == ["c hears a as 0"]
    assert told(house.deliver("a", 0, "es")) == ["b hears a as 0"]
    assert told(house.deliver("b", 0, "en")) == ["a hears b as 0"]


def test_regional_forms_are_one_language(house: House) -> None:
    house.together(a="en", b="zh-CN", c="zh")
    assert planned(house, "a") == ["zh-CN"]
    assert told(house.deliver("a", 0, "zh-CN")) == ["b hears a as 0", "c hears a as 0"]


def test_speaker_reads_its_words_without_sound_unless_it_is_alone(house: House) -> None:
    code = house.create("a")
    assert told(house.deliver("a", 0, echo=True)) == ["a hears a as 0"]
    house.join("b", code, "fr")
    assert told(house.deliver("a", 1, echo=True)) == ["a hears a as 1 silently"]
    assert told(house.deliver("a", 2, "fr", echo=True)) == ["b hears a as 0", "a hears a as 2 silently"]


def test_two_speakers_with_equal_indexes_are_told_apart(house: House) -> None:
    house.together("a", "b", "c")
    heard = [told(house.deliver(speaker, 5))[-1] for speaker in ("a", "b", "a", "b")]
    assert heard == ["c hears a as 0", "c hears b as 1", "c hears a as 2", "c hears b as 3"]


def test_numbers_go_on_where_the_session_was(house: House) -> None:
    code = house.create("a")
    house.guest("b", next_index=7)
    house.join("b", code)
    assert told(house.deliver("a")) == ["b hears a as 7"]
    assert told(house.rooms.leave("b"))[0] == "b numbers from 8"
    house.join("b", code)
    assert told(house.deliver("a")) == ["b hears a as 8"]


def test_who_joins_between_cut_and_result_hears_it(house: House) -> None:
    code = house.together(a="en", b="es")
    assert planned(house, "a") == ["es"]
    house.join("c", code, "es")
    house.join("d", code, "fr")
    assert told(house.deliver("a")) == ["b hears a as 0", "c hears a as 0"]


def test_who_left_or_changed_its_language_hears_it_no_more(house: House) -> None:
    house.together(a="en", b="es", c="es", d="fr")
    house.rooms.leave("b")
    outputs = house.rooms.change_languages("c", 0.0, speaks="en", hears="es", preferred_lang="fr")
    assert told(outputs) == ["a members acd", "c members acd", "d members acd"]
    house.rooms.change_languages("d", 0.0, speaks="en", hears="es", preferred_lang="es")
    assert told(house.deliver("a")) == ["d hears a as 0"]


def test_languages_that_nobody_sees_are_changed_quietly(house: House) -> None:
    house.guest("b", hears="de")
    house.together("a", "b")
    assert house.rooms.change_languages("b", 0.0, speaks="de", hears="it") == []
    assert planned(house, "a") == ["it"]
    assert house.rooms.change_languages("c", 0.0, speaks="de", hears="it") == []


def test_words_of_a_speaker_who_left_still_reach_the_others(house: House) -> None:
    house.together("a", "b")
    room = house.rooms.of("a")
    assert room is not None
    house.rooms.leave("a")

    def send() -> list[str]:
        delivered = house.rooms.deliver(room.id, "es", result("a"), 0.0, for_speaker=True, next_index=9)
        return told(delivered)

    assert send() == ["b hears a as 0", "a hears a as 9 silently", "a numbers from 10"]
    house.rooms.ended("a")
    assert send() == ["b hears a as 1"]
    house.rooms.leave("b")
    assert send() == []


def test_results_do_not_follow_a_code_into_another_room() -> None:
    class Same(CountingIds):
        def room_code(self) -> str:
            return "100001"

    house = House(Same())
    house.create("a")
    before = house.rooms.of("a")
    assert before is not None
    house.rooms.leave("a")
    house.together("b", "c")
    assert house.rooms.deliver(before.id, "es", result("a"), 0.0, for_speaker=False) == []


def test_pairs_that_a_member_brings_are_known_when_it_joins(house: House) -> None:
    house.guest("b", speaks="es")
    house.guest("c", speaks="auto")
    house.together(a="en", b="es", c="en")
    assert house.rooms.pairs("a") == [("en", "es"), ("es", "en"), ("auto", "en")]
    assert house.rooms.pairs("nobody") == []


names = st.sampled_from("abcdef")
codes = st.sampled_from(["en", "es", "fr", ""])


class AnyHistory(RuleBasedStateMachine):
    """The rooms beside plain lists of who is where and listens in what."""

    def __init__(self) -> None:
        super().__init__()
        self.house = House(max_members=3, max_rooms=2, idle_s=100.0)
        self.model: dict[str, dict[str, str]] = {}
        self.ids: dict[str, str] = {}
        self.used: set[str] = set()
        self.active: dict[str, float] = {}
        self.last: dict[str, int] = {}

    def where(self, name: str) -> str | None:
        return next((code for code, members in self.model.items() if name in members), None)

    def _left(self, name: str) -> None:
        code = self.where(name)
        if code is not None:
            del self.model[code][name]
            if not self.model[code]:
                del self.model[code], self.active[code]

    def _see(self, outputs: list[Any]) -> None:
        """Whoever is told something about a room is in it, and its list is as it stands."""
        for output in outputs:
            if isinstance(output, Tell) and isinstance(output.message, wire.RoomMembers):
                listed = [member.session_id for member in output.message.members]
                assert listed == list(self.model[output.message.room_code])
                assert output.session_id in listed
            if isinstance(output, Renumber):
                assert output.next_index > self.last.get(output.session_id, -1)

    @rule(name=names, lang=codes)
    def create(self, name: str, lang: str) -> None:
        outputs = self.house.say(name, wire.RoomCreate(client_ts=0, preferred_lang=lang))
        if len(self.model) == 2:
            assert told(outputs) == [f"{name} NODE_OVERLOADED"]
            return
        self._left(name)
        room = self.house.rooms.of(name)
        assert room is not None
        assert room.code not in self.model
        assert room.id not in self.used
        self.used.add(room.id)
        self.model[room.code], self.ids[room.code] = {name: lang or "es"}, room.id
        self.active[room.code] = self.house.now
        self._see(outputs)

    @precondition(lambda self: self.model)
    @rule(name=names, lang=codes, data=st.data())
    def join(self, name: str, lang: str, data: st.DataObject) -> None:
        code = data.draw(st.sampled_from(sorted(self.model)))
        outputs = self.house.join(name, code, lang)
        if name in self.model[code]:
            assert told(outputs) == [f"{name} ALREADY_IN_ROOM"]
        elif len(self.model[code]) == 3:
            assert told(outputs) == [f"{name} ROOM_FULL"]
        else:
            self._left(name)
            self.model[code][name] = lang or "es"
            self.active[code] = self.house.now
            mine = [word for word in told(outputs) if word.startswith(f"{name} ")]
            assert mine[-2:] == [f"{name} in {code}", f"{name} members " + "".join(self.model[code])]
            assert {output.session_id for output in outputs} >= set(self.model[code])
        self._see(
            [output for output in outputs if isinstance(output, Tell) and self.where(output.session_id)]
        )

    @rule(name=names, ends=st.booleans())
    def leave(self, name: str, ends: bool) -> None:
        self._left(name)
        outputs = self.house.rooms.ended(name) if ends else self.house.rooms.leave(name)
        self._see(outputs)
        if ends:
            self.last.pop(name, None)

    @rule(name=names, lang=st.sampled_from(["en", "es", "fr"]))
    def change(self, name: str, lang: str) -> None:
        outputs = self.house.rooms.change_languages(
            name, self.house.now, speaks="en", hears="es", preferred_lang=lang
        )
        code = self.where(name)
        if code is None:
            assert outputs == []
        else:
            self.model[code][name] = lang
            self._see(outputs)

    @precondition(lambda self: self.model)
    @rule(speaker=names, lang=st.sampled_from(["en", "es", "fr"]), echo=st.booleans(), data=st.data())
    def deliver(self, speaker: str, lang: str, echo: bool, data: st.DataObject) -> None:
        code = data.draw(st.sampled_from(sorted(self.ids)))
        outputs = self.house.rooms.deliver(
            self.ids[code], lang, result(speaker, 3), self.house.now, for_speaker=echo
        )
        members = self.model.get(code, {})
        if code in self.active:
            self.active[code] = self.house.now
        wanted = [name for name, heard in members.items() if name != speaker and heard == lang]
        numbers = [output for output in outputs if isinstance(output, Renumber)]
        outputs = [output for output in outputs if isinstance(output, Tell)]
        reached = [output.session_id for output in outputs]
        assert [name for name in reached if name != speaker] == wanted
        assert reached.count(speaker) <= echo
        if echo and speaker in members:
            assert reached[-1] == speaker
        for output in outputs:
            assert isinstance(output.message, wire.TranslationResult)
            assert output.message.session_id == speaker
            assert output.message.utterance_index > self.last.get(output.session_id, -1)
            self.last[output.session_id] = output.message.utterance_index
        self._see(numbers)

    @rule(name=names, to=names, data=st.data())
    def signal(self, name: str, to: str, data: st.DataObject) -> None:
        code = data.draw(st.sampled_from([*sorted(self.model), "999999"]))
        outputs = self.house.signal(name, to, code)
        members = self.model.get(code, {})
        allowed = name != to and name in members and to in members
        assert told(outputs) == ([f"{to} signal of {name}"] if allowed else [])

    @rule(name=names, src=st.sampled_from(["en", "es", "auto"]), turn=st.integers())
    def plan(self, name: str, src: str, turn: int) -> None:
        plan = self.house.rooms.plan(name, src, f"turn {turn} of {len(self.used)} at {self.house.now}")
        code = self.where(name)
        if code is None:
            assert plan is None
            return
        assert plan is not None
        others = {lang for other, lang in self.model[code].items() if other != name}
        assert plan.own == (len(self.model[code]) == 1)
        if not plan.own and plan.room_id == self.ids[code]:
            assert len(plan.languages) == len(set(plan.languages))
            assert set(plan.languages) >= others - {src}
            assert src not in plan.languages

    @rule(seconds=st.sampled_from([1.0, 40.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.house.now += seconds
        gone = {code for code, at in self.active.items() if at + 100.0 <= self.house.now}
        outputs = self.house.rooms.tick(self.house.now)
        expired = {output.session_id for output in outputs if isinstance(output, Tell)}
        assert expired == {name for code in gone for name in self.model[code]}
        for code in gone:
            del self.model[code], self.active[code]

    @invariant()
    def rooms_are_as_the_lists_say(self) -> None:
        rooms = self.house.rooms
        assert len(rooms) == len(self.model) <= 2
        assert rooms.members == sum(len(members) for members in self.model.values())
        for code, members in self.model.items():
            assert 0 < len(members) <= 3
            for name, lang in members.items():
                room = rooms.of(name)
                assert room is not None
                assert (room.code, list(room.members)) == (code, list(members))
                assert room.members[name].language == lang
        assert (rooms.due() is None) == (not self.model)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=40)
