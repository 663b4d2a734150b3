"""One run: a seed in, a list of problems out."""

from __future__ import annotations

from collections.abc import Callable

from linguad.core.rules import JobRules, NodeRules
from linguad.core.session import SessionRules

from .checks import problems
from .client import SimClient
from .node import SimNode
from .server import Server
from .story import TALK_S, draw
from .world import World

AFTERMATH_S = 400.0
"""Long enough for every deadline, retry and grace after the last word."""


def run(seed: int, tell: Callable[[str], None] | None = None) -> list[str]:
    """Play the story of a seed to its end; returns what went wrong. `tell` gets its event log."""
    world = World(seed, tell)
    story = draw(world.random)
    server = Server(world, NodeRules(), JobRules(), SessionRules())
    nodes: list[SimNode] = []
    for spec in story.nodes:
        world.say(
            spec.name,
            f"{spec.generation} {'/'.join(spec.codes)} cap {spec.cap} speed {spec.speed:.2f} {spec.faults}",
        )
        nodes.append(SimNode(world, server, spec))
    world.run(world.between(0.0, 8.0))
    clients = [SimClient(world, server, spec) for spec in story.clients]
    world.run(TALK_S + 30.0)
    for node in nodes:
        node.faulty = False
    world.run(AFTERMATH_S)
    return problems(server, nodes, clients, calm=story.calm)
