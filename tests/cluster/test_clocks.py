"""Whatever expires in Redis expires by its clock: ours may be years wrong, and no script gets it."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from core.support import Desk
from instances import Instance, members
from links import until
from redis_server import RedisServer
from watching import watched

from linguad.cluster.directory import Directory
from linguad.cluster.limits import SharedLimits
from linguad.cluster.roster import Roster
from linguad.cluster.tickets import SharedTickets
from linguad.core.afar import Afar
from linguad.core.guests import Guests
from linguad.core.limits import Leases, Wish

WRONG_S = 2_000_000_000.0
"""What our clock says: the year 2033."""


def is_ours(word: str) -> bool:
    """Whether it is a time of our clock, in s, ms, us or ns."""
    try:
        number = float(word)
    except ValueError:
        return False
    return any(abs(number / unit - WRONG_S) < 1_000_000 for unit in (1, 1e3, 1e6, 1e9))


def share_a_node(one: Instance) -> Directory:
    """The directory of an instance that has a node."""
    desk = Desk()
    guests = Guests(desk.fleet, desk.dispatch.placement.rules, desk.dispatch.amnesty)
    place = one.cluster.place
    nobody: Any = SimpleNamespace()
    who = (place.me.instance, place.me.boot, desk.dispatch, Afar(desk.dispatch), guests)
    directory = Directory(one.cluster, Roster(*who, nobody, nobody, lambda *_: True, lambda: desk.now))
    one.cluster.when_up(directory.up)
    desk.node("n-1")
    return directory


async def test_no_script_gets_our_clock(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: WRONG_S)
    a, b = (Instance(name, server.url) for name in "ab")
    directory, limits = share_a_node(a), SharedLimits(a.cluster, Leases())
    key = a.cluster.keys.of("n", "n-1", "rec")
    with watched(server) as seen:
        async with members(a, b) as inside:
            inside.start_soon(directory.run)
            inside.start_soon(limits.run)
            assert a.send(b, "hello", expires_s=30)
            await until(lambda: b.got)
            wish = Wish(tenant="t", burst=10, per_second=5.0, sessions=1, most_sessions=3)
            verdict = await limits.ask(wish)
            assert verdict is not None
            tickets = SharedTickets(a.cluster.place)
            await tickets.put("ticket", b"for whom", 30)
            await until(lambda: server.do("EXISTS", key))
    assert {"EVALSHA", "SET", "HSET"} <= set(seen.names)
    assert [words for words in seen if any(map(is_ours, words[1:]))] == []
