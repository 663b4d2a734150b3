"""What a session's utterances become in a room (session-protocol 6.4, resolutions 16 and 21)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from core.support import CountingIds, request
from msgspec.structs import replace

from linguad.core.clock import Clock
from linguad.core.requests import Requests
from linguad.core.room_jobs import RECOGNITION_ONLY
from linguad.core.rooms import RoomRules, Rooms
from linguad.core.seat import Seat
from linguad.wire.common import ExtraResult
from linguad.wire.room import RoomCreate, RoomJoin

PAIR = {"src": "auto", "tgt": "ko", "mode": "two_way_auto", "lang_a": "en", "lang_b": "ko"}
"""Members of the requests of a session between two languages."""


class Table:
    """Sessions that share rooms."""

    def __init__(self) -> None:
        self.rooms = Rooms(RoomRules(), CountingIds(), Clock())

    def seat(self, name: str, **members: Any) -> Seat:
        shared = cast(Requests, SimpleNamespace(shared=request(session=name, **members)))
        return Seat(self.rooms, shared, "192.0.2.1", is_gateway=False)

    def together(self, *seats: Seat) -> None:
        first, *others = seats
        first.handle(RoomCreate(client_ts=0), 0, 0.0)
        for seat in others:
            seat.handle(RoomJoin(room_code="100001"), 0, 0.0)


def directions(seat: Seat, name: str, **members: Any) -> list[str]:
    """Source and target of each job of an utterance."""
    return [f"{job.src_lang}>{job.tgt_lang}" for job in seat.requests(request(session=name, **members))]


def test_outside_rooms_a_request_stays_as_it_is() -> None:
    asked = request(session="a")
    assert Table().seat("a").requests(asked) == [asked]


def test_two_way_session_hears_the_second_language_of_its_pair() -> None:
    table = Table()
    a, b = table.seat("a"), table.seat("b", **(PAIR | {"tgt": "?"}))
    table.together(a, b)
    assert directions(a, "a") == ["en>ko"]


def test_source_is_what_was_heard_last_and_changes_between_turns_only() -> None:
    table = Table()
    a, b = table.seat("a", **PAIR), table.seat("b", src="es", tgt="es")
    table.together(a, b)
    assert directions(a, "a", turn_id="one", **PAIR) == ["en>es"]
    a.heard(ExtraResult(detected_src_lang="ko"), request(), 0.0)
    a.heard(None, request(), 0.0)
    assert directions(a, "a", turn_id="one", **PAIR) == ["en>es"]
    assert directions(a, "a", turn_id="two", **PAIR) == ["ko>es"]
    assert table.rooms.pairs("b") == [("es", "ko"), ("ko", "es")]


def test_speech_from_before_a_change_of_languages_tells_nothing() -> None:
    table = Table()
    a, b = table.seat("a", **PAIR), table.seat("b", src="es", tgt="es")
    table.together(a, b)
    a.changed(None, "running", 5.0)
    a.heard(ExtraResult(detected_src_lang="ko"), replace(request(), cut_at=4.0), 6.0)
    a.heard(ExtraResult(detected_src_lang="ko"), replace(request(), cut_at=5.0), 6.0)
    a.heard(ExtraResult(detected_src_lang="ko"), replace(request(turn_id="running"), cut_at=6.0), 7.0)
    assert directions(a, "a", turn_id="one", **PAIR) == ["en>es"]
    a.heard(ExtraResult(detected_src_lang="ko"), replace(request(), cut_at=6.0), 7.0)
    assert directions(a, "a", turn_id="two", **PAIR) == ["ko>es"]


def test_what_was_heard_may_only_need_to_be_read() -> None:
    table = Table()
    a, b = table.seat("a", **PAIR), table.seat("b", src="es", tgt="es")
    table.together(a, b)
    a.heard(ExtraResult(detected_src_lang="es"), request(), 0.0)
    (job,) = a.requests(request(session="a", **PAIR))
    assert (job.src_lang, job.tgt_lang, job.pipeline) == ("es", "es", RECOGNITION_ONLY)


def test_others_wait_for_a_job_as_long_as_they_are_there() -> None:
    table = Table()
    a, b = table.seat("a"), table.seat("b")
    table.together(a, b)
    (job,) = a.requests(request(session="a"))
    assert a.has_company
    a.leave()
    assert not a.has_company
    assert a.others_wait_for(job)
    assert not a.others_wait_for(replace(job, room_id=""))
    b.leave()
    assert not a.others_wait_for(job)


def test_nobody_waits_for_who_is_alone() -> None:
    table = Table()
    a = table.seat("a")
    table.together(a)
    (job,) = a.requests(request(session="a"))
    assert not a.has_company
    assert not a.others_wait_for(job)
