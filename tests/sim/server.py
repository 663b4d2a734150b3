"""linguad without its sockets: the parts that `daemon.py` puts together, in a simulated process."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from math import inf
from pathlib import Path
from random import Random

from msgspec import Struct

from linguad.core.clock import Clock
from linguad.core.dispatch import Dispatch
from linguad.core.fleet import Fleet
from linguad.core.metering import Metering
from linguad.core.rules import JobRules, NodeRules, SessionRules
from linguad.core.session import Session
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
from linguad.sessions.registry import Entry
from linguad.sessions.serve import Sessions
from linguad.wire.override import Override

from .accounts import Accounts
from .between import Between, Member
from .cable import LAG_S, Cable, Peer
from .link import LinkLimits, SimLink
from .process import Process
from .roombook import RoomBook
from .till import Till
from .world import Names, World

REGISTER_TIMEOUT_S = 60.0

IDLE_LOOK_S = 0.05
"""How often it is looked whether all jobs are done when it stops; the daemon is told."""


class Settings(Struct, frozen=True):
    """What an operator might have set, and some do not know better."""

    jobs: JobRules = JobRules()
    nodes: NodeRules = NodeRules()
    sessions: SessionRules = SessionRules(cut=CutRules(silence_packet_bytes=0), gateway_detach_grace_s=90.0)
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


class Memo(LastSessions):
    """What the daemon would write to a file when it stops."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"))
        self.saved: dict[str, int] = {}
        """By session the number of its last result."""

    async def save(self, sessions: Iterable[Session], epoch_s: float) -> None:
        self.saved = {one.id: one.recovery.delivery for one in sessions if one.recovery is not None}


class Server:
    """The real core, the real engine, the real handlers of both kinds of sockets."""

    def __init__(
        self, world: World, settings: Settings, between: Between | None = None, name: str = ""
    ) -> None:
        """With `between` it is one of several instances, of this name."""
        self.name = name
        self.process = Process(world)
        self.budget = Budget(settings.buffered_bytes)
        self.job_bytes, self.session_bytes, self.link_bytes = (Share(self.budget) for _ in range(3))
        self.links: list[SimLink] = []
        self.codes: list[str] = []
        """Pairing codes that nodes show on their screens."""
        self.room_codes: list[str] = []
        """Codes of rooms that people tell each other."""
        self.stopping = False
        """It takes no more connections."""
        self.drained_at = self.stopped_at = inf
        """When it cut what was buffered, and when it said goodbye; world time."""
        self.last_jobs = 0
        """How many jobs there had been then; who made more learns nothing of them."""
        self.farewells: dict[str, Cable] = {}
        """Sessions that were attached then, and on which connection."""
        self._node_connections: list[tuple[SimLink, NodeConnection]] = []
        self.clock = Clock(1.7e9)
        self.settings = settings
        self._world = world
        self._opened = 0
        names, now = Names(1 if between is None else between.first_number()), self.process.now
        self.fleet = Fleet(settings.nodes, NodeTable(rng_seed=world.random.getrandbits(32)), names)
        self.dispatch = Dispatch(self.fleet, settings.jobs, names)
        self.engine = Engine(self.dispatch, self.job_bytes, now)
        self.till = Till()
        self.engine.keep_books(Metering(self.clock), self.till)
        self.book = RoomBook(self)
        self.accounts = Accounts(self.dispatch, self.engine, now, self.book.company, self._is_away)
        self.memo = Memo()
        self.sessions = Sessions(
            self.accounts,
            settings.sessions,
            names,
            self.clock,
            1.0,
            self.session_bytes,
            SessionLimit(),
            TrustedProxies(),
            self.memo,
            now,
        )
        self.book.watch()
        self.nodes = Nodes(self.engine, REGISTER_TIMEOUT_S, self.clock)
        self.engine.connect(self.nodes, self.accounts)
        self.member = None if between is None else Member(self, between)
        self.accounts.connect(self.sessions)
        self.process.keep(self.engine.due, self.engine.tick)
        self.process.keep(self.sessions.due, self.sessions.tick)
        self._scan()

    def connect_client(self, peer: Peer, lag_s: float = LAG_S) -> Cable:
        """A client opens a connection."""
        if self.stopping:
            return Cable.refused(self._world, peer)
        cable, link = self._connect("session", peer, lag_s)
        connection = self.sessions.connected(link)

        def take(frame: str) -> None:
            speaker = connection.session
            self.sessions.take(connection, frame)
            if speaker is not None:
                self.book.taken(speaker.id, frame)

        link.serve(take, lambda: self.sessions.lost(connection))
        return cable

    def connect_node(self, peer: Peer, lag_s: float = LAG_S) -> Cable:
        """A node opens a connection."""
        if self.stopping:
            return Cable.refused(self._world, peer)
        cable, link = self._connect("node", peer, lag_s)
        connection = self.nodes.connected(link)
        link.serve(lambda frame: self.nodes.take(connection, frame), lambda: self.nodes.lost(connection))
        self.process.after(REGISTER_TIMEOUT_S, self._expect_registration, link, connection)
        known = [end for end in self._node_connections if not end[0].ended]
        self._node_connections = [*known, (link, connection)]
        return cable

    def kill(self) -> None:
        """Its process ends; nobody is told anything."""
        self.process.say(f"{self.name} is killed")
        self.stopping = self.process.dead = True
        for link in self.links:
            link.cable.shut()
        if self.member is not None:
            self.member.die()

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

    def entry(self, session_id: str) -> Entry | None:
        """A session with its connection, if there is one of this id."""
        return self.sessions._sessions.get(session_id)

    def _is_away(self, session_id: str) -> bool:
        entry = self.entry(session_id)
        return entry is not None and entry.connection is None and entry.session.recovery is not None

    @property
    def entries(self) -> Iterable[Entry]:
        """All sessions."""
        return self.sessions._sessions

    def drain(self, seconds: float) -> None:
        """A signal to stop: what `daemon.py` does then."""
        self.stopping = True
        self.process.reach(self._drain, seconds)

    def _drain(self, seconds: float) -> None:
        self.process.say(f"stops within {seconds:.1f} s")
        self.drained_at = self._world.now
        self.dispatch.amnesty.draining = True
        self.sessions.finish(seconds)
        self._wait_idle(self.process.now() + seconds)

    def _wait_idle(self, until: float) -> None:
        if self.dispatch.open_jobs and self.process.now() < until:
            self.process.after(IDLE_LOOK_S, self._wait_idle, until)
        else:
            self._stop()

    def _stop(self) -> None:
        self.sessions.abandon()
        remembering = self.sessions.remember()
        with suppress(StopIteration):
            remembering.send(None)
        self.last_jobs = len(self.accounts.all)
        for entry in self.entries:
            connection = entry.connection
            if connection is not None and connection.link.reaches_peer:
                self.farewells[entry.session.id] = connection.link.cable
        for link in self.links:
            link.close(CloseReason.SHUTDOWN)
        self.stopped_at = self._world.now
        self.process.say("stopped")

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
