"""Rooms with members at several instances, whose letters come late, twice or never (resolution 50)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from core.support import CountingIds
from core.test_rooms import result
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from linguad.core.clock import Clock
from linguad.core.room import (
    HERE,
    Claim,
    Guest,
    Post,
    Release,
    Renumber,
    Room,
    RoomOutput,
    Seek,
    TakeOver,
    Tell,
)
from linguad.core.room_entrance import ENTER_S
from linguad.core.room_sharing import REPORT_S
from linguad.core.rooms import RoomRequest, RoomRules, Rooms
from linguad.wire import session as wire
from linguad.wire.letters import Letter
from linguad.wire.letters_rooms import RoomHeard, RoomIs, RoomMine, RoomRefused, RoomTold, RoomUnknown
from linguad.wire.resume import SeatRecord

GRACE_S = 30.0


class Instance:
    """One of several, with its rooms."""

    def __init__(self, name: str, world: World, **rules: Any) -> None:
        self.name = name
        self.rooms = Rooms(RoomRules(**rules), world.ids, Clock(1_769_932_800.0))
        self.sharing = self.rooms.share(name, GRACE_S)
        self.sharing.is_alive = lambda other: other in world.instances
        self.sharing.up = True

    def take(self, sender: str, letter: Letter, now: float) -> list[RoomOutput]:
        """A letter comes."""
        match letter:
            case RoomMine():
                return self.sharing.told_mine(sender, letter, now)
            case RoomIs():
                return self.sharing.told_is(sender, letter, now)
            case RoomRefused():
                return self.sharing.entrance.refused(letter)
            case RoomUnknown():
                return self.sharing.told_unknown(sender, letter)
            case RoomHeard():
                return self.sharing.told_heard(letter)
            case RoomTold():
                return self.sharing.told_told(letter)
        raise AssertionError(letter)


class World:
    """Instances with their sessions, the letters between them, and Redis."""

    def __init__(self, *names: str, **rules: Any) -> None:
        self.ids = CountingIds()
        self.rules = rules
        self.now = 0.0
        self.instances: dict[str, Instance] = {}
        self.homes: dict[str, str] = {}
        self.letters: dict[tuple[str, str], deque[Letter]] = {}
        self.redis: dict[str, tuple[str, str, int]] = {}
        self.epoch = 0
        self.told: dict[str, list[Any]] = {}
        for name in names:
            self.instances[name] = Instance(name, self, **rules)

    def rooms(self, session: str) -> Rooms:
        return self.instances[self.homes[session]].rooms

    def guest(self, session: str) -> Guest:
        return Guest(
            session_id=session, origin=session, speaks="en", hears="es", next_index=0, keeps=session.isupper()
        )

    def say(self, session: str, message: RoomRequest) -> None:
        """A client asks for something; those with capital letters can resume."""
        self.do(self.homes[session], self.rooms(session).handle(self.guest(session), message, self.now))

    def create(self, session: str) -> str:
        self.say(session, wire.RoomCreate(client_ts=0))
        room = self.rooms(session).of(session)
        assert room is not None
        return room.code

    def join(self, session: str, code: str, lang: str | None = None) -> None:
        self.say(session, wire.RoomJoin(room_code=code, preferred_lang=lang))

    def speak(self, session: str, language: str = "es", text: str = "hola") -> None:
        rooms = self.rooms(session)
        room = rooms.of(session)
        assert room is not None
        said = result(session, text=text)
        self.do(
            self.homes[session],
            rooms.deliver(room.id, language, said, self.now, for_speaker=True, next_index=0),
        )

    def do(self, name: str, outputs: Iterable[RoomOutput]) -> None:
        """Carry out what an instance decides; Redis answers at once."""
        for output in outputs:
            match output:
                case Tell():
                    self.told.setdefault(output.session_id, []).append(output.message)
                case Post():
                    self.letters.setdefault((name, output.instance), deque()).append(output.letter)
                case Renumber():
                    pass
                case _:
                    self.do(name, self.ask(name, output))

    def ask(self, name: str, question: RoomOutput) -> list[RoomOutput]:
        sharing = self.instances[name].sharing
        match question:
            case Claim():
                self.epoch += 1
                held = self.redis.setdefault(question.code, (name, question.room_id, self.epoch))
                epoch = held[2] if held[1] == question.room_id else 0
                return sharing.entrance.claimed(question.session_id, question.room_id, epoch, self.now)
            case Seek():
                owner, room_id, _ = self.redis.get(question.code, ("", "", 0))
                return sharing.entrance.found(question.session_id, question.code, room_id, owner, self.now)
            case TakeOver():
                self.epoch += 1
                held = self.redis.get(question.code, ("", "", 0))
                gone = held[0] not in self.instances or held[0] == question.former
                if not held[0] or (gone and held[1] == question.room_id):
                    held = self.redis[question.code] = (name, question.room_id, self.epoch)
                return sharing.taken(question.room_id, held[0], held[1], held[2], self.now)
            case Release():
                if self.redis.get(question.code, ("", "", 0))[:2] == (name, question.room_id):
                    del self.redis[question.code]
                return []
        raise AssertionError(question)

    def deliver(self, way: tuple[str, str]) -> None:
        """The next letter of one instance to another arrives, if that lives."""
        sender, receiver = way
        letter = self.letters[way].popleft()
        if receiver in self.instances:
            self.do(receiver, self.instances[receiver].take(sender, letter, self.now))

    def settle(self) -> None:
        """All letters arrive."""
        for _ in range(1000):
            ways = [way for way, letters in self.letters.items() if letters]
            if not ways:
                return
            for way in ways:
                self.deliver(way)
        raise AssertionError(f"they write each other for ever: {self.letters}")

    def wait(self, seconds: float) -> None:
        """Time passes; nothing arrives meanwhile."""
        self.now += seconds
        for name, instance in list(self.instances.items()):
            self.do(name, instance.rooms.tick(self.now))

    def kill(self, name: str) -> None:
        """An instance dies, and the others see it."""
        del self.instances[name]
        for way in list(self.letters):
            if name in way:
                del self.letters[way]
        self.homes = {session: home for session, home in self.homes.items() if home != name}
        for other, instance in list(self.instances.items()):
            self.do(other, instance.sharing.gone(name, self.now))

    def resume(self, session: str, name: str, seat: SeatRecord) -> None:
        """A session goes on at another instance; its former one is told, if it lives."""
        former = self.homes.get(session)
        self.homes[session] = name
        if former in self.instances:
            self.do(former, self.instances[former].rooms.moved(session, self.now))
        self.do(name, self.instances[name].rooms.restore(self.guest(session), seat, self.now))

    def seat(self, session: str) -> SeatRecord | None:
        return self.rooms(session).seat_record(session)

    def members(self, session: str) -> list[str]:
        """Who is in the room of a session, as its own instance sees it."""
        room = self.rooms(session).of(session)
        return [] if room is None else list(room.members)

    def texts(self, session: str) -> list[str]:
        """What a session has heard."""
        told = self.told.get(session, [])
        return [message.text_translated for message in told if isinstance(message, wire.TranslationResult)]

    def kinds(self, session: str) -> list[str]:
        """What a session was told since the last time."""
        return [type(message).__struct_config__.tag for message in self.told.pop(session, [])]


def world(**sessions: str) -> World:
    """Instances a and b; sessions at one of them each."""
    made = World("a", "b", "c", max_members=4, idle_s=1800.0)
    made.homes = dict(sessions)
    return made


class TestTogether:
    def test_a_room_is_entered_from_another_instance(self) -> None:
        w = world(x="a", y="b", z="b")
        code = w.create("x")
        w.join("y", code)
        assert w.members("y") == [], "the owner decides"
        w.settle()
        assert w.members("x") == w.members("y") == ["x", "y"]
        assert w.kinds("y") == ["room_create_ack", "room_members"]
        assert w.kinds("x") == ["room_create_ack", "room_members", "room_members"]
        w.join("z", code)
        w.settle()
        assert w.members("x") == w.members("y") == w.members("z") == ["x", "y", "z"]
        assert (w.kinds("x"), w.kinds("y")) == (["room_members"], ["room_members"])

    def test_what_is_said_is_heard_everywhere_once(self) -> None:
        w = world(x="a", y="b", z="c")
        code = w.create("x")
        for session, lang in (("y", "es"), ("z", "zh")):
            w.join(session, code, lang)
            w.settle()
        w.speak("y", "es", "from y")
        w.speak("y", "zh", "de y")
        w.settle()
        w.speak("x", "es", "from x")
        w.settle()
        assert w.texts("x") == ["from y", "from x"]
        assert w.texts("y") == ["from y", "de y", "from x"]
        assert w.texts("z") == ["de y"]

    def test_languages_and_preferences_are_known_to_all(self) -> None:
        w = world(x="a", y="b")
        w.join("y", w.create("x"))
        w.settle()
        rooms = w.rooms("y")
        w.do("b", rooms.change_languages("y", w.now, speaks="zh", hears="fr"))
        w.settle()
        assert set(w.rooms("x").pairs("x")) == {("en", "fr"), ("zh", "es")}
        w.do("b", rooms.change_languages("y", w.now, speaks="zh", hears="fr", preferred_lang="de"))
        w.settle()
        assert ("en", "de") in w.rooms("x").pairs("x")

    def test_refusals(self) -> None:
        w = world(x="a", y="b", p="a", q="a", r="a")
        code = w.create("x")
        w.join("y", "999999")
        assert w.kinds("y") == ["room_error"]
        for session in "pqr":
            w.join(session, code)
        w.join("y", code)
        w.settle()
        assert (w.kinds("y"), w.members("y")) == (["room_error"], [])
        w.instances["b"].sharing.up = False
        w.join("y", code)
        assert w.told["y"][-1].code == "SCHEDULER_DEPENDENCY_DOWN"

    def test_a_join_that_nobody_answers_is_given_up(self) -> None:
        w = world(x="a", y="b")
        w.join("y", w.create("x"))
        w.letters.clear()
        w.wait(ENTER_S)
        assert w.told["y"][-1].code == "SCHEDULER_DEPENDENCY_DOWN"

    def test_leaving_is_seen_by_all(self) -> None:
        w = world(x="a", y="b", z="b")
        code = w.create("x")
        for session in "yz":
            w.join(session, code)
        w.settle()
        w.say("y", wire.RoomLeave(room_code=code))
        assert w.members("z") == ["x", "z"], "at home at once"
        w.do("a", w.rooms("x").ended("x"))
        w.settle()
        assert w.members("z") == ["z"]
        w.do("b", w.rooms("z").ended("z"))
        w.settle()
        assert w.redis == {}
        assert [len(one.rooms) for one in w.instances.values()] == [0, 0, 0]

    def test_signals_go_from_home_to_home(self) -> None:
        w = world(x="a", y="b")
        code = w.create("x")
        w.join("y", code)
        w.settle()
        w.told.clear()
        w.say("y", wire.RemoteSpeakingStart(room_code=code, ts_ms=1, from_="?"))
        w.settle()
        assert w.told["x"][0].from_ == "y"

    def test_nobody_speaks(self) -> None:
        w = world(x="a", y="b")
        w.join("y", w.create("x"))
        w.settle()
        for _ in range(3):
            w.wait(700.0)
            w.do("b", [])
            w.rooms("y").spoke("y", w.now)
            w.settle()
        assert w.members("x") == ["x", "y"], "somebody at the other instance did"
        for _ in range(6):
            w.wait(700.0)
            w.settle()
        assert w.kinds("y")[-1] == w.kinds("x")[-1] == "room_expired"
        assert w.redis == {}

    def test_older_letters_change_nothing(self) -> None:
        w = world(x="a", y="b", z="c")
        code = w.create("x")
        w.join("y", code)
        w.settle()
        w.say("y", wire.RoomLeave(room_code=code))
        w.join("y", code)
        w.letters["b", "a"].reverse()
        w.settle()
        assert w.members("x") == w.members("y") == ["x", "y"], "what was said last holds"
        w.join("z", code)
        w.deliver(("c", "a"))
        w.do("c", w.rooms("z").change_languages("z", w.now, speaks="en", hears="de"))
        w.settle()
        w.do("a", w.rooms("x").change_languages("x", w.now, speaks="zh", hears="es"))
        w.do("a", w.rooms("x").change_languages("x", w.now, speaks="fr", hears="es"))
        for way in (("a", "b"), ("a", "c")):
            w.letters[way].reverse()
        w.settle()
        assert ("fr", "es") in w.rooms("y").pairs("y")


class TestGone:
    def test_another_instance_takes_the_room_over(self) -> None:
        w = world(x="a", y="b", z="c")
        code = w.create("x")
        for session in "yz":
            w.join(session, code)
            w.settle()
        w.told.clear()
        w.kill("a")
        w.speak("y", text="while it has no owner")
        w.settle()
        assert w.texts("z") == ["while it has no owner"]
        assert w.members("y") == w.members("z") == ["y", "z"]
        assert w.redis[code][0] == "b"
        w.homes["new"] = "c"
        w.join("new", code)
        w.settle()
        assert w.members("y") == ["y", "z", "new"]

    def test_who_can_come_back_keeps_its_seat(self) -> None:
        w = world(X="a", Y="b")
        code = w.create("X")
        w.join("Y", code)
        w.settle()
        seat = w.seat("X")
        assert seat is not None
        w.told.clear()
        w.kill("a")
        w.settle()
        assert w.members("Y") == ["X", "Y"]
        w.resume("X", "c", seat)
        w.settle()
        assert w.members("X") == w.members("Y") == ["X", "Y"]
        assert w.told == {}, "nobody noticed"
        w.speak("X", text="back")
        w.settle()
        w.speak("Y", text="welcome")
        w.settle()
        assert w.texts("Y") == ["back", "welcome"]
        assert w.texts("X") == ["back", "welcome"]

    def test_who_does_not_come_back_loses_it(self) -> None:
        w = world(X="a", Y="b")
        w.join("Y", w.create("X"))
        w.settle()
        w.kill("a")
        w.settle()
        w.wait(GRACE_S + REPORT_S)
        w.wait(GRACE_S + REPORT_S)
        w.settle()
        assert w.members("Y") == ["Y"]

    def test_all_come_back_to_different_instances(self) -> None:
        w = world(X="a", Y="a")
        code = w.create("X")
        w.join("Y", code)
        seats = [w.seat("X"), w.seat("Y")]
        w.kill("a")
        for session, home, seat in zip("XY", "bc", seats, strict=True):
            assert seat is not None
            w.resume(session, home, seat)
        w.settle()
        assert w.members("X") == w.members("Y") == ["X", "Y"]

    def test_a_session_moves_while_its_instance_lives(self) -> None:
        w = world(X="a", Y="b", z="a")
        code = w.create("X")
        for session in "Yz":
            w.join(session, code)
            w.settle()
        for session, home in (("Y", "c"), ("X", "b"), ("Y", "a"), ("X", "a")):
            seat = w.seat(session)
            assert seat is not None
            w.told.clear()
            w.resume(session, home, seat)
            w.settle()
            assert w.told == {}, "nobody noticed"
            assert w.members("X") == w.members("Y") == w.members("z") == ["X", "Y", "z"]

    def test_an_owner_that_was_taken_for_dead_learns_it(self) -> None:
        w = world(x="a", Y="b")
        code = w.create("x")
        w.join("Y", code)
        w.settle()
        a = w.instances.pop("a")
        w.do("b", w.instances["b"].sharing.gone("a", w.now))
        w.settle()
        assert w.members("Y") == ["Y"]
        w.instances["a"] = a
        w.do("a", a.sharing.connected())
        w.do("b", w.instances["b"].sharing.connected())
        w.settle()
        assert sorted(w.members("x")) == sorted(w.members("Y")) == ["Y", "x"]
        assert w.redis[code][0] == "b"


SESSIONS = ["x", "Y", "z", "W"]
names = st.sampled_from(SESSIONS)


class AnyHistory(RuleBasedStateMachine):
    """Instances that die, and whose letters come late, twice or never; in the end they agree."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World("a", "b", "c", max_members=3, idle_s=100_000.0)
        self.world.homes = {"x": "a", "Y": "a", "z": "b", "W": "b"}
        self.seen: dict[tuple[Room, str], tuple[int, int]] = {}

    @initialize()
    def meet(self) -> None:
        """A room that two share from the beginning."""
        self.world.join("z", self.world.create("x"))
        self.world.settle()

    @rule(name=names)
    def create(self, name: str) -> None:
        self.world.say(name, wire.RoomCreate(client_ts=0))

    @precondition(lambda self: self.world.redis)
    @rule(name=names, lang=st.sampled_from([None, "es", "zh"]), data=st.data())
    def join(self, name: str, lang: str | None, data: st.DataObject) -> None:
        self.world.join(name, data.draw(st.sampled_from(sorted(self.world.redis))), lang)

    @rule(name=names)
    def leave(self, name: str) -> None:
        self.world.do(self.world.homes[name], self.world.rooms(name).leave(name))

    @rule(name=names, lang=st.sampled_from(["es", "zh"]))
    def change(self, name: str, lang: str) -> None:
        rooms = self.world.rooms(name)
        self.world.do(
            self.world.homes[name], rooms.change_languages(name, self.world.now, speaks=lang, hears="fr")
        )

    @rule(name=st.sampled_from(["Y", "W"]))
    def move(self, name: str) -> None:
        seat = self.world.seat(name)
        if seat is not None:
            others = sorted(self.world.instances.keys() - {self.world.homes[name]})
            if others:
                self.world.resume(name, others[0], seat)

    @precondition(lambda self: len(self.world.instances) > 2)
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        """An instance dies; who can, comes back at another one at once, the others begin anew there."""
        world = self.world
        dead = data.draw(st.sampled_from(sorted(world.instances)))
        sessions = [session for session, home in world.homes.items() if home == dead]
        seats = {session: world.seat(session) for session in sessions if session.isupper()}
        world.kill(dead)
        refuge = data.draw(st.sampled_from(sorted(world.instances)))
        for session in sessions:
            world.homes[session] = refuge
            seat = seats.get(session)
            if seat is not None:
                world.do(refuge, world.instances[refuge].rooms.restore(world.guest(session), seat, world.now))

    def way(self, data: st.DataObject) -> tuple[str, str]:
        return data.draw(st.sampled_from([way for way, letters in self.world.letters.items() if letters]))

    @precondition(lambda self: any(self.world.letters.values()))
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        self.world.deliver(self.way(data))

    @precondition(lambda self: any(self.world.letters.values()))
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        self.world.letters[self.way(data)].popleft()

    @precondition(lambda self: any(self.world.letters.values()))
    @rule(data=st.data(), twice=st.booleans())
    def come_late_or_twice(self, data: st.DataObject, twice: bool) -> None:
        letters = self.world.letters[self.way(data)]
        letters.append(letters[0] if twice else letters.popleft())

    @rule(seconds=st.sampled_from([1.0, ENTER_S, REPORT_S]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    @invariant()
    def sessions_are_in_one_room_at_most(self) -> None:
        for instance in self.world.instances.values():
            rooms = instance.rooms
            for room in rooms._table:
                here = {member.session_id for member in room.here}
                assert here == {session for session in SESSIONS if rooms.of(session) is room}, (
                    "who has a seat here knows it"
                )
                if room.owner == HERE:
                    assert room.members

    @invariant()
    def nobody_goes_back_to_what_was_before(self) -> None:
        for instance in self.world.instances.values():
            for room in instance.rooms._table:
                for what, seen in [
                    ((room, ""), (room.epoch, room.version)),
                    *(((room, home), (number, 0)) for home, number in room.heard.items()),
                ]:
                    assert seen >= self.seen.get(what, (0, 0)), what
                    self.seen[what] = seen

    def teardown(self) -> None:
        """Nothing is lost from now on, and soon all know the same."""
        world = self.world
        for _ in range(6):
            world.settle()
            world.wait(REPORT_S)
        world.settle()
        rooms = [room for instance in world.instances.values() for room in instance.rooms._table]
        owned = {room.id: room for room in rooms if room.owner == HERE}
        for room in rooms:
            owner = owned[room.id]
            assert list(room.members) == list(owner.members)
            assert len(room.members) <= 3
            for session, member in owner.members.items():
                assert world.rooms(session).of(session) is not None
                copy = room.members[session]
                assert (copy.speaks, copy.hears, copy.preferred_lang) == (
                    member.speaks,
                    member.hears,
                    member.preferred_lang,
                )
        for session in SESSIONS:
            assert sum(session in room.members for room in owned.values()) <= 1


AnyHistory.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestAnyHistory = AnyHistory.TestCase
