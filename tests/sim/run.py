"""One run: a seed in, a list of problems out."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from .checks import Inspector
from .client import Client
from .endings import all_answered, all_gone, farewell
from .gateway import Gateway
from .journal import listening
from .node import SimNode
from .resuming import ResumingClient
from .server import Server
from .spec import ClientSpec
from .story import TALK_S, Mishaps, Teller
from .world import World

AFTERMATH_S = 400.0
"""Long enough for every deadline, retry and grace after the last word."""

GOODBYE_S = 20.0
"""Longest way of what was said last when the server stops."""

PATIENCE_S = 60.0
"""For a run, which takes a tenth of a second."""

STANDSTILLS_S = (0.3, 1.5, 5.0, 12.0, 50.0, 70.0)


def run(seed: int, tell: Callable[[str], None] | None = None) -> list[str]:
    """Play the story of a seed to its end; returns what is wrong then. `tell` gets its event log.

    Raises AssertionError as soon as something happens that must not, and whatever linguad raises.
    """
    world = World(seed, tell)
    with listening(world), patience():
        return _play(world)


@contextmanager
def patience() -> Iterator[None]:
    """Raises AssertionError inside a loop without end, which would hide its seed."""

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"the run takes longer than {PATIENCE_S:.0f} s of a real clock")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _play(world: World) -> list[str]:
    story = Teller(world.random).story()
    world.say("story", f"{story.kind} {story.mishaps} {story.settings}")
    server = Server(world, story.settings)
    server.process.inspect(Inspector(server).look)
    nodes: list[SimNode] = []
    for spec in story.nodes:
        world.say(spec.name, f"{spec}")
        nodes.append(SimNode(world, server, spec))
    world.run(world.between(0.0, 8.0))
    parties = [_party(world, server, spec) for spec in story.clients]
    clients = [party for party in parties if isinstance(party, Client)]
    gateways = [party for party in parties if isinstance(party, Gateway)]
    calmed = world.now + TALK_S + 30.0
    _befall(world, server, story.mishaps, calmed)
    if story.stops_after_s is not None:
        world.run(story.stops_after_s)
        server.drain(story.drain_s)
        world.run(story.drain_s + GOODBYE_S)
        problems = list(farewell(server, clients))
    else:
        world.run(TALK_S + 30.0)
        nodes += [clone for node in nodes for clone in node.clones]
        for one in (*nodes, *parties):
            one.faulty = False
        world.run(AFTERMATH_S)
        problems = list(all_answered(server, nodes, clients, gateways, honest=story.honest))
    for party in parties:
        party.leave()
    clones = [clone for node in nodes for clone in node.clones]
    for node in (*nodes, *clones):
        node.retire()
    world.run(AFTERMATH_S)
    return problems + list(all_gone(server))


def _party(world: World, server: Server, spec: ClientSpec) -> Client | Gateway:
    if spec.gateway:
        return Gateway(world, server, spec)
    return ResumingClient(world, server, spec) if spec.resumes else Client(world, server, spec)


def _befall(world: World, server: Server, mishaps: Mishaps, until: float) -> None:
    """Let the mishaps of the daemon happen."""

    def going_on() -> bool:
        return world.now < until

    def set_clock() -> None:
        server.clock.offset_s += world.between(-1e5, 1e5)

    process, choice = server.process, world.random.choice
    world.again_and_again(
        mishaps.stands_still_every_s, lambda: process.stand_still(choice(STANDSTILLS_S)), going_on
    )
    world.again_and_again(mishaps.leaps_every_s, lambda: process.leap(choice(STANDSTILLS_S)), going_on)
    world.again_and_again(mishaps.clock_set_every_s, set_clock, going_on)
    world.again_and_again(mishaps.operator_every_s, lambda: server.operate(world.random), going_on)
