"""Who is in which room and listens in which language, by what clients asked for; and what each is to hear.

The book watches the server and never asks its rooms who is where, but for the ids and codes of new ones.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from linguad.core.job import JobRequest
from linguad.wire import codec
from linguad.wire.language import normalize
from linguad.wire.room import RoomCreate, RoomExpired, RoomJoin, RoomLeave
from linguad.wire.session import SessionUpdate, TranslationResult

if TYPE_CHECKING:
    from .server import Server

ROUNDING_S = 1e-6

ROOM_FRAMES = ('{"type":"room_', '{"type":"session_update"')


class Company(Struct, frozen=True):
    """Where a member says something: its stay, unlike all others, and in which languages others listen."""

    stay: int
    languages: frozenset[str]


class Seat(Struct):
    """A member: what it hears outside rooms, and what it prefers to hear."""

    stay: int
    hears: str
    preferred: str | None

    @property
    def language(self) -> str:
        return normalize(self.preferred or self.hears)


class RoomBook:
    """Mutable: the seats of all rooms by id, and the jobs whose texts each session is to get."""

    def __init__(self, server: Server) -> None:
        self.due: dict[str, list[str]] = {}
        """By session the jobs made in rooms whose texts are for it, in order."""
        self.told: Counter[str] = Counter()
        """How often the text of a job left for a room."""
        self._server = server
        self._seats: dict[str, dict[str, Seat]] = {}
        self._codes: dict[str, str] = {}
        """By code the id of a room."""
        self._active_at: dict[str, float] = {}
        self._of: dict[str, str] = {}
        self._stays = 0

    def watch(self) -> None:
        """Be told what rooms send; once the server is there."""
        rooms = self._server.sessions.rooms
        deliver, tick = rooms.deliver, rooms.tick

        def watched_deliver(
            room_id: str, language: str, result: TranslationResult, now: float, **more: Any
        ) -> Any:
            self._leaves(room_id, language, result, for_speaker=more["for_speaker"])
            return deliver(room_id, language, result, now, **more)

        def watched_tick(now: float) -> Any:
            outputs = tick(now)
            for output in outputs:
                if isinstance(message := getattr(output, "message", None), RoomExpired):
                    self._expired(message.room_code)
            return outputs

        rooms.deliver, rooms.tick = watched_deliver, watched_tick

    def members(self, session_id: str) -> list[str]:
        """All who are in the room of a session, in the order in which they came; nobody if it is in none."""
        return list(self._present(self._of.get(session_id, "")))

    def company(self, session_id: str) -> Company | None:
        """The others in the room of a session as they are now; None if it is in none."""
        room_id = self._of.get(session_id)
        if room_id is None:
            return None
        seats = self._present(room_id)
        languages = frozenset(seat.language for member, seat in seats.items() if member != session_id)
        return Company(self._seats[room_id][session_id].stay, languages)

    def taken(self, session_id: str, frame: str) -> None:
        """The server has done what a client asked for."""
        if not frame.startswith(ROOM_FRAMES) or not self._is_here(session_id):
            return
        match codec.client_messages.decode(frame):
            case RoomCreate() as message:
                room = self._server.sessions.rooms.of(session_id)
                assert room is not None, f"{session_id} made a room and is in none"
                self._codes[room.code] = room.id
                self._enter(session_id, room.id, message.preferred_lang)
            case RoomJoin() as message:
                room_id = self._codes.get(message.room_code, "")
                seats = self._present(room_id)
                full = len(seats) >= self._server.settings.sessions.rooms.max_members
                if seats and session_id not in seats and not full:
                    self._enter(session_id, room_id, message.preferred_lang)
            case RoomLeave() as message:
                if self._codes.get(message.room_code) == self._of.get(session_id):
                    self._leave(session_id)
            case SessionUpdate(session_id=named) as message if named == session_id and named in self._of:
                seat = self._seats[self._of[session_id]][session_id]
                seat.hears = self._hears(session_id)
                if message.preferred_lang is not None:
                    seat.preferred = message.preferred_lang
        self._compare(session_id)

    def _enter(self, session_id: str, room_id: str, preferred: str | None) -> None:
        self._leave(session_id)
        self._stays += 1
        seat = Seat(self._stays, self._hears(session_id), preferred)
        self._seats.setdefault(room_id, {})[session_id] = seat
        self._of[session_id] = room_id
        self._active(room_id)

    def _leave(self, session_id: str) -> None:
        if (room_id := self._of.pop(session_id, None)) is not None:
            del self._seats[room_id][session_id]

    def _hears(self, session_id: str) -> str:
        entry = self._server.entry(session_id)
        assert entry is not None
        request: JobRequest = entry.session.request
        return (request.lang_a and request.lang_b) or request.tgt_lang

    def _is_here(self, session_id: str) -> bool:
        """Whether a session may have a seat: it goes on, and has a connection or may get one again."""
        entry = self._server.entry(session_id)
        if entry is None or entry.session.closed:
            return False
        return entry.connection is not None or entry.session.recovery is not None

    def _present(self, room_id: str) -> dict[str, Seat]:
        """The seats of those who are here; who is not has left for good."""
        seats = self._seats.get(room_id, {})
        return {session_id: seat for session_id, seat in seats.items() if self._is_here(session_id)}

    def _active(self, room_id: str) -> None:
        self._active_at[room_id] = self._server.process.now()

    def _leaves(self, room_id: str, language: str, result: TranslationResult, *, for_speaker: bool) -> None:
        """A text is sent to all it is for, now."""
        speaker, job_id = result.session_id, result.job_id
        self.told[job_id] += 1
        if seats := self._present(room_id):
            self._active(room_id)
        for session_id, seat in seats.items():
            if session_id != speaker and language and seat.language == normalize(language):
                self.due.setdefault(session_id, []).append(job_id)
        if for_speaker:
            self.due.setdefault(speaker, []).append(job_id)

    def _expired(self, code: str) -> None:
        room_id = self._codes.pop(code, None)
        if room_id is None:
            return
        quiet_s = self._server.process.now() - self._active_at[room_id]
        idle_s = self._server.settings.sessions.rooms.idle_s
        assert quiet_s >= idle_s - ROUNDING_S, f"room {code} expired after {quiet_s:.1f} s"
        for session_id in list(self._seats[room_id]):
            self._leave(session_id)

    def _compare(self, session_id: str) -> None:
        room = self._server.sessions.rooms.of(session_id)
        found = [] if room is None else list(room.members)
        expected = self.members(session_id)
        assert found == expected, f"the room of {session_id} has {found}, these came: {expected}"
