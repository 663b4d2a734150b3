"""One run with several instances: a seed in, a list of problems out.

Nodes connect to any instance, clients stay with theirs. What is checked of each instance that lives to the
end is what is checked of one alone; of those that die their clients are not asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import NamedTuple

from .between import Between, Troubles
from .cable import LAG_S, Cable, Peer
from .checks import Inspector
from .client import Client
from .endings import all_answered, all_gone
from .journal import listening
from .node import SimNode
from .resuming import ResumingClient
from .run import AFTERMATH_S, patience
from .server import Server
from .story import TALK_S, Kind, Teller
from .world import World


class Latest(NamedTuple):
    """As much of the accounts of some instance as a node can know."""

    latest_job: str


class Entrance:
    """Where nodes connect: to any instance that lives, another one each time."""

    def __init__(self, world: World) -> None:
        self.servers: list[Server] = []
        self.codes: list[str] = []
        self._world = world

    @property
    def living(self) -> list[Server]:
        """Instances whose processes run."""
        return [server for server in self.servers if not server.process.dead]

    @property
    def accounts(self) -> Latest:
        """Of some instance."""
        return Latest(self._world.random.choice(self.servers).accounts.latest_job)

    def connect_node(self, peer: Peer, lag_s: float = LAG_S) -> Cable:
        """A node opens a connection."""
        living = self.living
        if not living:
            return Cable.refused(self._world, peer)
        return self._world.random.choice(living).connect_node(peer, lag_s)


class Several:
    """The cast of a run, and what befalls it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = random = world.random
        teller = Teller(random)
        kinds: tuple[Kind, ...] = ("calm", "frail", "rough")
        [self.kind] = random.choices(kinds, (30, 30, 40))
        self.troubles = _troubles(random)
        world.say("story", f"{self.kind} {self.troubles}")
        self.entrance = Entrance(world)
        self.between = Between(world, self.troubles)
        self._settings = teller.settings(self.kind)
        self.clients: list[Client] = []
        self._of: dict[Client, Server] = {}
        for name in "abc"[: random.randint(2, 3)]:
            self._start(name)
        self.nodes = [
            SimNode(world, self.entrance, teller.node(self.kind, f"n{number}"))  # type: ignore[arg-type]
            for number in range(random.randint(1, 7))
        ]
        world.run(world.between(0.0, 8.0))
        for _ in range(random.randint(1, 5)):
            self._talk(teller, random.choice(self.entrance.living))
        world.again_and_again(self.troubles.kills_every_s, self._kill, self._going_on)

    def play(self) -> list[str]:
        """To its end; returns what is wrong then."""
        world, problems = self._world, []
        world.run(TALK_S + 30.0)
        self.between.quiet = True
        nodes = [*self.nodes, *(clone for node in self.nodes for clone in node.clones)]
        for one in (*nodes, *self.clients):
            one.faulty = False
        world.run(AFTERMATH_S)
        for server in self.entrance.living:
            clients = [client for client in self.clients if self._of[client] is server]
            found = all_answered(server, nodes, clients, [], honest=self.kind != "rough")
            problems += [f"{server.name}: {problem}" for problem in found]
            problems += [f"{server.name}: {problem}" for problem in self._roster(server)]
        for client in self.clients:
            client.leave()
        for node in self.nodes:
            for one in (node, *node.clones):
                one.retire()
        world.run(AFTERMATH_S)
        for server in self.entrance.living:
            problems += [f"{server.name}: {problem}" for problem in all_gone(server)]
        return problems

    def _roster(self, server: Server) -> list[str]:
        """Every node that an instance has is known to all others as its own."""
        here = {node.id for node in server.fleet.nodes.values() if node.online and not node.owner}
        problems = []
        for other in self.entrance.living:
            if other is not server:
                known = {node.id for node in other.fleet.of_owner(server.name)}
                if known != here:
                    problems.append(f"it has the nodes {here}, {other.name} takes {known} for its own")
        return problems

    def _start(self, name: str) -> None:
        server = Server(self._world, self._settings, self.between, name)
        server.process.inspect(Inspector(server).look)
        self.entrance.servers.append(server)

    def _talk(self, teller: Teller, server: Server) -> None:
        spec = replace(teller.client(self.kind), gateway=False, visits=False, pairs=False)
        make = ResumingClient if spec.resumes else Client
        client = make(self._world, server, spec)
        self._of[client] = server
        self.clients.append(client)

    def _kill(self) -> None:
        living = self.entrance.living
        if len(living) > 1:
            server = self._random.choice(living)
            server.kill()
            self._world.after(self._random.choice([0.1, 3.0, 30.0]), self._start, server.name)

    def _going_on(self) -> bool:
        return not self.between.quiet


def run(seed: int, tell: Callable[[str], None] | None = None) -> list[str]:
    """Play the story of a seed to its end; as `run.run`."""
    world = World(seed, tell)
    with listening(world), patience():
        return Several(world).play()


def _troubles(random: Random) -> Troubles:
    def maybe(value: float, chance: float) -> float:
        return value if random.random() < chance else 0.0

    return Troubles(
        lag_s=random.choice([0.002, 0.02, 0.5]),
        repeats=maybe(0.1, 0.3),
        cut_off_every_s=maybe(30.0, 0.4),
        fails_every_s=maybe(40.0, 0.3),
        forgets=random.choice([0.0, 0.5]),
        kills_every_s=maybe(30.0, 0.4),
    )
