"""What a node's next record takes over from the one before."""

from __future__ import annotations

from core.support import Desk

from linguad.core.fleet import Fleet
from linguad.core.health import Status
from linguad.core.job import AttemptEnd
from linguad.core.key import Key
from linguad.core.memory import MAX_REMEMBERED, MAX_SPEEDS, NOTHING, Memory, Remembered
from linguad.core.rules import NodeRules
from linguad.core.services import CORE_SERVICES
from linguad.wire.override import Override

PAIR = Key("en", "es", CORE_SERVICES)


def forget(desk: Desk, node_id: str) -> None:
    """The node is gone for so long that its record goes."""
    desk.lose(node_id)
    desk.fleet.nodes[node_id].last_heartbeat_at = desk.now - 1e6
    desk.fleet.scan(desk.now)
    assert node_id not in desk.fleet.nodes


def handed_over(fleet: Fleet, **rules: object) -> Desk:
    """A desk of a new process that knows what this fleet remembers."""
    desk = Desk(NodeRules(**rules))
    desk.fleet.memory.restore({node_id: fleet.remembered(node_id) for node_id in fleet.by_last_sight()})
    return desk


def test_nothing_is_kept_of_a_node_that_did_nothing() -> None:
    desk = Desk()
    desk.node("a")
    assert desk.fleet.remembered("a") == desk.fleet.remembered("unknown") == NOTHING
    forget(desk, "a")
    assert list(desk.fleet.memory) == []


def test_drained_node_stays_so_when_it_comes_back_much_later() -> None:
    desk = Desk()
    desk.node("a")
    desk.dispatch.override("a", Override(drain=True, note="broken fan"), desk.now)
    forget(desk, "a")
    desk.node("a")
    assert desk.fleet.nodes["a"].status is Status.DRAINING
    assert desk.fleet.nodes["a"].override.note == "broken fan"
    assert list(desk.fleet.memory) == []


def test_cap_said_over_http_goes_before_the_settings_and_these_before_the_node() -> None:
    configured = {"a": Override(cap=2, weight=3.0)}
    desk = Desk(NodeRules(overrides=configured))
    desk.node("a", cap=9)
    node = desk.fleet.nodes["a"]
    assert (node.cap, node.weight) == (2, 3.0)
    desk.dispatch.override("a", Override(cap=5), desk.now)
    assert (node.cap, node.weight) == (5, 3.0)
    after = handed_over(desk.fleet, overrides=configured)
    after.node("a", cap=9)
    assert (after.fleet.nodes["a"].cap, after.fleet.table.cap(0)) == (5, 5)
    after.dispatch.override("a", Override(), after.now)
    assert after.fleet.nodes["a"].cap == 2


def test_operator_can_undrain_what_the_settings_drain() -> None:
    desk = Desk(NodeRules(overrides={"a": Override(drain=True)}))
    desk.node("a")
    assert desk.fleet.nodes["a"].status is Status.DRAINING
    desk.dispatch.override("a", Override(drain=False), desk.now)
    assert desk.fleet.nodes["a"].status is Status.READY


def test_quarantine_outlives_the_process() -> None:
    before = Desk()
    before.node("a")
    health = before.fleet.nodes["a"].health
    health.on_probation, health.failed_probations, health.quarantined_until = True, 2, before.now + 60
    after = handed_over(before.fleet)
    after.node("a")
    node = after.fleet.nodes["a"]
    assert (node.status, node.slots, node.health.failed_probations) == (Status.DEGRADED, 1, 2)
    after.wait(61)
    after.beat("a")
    assert (node.status, node.slots) == (Status.READY, 1)


def test_learned_speed_outlives_the_process() -> None:
    before = Desk()
    before.node("a")
    attempt = before.submit(seconds=8.0).attempts[0]
    before.answer(attempt, processing_time_ms=2000)
    assert attempt.end is AttemptEnd.OK
    assert before.fleet.remembered("a").speeds == ((PAIR, 4.0),)
    after = handed_over(before.fleet)
    after.node("a")
    after.submit()
    assert after.fleet.index_keys("a", 9) == [(PAIR, 4.0, 0)]
    assert after.fleet.speeds.deadline_s("a", PAIR) is None


def test_only_the_keys_used_last_are_kept() -> None:
    desk = Desk()
    desk.node("a")
    for number in range(MAX_SPEEDS + 2):
        desk.fleet.speeds.learn("a", Key(f"l{number}", "es", CORE_SERVICES), 1.0, 1.0, 1.0)
    desk.fleet.speeds.learn("a", Key("l0", "es", CORE_SERVICES), 1.0, 1.0, 1.0)
    kept = [key.src for key, _ in desk.fleet.remembered("a").speeds]
    assert (len(kept), kept[0], kept[-1]) == (MAX_SPEEDS, "l3", "l0")


def test_forgotten_speeds_leave_nothing_behind() -> None:
    desk = Desk()
    desk.node("a")
    desk.answer(desk.submit().attempts[0], processing_time_ms=500)
    forget(desk, "a")
    assert desk.fleet.speeds.table("a") == {}
    assert desk.fleet.speeds.of("b", PAIR) == 1.0


def test_the_longest_gone_is_forgotten_first() -> None:
    memory, drained = Memory(), Remembered(said=Override(drain=True))
    for number in range(MAX_REMEMBERED):
        memory.keep(f"n{number}", drained)
    memory.keep("n0", drained)
    memory.keep("new", drained)
    assert memory["n0"] == memory["new"] == drained
    assert memory["n1"] == NOTHING
    assert len(list(memory)) == MAX_REMEMBERED


def test_order_of_last_sight() -> None:
    desk = Desk()
    for node_id in ("here", "gone", "long gone"):
        desk.node(node_id)
        desk.dispatch.override(node_id, Override(cap=3), desk.now)
    forget(desk, "long gone")
    desk.lose("gone")
    assert desk.fleet.by_last_sight() == ["long gone", "gone", "here"]


def test_page_of_a_node_in_many_large_keys() -> None:
    desk = Desk()
    for number in range(101):
        desk.node(f"n{number}", *(f"l{code}" for code in range(12)))
    for src in range(12):
        for tgt in range(12):
            desk.fleet.serves(Key(f"l{src}", f"l{tgt}", CORE_SERVICES))
    keys = desk.fleet.index_keys("n0", 200)
    assert len(keys) == 132
    found = [row for row in desk.fleet.explain(keys[0][0], 0, 1.0) if row["node_id"] == "n0"]
    assert {pool for _, _, pool in keys} == {row["pool"] for row in found}
    assert len(desk.fleet.index_keys("n0", 5)) == 5
