"""linguad without its sockets: the parts that `daemon.py` puts together, in a simulated process."""

from __future__ import annotations

from pathlib import Path
from random import Random

from msgspec import Struct

from linguad.core.clock import Clock
from linguad.core.dispatch import Dispatch
from linguad.core.fleet import Fleet
from linguad.core.rules import JobRules, NodeRules, SessionRules
from linguad.core.utterance import CutRules
from linguad.dispatch.engine import Engine
from linguad.errors import CloseReason
from linguad.net.outbox import Budget
from linguad.net.peer import TrustedProxies
from linguad.nodes.serve import Connection as NodeConnection
from linguad.nodes.serve import Nodes
from linguad.pools import NodeTable
from linguad.sessions.last import LastSessions
from linguad.sessions.limit import SessionLimit
from linguad.sessions.serve import Sessions
from linguad.wire.override import Override

from .accounts import Accounts
from .cable import LAG_S, Cable, Peer
from .link import LinkLimits, SimLink
from .process import Process
from .world import Names, World

REGISTER_TIMEOUT_S = 60.0


class Settings(Struct, frozen=True):
    """What an operator might have set, and some do not know better."""

    jobs: JobRules = JobRules()
    nodes: NodeRules = NodeRules()
    sessions: SessionRules = SessionRules(cut=CutRules(silence_packet_bytes=0))
    """No packet of a simulated client is dropped as silence, so that each can be looked for."""
    links: LinkLimits = LinkLimits()
    buffered_bytes: int = 1 << 30


class Share(Budget):
    """What one part takes of the whole, so that it can be compared with what that part holds."""

    __slots__ = ("_whole",)

    def __init__(self, whole: Budget) -> None:
        super().__init__(whole.limit)
        self._whole = whole

    @property
    def over(self) -> bool:
        return self._whole.over

    def take(self, size: int) -> None:
        super().take(size)
        self._whole.take(size)

    def give(self, size: int) -> None:
        super().give(size)
        self._whole.give(size)


class Server:
    """The real core, the real engine, the real handlers of both kinds of sockets."""

    def __init__(self, world: World, settings: Settings) -> None:
        self.process = Process(world)
        self.budget = Budget(settings.buffered_bytes)
        self.job_bytes, self.session_bytes, self.link_bytes = (Share(self.budget) for _ in range(3))
        self.links: list[SimLink] = []
        self.codes: list[str] = []
        """Pairing codes that nodes show on their screens."""
        self._node_connections: list[tuple[SimLink, NodeConnection]] = []
        self.clock = Clock(1.7e9)
        self.settings = settings
        self._world = world
        self._opened = 0
        names, now = Names(), self.process.now
        self.fleet = Fleet(settings.nodes, NodeTable(rng_seed=world.random.getrandbits(32)), names)
        self.dispatch = Dispatch(self.fleet, settings.jobs, names)
        self.engine = Engine(self.dispatch, self.job_bytes, now)
        self.accounts = Accounts(self.dispatch, self.engine, now)
        self.sessions = Sessions(
            self.accounts,
            settings.sessions,
            names,
            self.clock,
            1.0,
            self.session_bytes,
            SessionLimit(),
            TrustedProxies(),
            LastSessions(Path("/nowhere")),
            now,
        )
        self.nodes = Nodes(self.engine, REGISTER_TIMEOUT_S, self.clock)
        self.engine.connect(self.nodes, self.accounts)
        self.accounts.connect(self.sessions)
        self.process.keep(self.engine.due, self.engine.tick)
        self.process.keep(self.sessions.due, self.sessions.tick)
        self._scan()

    def connect_client(self, peer: Peer, lag_s: float = LAG_S) -> Cable:
        """A client opens a connection."""
        cable, link = self._connect("session", peer, lag_s)
        connection = self.sessions.connected(link)
        link.serve(
            lambda frame: self.sessions.take(connection, frame), lambda: self.sessions.lost(connection)
        )
        return cable

    def connect_node(self, peer: Peer, lag_s: float = LAG_S) -> Cable:
        """A node opens a connection."""
        cable, link = self._connect("node", peer, lag_s)
        connection = self.nodes.connected(link)
        link.serve(lambda frame: self.nodes.take(connection, frame), lambda: self.nodes.lost(connection))
        self.process.after(REGISTER_TIMEOUT_S, self._expect_registration, link, connection)
        known = [end for end in self._node_connections if not end[0].ended]
        self._node_connections = [*known, (link, connection)]
        return cable

    def registered(self) -> list[str]:
        """The node of each link that is not about to end."""
        ends = self._node_connections
        return [end.node_id for link, end in ends if end.node_id and link.closing is None]

    def operate(self, chance: Random) -> None:
        """An operator says something about a node."""
        node_ids = list(self.fleet.nodes)
        if node_ids:
            said = Override(
                cap=chance.choice([None, 1, 3, 6]),
                drain=chance.choice([None, None, True]),
                weight=chance.choice([None, 0.2, 5.0]),
            )
            node_id = chance.choice(node_ids)
            self._world.say("operator", f"{node_id} {said}")
            self.process.reach(self._override, node_id, said)

    def _connect(self, kind: str, peer: Peer, lag_s: float) -> tuple[Cable, SimLink]:
        self._opened += 1
        cable = Cable(self._world, peer, lag_s)
        name = f"{kind}-{self._opened}"
        address = f"192.0.2.{self._opened % 250}"
        link = SimLink(self.process, cable, name, address, self.settings.links, self.link_bytes)
        self.links = [link for link in self.links if link.queued_bytes or not link.ended] + [link]
        return cable, link

    def _expect_registration(self, link: SimLink, connection: NodeConnection) -> None:
        if not connection.node_id and not link.ended:
            link.close(CloseReason.REGISTRATION_TIMEOUT)

    def _override(self, node_id: str, said: Override) -> None:
        if node_id in self.fleet.nodes:
            self.engine.override(node_id, said)

    def _scan(self) -> None:
        self.engine.scan()
        self.process.after(self.settings.nodes.scan_interval_s, self._scan)
