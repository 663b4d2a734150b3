"""All rooms: who may enter, what members are told, and whom an utterance is for (session-protocol 6).

A session is in one room at most. The shell sends what each call returns, and tells when a session is
gone. What is dropped for a member without a connection is made good by `back`.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from linguad.core.bucket import Bucket
from linguad.core.clock import Clock
from linguad.core.deadlines import earliest
from linguad.core.ids import Ids
from linguad.core.room import HERE, Guest, Member, Renumber, Room, RoomOutput, Tell, error, welcome
from linguad.core.room_relay import (
    SPEAKING_BURST,
    SPEAKING_PER_S,
    Signal,
    relay_end,
    relay_signal,
    relay_start,
)
from linguad.core.room_sharing import Sharing
from linguad.core.room_table import RoomTable
from linguad.core.tries import WrongTries
from linguad.errors import ErrorCode
from linguad.wire.language import AUTO, normalize
from linguad.wire.moment import rfc3339
from linguad.wire.resume import SeatRecord
from linguad.wire.room import (
    RemoteSpeakingEnd,
    RemoteSpeakingStart,
    RoomCreate,
    RoomExpired,
    RoomJoin,
    RoomLeave,
    RoomRawVoicePreference,
)
from linguad.wire.session import TranslationResult

RoomRequest = (
    RoomCreate
    | RoomJoin
    | RoomLeave
    | RoomRawVoicePreference
    | RemoteSpeakingStart
    | RemoteSpeakingEnd
    | Signal
)
"""What clients ask of rooms."""

CODE_DIGITS = 6

CHANGES_BURST = 20
"""Times that a session may do at once what all members are told of: enter a room, change a preference."""

CHANGES_PER_S = 1.0
"""Such changes that it may go on with."""

TOO_FAST = "you change too much in a short time; wait a few seconds"


class RoomRules(Struct, frozen=True, kw_only=True):
    """Limits of rooms: members of one, rooms in all, seconds without speech until a room is gone."""

    max_members: int = 10
    max_rooms: int = 10_000
    idle_s: float = 1800.0


class Plan(Struct, frozen=True):
    """What an utterance of a member is to be translated to."""

    room_id: str
    """Remembered by the jobs; their results are for those who are in this room when they come."""
    languages: list[str]
    """One job each, and the speaker reads the result of the first."""
    own: bool
    """Nobody else is there: one job as outside rooms, for the speaker, and for who joins meanwhile."""
    recognised: bool = False
    """Before all others a job that only recognises the speech: all understood it when the turn began."""


class Rooms:
    """Mutable state: rooms by code and id, the room of each session, and how far each one's numbers went."""

    def __init__(self, rules: RoomRules, ids: Ids, clock: Clock) -> None:
        self.rules = rules
        """May be changed; rooms that are open keep the end they have until somebody speaks."""
        self._ids = ids
        self._clock = clock
        self._table = RoomTable()
        self._wrong = WrongTries()
        self._changes: dict[str, Bucket] = {}
        self._sharing: Sharing | None = None

    def share(self, me: str, grace_s: float, now: float) -> Sharing:
        """Other instances have members, too; to be called before there are rooms. See `Sharing`."""
        self._sharing = Sharing(self, self._table, self._clock, self._ids, me, grace_s, now)
        return self._sharing

    def __len__(self) -> int:
        return len(self._table.by_id)

    @property
    def members(self) -> int:
        """Sessions that are in a room."""
        return len(self._table.of)

    def of(self, session_id: str) -> Room | None:
        """The room a session is in."""
        return self._table.of.get(session_id)

    def handle(self, guest: Guest, message: RoomRequest, now: float) -> list[RoomOutput]:
        """A request of a client, to the end of its effects (6.2)."""
        match message:
            case RoomCreate():
                return self._create(guest, message, now)
            case RoomJoin():
                return self._join(guest, message, now)
            case RoomLeave():
                if self._room_of(guest.session_id, message.room_code) is None:
                    return [error(guest.session_id, ErrorCode.ROOM_NOT_FOUND)]
                return self.leave(guest.session_id)
            case RoomRawVoicePreference():
                return self._prefer(guest.session_id, message, now)
            case _:
                return self._relay(guest.session_id, message, now)

    def _relay(
        self, session_id: str, message: RemoteSpeakingStart | RemoteSpeakingEnd | Signal, now: float
    ) -> list[RoomOutput]:
        room = self._room_of(session_id, message.room_code)
        if room is None:
            return []
        sender = room.members[session_id]
        match message:
            case RemoteSpeakingStart():
                self._active(room, now)
                return self._route(room, relay_start(room, sender, message, now))
            case RemoteSpeakingEnd():
                self._active(room, now)
                return self._route(room, relay_end(room, sender, message))
            case _:
                return self._route(room, relay_signal(room, sender, message))

    def _route(self, room: Room, tells: list[Tell]) -> list[RoomOutput]:
        """What members are told, wherever they are."""
        return [*tells] if self._sharing is None else self._sharing.route(room, tells)

    def leave(self, session_id: str) -> list[RoomOutput]:
        """A session is in no room from now on; an empty room is gone."""
        if self._sharing is not None:
            self._sharing.entrance.give_up(session_id)
        room = self._table.of.pop(session_id, None)
        if room is None:
            return []
        room.remove(session_id)
        return [Renumber(session_id, self._table.next_number[session_id]), *self.changed(room)]

    def changed(self, room: Room) -> list[RoomOutput]:
        """Others are in a room than before, or what all may know of them is different."""
        news = room.news()
        told = ([] if news is None else room.tell_here(news)) + self._shared(room)
        if not room.members or (room.owner != HERE and not room.here):
            self._table.close(room)
        return told

    def _shared(self, room: Room) -> list[RoomOutput]:
        return [] if self._sharing is None else self._sharing.changed(room)

    def ended(self, session_id: str) -> list[RoomOutput]:
        """A session is over: it leaves, and nothing is for it any more."""
        outputs = [output for output in self.leave(session_id) if not isinstance(output, Renumber)]
        self._table.next_number.pop(session_id, None)
        self._changes.pop(session_id, None)
        return [*outputs]

    def moved(self, session_id: str, now: float) -> list[RoomOutput]:
        """A session goes on at another instance, in the room where it is."""
        outputs = [] if self._sharing is None else self._sharing.moved(session_id, now)
        self._table.next_number.pop(session_id, None)
        self._changes.pop(session_id, None)
        return outputs

    def seat_record(self, session_id: str) -> SeatRecord | None:
        """What another instance has to know of its seat; None outside rooms."""
        room = self._table.of.get(session_id)
        if room is None:
            return None
        me = "" if self._sharing is None else self._sharing.me
        return SeatRecord(room.record(me), self._table.next_number[session_id])

    def restore(self, guest: Guest, seat: SeatRecord, now: float) -> list[RoomOutput]:
        """A session comes from another instance, where it had this seat."""
        return [] if self._sharing is None else self._sharing.restore(guest, seat, now)

    def back(self, session_id: str) -> list[Tell]:
        """A member that kept its place has a connection again; it learns how the room is now."""
        room = self._table.of.get(session_id)
        return [] if room is None else welcome(room, session_id)

    def away(self, session_id: str, now: float) -> list[RoomOutput]:
        """A member lost its connection but keeps its place for a while; it does not speak now."""
        room = self._table.of.get(session_id)
        if room is None:
            return []
        end = RemoteSpeakingEnd(room_code=room.code, ts_ms=self._clock.epoch_ms(now))
        return self._route(room, relay_end(room, room.members[session_id], end))

    def change_languages(
        self, session_id: str, now: float, *, speaks: str, hears: str, preferred_lang: str | None = None
    ) -> list[RoomOutput]:
        """A session has other languages now; a preference that it does not name stays as it was."""
        room = self._table.of.get(session_id)
        if room is None:
            return []
        member = room.members[session_id]
        before, (member.speaks, member.hears) = (member.speaks, member.hears), (speaks, hears)
        if preferred_lang is None or preferred_lang == member.preferred_lang:
            return self._shared(room) if before != (speaks, hears) else []
        if not self._bucket(session_id).take(now):
            return [error(session_id, ErrorCode.NODE_OVERLOADED, TOO_FAST)]
        member.preferred_lang = preferred_lang
        return self.changed(room)

    def has_others(self, room_id: str, session_id: str) -> bool:
        """Whether somebody else than this session is in a room."""
        room = self._table.by_id.get(room_id)
        return room is not None and any(room.others(session_id))

    def spoke(self, session_id: str, now: float) -> None:
        """A session sent sound; its room lives on."""
        room = self._table.of.get(session_id)
        if room is not None:
            self._active(room, now)

    def pairs(self, session_id: str) -> list[tuple[str, str]]:
        """Language pairs that a room needs because this session is in it, (source, target), each once."""
        room = self._table.of.get(session_id)
        if room is None:
            return []
        me = room.members[session_id]
        sides = [side for other in room.others(session_id) for side in ((me, other), (other, me))]
        return list(
            dict.fromkeys(
                (normalize(speaker.speaks), normalize(listener.language))
                for speaker, listener in sides
                if listener.language and not listener.listens_in(speaker.speaks)
            )
        )

    def plan(self, session_id: str, src_lang: str, turn_id: str) -> Plan | None:
        """What the next utterance of a session is translated to; None outside rooms (6.4, resolution 21).

        `src_lang` is the concrete language of the speech where it is known. A turn keeps the languages it
        began with, for nodes keep slices back until it ends; the first one stays the first.
        """
        room = self._table.of.get(session_id)
        if room is None:
            return None
        speaker, source = room.members[session_id], normalize(src_lang)
        is_new = speaker.turn_id != turn_id
        if is_new:
            speaker.turn_id, speaker.turn_languages = turn_id, []
            speaker.turn_own = len(room.members) == 1
        if speaker.turn_own:
            return Plan(room.id, [], own=True)
        known = {normalize(language) for language in speaker.turn_languages}
        languages = speaker.turn_languages + [
            language for language in room.languages_for(session_id) if normalize(language) not in known
        ]
        speaker.turn_languages = [
            language for language in languages if source == AUTO or normalize(language) != source
        ]
        if is_new:
            speaker.turn_recognised = not speaker.turn_languages
        return Plan(room.id, speaker.turn_languages, own=False, recognised=speaker.turn_recognised)

    def deliver(
        self,
        room_id: str,
        language: str,
        result: TranslationResult,
        now: float,
        *,
        for_speaker: bool,
        next_index: int = 0,
    ) -> list[RoomOutput]:
        """A result for those who are in the room now and listen in its language (resolution 16).

        `session_id` of the result names the speaker. With `for_speaker` it gets the texts too; the sound only
        if it is alone, because its microphone is off while it plays. If it has left since, `next_index` is
        that of its session, which goes on with its own numbers.
        """
        speaker_id = result.session_id
        room = self._table.by_id.get(room_id)
        outputs: list[RoomOutput] = []
        if room is not None:
            self._active(room, now)
            outputs += self.hear(room, language, result)
            if self._sharing is not None:
                outputs += self._sharing.heard(room, language, result)
        if for_speaker and speaker_id in self._table.next_number:
            if room is None or list(room.members) != [speaker_id]:
                result = replace(result, tts_audio="")
            if speaker_id in self._table.of:
                return [*outputs, self._numbered(speaker_id, result)]
            self._table.next_number[speaker_id] = max(self._table.next_number[speaker_id], next_index)
            outputs.append(self._numbered(speaker_id, result))
            outputs.append(Renumber(speaker_id, self._table.next_number[speaker_id]))
        return outputs

    def hear(self, room: Room, language: str, result: TranslationResult) -> list[RoomOutput]:
        """A result for the members of this instance that listen in its language, but for the speaker."""
        return [
            self._numbered(member.session_id, result)
            for member in room.here
            if member.session_id != result.session_id and member.listens_in(language)
        ]

    def due(self) -> float | None:
        """When `tick` has something to do, monotonic s."""
        due = self._table.deadlines.due()
        return due if self._sharing is None else earliest(due, self._sharing.due())

    def tick(self, now: float) -> list[RoomOutput]:
        """Rooms in which nobody spoke for too long are gone."""
        outputs: list[RoomOutput] = [] if self._sharing is None else self._sharing.tick(now)
        while (room_id := self._table.deadlines.pop(now)) is not None:
            room = self._table.by_id[room_id]
            if self._sharing is not None:
                outputs += self._sharing.expired(room)
            outputs += self.expire(room)
        return outputs

    def expire(self, room: Room) -> list[RoomOutput]:
        """Nobody spoke in a room for too long; it is gone."""
        minutes = round(self.rules.idle_s / 60)
        outputs = room.tell_here(
            RoomExpired(room_code=room.code, message=f"Nobody spoke for {minutes} minutes")
        )
        for member in room.here:
            del self._table.of[member.session_id]
            outputs.append(Renumber(member.session_id, self._table.next_number[member.session_id]))
        self._table.close(room)
        return outputs

    def _create(self, guest: Guest, message: RoomCreate, now: float) -> list[RoomOutput]:
        if guest.is_gateway:
            return [error(guest.session_id, ErrorCode.UNSUPPORTED_FEATURE, "gateways have no rooms")]
        if not self._bucket(guest.session_id).take(now):
            return [error(guest.session_id, ErrorCode.NODE_OVERLOADED, TOO_FAST)]
        if len(self) >= self.rules.max_rooms:
            return [error(guest.session_id, ErrorCode.NODE_OVERLOADED, "there are too many rooms")]
        while (code := self._ids.room_code()) in self._table.by_code:
            pass
        if self._sharing is not None and self._sharing.up:
            return self._sharing.entrance.claim(guest, message, code, now)
        return self.open(self._ids.uuid(), code, guest, message, now)

    def open(
        self, room_id: str, code: str, guest: Guest, message: RoomCreate | RoomJoin, now: float
    ) -> list[RoomOutput]:
        """A new room with its first member."""
        outputs = self.leave(guest.session_id)
        room = Room(id=room_id, code=code, active_at=now)
        self._table.add(room)
        return outputs + self._enter(room, guest, message, now)

    def _join(self, guest: Guest, message: RoomJoin, now: float) -> list[RoomOutput]:
        code = message.room_code.strip()
        room = self._table.by_code.get(code)
        problem, sentence = None, ""
        if guest.is_gateway:
            problem, sentence = ErrorCode.UNSUPPORTED_FEATURE, "gateways have no rooms"
        elif len(code) != CODE_DIGITS or not (code.isascii() and code.isdecimal()):
            problem = ErrorCode.INVALID_ROOM_CODE
        elif room is not None and guest.session_id in room.members:
            problem = ErrorCode.ALREADY_IN_ROOM
        elif not self._wrong.allows(guest.origin, now):
            problem, sentence = ErrorCode.ROOM_NOT_FOUND, "too many wrong codes; wait a minute"
        elif self._sharing is not None and (room is None or room.owner != HERE):
            if not self._bucket(guest.session_id).take(now):
                return [error(guest.session_id, ErrorCode.NODE_OVERLOADED, TOO_FAST)]
            return self._sharing.entrance.seek(guest, message, code, now)
        elif room is None:
            self._wrong.add(guest.origin, now)
            problem = ErrorCode.ROOM_NOT_FOUND
        elif len(room.members) >= self.rules.max_members:
            problem = ErrorCode.ROOM_FULL
        elif not self._bucket(guest.session_id).take(now):
            problem, sentence = ErrorCode.NODE_OVERLOADED, TOO_FAST
        if problem is not None or room is None:
            return [error(guest.session_id, problem or ErrorCode.ROOM_NOT_FOUND, sentence)]
        return self.leave(guest.session_id) + self._enter(room, guest, message, now)

    def wrong_code(self, guest: Guest, now: float) -> list[RoomOutput]:
        """Nobody has a room of the code that was given."""
        self._wrong.add(guest.origin, now)
        return [error(guest.session_id, ErrorCode.ROOM_NOT_FOUND)]

    def _enter(
        self, room: Room, guest: Guest, message: RoomCreate | RoomJoin, now: float
    ) -> list[RoomOutput]:
        member = self.member(guest, message, rfc3339(self._clock.epoch_ms(now)))
        self._table.seat(room, member, guest.next_index)
        self._active(room, now)
        news = room.news()
        others = [] if news is None else room.tell_here(news, but=guest.session_id)
        return [*welcome(room, guest.session_id), *others, *self._shared(room)]

    def member(self, guest: Guest, message: RoomCreate | RoomJoin, joined_at: str) -> Member:
        """A session as a member."""
        return Member(
            session_id=guest.session_id,
            joined_at=joined_at,
            speaks=guest.speaks,
            hears=guest.hears,
            display_name=message.display_name,
            preferred_lang=message.preferred_lang,
            starts=Bucket(SPEAKING_BURST, SPEAKING_PER_S),
            keeps=guest.keeps,
        )

    def _prefer(self, session_id: str, message: RoomRawVoicePreference, now: float) -> list[RoomOutput]:
        room = self._room_of(session_id, message.room_code)
        if room is None:
            return [error(session_id, ErrorCode.ROOM_NOT_FOUND)]
        target, wanted = message.target_session_id, message.receive_raw_voice
        raw_voice = room.members[session_id].raw_voice
        if target not in room.members or raw_voice.get(target) is wanted:
            return []
        if not self._bucket(session_id).take(now):
            return [error(session_id, ErrorCode.NODE_OVERLOADED, TOO_FAST)]
        raw_voice[target] = wanted
        return self.changed(room)

    def _bucket(self, session_id: str) -> Bucket:
        """How often a session may do what all members are told of."""
        return self._changes.setdefault(session_id, Bucket(CHANGES_BURST, CHANGES_PER_S))

    def _room_of(self, session_id: str, code: str) -> Room | None:
        """The room of this code, if the session is in it."""
        room = self._table.of.get(session_id)
        return room if room is not None and room.code == code else None

    def _active(self, room: Room, now: float) -> None:
        self._table.active(room, now, self.rules.idle_s)

    def _numbered(self, session_id: str, result: TranslationResult) -> Tell:
        """Two speakers may have the same index, and clients show the text of each index only once (6.4)."""
        number = self._table.next_number[session_id]
        self._table.next_number[session_id] = number + 1
        return Tell(session_id, replace(result, utterance_index=number))
