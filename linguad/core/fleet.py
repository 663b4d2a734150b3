"""All nodes: who is registered, what a job asks of them, and the compiled table kept in step (design 6)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from linguad.core import admission
from linguad.core.capability import ANYWHERE
from linguad.core.deadlines import Deadlines
from linguad.core.health import Status
from linguad.core.ids import Ids
from linguad.core.index import KeyIndex
from linguad.core.key import ANY, Features, Key
from linguad.core.memory import MAX_SPEEDS, Memory, Remembered
from linguad.core.node import Node
from linguad.core.pairing import PairingCodes
from linguad.core.rehearsal import Rehearsal
from linguad.core.reruns import Reruns
from linguad.core.rules import NodeRules
from linguad.core.services import Mark, Services
from linguad.core.speed import Speeds
from linguad.core.steps import at_once
from linguad.errors import ErrorCode, WireError
from linguad.pools import NodeTable, fnv1a64
from linguad.wire.common import PipelineConfig, ServiceTimings
from linguad.wire.language import AUTO, normalize
from linguad.wire.node import NodeHeartbeat, NodeRegister
from linguad.wire.override import Override

MAX_GPU_QUEUE = 10_000
"""Tasks believed of one node; a number without end would not fit the table."""

MAX_OFFLINE_NODES = 10_000
"""Records of nodes that are gone; the oldest is forgotten for a new one."""

MAX_AMONG = 8
"""Possible source languages of a job that are looked at."""

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
        self._scanned_at: float | None = None

    def register(self, message: NodeRegister, connection: int, now: float) -> Node:
        """Take a node in (node-protocol 3.2, 3.3); `connection` is the generation number of its socket.

        The newest connection owns the id; what is lost on an older one no longer touches the record.

        Raises WireError with the code to answer when the node must not register.
        """
        admission.check(message, self.rules.require_gpu)
        node_id = self._usable_id(message.node_id)
        node = self.nodes.get(node_id)
        if node is None:
            if len(self.nodes) >= self.rules.max_nodes:
                raise WireError(ErrorCode.NODE_OVERLOADED, "this server has as many nodes as it may have")
            node = self.nodes[node_id] = Node(node_id, self.rules, now)
            remembered = self.memory.take(node_id)
            node.recall(remembered)
            self.speeds.recall(node_id, remembered.speeds)
            row = self._rows[node_id] = self.table.add_node(node_id, node.slots)
            self._by_row[row] = node
            self._index.add(row)
        self._offline.pop(node_id, None)
        node.registered(message, connection, now)
        self._index.update(self._rows[node.id])
        self._sync(node)
        return node

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
        if len(self._offline) > MAX_OFFLINE_NODES:
            self._forget(self.nodes[next(iter(self._offline))])
        return True

    def job_ended(self, row: int, now: float, *, usable: bool, blame: bool, sent_at: float) -> None:
        """Tell a node's health what became of an attempt."""
        node = self._by_row[row]
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
        return mark

    def due(self) -> float | None:
        """When `tick` has something to do, monotonic s."""
        return self._marks.due()

    def tick(self, now: float) -> list[Node]:
        """Let marks end that held long enough; returns the nodes that can do more again."""
        changed = []
        while (mark := self._marks.pop(now)) is not None:
            node = self.nodes.get(mark[0])
            if node is not None:
                node.services.clear(mark[1])
                self._index.update(self._rows[node.id])
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
        for alike in _same_work(key, node.pool) if key.narrow or node.pool is not None else (key,):
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

    def key(
        self,
        src: str,
        tgt: str,
        pipeline: PipelineConfig,
        lang_a: str | None = None,
        lang_b: str | None = None,
        *,
        among: Sequence[str] = (),
        speakers: bool = False,
        features: Features = Features.NONE,
        node: str = "",
        session: str = "",
        tenant: str = "",
    ) -> Key:
        """What a job asks of a node (resolution 33); two-way if only the pair of languages is known.

        Of an unknown source `among` others it asks for the first with a free slot, else with a ready node,
        else with any. To tell `speakers` apart needs the tone service. `features` and `node` narrow down who
        fits, and so do the capability pools, where `session` and `tenant` may have a say.
        """
        needs = Services.needed(pipeline)
        if speakers:
            needs |= Services.TONE
        source, target = normalize(src), normalize(tgt)
        pools = ANYWHERE if node else self._pools_for(needs, session, tenant)

        def asked(src: str, tgt: str, *, two_way: bool = False) -> Key:
            return Key(src, tgt, needs, two_way, features, node, pools)

        if not needs & Services.NMT:
            return asked(ANY if source == AUTO else source, ANY)
        if source != AUTO:
            return asked(source, target)
        if lang_a and lang_b:
            a, b = normalize(lang_a), normalize(lang_b)
            both_ways = asked(*sorted((a, b)), two_way=True)
            return both_ways if self.serves(both_ways) else asked(a, b)
        possible = [asked(code, target) for code in map(normalize, among[:MAX_AMONG]) if code != AUTO]
        for good in (self.has_room, self.has_ready, self.serves):
            if (found := next(filter(good, possible), None)) is not None:
                return found
        return possible[0] if possible else asked(ANY, target)

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
        return self.table.ready_slots(handle) > others

    def override(self, node_id: str, said: Override) -> Node:
        """Take an operator's word about a known node; its place in the table follows at once.

        Raises KeyError if there is no such node.
        """
        node = self.nodes[node_id]
        before = node.weight
        node.speak_of(said)
        self._sync(node)
        if node.weight != before:
            row = self._rows[node_id]
            for key in self._index.keys(row):
                self._index.speed_changed(row, key)
        return node

    def remembered(self, node_id: str) -> Remembered:
        """What outlives the record of a node."""
        node = self.nodes.get(node_id)
        if node is None:
            return self.memory[node_id]
        health = node.health
        return Remembered(
            said=node.said,
            failed_probations=health.failed_probations,
            on_probation=health.on_probation,
            quarantined_until=health.quarantined_until,
            speeds=tuple(self.speeds.table(node_id).items())[-MAX_SPEEDS:],
        )

    def by_last_sight(self) -> list[str]:
        """Ids of all nodes, those longest gone first; the connected ones are alike."""
        online = [node_id for node_id in self.nodes if node_id not in self._offline]
        return [*self.memory, *self._offline, *online]

    def index_keys(self, node_id: str, most: int) -> list[tuple[Key, float, int]]:
        """Keys that a node is in, at most so many, with its speed and its pool, which is the same in all."""
        node, row = self.nodes[node_id], self._rows[node_id]
        _, pool, _ = self.table.where(row)
        return [(key, self._speed(node, key), pool) for key in sorted(self._index.keys(row))[:most]]

    def _pools_for(self, needs: Services, session: str, tenant: str) -> tuple[int, ...]:
        pools = self.rules.pools
        return pools.asked(needs, tenant, self.route(session, tenant)) if pools.pools else ANYWHERE

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

    def _forget(self, node: Node) -> None:
        """Drop the record of an offline node; it left its keys and gave back its slots when it was lost."""
        self.memory.keep(node.id, self.remembered(node.id))
        self.pairing.forget(node.id)
        del self.nodes[node.id]
        self._offline.pop(node.id, None)
        row = self._rows.pop(node.id)
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
        usage = node.usage
        self.table.set_cap(row, node.slots)
        self.table.set_ready(row, node.status is Status.READY)
        busiest = max(usage.cpu_percent or 0.0, usage.mem_percent or 0.0, usage.gpu_percent or 0.0)
        penalty_s = self.rules.overload_penalty_s if busiest >= self.rules.resource_threshold else 0.0
        queue = min(usage.gpu_queue_length or 0, MAX_GPU_QUEUE)
        self.table.set_load(row, self.rules.gpu_queue_task_s * queue, penalty_s)


def _same_work(key: Key, pool: int | None) -> set[Key]:
    """Keys in which a node of a pool is as fast as in this one, as far as they are told apart."""
    pools = {ANYWHERE, key.pools} | ({(pool,)} if pool is not None else set())
    wishes = {Features.NONE, key.features}
    return {key.work._replace(features=wish, pools=where) for wish in wishes for where in pools}
