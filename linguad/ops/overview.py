"""What an operator wants to know in the first ten seconds, once a second, for all who watch.

Bounded whatever the fleet: the longest queues, the pairs with the most nodes, the nodes that are worst off.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nlargest, nsmallest
from typing import Any

from msgspec import Struct

from linguad.core.coverage import Served
from linguad.core.dispatch import Dispatch
from linguad.core.health import Status
from linguad.core.node import Node
from linguad.core.standing import Reason, why_idle
from linguad.ops.gauges import Meter
from linguad.ops.instance import Instance
from linguad.ops.stats import MAX_NAMED, Stats

SHOWN = 20
"""Queues and nodes that are listed."""

SHOWN_PAIRS = 100

INTENDED = frozenset({Status.DRAINING})
"""A node in this state gets no work because somebody wants it so."""

WORST = (Status.DEGRADED, Status.OFFLINE, Status.REGISTERING, Status.READY)
"""In this order nodes without work are listed."""


class Queue(Struct, frozen=True):
    """Jobs that ask for the same and wait."""

    src: str
    tgt: str
    services: list[str]
    node_id: str | None
    """The one node that may do them, if they are of paired sessions."""
    jobs: int
    oldest_s: float
    ready_nodes: bool
    """Whether a node, though busy, could do them; else they wait in vain."""


class Failing(Struct, frozen=True):
    """A node that gets no work."""

    node_id: str
    status: str
    reason: str
    """`offline`, or a word of docs/worker.md."""
    heartbeat_age_s: float


def overview(instance: Instance, meter: Meter, stats: Stats, now: float) -> dict[str, Any]:
    """All of it, as JSON."""
    queues = waiting(instance.dispatch, now)
    failing = without_work(list(instance.dispatch.fleet.nodes.values()), now)
    pairs = instance.languages()
    reasons = [*(["draining"] if instance.draining else []), *instance.not_ready()]
    return {
        "at_ms": instance.epoch_ms(now),
        "state": {"ready": not reasons, "reasons": reasons, "degraded": list(instance.degraded())},
        "facts": dict(instance.facts()),
        "instance": dict(instance.standing()),
        "gauges": meter.read(),
        "stages": meter.stages(),
        "outcomes": dict(instance.outcomes),
        "waiting": queues[:SHOWN],
        "waiting_kinds": len(queues),
        "pairs": best(pairs),
        "pair_count": len(pairs),
        "failing": nsmallest(SHOWN, failing, key=_how_bad),
        "failing_count": len(failing),
        "web_clients": stats.web_clients,
        "nodes": {
            "connected_nodes": stats.nodes.connected_nodes,
            "type_node_counts": stats.nodes.type_node_counts,
            "type_in_use_counts": stats.nodes.type_in_use_counts,
            "total_services": stats.nodes.total_services,
        },
    }


def waiting(dispatch: Dispatch, now: float) -> list[Queue]:
    """The queues, the longest first."""
    found = []
    for key in dispatch.waiting.keys():  # noqa: SIM118 -- a snapshot, not a dict
        jobs = dispatch.waiting.jobs(key)
        if jobs:
            oldest_s = round(now - min(job.created_at for job in jobs), 3)
            ready = dispatch.fleet.has_ready(key)
            node_id = key.node or None
            found.append(Queue(key.src, key.tgt, key.needs.names, node_id, len(jobs), oldest_s, ready))
    return nlargest(MAX_NAMED, found, key=lambda queue: queue.jobs)


def without_work(nodes: Sequence[Node], now: float) -> list[Failing]:
    """The nodes that get no work although somebody wants them to."""
    found = []
    for node in nodes:
        if node.status in INTENDED:
            continue
        why = why_idle(node) if node.online else None
        if node.online and (why is None or why.reason is Reason.NOT_PUBLIC):
            continue
        reason = "offline" if why is None else str(why.reason)
        age_s = round(now - node.last_heartbeat_at, 3)
        found.append(Failing(node.id, node.status.value, reason, age_s))
    return found


def best(pairs: Sequence[Served]) -> list[Served]:
    """The pairs with the most nodes, in the order of their languages."""
    chosen = nlargest(SHOWN_PAIRS, pairs, key=lambda pair: pair.ready_nodes)
    return sorted(chosen, key=lambda pair: (pair.src, pair.tgt))


def _how_bad(failing: Failing) -> tuple[int, str]:
    order = [status.value for status in WORST]
    return order.index(failing.status), failing.node_id
