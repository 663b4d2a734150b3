"""Node sockets to the dispatch core and back (node-protocol 1, 3)."""

from __future__ import annotations

from itertools import count
from math import inf
from typing import Protocol

import trio
from msgspec import Struct
from msgspec.structs import replace

from linguad import log, metrics
from linguad.core.actions import Action
from linguad.core.clock import Clock
from linguad.core.failure import UNKNOWN
from linguad.core.node import Node
from linguad.core.pairing import LiveCode
from linguad.core.standing import NOT_REGISTERED, why_idle
from linguad.errors import CloseReason, ErrorCode, WireError
from linguad.net.websocket import Link
from linguad.wire import codec, documented
from linguad.wire.node import (
    HEARTBEAT_ACK,
    HardwareInfo,
    Heartbeat,
    HeartbeatAck,
    JobAck,
    JobResult,
    JobStarted,
    ModelNotAvailable,
    NodeAsrPartial,
    NodeError,
    NodeHeartbeat,
    NodeMessage,
    NodeRegister,
    NodeRegisterAck,
    PairingCode,
    Register,
    RequestPairingCode,
    SchedulerError,
)

PONG_SECONDS = 2.0
"""How long the owner of an id may take to show that it lives, before a newcomer gets it."""

logger = log.get(__name__)


class FleetPort(Protocol):
    """Where news of nodes go."""

    def register(self, message: NodeRegister, connection: int) -> tuple[Node, list[Action]]:
        """Take a node in; what is to be done after its acknowledgement comes back. May raise WireError."""
        ...

    def perform(self, actions: list[Action]) -> None:
        """Do what `register` gave back."""
        ...

    def heartbeat(self, message: NodeHeartbeat) -> None:
        """A registered node reported."""
        ...

    def result(self, message: JobResult, node_id: str) -> None:
        """A node answered."""
        ...

    def progress(self, message: JobAck | JobStarted | NodeAsrPartial, node_id: str) -> None:
        """A node told how far it is."""
        ...

    def service_missing(self, node_id: str, service_id: str, reason: str) -> None:
        """A registered node lacks a service it reports as running; `reason` is its word for why."""
        ...

    def pairing_code(self, node_id: str, asked_by: str) -> LiveCode:
        """A new pairing code for a registered node."""
        ...

    def connection_lost(self, node_id: str, connection: int) -> None:
        """A node's socket is gone."""
        ...


class Connection(Struct, eq=False):
    """A node's socket, and the record of the node once a registration was accepted."""

    link: Link
    generation: int
    node: Node | None = None
    by_language: bool = False
    """The node names no services, so its languages stand for them."""
    wants_ack: bool = False
    """Every heartbeat is to be answered."""

    @property
    def node_id(self) -> str:
        """Id of the registered node, "" without one."""
        return "" if self.node is None else self.node.id


class Nodes:
    """The live links of registered nodes."""

    def __init__(self, fleet: FleetPort, register_timeout_s: float, clock: Clock) -> None:
        self._fleet = fleet
        self._register_timeout_s = register_timeout_s
        self._clock = clock
        self._generations = count(1)
        self._connections: dict[str, Connection] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def send(self, node_id: str, text: str) -> bool:
        """Queue a frame for a node; False when it has no link or reads too slowly."""
        connection = self._connections.get(node_id)
        return connection is not None and connection.link.send(text)

    def close(self, node_id: str, reason: CloseReason) -> None:
        """End the link of a node."""
        connection = self._connections.get(node_id)
        if connection is not None:
            connection.link.close(reason)

    async def talk(self, link: Link) -> None:
        """Serve one node connection to its end."""
        connection = self.connected(link)
        try:
            with trio.CancelScope(deadline=trio.current_time() + self._register_timeout_s) as patience:
                async for frame in link:
                    await self.take(connection, frame)
                    if connection.node is not None:
                        patience.deadline = inf
            if patience.cancelled_caught:
                link.close(CloseReason.REGISTRATION_TIMEOUT)
        finally:
            self.lost(connection)

    def connected(self, link: Link) -> Connection:
        """A node connected; who it is, its registration will tell."""
        return Connection(link, next(self._generations))

    async def take(self, connection: Connection, frame: str | bytes) -> None:
        """One frame of a node, whose effects are complete before the next is read.

        Only a registration may wait, for the pong of another connection; all else has no await.
        """
        try:
            message = codec.node_messages.decode(frame)
        except WireError as error:
            logger.warning(
                "node_message_rejected",
                node=connection.node_id,
                link=connection.link.id,
                field=error.field,
                reason=str(error),
            )
            if connection.node is None:
                self._reject(connection, error)
            return
        metrics.child(metrics.MESSAGES, "node", type(message).__struct_config__.tag).inc()
        if isinstance(message, NodeRegister):
            await self._register(connection, message)
        elif connection.node is not None:
            self._registered(connection, connection.node, message)
        else:
            self._anonymous(connection, message)

    def _anonymous(self, connection: Connection, message: NodeMessage) -> None:
        """A message before the registration; that of a job counts if its node had that job (1.1)."""
        match message:
            case JobResult():
                self._fleet.result(message, message.node_id)
            case ModelNotAvailable(node_id=str(node_id)) if message.job_id:
                self._fleet.result(documented.failure(message, node_id), node_id)
            case Heartbeat():
                self._acknowledge(connection, message.node_id, None)

    def _registered(self, connection: Connection, node: Node, message: NodeMessage) -> None:
        match message:
            case NodeHeartbeat():
                self._heartbeat(connection, node, message)
            case JobResult():
                self._fleet.result(message, node.id)
            case ModelNotAvailable() if message.job_id:
                self._fleet.result(documented.failure(message, node.id), node.id)
            case ModelNotAvailable():
                if service := documented.missing_service(message):
                    self._fleet.service_missing(node.id, service, message.reason or UNKNOWN)
            case JobAck() | JobStarted() | NodeAsrPartial():
                self._fleet.progress(message, node.id)
            case NodeError():
                logger.warning("node_error", node=node.id, code=message.code[:64])
            case RequestPairingCode():
                live = self._fleet.pairing_code(node.id, "node")
                answer = PairingCode(code=live.code, expires_at_ms=self._clock.epoch_ms(live.expires_at))
                connection.link.send(codec.encode(answer))
            case NodeRegister():
                pass

    def _heartbeat(self, connection: Connection, node: Node, message: NodeHeartbeat) -> None:
        own = message.node_id == node.id
        if not own:
            logger.warning("heartbeat_of_another", node=node.id, link=connection.link.id)
        elif isinstance(message, Heartbeat):
            connection.by_language &= not documented.names_services(message)
            self._fleet.heartbeat(documented.spelled_out(message, by_language=connection.by_language))
        else:
            self._fleet.heartbeat(message)
        if isinstance(message, Heartbeat) or (own and connection.wants_ack):
            self._acknowledge(connection, message.node_id, node if own else None)

    def _acknowledge(self, connection: Connection, node_id: str, node: Node | None) -> None:
        """Tell a node how it stands; without a record it is not registered on this connection."""
        why = NOT_REGISTERED if node is None else why_idle(node)
        ack = HeartbeatAck(
            node_id=node_id,
            status="offline" if node is None else node.status.value,
            reason=why and why.reason,
            message=why and why.cure,
            no_work=dict(node.no_work) if node is not None and node.no_work else None,
        )
        connection.link.send(codec.encode(ack), optional=True)

    async def _register(self, connection: Connection, message: NodeRegister) -> None:
        """Take a node in, unless its id belongs to another one that is there (node-protocol 3.2, 3.3).

        A connection has one id: naming another one later would leave records of nobody behind.
        """
        if connection.node is not None:
            if (message.node_id or "").strip() not in ("", connection.node_id):
                problem = "a connection registers one node; open another one for another node"
                self._reject(connection, WireError(ErrorCode.NODE_ID_CONFLICT, problem, "node_id"))
                return
            message = replace(message, node_id=connection.node_id)
        elif await self._is_impostor(connection, message):
            problem = "this id belongs to another node, which is connected; without an id you get a new one"
            error = WireError(ErrorCode.NODE_ID_CONFLICT, problem, "node_id")
            self._reject(connection, error, message.node_id)
            return
        if connection.link.outcome == "open":
            self._admit(connection, message)

    async def _is_impostor(self, connection: Connection, message: NodeRegister) -> bool:
        """Whether another machine has the id and still answers; waits for one pong at most."""
        while (owner := self._other_owner(message)) is not None:
            connection.link.read_ahead()  # it may go while it waits
            answers = await owner.link.answers_ping(PONG_SECONDS)
            if self._other_owner(message) is owner:
                return answers
        return False

    def _other_owner(self, message: NodeRegister) -> Connection | None:
        """The connection of an id that seems to be on another machine than who now asks for it."""
        owner = self._connections.get(message.node_id or "")
        if owner is None or owner.node is None:
            return None
        asking = message.platform or "", message.hardware or HardwareInfo()
        return owner if asking != (owner.node.platform, owner.node.hardware) else None

    def _admit(self, connection: Connection, message: NodeRegister) -> None:
        """Make the node routable, then acknowledge, then let it have work."""
        connection.wants_ack = HEARTBEAT_ACK in (message.advanced_features or ())
        connection.by_language = isinstance(message, Register) and not documented.names_services(message)
        if isinstance(message, Register):
            message = documented.spelled_out(message, by_language=connection.by_language)
        try:
            node, actions = self._fleet.register(message, connection.generation)
        except WireError as error:
            self._reject(connection, error)
            return
        before = self._connections.get(node.id)
        if before is not None and before is not connection:
            before.link.close(CloseReason.SUPERSEDED)
        connection.node = node
        self._connections[node.id] = connection
        ack = NodeRegisterAck(node_id=node.id, message="registered", status=node.status.value)
        connection.link.send(codec.encode(ack))
        logger.info(
            "node_registered",
            node=node.id,
            link=connection.link.id,
            address=connection.link.peer.address,
            platform=node.platform,
            cap=node.cap,
        )
        self._fleet.perform(actions)

    def _reject(self, connection: Connection, error: WireError, asked: str | None = None) -> None:
        message = SchedulerError(code=error.code, message=str(error))
        connection.link.send(codec.encode(message))
        connection.link.close(CloseReason.REGISTRATION_REJECTED, str(error)[:100])
        logger.warning(
            "node_rejected",
            node=asked,
            link=connection.link.id,
            address=connection.link.peer.address,
            code=error.code,
        )

    def lost(self, connection: Connection) -> None:
        """The socket is gone; the record stays if a newer connection has it."""
        node = connection.node
        if node is None:
            return
        if self._connections.get(node.id) is connection:
            del self._connections[node.id]
        connection.node = None
        logger.info("node_lost", node=node.id, link=connection.link.id, reason=connection.link.outcome)
        self._fleet.connection_lost(node.id, connection.generation)
