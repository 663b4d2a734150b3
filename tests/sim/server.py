"""linguad's core in a simulated world, with as little shell as will do.

It stands where `dispatch/engine.py`, `sessions/serve.py` and `nodes/serve.py` stand in the daemon and keeps
their promises: outputs are performed in order and at once, deadlines are kept, the codec is between all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from linguad.core.actions import (
    Action,
    Assign,
    AttemptEnded,
    AudioReleased,
    Cancel,
    Deliver,
    Partial,
    Progress,
)
from linguad.core.clock import Clock
from linguad.core.dispatch import Dispatch
from linguad.core.fleet import Fleet
from linguad.core.job import Attempt
from linguad.core.rules import JobRules, NodeRules
from linguad.core.session import Ended, Output, Send, Session, SessionRules, Submit
from linguad.pools import NodeTable
from linguad.wire import codec
from linguad.wire.node import (
    JobAck,
    JobResult,
    JobStarted,
    NodeAsrPartial,
    NodeHeartbeat,
    NodeRegister,
    NodeRegisterAck,
)
from linguad.wire.session import ServerMessage, SessionInit

from .world import Names, Wire, World

SCAN_INTERVAL_S = 5.0
"""How often nodes are looked over, as in the daemon."""


class NodeEnd(Protocol):
    """A simulated node, as its connection sees it."""

    def receive(self, link: Link, text: str) -> None:
        """A frame arrived."""
        ...

    def closed(self, link: Link) -> None:
        """The server closed the connection."""
        ...


class ClientEnd(Protocol):
    """A simulated client, as its connection sees it."""

    def receive(self, message: ServerMessage) -> None:
        """A message arrived."""
        ...


class Link:
    """A node's connection; `up` on both sides until one of them ends it."""

    def __init__(self, world: World, server: Server, node: NodeEnd, generation: int) -> None:
        self.generation = generation
        self.node_id = ""
        self.up = True
        self._server = server
        self._node = node
        self._to_node, self._to_server = Wire(world), Wire(world)

    def to_server(self, text: str) -> None:
        """The node sends a frame; it is lost if the connection ends before it arrives."""
        self._to_server.carry(self._arrive, text)

    def to_node(self, text: str) -> None:
        """The server sends a frame."""
        self._to_node.carry(self._deliver, text)

    def cut(self) -> None:
        """The connection is lost; the server learns of it at once."""
        if self.up:
            self.up = False
            self._server.lost(self)

    def close(self) -> None:
        """The server ends the connection."""
        if self.up:
            self.cut()
            self._node.closed(self)

    def _arrive(self, text: str) -> None:
        if self.up:
            self._server.node_frame(self, text)

    def _deliver(self, text: str) -> None:
        if self.up:
            self._node.receive(self, text)


class Server:
    """Sessions, one dispatcher, and the accounts that the checks look at."""

    def __init__(
        self, world: World, node_rules: NodeRules, job_rules: JobRules, session_rules: SessionRules
    ) -> None:
        names = Names()
        self.fleet = Fleet(node_rules, NodeTable(rng_seed=world.random.getrandbits(32)), names)
        self.dispatch = Dispatch(self.fleet, job_rules, names)
        self.sessions: dict[str, Session] = {}
        self.ended: set[str] = set()
        self.submitted: dict[str, list[Submit]] = {}
        self.audio_bytes = 0
        self.open_attempts: set[Attempt] = set()
        self.latest_job = ""
        """Wire id of the job that was sent last, to whichever node."""
        self._world = world
        self._names = names
        self._session_rules = session_rules
        self._clients: dict[str, tuple[ClientEnd, Wire]] = {}
        self._links: dict[str, Link] = {}
        self._generation = 0
        self._wakes: dict[str, float] = {}
        world.after(SCAN_INTERVAL_S, self._scan)

    # Clients

    def open_session(self, client: ClientEnd, init: SessionInit) -> str:
        """A client connects and says hello."""
        session = Session(self._names.session(), init, self._session_rules, self._names, Clock(1.7e9))
        self.sessions[session.id] = session
        self.submitted[session.id] = []
        self._clients[session.id] = client, Wire(self._world)
        return session.id

    def client_frame(self, session_id: str, text: str) -> None:
        """A client's message arrived; after its session ended nobody listens."""
        session = self.sessions.get(session_id)
        if session is not None and session_id in self._clients:
            self._perform_outputs(
                session, session.handle(codec.client_messages.decode(text), self._world.now)
            )

    def client_lost(self, session_id: str) -> None:
        """The socket of a client is gone."""
        session = self.sessions.get(session_id)
        if self._clients.pop(session_id, None) is not None and session is not None:
            self._world.say(session_id, "detached")
            self._perform_outputs(session, session.detach(self._world.now))

    # Nodes

    def connect(self, node: NodeEnd) -> Link:
        """A node opens a connection."""
        self._generation += 1
        return Link(self._world, self, node, self._generation)

    def node_frame(self, link: Link, text: str) -> None:
        """A node's message arrived."""
        message, now = codec.node_messages.decode(text), self._world.now
        match message:
            case NodeRegister():
                self._register(link, message)
            case NodeHeartbeat() if link.node_id == message.node_id:
                self._perform(self.dispatch.heartbeat(message, now))
            case JobResult():
                self._perform(self.dispatch.result(message, link.node_id or message.node_id, now))
            case JobAck() | JobStarted() | NodeAsrPartial() if link.node_id:
                self._perform(self.dispatch.progress(message, link.node_id))

    def lost(self, link: Link) -> None:
        """A node's connection is gone."""
        if link.node_id:
            if self._links.get(link.node_id) is link:
                del self._links[link.node_id]
            self._world.say(link.node_id, "lost")
            self._perform(self.dispatch.connection_lost(link.node_id, link.generation, self._world.now))

    def _register(self, link: Link, message: NodeRegister) -> None:
        node, actions = self.dispatch.register(message, link.generation, self._world.now)
        before = self._links.get(node.id)
        link.node_id = node.id
        self._links[node.id] = link
        if before is not None and before is not link:
            before.close()
        self._world.say(node.id, "registered")
        link.to_node(
            codec.encode(NodeRegisterAck(node_id=node.id, message="registered", status="registering"))
        )
        self._perform(actions)

    def _scan(self) -> None:
        for node in self.fleet.scan(self._world.now):
            self._world.say(node.id, "heartbeats stopped")
            self._links[node.id].close()
        self._perform(self.dispatch.tick(self._world.now))
        self._world.after(SCAN_INTERVAL_S, self._scan)

    # Performing

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Assign():
                    self.open_attempts.add(action.attempt)
                    message = action.message
                    self.latest_job = message.job_id
                    place = f"{message.session_id}[{message.utterance_index}] turn {message.turn_id}"
                    self._world.say(action.attempt.node_id, f"<- {message.job_id} {place}")
                    self._to_node(action.attempt.node_id, codec.encode(message))
                case Cancel():
                    self._world.say(
                        action.node_id, f"<- cancel {action.message.job_id}: {action.message.reason}"
                    )
                    self._to_node(action.node_id, codec.encode(action.message))
                case Progress():
                    self._tell(
                        action.job.request.session_id,
                        lambda s, a=action: s.progress(a.job, a.event, self._world.now),
                    )
                case Partial():
                    self._tell(
                        action.job.request.session_id,
                        lambda s, a=action: s.partial(a.job, a.text, a.is_final, self._world.now),
                    )
                case Deliver():
                    self._tell(
                        action.job.request.session_id,
                        lambda s, a=action: s.resolve(a.job, a.outcome, self._world.now),
                        expected=True,
                    )
                case AttemptEnded():
                    self.open_attempts.discard(action.attempt)
                case AudioReleased():
                    self.audio_bytes -= action.size
        used = self.fleet.table.statistics()["used"]
        holding = sum(attempt.holds_slot for attempt in self.open_attempts)
        assert used == holding, f"{used} slots are taken, {holding} attempts hold one"
        self._wake_at("", self.dispatch.due(), self._tick)

    def _to_node(self, node_id: str, text: str) -> None:
        link = self._links.get(node_id)
        if link is not None:
            link.to_node(text)

    def _tell(self, session_id: str, news: Callable[[Session], list[Output]], expected: bool = False) -> None:
        session = self.sessions.get(session_id)
        assert session is not None or not expected, f"a result for {session_id}, which has ended"
        if session is not None:
            self._perform_outputs(session, news(session))

    def _perform_outputs(self, session: Session, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case Send():
                    if session.id in self._clients:
                        client, wire = self._clients[session.id]
                        wire.carry(client.receive, codec.server_messages.decode(codec.encode(output.message)))
                case Submit():
                    self.submitted[session.id].append(output)
                    self.audio_bytes += len(output.audio.base64)
                    request = output.request
                    self._world.say(
                        session.id,
                        f"cut {request.utterance_index} {request.reason.value} turn {request.turn_id}",
                    )
                    self._perform(self.dispatch.submit(request, output.audio, self._world.now)[1])
                case Ended():
                    self._end(session)
        if session.id in self.sessions:
            self._wake_at(session.id, session.due(), self._tick_session)

    def _end(self, session: Session) -> None:
        del self.sessions[session.id]
        self._clients.pop(session.id, None)
        self.ended.add(session.id)
        self._world.say(session.id, "ended")
        self._perform(self.dispatch.session_ended(session.id, self._world.now))

    # Deadlines: at most one wake-up per owner is on its way

    def _wake_at(self, owner: str, due: float | None, tick: Callable[[str], None]) -> None:
        if due is not None and due < self._wakes.get(owner, float("inf")):
            self._wakes[owner] = due
            self._world.after(max(0.0, due - self._world.now), self._wake, owner, due, tick)

    def _wake(self, owner: str, at: float, tick: Callable[[str], None]) -> None:
        if self._wakes.get(owner) == at:
            del self._wakes[owner]
            tick(owner)

    def _tick(self, _: str) -> None:
        self._perform(self.dispatch.tick(self._world.now))

    def _tick_session(self, session_id: str) -> None:
        session = self.sessions.get(session_id)
        if session is not None:
            self._perform_outputs(session, session.tick(self._world.now))
