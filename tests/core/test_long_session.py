"""What a session keeps, and how often it keeps it (session-protocol 10, D38 and D39)."""

from __future__ import annotations

import gc
from types import FunctionType, ModuleType
from typing import Any

from core.support import CountingIds, plan_a
from core.talk import EVERY_PIECE, Talk, b64

from linguad.core.clock import Clock
from linguad.core.outputs import Submit
from linguad.core.rooms import RoomRules, Rooms
from linguad.core.rules import SessionRules
from linguad.core.session import Session
from linguad.wire.room import RoomCreate, RoomJoin
from linguad.wire.session import AudioChunk, SessionInit


def reachable(root: Any) -> int:
    """So many objects belong to it."""
    seen, left = {id(root)}, [root]
    while left:
        for found in gc.get_referents(left.pop()):
            if id(found) not in seen and not isinstance(found, type | ModuleType | FunctionType):
                seen.add(id(found))
                left.append(found)
    return len(seen)


def test_what_a_session_keeps_does_not_grow() -> None:
    """Neither does what its end has to look at: nothing counts from utterance 0."""
    talk, kept = Talk(), list[int]()
    for _ in range(3):
        for _ in range(500):
            talk.chunk(plan_a(25), final=True)
            [index] = talk.jobs
            talk.resolve(index)
            talk.jobs.clear()
            talk.wait(5)
        kept.append(reachable(talk.session))
    assert kept[1] == kept[2]
    assert talk.session.next_index == 1500


def test_sound_is_encoded_once_for_all_languages() -> None:
    ids, clock = CountingIds(), Clock()
    rules, rooms = SessionRules(cut=EVERY_PIECE), Rooms(RoomRules(), ids, clock)
    speaker, *others = [
        Session(
            f"s-{tgt}",
            SessionInit(client_version="1", platform="web", src_lang="en", tgt_lang=tgt),
            rules,
            ids,
            clock,
            rooms=rooms,
        )
        for tgt in ("en", "es", "fr", "zh")
    ]
    speaker.handle(RoomCreate(client_ts=0), 0.0)
    room = rooms.of(speaker.id)
    assert room is not None
    for session in others:
        session.handle(RoomJoin(room_code=room.code), 0.0)
    message = AudioChunk(session_id=speaker.id, seq=1, is_final=True, payload=b64(plan_a(50)))
    submitted = [output for output in speaker.handle(message, 1.0) if isinstance(output, Submit)]
    assert sorted(output.request.tgt_lang for output in submitted) == ["es", "fr", "zh"]
    assert len({id(output.audio.base64) for output in submitted}) == 1
    assert submitted[0].audio.base64 == b64(plan_a(50))
