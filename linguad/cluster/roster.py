"""Which nodes are whose: what others are told of ours, and what is made of what they tell (design 7).

A node belongs to the instance with the highest epoch in its record, which is the newest registration; until
Redis has spoken its socket is the proof. No I/O: `directory.py` carries records to Redis and back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from linguad import log
from linguad.core.actions import Action
from linguad.core.afar import Afar
from linguad.core.dispatch import Dispatch
from linguad.core.guests import Guests
from linguad.core.health import Status
from linguad.wire.record import NodeRecord

logger = log.get(__name__)


class Desk(Protocol):
    """The engine, as far as it is used here."""

    def perform(self, actions: list[Action]) -> None:
        """Do what the core decided."""
        ...

    def connection_lost(self, node_id: str, connection: int) -> None:
        """A node is gone."""
        ...


class Sockets(Protocol):
    """The links of our nodes."""

    def superseded(self, node_id: str) -> None:
        """The node is another instance's by now."""
        ...


class Lease(NamedTuple):
    """That a node is ours, as Redis knows it."""

    connection: int
    """The registration it is for; a newer one wants a new epoch."""
    epoch: int
    """0 while we do not know it."""


class Roster:
    """Mutable state: our leases, and the nodes that Redis is to be told about."""

    def __init__(
        self,
        instance: str,
        boot: str,
        dispatch: Dispatch,
        afar: Afar,
        guests: Guests,
        desk: Desk,
        sockets: Sockets,
        is_alive: Callable[[str, str], bool],
        now: Callable[[], float],
    ) -> None:
        """`is_alive` tells whether a process of this instance and boot lives."""
        self.instance = instance
        self._boot = boot
        self._fleet = dispatch.fleet
        self._amnesty = dispatch.amnesty
        self._afar = afar
        self._guests = guests
        self._desk = desk
        self._sockets = sockets
        self._is_alive = is_alive
        self._now = now
        self._leases: dict[str, Lease] = {}
        self._dirty: dict[str, None] = {}
        self.when_dirty: Callable[[], object] = _nothing
        """Called when there is something to tell."""
        self._fleet.when_changed(self._changed)

    def everything(self) -> None:
        """Redis may have forgotten all of it, or all of it changes."""
        here = [node.id for node in self._fleet.nodes.values() if node.is_here]
        for node_id in (*here, *self._leases):
            self._changed(node_id)

    def take_dirty(self, most: int) -> list[str]:
        """Nodes that changed since they were taken last, at most so many."""
        taken = list(self._dirty)[:most]
        for node_id in taken:
            del self._dirty[node_id]
        return taken

    def put_back(self, node_ids: Iterable[str]) -> None:
        """Redis did not hear of these."""
        self._dirty.update(dict.fromkeys(node_ids))

    def offer(self, node_id: str) -> tuple[NodeRecord, int, float] | None:
        """Our record of a node, its connection, and how long it holds, s; epoch 0 asks for a new lease.

        None if the node is not here.
        """
        node = self._fleet.nodes.get(node_id)
        if node is None or not node.is_here:
            return None
        guests = self._guests.slots(node_id)
        own = self._fleet.slots_used(node_id) - guests.total()
        used_by = {name: count for name, count in {self.instance: own, **guests}.items() if count}
        lease = self._leases.get(node_id)
        if lease is None or lease.connection != node.connection:
            # Redis may take the record and we not hear of it
            lease = self._leases[node_id] = Lease(node.connection, 0)
        record = node.record(self.instance, self._boot, lease.epoch, used_by)
        if self._amnesty.draining:
            record = replace(record, status=Status.DRAINING.value)
        return record, node.connection, node.heartbeat_timeout_s

    def leased(self, node_id: str, connection: int, epoch: int) -> None:
        """Redis took our record."""
        self._leases[node_id] = Lease(connection, epoch)

    def withdrawn(self, node_id: str) -> None:
        """Redis holds no record of ours any more of a node that is not here."""
        node = self._fleet.nodes.get(node_id)
        if node is None or not node.is_here:
            self._leases.pop(node_id, None)

    def heard(self, node_id: str, record: NodeRecord | None) -> None:
        """What Redis holds of a node, whoever's it is; None if nothing."""
        node = self._fleet.nodes.get(node_id)
        if record is None or record.owner == self.instance or not self._is_alive(record.owner, record.boot):
            if node is not None and node.afar is not None:
                self._desk.connection_lost(node_id, node.connection)
            return
        if node is not None and node.is_here:
            lease = self._leases.get(node_id)
            if lease is None or lease.connection != node.connection or not 0 < lease.epoch < record.epoch:
                return  # our registration is the newer one, or about to be
            logger.info("node_superseded", node=node_id, instance=record.owner)
            self._leases.pop(node_id)
            self._sockets.superseded(node_id)
        elif node is not None and node.afar is not None and record.epoch < node.connection:
            return
        actions = self._afar.learned(record, record.others_use(self.instance), self._now())
        self._desk.perform(actions)

    def of(self, instance: str) -> dict[str, str]:
        """Nodes of another instance, with the boot of its process that told of them."""
        return {node.id: node.afar.boot for node in self._fleet.of_owner(instance) if node.afar}

    def _changed(self, node_id: str) -> None:
        node = self._fleet.nodes.get(node_id)
        if node_id in self._leases or (node is not None and node.is_here):
            self._dirty[node_id] = None
            self.when_dirty()


def with_epoch(record: NodeRecord, epoch: int) -> NodeRecord:
    """A record with the epoch that Redis gave it."""
    return replace(record, epoch=epoch)


def _nothing() -> None:
    """Nobody asked to be called."""
