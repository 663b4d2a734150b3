"""What one instance has to tell another at once: one step after another, in the time of the simulation."""

from __future__ import annotations

import pytest
from sim.accounts import Account
from sim.between import GATHER_S, Between, Troubles
from sim.client import Client
from sim.node import NodeSpec, SimNode
from sim.server import Server
from sim.several import run
from sim.spec import ClientSpec
from sim.story import Settings
from sim.worker import JobFaults
from sim.world import World

from linguad.core.dispatch import Dispatch
from linguad.core.job import AttemptEnd

SOON_S = 0.1
"""Much less than what repairs by itself what was not told takes."""


class Pair:
    """Nodes on the first instance that answer nothing, and a client on the second."""

    def __init__(self, nodes: int) -> None:
        self.world = World(1)
        self.between = Between(self.world, Troubles())
        self.a, self.b = (Server(self.world, Settings(), self.between, name) for name in "ab")
        faults = JobFaults(mute=1.0)
        specs = [NodeSpec(f"n{number}", ("en", "es"), cap=1, job_faults=faults) for number in range(nodes)]
        self.nodes = [SimNode(self.world, self.a, spec) for spec in specs]
        self.world.run(10.0)
        self.client = Client(self.world, self.b, ClientSpec("en", "es", streams=False))

    def first_job(self) -> Account:
        """The first job of the client, a moment after a node got it."""
        while not (accounts := list(self.b.accounts.open.values())):
            self.world.run(SOON_S)
        self.world.run(SOON_S)
        return accounts[0]

    def worker_of(self, node_id: str) -> SimNode:
        """The node of this id."""
        return next(node for node in self.nodes if node._worker.node_id == node_id)

    def guests(self) -> int:
        """Jobs of the second instance on nodes of the first."""
        assert self.a.member is not None
        return len(self.a.member.guests)


def test_a_lost_node_is_told_at_once() -> None:
    pair = Pair(nodes=2)
    job = pair.first_job().job
    (attempt,) = job.attempts
    assert attempt.owner == "a"
    pair.worker_of(attempt.node_id)._die()
    while pair.a.fleet.nodes[attempt.node_id].online:
        pair.world.run(0.001)
    pair.world.run(GATHER_S / 2)
    assert pair.b.fleet.nodes[attempt.node_id].online, "the directory does not say it yet"
    first, second = job.attempts
    assert (first.end, second.open) == (AttemptEnd.NODE_LOST, True)
    assert second.node_id != first.node_id


def test_an_interruption_ends_what_is_under_way_on_both_sides() -> None:
    pair = Pair(nodes=1)
    job = pair.first_job().job
    (attempt,) = job.attempts
    assert pair.guests() == pair.a.fleet.slots_used(attempt.node_id) == 1
    member = pair.a.member
    assert member is not None
    member.cut = True
    member.notice()
    pair.world.run(SOON_S)
    assert pair.guests() == pair.a.fleet.slots_used(attempt.node_id) == 0
    assert attempt.wire_job_id in pair.worker_of(attempt.node_id)._worker.cancelled


def test_who_is_cut_off_sends_elsewhere_what_he_asked_for() -> None:
    pair = Pair(nodes=1)
    job = pair.first_job().job
    member = pair.b.member
    assert member is not None
    SimNode(pair.world, pair.b, NodeSpec("near", ("en", "es")))
    pair.world.run(4.0)
    assert job.attempts[-1].owner == "a"
    member.cut = True
    member.notice()
    pair.world.run(SOON_S)
    assert [attempt.owner for attempt in job.attempts] == ["a", ""]


def test_what_a_guest_gives_back_is_offered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dispatch, "freed", lambda *_: [])
    with pytest.raises(AssertionError, match="waits, though a node is free"):
        run(27)
