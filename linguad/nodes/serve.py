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
from linguad.core.node import Node
from linguad.errors import CloseReason, ErrorCode, WireError
from linguad.net.websocket import Link
from linguad.wire import codec
from linguad.wire.node import (
    JobAck,
    JobResult,
    JobStarted,
    NodeAsrPartial,
    NodeError,
    NodeHeartbeat,
    NodeMessage,
    NodeRegister,
    NodeRegisterAck,
    RequestPairingCode,
    SchedulerError,
)

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

    def connection_lost(self, node_id: str, connection: int) -> None:
        """A node's socket is gone."""
        ...


class Connection(Struct, eq=False):
    """A node's socket; `node_id` is "" until a registration was accepted."""

    link: Link
    generation: int
    node_id: str = ""


class Nodes:
    """The live links of registered nodes."""

    def __init__(self, fleet: FleetPort, register_timeout_s: float) -> None:
        self._fleet = fleet
        self._register_timeout_s = register_timeout_s
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
        connection = Connection(link, next(self._generations))
        try:
            with trio.CancelScope(deadline=trio.current_time() + self._register_timeout_s) as patience:
                async for frame in link:
                    self._take(connection, frame)
                    if connection.node_id:
                        patience.deadline = inf
            if patience.cancelled_caught:
                link.close(CloseReason.REGISTRATION_TIMEOUT)
        finally:
            self._lost(connection)

    def _take(self, connection: Connection, frame: str | bytes) -> None:
        """One frame of a node; no await, so its effects are complete before the next is read."""
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
            if not connection.node_id:
                self._reject(connection, error)
            return
        metrics.MESSAGES.labels("node", type(message).__struct_config__.tag).inc()
        if isinstance(message, NodeRegister):
            self._register(connection, message)
        elif connection.node_id:
            self._registered(connection, message)
        elif isinstance(message, JobResult):
            self._fleet.result(message, message.node_id)

    def _registered(self, connection: Connection, message: NodeMessage) -> None:
        match message:
            case NodeHeartbeat():
                if message.node_id == connection.node_id:
                    self._fleet.heartbeat(message)
                else:
                    logger.warning("heartbeat_of_another", node=connection.node_id, link=connection.link.id)
            case JobResult():
                self._fleet.result(message, connection.node_id)
            case JobAck() | JobStarted() | NodeAsrPartial():
                self._fleet.progress(message, connection.node_id)
            case NodeError():
                logger.warning("node_error", node=connection.node_id, code=message.code[:64])
            case RequestPairingCode() | NodeRegister():
                pass

    def _register(self, connection: Connection, message: NodeRegister) -> None:
        """Make the node routable, then acknowledge, then let it have work (node-protocol 3.2).

        A connection has one id: naming another one later would leave records of nobody behind.
        """
        if connection.node_id:
            if (message.node_id or "").strip() not in ("", connection.node_id):
                problem = "a connection registers one node; open another one for another node"
                self._reject(connection, WireError(ErrorCode.NODE_ID_CONFLICT, problem, "node_id"))
                return
            message = replace(message, node_id=connection.node_id)
        try:
            node, actions = self._fleet.register(message, connection.generation)
        except WireError as error:
            self._reject(connection, error)
            return
        before = self._connections.get(node.id)
        if before is not None and before is not connection:
            before.link.close(CloseReason.SUPERSEDED)
        connection.node_id = node.id
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

    def _reject(self, connection: Connection, error: WireError) -> None:
        message = SchedulerError(code=error.code, message=str(error))
        connection.link.send(codec.encode(message))
        connection.link.close(CloseReason.REGISTRATION_REJECTED, str(error)[:100])
        logger.warning(
            "node_rejected", link=connection.link.id, address=connection.link.peer.address, code=error.code
        )

    def _lost(self, connection: Connection) -> None:
        node_id = connection.node_id
        if not node_id:
            return
        if self._connections.get(node_id) is connection:
            del self._connections[node_id]
        connection.node_id = ""
        logger.info("node_lost", node=node_id, link=connection.link.id, reason=connection.link.outcome)
        self._fleet.connection_lost(node_id, connection.generation)
