"""All nodes: who is registered, and the compiled table they are selected from kept in step (design 6)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from linguad.core import admission
from linguad.core.deadlines import Deadlines, earliest
from linguad.core.health import Status
from linguad.core.ids import Ids
from linguad.core.index import KeyIndex
from linguad.core.key import Key
from linguad.core.memory import Memory, Remembered
from linguad.core.node import Node
from linguad.core.pairing import PairingCodes
from linguad.core.rehearsal import Rehearsal
from linguad.core.reruns import Reruns
from linguad.core.rules import NodeRules
from linguad.core.services import Mark
from linguad.core.speed import Speeds
from linguad.core.steps import at_once
from linguad.errors import ErrorCode, WireError
from linguad.pools import NodeTable, fnv1a64
from linguad.wire.common import ServiceTimings
from linguad.wire.node import NodeHeartbeat, NodeRegister
from linguad.wire.override import Override
from linguad.wire.record import NodeRecord

MAX_OFFLINE_NODES = 10_000
"""Records of nodes that are gone; the oldest is forgotten for a new one."""

STANDSTILL_S = 1.0
"""A timer that fires so much too late tells that our own process stood still."""


class Fleet:
    """Every known node and the table they are selected from."""

    def __init__(self, rules: NodeRules, table: NodeTable, ids: Ids) -> None:
        self.rules = rules
        self.table = table
        self.nodes: dict[str, Node] = {}
        self.speeds = Speeds()
        self.memory = Memory()
        self.reruns = Reruns()
        self.pairing = PairingCodes(ids.pairing_code)
        self._ids = ids
        self._rows: dict[str, int] = {}
        self._by_row: dict[int, Node] = {}
        self._index = KeyIndex(table, self._by_row, self._speed)
        self._offline: dict[str, None] = {}
        self._marks: Deadlines[tuple[str, str]] = Deadlines()
        self._refused: Deadlines[int] = Deadlines()
        """Rows that get no new jobs for a while, because their owner had no slot left."""
        self._reachable = True
        self._changed: Callable[[str], object] | None = None
        self._scanned_at: float | None = None

    def register(self, message: NodeRegister, connection: int, now: float) -> Node:
        """Take a node in (node-protocol 3.2, 3.3); `connection` is the generation number of its socket.

        The newest connection owns the id; what is lost on an older one no longer touches the record.

        Raises WireError with the code to answer when the node must not register.
        """
        admission.check(message, self.rules.require_gpu)
        node_id = self._usable_id(message.node_id)
        node = self._record(node_id, now)
        if node is None:
            raise WireError(ErrorCode.NODE_OVERLOADED, "this server has as many nodes as it may have")
        node.registered(message, connection, now)
        self._refused.set(self._rows[node.id], None)
        self._index.update(self._rows[node.id])
        self._sync(node)
        return node

    def learn(self, record: NodeRecord, others_use: int, now: float) -> Node | None:
        """Take over what another instance tells of a node of its own; None if there is no room for it.

        The caller made sure that the lease is newer than any known one, and that the socket is not here.
        """
        node = self._record(record.node, now)
        if node is not None:
            row = self._rows[node.id]
            before = None if node.afar is None else (node.offer, node.weight)
            node.described(record, others_use, now)
            node.out_of_reach = not self._reachable
            self._refused.set(row, None)
            if (node.offer, node.weight) != before:
                self._index.update(row)
                self._reweigh(row)
            self._sync(node)
        return node

    def refused(self, row: int, now: float) -> None:
        """The owner of a row had no slot left: no new jobs for it for a while."""
        node = self._by_row.get(row)
        if node is not None and node.afar is not None:
            self._refused.set(row, now + self.rules.refused_s)
            self._sync(node)

    def in_reach(self, reachable: bool) -> list[Node]:
        """Whether the owners of other nodes can be asked; returns the nodes whose state that changes."""
        self._reachable = reachable
        afar = [node for node in self.nodes.values() if node.afar and node.out_of_reach is reachable]
        for node in afar:
            node.out_of_reach = not reachable
            self._sync(node)
        return afar

    def of_owner(self, owner: str) -> list[Node]:
        """The nodes of another instance."""
        return [node for node in self.nodes.values() if node.owner == owner]

    def would_serve(self, key: Key) -> bool:
        """Whether a node fits a key that cannot be had only because its owner cannot be asked."""
        if self._reachable:
            return False
        if key.node:
            node = self.nodes.get(key.node)
            return node is not None and node.would_serve and node.fits(key)
        return self.handle(key) is not None and any(
            self._by_row[row].would_serve for row in self._index.rows(key)
        )

    def when_changed(self, do: Callable[[str], object]) -> None:
        """Say who is told of every node that may have changed in something other instances should know."""
        self._changed = do

    def heartbeat(self, message: NodeHeartbeat, now: float) -> tuple[Node, bool]:
        """Take a heartbeat of a registered node; the caller checked that the id belongs to the connection.

        Also tells whether the node offers something else than before.
        """
        node = self.nodes[message.node_id]
        before = node.offer
        if message.rerun_metrics is not None:
            self.reruns.report(node.reruns, message.rerun_metrics)
        node.heartbeat(message, now)
        changed = node.offer != before
        if changed:
            self._index.update(self._rows[node.id])
        self._sync(node)
        return node, changed

    def lost(self, node_id: str, connection: int) -> bool:
        """A connection ended; False when the id already belongs to a newer one (node-protocol 6.10)."""
        node = self.nodes.get(node_id)
        if node is None or node.connection != connection:
            return False
        node.lost()
        self._index.update(self._rows[node.id])
        self._sync(node)
        self._offline[node_id] = None
        return True

    def job_ended(self, row: int, now: float, *, usable: bool, blame: bool, sent_at: float) -> None:
        """Tell a node's health what became of an attempt."""
        node = self._by_row[row]
        if node.afar is not None:
            return  # its owner sees all of its answers, and judges
        before = node.status, node.slots
        if usable:
            node.health.job_answered()
        elif blame:
            node.health.job_failed(now, sent_at)
        if (node.status, node.slots) != before:
            self._sync(node)

    def mark_unavailable(self, row: int, service_id: str, now: float) -> Mark:
        """The node of a row lacks a service it reports as running; what is made of that (7)."""
        node = self._by_row[row]
        mark = node.services.mark(service_id, now)
        if mark is not Mark.HOLDS:
            return mark
        self._marks.set((node.id, service_id), now + self.rules.marks.ttl_s)
        self._index.update(self._rows[node.id])
        self._tell(node)
        return mark

    def due(self) -> float | None:
        """When `tick` has something to do, monotonic s."""
        return earliest(self._marks.due(), self._refused.due())

    def tick(self, now: float) -> list[Node]:
        """Let marks and refusals end that held long enough; returns the nodes that can do more again."""
        changed = []
        while (row := self._refused.pop(now)) is not None:
            changed.append(self._by_row[row])
            self._sync(self._by_row[row])
        while (mark := self._marks.pop(now)) is not None:
            node = self.nodes.get(mark[0])
            if node is not None:
                node.services.clear(mark[1])
                self._index.update(self._rows[node.id])
                self._tell(node)
                changed.append(node)
        return changed

    def heard_from(self, node_id: str, now: float) -> None:
        """A node answered a job, whichever and however."""
        node = self.nodes.get(node_id)
        if node is not None:
            node.last_answer_at = now

    def answered(
        self,
        row: int,
        key: Key,
        audio_s: float,
        processing_s: float,
        response_s: float,
        timings: ServiceTimings | None = None,
    ) -> None:
        """Learn from a usable answer: audio and the node's own time, and how long we waited for it."""
        node = self._by_row.get(row)
        if node is None:
            return
        if timings is not None:
            self.speeds.learn_stages(node.id, key.work, audio_s, timings)
        self.speeds.learn(node.id, key.work, audio_s, processing_s, response_s)
        for alike in key.alike(node.pool):
            self._index.speed_changed(row, alike)

    def scan(self, now: float) -> list[Node]:
        """Nodes whose heartbeats stopped; degrades those that never got healthy, forgets those long gone.

        After a standstill of our own process nodes get until the next look: heartbeats may lie unread.
        """
        before, self._scanned_at = self._scanned_at, now
        stood_still = before is not None and now - before > self.rules.scan_interval_s + STANDSTILL_S
        for node in list(self.nodes.values()):
            if node.warmed_up_too_long(now):
                node.health.warmed_up_too_long()
                self._sync(node)
            elif not node.online and now - node.last_heartbeat_at > self.rules.record_retention_s:
                self._forget(node)
        # not as soon as they are lost: then attempts may hold slots of others that are lost with them
        while len(self._offline) > MAX_OFFLINE_NODES:
            self._forget(self.nodes[next(iter(self._offline))])
        overdue = [node for node in self.nodes.values() if node.overdue(now)]
        if not stood_still:
            return overdue
        for node in overdue:
            node.last_heartbeat_at = now - node.heartbeat_timeout_s
        return []

    def slots_used(self, node_id: str) -> int:
        """Slots of a node that attempts hold."""
        return self.table.used(self._rows[node_id])

    def keys_of(self, row: int) -> set[Key]:
        """The keys of the index that a row is in."""
        return self._index.keys(row)

    def is_at(self, row: int, node_id: str) -> bool:
        """Whether a row is still that node's: rows of nodes long gone are given to others."""
        node = self._by_row.get(row)
        return node is not None and node.id == node_id

    def node_at(self, row: int) -> Node:
        """The node of a table row."""
        return self._by_row[row]

    def row_of(self, node_id: str) -> int | None:
        """The table row of a node, or None when it is not known."""
        return self._rows.get(node_id)

    def fits(self, row: int, key: Key) -> bool:
        """Whether the node of a row can do the jobs of a key."""
        node = self._by_row.get(row)
        return node is not None and (key in self._index.keys(row) or node.fits(key))

    def route(self, session_id: str, tenant: str = "") -> int:
        """The hash that chooses the preferred pools of a session; a tenant with a pool has one for all."""
        pools = self.rules.pools
        return fnv1a64(tenant if tenant in pools.tenants else session_id, pools.hash_seed)

    def serves(self, key: Key) -> bool:
        """Whether a registered node fits a key, whatever its state."""
        if key.node:
            node = self.nodes.get(key.node)
            return node is not None and node.fits(key)
        return self.handle(key) is not None

    def has_room(self, key: Key) -> bool:
        """Whether a job of a key would find a free slot now."""
        if key.node:
            return self.has_ready(key) and self.slots_used(key.node) < self.nodes[key.node].slots
        handle = self.handle(key)
        return handle is not None and self.table.has_free(handle)

    def handle(self, key: Key) -> int | None:
        """The table's handle of a key, or None while no registered node serves it."""
        return self._index.handle(key)

    def select(
        self,
        key: Key,
        route: int,
        audio_s: float,
        exclude: Sequence[int] = (),
        sticky: int = -1,
        tenant: str = "",
    ) -> int | None:
        """Choose a node for a job and take one of its slots; None when nobody is free.

        Capability pools are asked in turn, the preferred one first, though the node to keep be in another.
        """
        if key.node:
            return self._paired(key, audio_s, exclude)
        if self.handle(key) is None:
            return None
        sticky = sticky if sticky in self._by_row else -1
        for asked in self.in_turn(key, route, tenant):
            handle = self.handle(asked)
            row = -1 if handle is None else self.table.select(handle, route, audio_s, exclude, sticky)
            if row >= 0:
                return row
        return None

    def in_turn(self, key: Key, route: int, tenant: str) -> Iterator[Key]:
        """A key for each of its capability pools, in the order in which they are asked."""
        if len(key.pools) < 2:
            yield key
        else:
            for pool in self.rules.pools.in_order(key.pools, tenant, route):
                yield key._replace(pools=(pool,))

    def explain(
        self,
        key: Key,
        route: int,
        audio_s: float,
        exclude: Sequence[int] = (),
        sticky: int = -1,
        tenant: str = "",
    ) -> list[dict[str, Any]]:
        """Every node that fits a key as `select` would see it now, in its order; changes nothing."""
        sticky = sticky if sticky in self._by_row else -1
        return at_once(self.rehearsal().explain(key, route, audio_s, exclude, sticky, tenant))

    def rehearsal(self, *, public: bool = True) -> Rehearsal:
        """A stage to play selections on; not `public`: of jobs that may go to nodes that take only some."""
        handles, nodes = self._index.handles(), self._by_row.copy()
        return Rehearsal(self.table.copy(), handles, nodes, self._speed, self.in_turn, public=public)

    def has_ready(self, key: Key, besides: Collection[int] = ()) -> bool:
        """Whether a ready node fits a key, busy or not, that is none of these rows."""
        if key.node:
            node, row = self.nodes.get(key.node), self._rows.get(key.node)
            return node is not None and node.status is Status.READY and node.fits(key) and row not in besides
        handle = self.handle(key)
        if handle is None:
            return False
        rows = self._index.rows(key)
        others = sum(self.table.cap(row) for row in set(besides) & rows if self._is_ready(row))
        refused = (self._refused.keys() & rows) - set(besides)  # few, where the rows are many
        return self.table.ready_slots(handle) > others or any(map(self._is_ready, refused))

    def override(self, node_id: str, said: Override) -> Node:
        """Take an operator's word about a known node; its place in the table follows at once.

        Raises KeyError if there is no such node.
        """
        node = self.nodes[node_id]
        before = node.weight
        node.speak_of(said)
        self._sync(node)
        self._weighed(node, before)
        return node

    def change_rules(self, rules: NodeRules) -> None:
        """Live by other rules from now on; the place of every node in the table follows at once."""
        self.rules = rules
        for node in self.nodes.values():
            before = node.weight
            node.change_rules(rules)
            self._index.update(self._rows[node.id])
            self._sync(node)
            self._weighed(node, before)

    def remembered(self, node_id: str) -> Remembered:
        """What outlives the record of a node."""
        node = self.nodes.get(node_id)
        if node is None:
            return self.memory[node_id]
        return node.remembered(tuple(self.speeds.table(node_id).items()))

    def by_last_sight(self) -> list[str]:
        """Ids of all nodes, those longest gone first; the connected ones are alike."""
        online = [node_id for node_id in self.nodes if node_id not in self._offline]
        return [*self.memory, *self._offline, *online]

    def index_keys(self, node_id: str, most: int) -> list[tuple[Key, float, int]]:
        """Keys that a node is in, at most so many, with its speed and its pool, which is the same in all."""
        node, row = self.nodes[node_id], self._rows[node_id]
        _, pool, _ = self.table.where(row)
        return [(key, self._speed(node, key), pool) for key in sorted(self._index.keys(row))[:most]]

    def _is_ready(self, row: int) -> bool:
        return self._by_row[row].status is Status.READY

    def _paired(self, key: Key, audio_s: float, exclude: Sequence[int]) -> int | None:
        """A slot of the one node that a paired session may use; such keys are in no index."""
        row = self._rows.get(key.node)
        if row is None or row in exclude or not self._by_row[row].fits(key):
            return None
        return row if self.table.take(row, audio_s) else None

    def _speed(self, node: Node, key: Key) -> float:
        return self.speeds.of(node.id, key.work) * node.weight

    def _weighed(self, node: Node, before: float) -> None:
        """Tell the table if a node's weight is no longer what it was."""
        if node.weight != before:
            self._reweigh(self._rows[node.id])

    def _reweigh(self, row: int) -> None:
        for key in self._index.keys(row):
            self._index.speed_changed(row, key)

    def _record(self, node_id: str, now: float) -> Node | None:
        """The record of a node that is there; None if there is no room for another one."""
        node = self.nodes.get(node_id)
        if node is None and len(self.nodes) < self.rules.max_nodes:
            node = self.nodes[node_id] = Node(node_id, self.rules, now)
            remembered = self.memory.take(node_id)
            node.recall(remembered)
            self.speeds.recall(node_id, remembered.speeds)
            row = self._rows[node_id] = self.table.add_node(node_id, node.slots)
            self._by_row[row] = node
            self._index.add(row)
        self._offline.pop(node_id, None)
        return node

    def _forget(self, node: Node) -> None:
        """Drop the record of an offline node; it left its keys and gave back its slots when it was lost."""
        self.memory.keep(node.id, self.remembered(node.id))
        self.pairing.forget(node.id)
        del self.nodes[node.id]
        self._offline.pop(node.id, None)
        row = self._rows.pop(node.id)
        self._refused.set(row, None)
        self._index.remove(row)
        del self._by_row[row]
        self.table.remove_node(row)
        self.speeds.forget(node.id)

    def _usable_id(self, node_id: str | None) -> str:
        if node_id is not None and admission.is_usable_id(node_id):
            return node_id
        while (fresh := self._ids.node()) in self.nodes:
            pass
        return fresh

    def _sync(self, node: Node) -> None:
        """Bring the table's row in step with the record."""
        row = self._rows[node.id]
        self.table.set_cap(row, 0 if row in self._refused else node.slots)
        self.table.set_ready(row, node.status is Status.READY)
        self.table.set_load(row, node.queue_s, node.penalty_s)
        self._tell(node)

    def _tell(self, node: Node) -> None:
        if self._changed is not None:
            self._changed(node.id)
