"""Who is there, new, gone, draining."""

from __future__ import annotations

from msgspec.structs import replace

from linguad.core.peers import PeerTable
from linguad.wire.peer import Peer

A, B = Peer(instance="a", boot="1"), Peer(instance="b", boot="1")
PATIENCE_S = 10.0


def seeing() -> PeerTable:
    """A table that has had its time to see everybody."""
    table = PeerTable(PATIENCE_S)
    table.sighted(-PATIENCE_S)
    return table


def told(table: PeerTable, now: float, *peers: Peer) -> list[str]:
    return [f"{what} {peer.instance}" for what, peer in table.seen({p.instance: p for p in peers}, now)]


def test_they_come_and_go() -> None:
    table = seeing()
    assert told(table, 0, A) == ["new a"]
    assert told(table, 1, A, B) == ["new b"]
    assert told(table, 2, B) == ["gone a"]
    assert told(table, 3, A, B) == ["new a"]
    assert set(table.alive) == {"a", "b"}


def test_another_process_of_the_name_is_another() -> None:
    table = seeing()
    told(table, 0, A)
    assert told(table, 1, replace(A, boot="2")) == ["gone a", "new a"]
    assert told(table, 2, replace(A, boot="2", nodes=5)) == []
    assert table.alive["a"].nodes == 5


def test_one_that_drains_is_told_once() -> None:
    table = seeing()
    told(table, 0, A)
    draining = replace(A, draining=True)
    assert told(table, 1, draining) == ["draining a"]
    assert told(table, 2, draining) == []
    assert told(table, 3, replace(draining, boot="2")) == ["gone a", "new a", "draining a"]


def test_while_nobody_can_tell_nobody_is_gone() -> None:
    table = seeing()
    told(table, 0, A, B)
    table.blind()
    assert told(table, 5) == []
    table.sighted(20)
    table.sighted(25)  # only the first counts
    assert told(table, 29.9, A) == []
    assert told(table, 30, A) == ["gone b"]


def test_a_new_table_waits_before_it_trusts_what_is_missing() -> None:
    table = PeerTable(PATIENCE_S)
    assert not table.trusts(1e9)
    table.sighted(1)
    assert not table.trusts(10.9)
    assert table.trusts(11)
