"""What operators see of the daemon, and the little they may tell it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import trio

from linguad import __version__
from linguad.config import Config
from linguad.core.coverage import Served
from linguad.core.dispatch import Dispatch
from linguad.core.node import Node
from linguad.core.pairing import LiveCode
from linguad.ops.instance import Seen
from linguad.ops.services import Services
from linguad.pools import COMPILED
from linguad.wire.override import Override

if TYPE_CHECKING:
    from linguad.cluster.desk import Desk
    from linguad.daemon.tree import Daemon


class View:
    """The daemon as `ops` knows it: everything at once and from memory."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._started_at = trio.current_time()

    @property
    def config(self) -> Config:
        """The settings in force, which a reload exchanges."""
        return self._daemon.config

    @property
    def dispatch(self) -> Dispatch:
        """Nodes and jobs."""
        return self._daemon.dispatch

    @property
    def services(self) -> Services:
        """What a hub offers to nodes."""
        return self._daemon.services

    @property
    def draining(self) -> bool:
        """It takes no new work."""
        return self._daemon.draining

    def facts(self) -> dict[str, object]:
        """What `/ready` tells beside readiness."""
        daemon = self._daemon
        return {
            "version": __version__,
            "uptime_seconds": round(trio.current_time() - self._started_at, 1),
            "compiled": COMPILED,
            "sessions": len(daemon.sessions),
            "nodes": len(daemon.node_sockets),
            "open_jobs": daemon.dispatch.open_jobs,
            "hub_services": len(daemon.services.listed()),
            "redis": None if daemon.cluster is None else daemon.cluster.up,
            "directory_age_ms": None if daemon.cluster is None else round(daemon.shared_nodes.age_s * 1000),
        }

    def standing(self) -> dict[str, object]:
        """Who this instance is among the others, for those who may want it to end."""
        here = self._daemon.cluster
        return {
            "id": None if here is None else here.place.me.instance,
            "others": 0 if here is None else sum(not peer.draining for peer in here.peers.alive().values()),
            "drain_seconds": self.config.server.drain_seconds,
        }

    def not_ready(self) -> list[str]:
        """Why this instance should get no new traffic, beside draining; nothing else can keep it away yet."""
        return []

    def degraded(self) -> list[str]:
        """Dependencies that are away while work goes on without them."""
        return ["redis"] if self._daemon.cluster is not None and not self._daemon.cluster.up else []

    def drain(self) -> bool:
        """Begin to end, as after SIGTERM; False if that had begun."""
        return self._daemon.end()

    def desk(self) -> Desk | None:
        """What operators can ask of the cluster; None without one."""
        return None if self._daemon.cluster is None else self._daemon.cluster.desk

    def nodes(self) -> list[tuple[Node, int]]:
        """Every known node and the slots it has in use."""
        fleet = self._daemon.fleet
        return [(node, fleet.slots_used(node.id)) for node in fleet.nodes.values()]

    def sessions_seen(self) -> list[Seen]:
        """Every session of this instance."""
        return [Seen(*one) for one in self._daemon.sessions.seen()]

    def session_counts(self) -> tuple[int, int]:
        """Sessions with a connection, and those that wait for theirs to come back."""
        return self._daemon.sessions.attached, len(self._daemon.sessions) - self._daemon.sessions.attached

    def languages(self) -> list[Served]:
        """The pairs of languages that are served."""
        return self._daemon.engine.languages()

    @property
    def outcomes(self) -> Mapping[str, int]:
        """Jobs that ended since the start, by what they came to."""
        return self._daemon.engine.outcomes

    @property
    def buffered_bytes(self) -> int:
        """Bytes held for connections and jobs."""
        return self._daemon.budget.used

    def result_quality(self) -> Mapping[str, object]:
        """How good results are, as `/api/v1/metrics` tells it."""
        return self._daemon.engine.quality.told()

    def slots_asked(self) -> tuple[int, int]:
        """How often a slot was taken for a job, and how often none was free."""
        return self._daemon.engine.selections.reserved, self._daemon.engine.selections.refused

    def now(self) -> float:
        """The time of all records, monotonic s."""
        return trio.current_time()

    def epoch_ms(self, now: float) -> int:
        """Unix time in ms of a moment."""
        return self._daemon.clock.epoch_ms(now)

    def override(self, node_id: str, said: Override) -> bool:
        """An operator says something about a known node; it holds at once and over restarts.

        False if another instance has the node and cannot be told.
        """
        taken = self._daemon.engine.override(node_id, said)
        self._daemon.node_memory.soon()
        return taken

    def pairing_code(self, node_id: str) -> LiveCode:
        """A new pairing code for a known node."""
        return self._daemon.engine.pairing_code(node_id, "admin")

    def paired_with(self, node_id: str) -> list[str]:
        """Sessions that only this node serves."""
        return self._daemon.sessions.paired_with(node_id)

    def explain(self, name: str) -> list[dict[str, object]]:
        """The jobs meant by a job id, a node's job id, a trace id, or `SESSION:INDEX`."""
        return self.dispatch.explain(name, trio.current_time())
