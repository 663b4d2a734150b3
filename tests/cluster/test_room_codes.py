"""Codes of rooms in Redis (resolution 50)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from core.support import CountingIds
from instances import Instance, members
from links import until
from redis_server import RedisServer

from linguad.cluster import rooms as shared_rooms
from linguad.cluster.rooms import RoomMail
from linguad.core.clock import Clock
from linguad.core.room import Guest
from linguad.core.rooms import RoomRules, Rooms
from linguad.wire.room import RoomCreate

MANY = 1200
"""Rooms of one instance."""


async def test_all_rooms_are_held_when_redis_is_back(
    make_server: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_rooms, "RENEW_S", 10**6)
    server = make_server()
    a = Instance("a", server.url)
    now = trio.current_time()
    rooms = Rooms(RoomRules(), CountingIds(), Clock(1_769_932_800.0))
    sharing = rooms.share("a", 30.0, now)
    mail = RoomMail(a.cluster, sharing, lambda: rooms.rules.idle_s)
    mail.connect(lambda _outputs: None)
    async with members(a) as inside:
        inside.start_soon(mail.run)
        server.kill()
        await until(lambda: not a.cluster.up)
        for number in range(MANY):
            guest = Guest(session_id=str(number), origin="", speaks="en", hears="es", next_index=0)
            rooms.handle(guest, RoomCreate(client_ts=0), now)
        keys = [a.cluster.keys.of("room", code) for code, _, _ in sharing.owned]
        assert len(keys) == MANY
        server.start()
        await until(lambda: server.do("EXISTS", *keys) == MANY)
