"""A session's place among the rooms: what it asks of them, and what its utterances become there (6.4)."""

from __future__ import annotations

from math import inf

from linguad.core.job import JobRequest
from linguad.core.requests import Requests
from linguad.core.room import Guest, RoomOutput
from linguad.core.room_jobs import (
    language_heard,
    language_of_result,
    request_in_room,
    room_requests,
    source_in_room,
)
from linguad.core.rooms import RoomRequest, Rooms
from linguad.wire.common import ExtraResult
from linguad.wire.language import AUTO, normalize
from linguad.wire.resume import SeatRecord
from linguad.wire.session import TranslationResult


class Seat:
    """Mutable: the language it was heard to speak last, and that of its last turn.

    Also when its client chose other languages, and which turn kept the ones before.
    """

    def __init__(
        self, rooms: Rooms, requests: Requests, origin: str, is_gateway: bool, keeps: bool = False
    ) -> None:
        """`requests` knows what those of the session share; for `origin` its wrong codes are counted.

        With `keeps` its client can come back at another instance.
        """
        self._keeps = keeps
        self._rooms = rooms
        self._requests = requests
        self._origin = origin
        self._is_gateway = is_gateway
        self._heard = ""
        self._changed_at = -inf
        self._turn_before: str | None = None
        self._turn = "", ""

    @property
    def _common(self) -> JobRequest:
        return self._requests.shared

    @property
    def _id(self) -> str:
        return self._common.session_id

    @property
    def _speaks(self) -> str:
        return source_in_room(self._common, self._heard)

    @property
    def _hears(self) -> str:
        common = self._common
        return (common.lang_a and common.lang_b) or common.tgt_lang

    @property
    def trace_id(self) -> str:
        """That of the session."""
        return self._common.trace_id

    def handle(self, message: RoomRequest, next_index: int, now: float) -> list[RoomOutput]:
        """A request of the client; `next_index` is the lowest utterance index that it has not seen."""
        return self._rooms.handle(self._guest(next_index), message, now)

    def _guest(self, next_index: int) -> Guest:
        return Guest(
            session_id=self._id,
            origin=self._origin,
            speaks=self._speaks,
            hears=self._hears,
            next_index=next_index,
            is_gateway=self._is_gateway,
            keeps=self._keeps,
        )

    def spoke(self, now: float) -> None:
        """The client sent sound."""
        self._rooms.spoke(self._id, now)

    def heard(self, extra: ExtraResult | None, request: JobRequest, now: float) -> list[RoomOutput]:
        """A node told what it recognised; speech from before a change of languages tells nothing.

        What was held is cut by the change itself, at the same time.
        """
        if request.cut_at <= self._changed_at or request.turn_id == self._turn_before:
            return []
        language = language_heard(extra)
        if not language or language == self._heard:
            return []
        self._heard = language
        return self._rooms.change_languages(self._id, now, speaks=self._speaks, hears=self._hears)

    def changed(self, preferred_lang: str | None, running_turn: str | None, now: float) -> list[RoomOutput]:
        """The client speaks or hears another language from now on, or after the turn that is being spoken."""
        self._heard, self._changed_at, self._turn_before = "", now, running_turn
        return self._rooms.change_languages(
            self._id, now, speaks=self._speaks, hears=self._hears, preferred_lang=preferred_lang
        )

    def needed(self) -> list[JobRequest]:
        """A request for each pair of languages that is to be served, so that all who talk are understood."""
        common = self._common
        pairs = self._rooms.pairs(self._id)
        if self._rooms.of(self._id) is None:
            if not (common.lang_a and common.lang_b and normalize(common.src_lang) == AUTO):
                return [common]
            pairs = [(common.lang_a, common.lang_b), (common.lang_b, common.lang_a)]
        return [request_in_room(common, source, target) for source, target in pairs]

    def requests(self, request: JobRequest) -> list[JobRequest]:
        """The jobs an utterance needs: one outside rooms, and where all understand it.

        A turn keeps its source, because slices of one turn belong together at their node.
        """
        turn_id, source = self._turn
        if turn_id != request.turn_id:
            source = source_in_room(request, self._heard)
            self._turn = request.turn_id, source
        plan = self._rooms.plan(self._id, source, request.turn_id)
        return [request] if plan is None else room_requests(request, plan, source)

    def deliver(
        self, request: JobRequest, result: TranslationResult, next_index: int, now: float
    ) -> list[RoomOutput]:
        """A result of a job made in a room, for all it is for; `next_index` as in `handle`."""
        return self._rooms.deliver(
            request.room_id,
            language_of_result(request),
            result,
            now,
            for_speaker=request.for_speaker,
            next_index=next_index,
        )

    def others_wait_for(self, request: JobRequest) -> bool:
        """Whether somebody else may receive the result of a job."""
        return self._rooms.has_others(request.room_id, self._id)

    @property
    def stamp(self) -> tuple[object, ...]:
        """Changes when the record does."""
        room = self._rooms.of(self._id)
        return () if room is None else (room.id, room.owner, room.epoch, room.version)

    def record(self) -> SeatRecord | None:
        """What another instance has to know of it; None outside rooms."""
        return self._rooms.seat_record(self._id)

    def restore(self, seat: SeatRecord, now: float) -> list[RoomOutput]:
        """The session comes from another instance, where it had this seat."""
        return self._rooms.restore(self._guest(seat.next_number), seat, now)

    @property
    def has_company(self) -> bool:
        """Whether it is in a room with somebody else."""
        room = self._rooms.of(self._id)
        return room is not None and len(room.members) > 1

    def away(self, now: float) -> list[RoomOutput]:
        """The connection is lost, and the seat kept."""
        return self._rooms.away(self._id, now)

    def back(self) -> list[RoomOutput]:
        """There is a connection again."""
        return [*self._rooms.back(self._id)]

    def leave(self) -> list[RoomOutput]:
        """The session is in no room from now on."""
        return self._rooms.leave(self._id)
