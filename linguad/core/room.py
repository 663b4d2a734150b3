"""A room: who is in it, in which language each member listens, and who hears what (session-protocol 6)."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field

from linguad.core.bucket import Bucket
from linguad.errors import ErrorCode
from linguad.wire.language import AUTO, normalize
from linguad.wire.letters import Letter
from linguad.wire.room import RoomCreateAck, RoomError, RoomMember, RoomMembers
from linguad.wire.room_record import MemberRecord, RoomRecord
from linguad.wire.session import ServerMessage


class Tell(Struct, frozen=True):
    """Send a message to a session; an optional one may be dropped for a slow reader."""

    session_id: str
    message: ServerMessage
    optional: bool = False


class Renumber(Struct, frozen=True):
    """The session left a room; it numbers its next utterance this or higher, for lower ones were seen."""

    session_id: str
    next_index: int


class Post(Struct, frozen=True):
    """Send a letter to another instance."""

    instance: str
    letter: Letter
    lane: str


class Claim(Struct, frozen=True):
    """Ask Redis for a code; `Sharing.claimed` gets the answer."""

    session_id: str
    code: str
    room_id: str


class Seek(Struct, frozen=True):
    """Ask Redis who owns the room of a code; `Sharing.found` gets the answer."""

    session_id: str
    code: str


class TakeOver(Struct, frozen=True):
    """Ask Redis for a room whose owner is gone; `Sharing.taken` gets the answer."""

    code: str
    room_id: str
    former: str


class Release(Struct, frozen=True):
    """Tell Redis that a room is gone."""

    code: str
    room_id: str


RoomOutput = Tell | Renumber | Post | Claim | Seek | TakeOver | Release

HERE, AWAY = "", "?"
"""Homes of members and owners of rooms: this instance; none, for a while. All others are names."""


class Guest(Struct, frozen=True, kw_only=True):
    """What a session says of itself when it asks for something in a room."""

    session_id: str
    origin: str
    """Address whose wrong codes are counted together."""
    speaks: str
    """Language of its speech, `auto` if that is not known yet."""
    hears: str
    """Language it is translated to outside rooms: `tgt_lang`, of two-way sessions `lang_b`."""
    next_index: int
    """Lowest utterance index that its client has not seen."""
    is_gateway: bool = False
    keeps: bool = False
    """Whether its client can come back to another instance, so that its seat is kept meanwhile."""


class Member(Struct, kw_only=True, eq=False):
    """A session in a room; mutable: its languages, its preferences, whether it is known to speak."""

    session_id: str
    joined_at: str
    speaks: str
    hears: str
    home: str = HERE
    """The instance that has its session; only there the rest is the truth."""
    away_since: float = 0.0
    """When its home was lost, if it is away; monotonic s."""
    keeps: bool = False
    """Whether its seat is kept when its home is lost."""
    starts: Bucket
    """How often it may say that it began to speak."""
    display_name: str | None = None
    preferred_lang: str | None = None
    raw_voice: dict[str, bool] = field(default_factory=dict)
    """Whether it wants the raw voice of another member; yes if it did not say."""
    speaking: bool = False
    turn_id: str = ""
    turn_languages: list[str] = field(default_factory=list)
    """Languages that the last turn of its speech is translated to."""
    turn_own: bool = False
    """That turn began when nobody else was there."""
    turn_recognised: bool = False
    """That turn began when all understood it."""

    @property
    def language(self) -> str:
        """The language it listens in, "" if none is known (6.4)."""
        for code in (self.preferred_lang, self.hears):
            if code and normalize(code) not in ("", AUTO):
                return code
        return ""

    def record(self, me: str) -> MemberRecord:
        """For other instances; `me` is the name of this one."""
        home = {HERE: me, AWAY: ""}.get(self.home, self.home)
        return MemberRecord(
            session_id=self.session_id,
            home=home,
            joined_at=self.joined_at,
            speaks=self.speaks,
            hears=self.hears,
            display_name=self.display_name,
            preferred_lang=self.preferred_lang,
            raw_voice=dict(self.raw_voice),
            keeps=self.keeps,
        )

    def listens_in(self, language: str) -> bool:
        """Whether speech in this language is for this member."""
        return bool(language) and normalize(self.language) == normalize(language)


class Room(Struct, kw_only=True, eq=False):
    """A room with at least one member; mutable: its members in the order they joined, its last activity."""

    id: str
    code: str
    active_at: float
    """When somebody joined, spoke or got a result last, monotonic s."""
    members: dict[str, Member] = field(default_factory=dict)
    owner: str = HERE
    """The instance that says who is in; other ones have a copy."""
    epoch: int = 0
    version: int = 0
    heard: dict[str, int] = field(default_factory=dict)
    """The number of the last letter of each home, if this is the owner."""

    told: RoomMembers | None = None
    """What its members were told last of who is in."""

    @property
    def homes(self) -> set[str]:
        """Other instances with members."""
        return {member.home for member in self.members.values()} - {HERE, AWAY}

    @property
    def here(self) -> list[Member]:
        """The members of this instance."""
        return [member for member in self.members.values() if member.home == HERE]

    def record(self, me: str) -> RoomRecord:
        """For other instances; `me` is the name of this one."""
        return RoomRecord(
            id=self.id,
            code=self.code,
            owner={HERE: me, AWAY: ""}.get(self.owner, self.owner),
            epoch=self.epoch,
            version=self.version,
            members=[member.record(me) for member in self.members.values()],
        )

    def remove(self, session_id: str) -> None:
        """A member is not in it any more, and nobody has a wish about its voice."""
        del self.members[session_id]
        for member in self.members.values():
            member.raw_voice.pop(session_id, None)

    def others(self, session_id: str) -> Iterator[Member]:
        """All members but one."""
        return (member for member in self.members.values() if member.session_id != session_id)

    def languages_for(self, speaker_id: str) -> list[str]:
        """The languages in which the others listen, each once.

        The language of the speaker goes first if it is among them, the others in the order of joining.
        """
        found: dict[str, str] = {}
        for member in self.others(speaker_id):
            if member.language:
                found.setdefault(normalize(member.language), member.language)
        own = normalize(self.members[speaker_id].language)
        return sorted(found.values(), key=lambda language: normalize(language) != own)

    def listing(self) -> RoomMembers:
        """All members, as clients see them."""
        return RoomMembers(
            room_code=self.code,
            members=[
                RoomMember(
                    participant_id=member.session_id,
                    session_id=member.session_id,
                    display_name=member.display_name,
                    preferred_lang=member.preferred_lang,
                    raw_voice_preferences=dict(member.raw_voice),
                    joined_at=member.joined_at,
                )
                for member in self.members.values()
            ],
        )

    def tell_all(self, message: ServerMessage, but: str = "") -> list[Tell]:
        """The same message for all members, or all but one."""
        return [Tell(member.session_id, message) for member in self.others(but)]

    def news(self) -> RoomMembers | None:
        """All members as clients see them, if they were told something else before."""
        listing = self.listing()
        if listing == self.told:
            return None
        self.told = listing
        return listing

    def tell_here(self, message: ServerMessage, but: str = "") -> list[RoomOutput]:
        """The same message for the members of this instance, or all but one."""
        return [Tell(member.session_id, message) for member in self.here if member.session_id != but]


def welcome(room: Room, session_id: str) -> list[Tell]:
    """You are in this room, with these: the acknowledgement is what opens the room in web clients (6.3)."""
    return [
        Tell(session_id, RoomCreateAck(room_code=room.code, room_id=room.id)),
        Tell(session_id, room.listing()),
    ]


def error(session_id: str, code: ErrorCode, sentence: str = "") -> Tell:
    """Why a request about rooms had no effect."""
    return Tell(session_id, RoomError(code=code, message=sentence or code.hint[0]))
