"""A room: who is in it, in which language each member listens, and who hears what (session-protocol 6)."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field

from linguad.core.bucket import Bucket
from linguad.wire.language import AUTO, normalize
from linguad.wire.room import RoomMember, RoomMembers
from linguad.wire.session import ServerMessage


class Tell(Struct, frozen=True):
    """Send a message to a session; an optional one may be dropped for a slow reader."""

    session_id: str
    message: ServerMessage
    optional: bool = False


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


class Member(Struct, kw_only=True, eq=False):
    """A session in a room; mutable: its languages, its preferences, whether it is known to speak."""

    session_id: str
    joined_at: str
    speaks: str
    hears: str
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
