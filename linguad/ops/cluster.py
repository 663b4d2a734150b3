"""`/api/v1/cluster`: all instances, their dead letters, what Redis holds (pools-and-cluster 7.4).

All of it needs the admin token. An instance alone answers 503, as does one whose Redis is away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import wraps
from typing import Any, Protocol

from quart import Response, jsonify, request
from quart_trio import QuartTrio

from linguad import log
from linguad.core.health import Status
from linguad.core.node import Node
from linguad.core.services import CORE_SERVICES, Services
from linguad.net.redis.errors import RedisError
from linguad.ops.query import answer_wrong, check, number
from linguad.web.admin import P, View, admin_only
from linguad.web.app import error_body

DEFAULT_LETTERS, MAX_LETTERS = 100, 1000
"""Dead letters that are listed."""

MAX_SERVICES = 100
"""Services listed of one node; real ones have some ten."""

FILTERS = {"limit": f"a whole number from 1 to {MAX_LETTERS}, how many dead letters are listed"}

KINDS = tuple(kind for kind in Services if kind)

logger = log.get(__name__)


class Desk(Protocol):
    """What can be asked of the cluster."""

    async def page(self) -> Mapping[str, Any]:
        """All instances, and what lies in their inboxes."""
        ...

    async def key_families(self) -> list[dict[str, Any]]:
        """What Redis holds."""
        ...

    async def dead_letters(self, most: int) -> list[dict[str, object]]:
        """The newest dead letters."""
        ...

    async def dead_letter(self, instance: str, entry_id: str) -> dict[str, object] | None:
        """One of them."""
        ...

    async def drop(self, instance: str, entry_id: str) -> bool:
        """Remove one; False if it is not there."""
        ...

    async def replay(self, instance: str, entry_id: str) -> str:
        """Have one delivered again; why not, or "" if it will be."""
        ...


class Instance(Protocol):
    """This instance."""

    def desk(self) -> Desk | None:
        """What can be asked of its cluster; None if it is alone."""
        ...

    def nodes(self) -> Sequence[tuple[Node, int]]:
        """Every known node and the slots it has in use."""
        ...

    def epoch_ms(self, now: float) -> int:
        """Unix time in ms of a moment."""
        ...


def add_cluster_routes(app: QuartTrio, instance: Instance, token: str) -> None:
    """Serve the cluster on an app."""
    answer_wrong(app)

    def guarded(view: View[P]) -> View[P]:
        """For operators, while Redis can be asked."""

        @wraps(view)
        async def asked(*args: P.args, **kwargs: P.kwargs) -> Response:
            if instance.desk() is None:
                message = "This instance is alone: set cluster.redis_url to have several."
                return error_body("cluster_not_enabled", message, 503)
            try:
                return await view(*args, **kwargs)
            except RedisError as error:
                return error_body("redis_away", f"{error}; local work goes on.", 503)

        return admin_only(token)(asked)

    def desk() -> Desk:
        found = instance.desk()
        assert found is not None, "asked for before"
        return found

    @app.get("/api/v1/cluster")
    @guarded
    async def cluster() -> Response:
        return jsonify({**await desk().page(), **_fleet(instance)})

    @app.get("/api/v1/cluster/keys")
    @guarded
    async def families() -> Response:
        return jsonify({"families": await desk().key_families()})

    @app.get("/api/v1/cluster/dlq")
    @guarded
    async def listed() -> Response:
        asked = request.args.to_dict()
        check(asked, FILTERS)
        limit = number("limit", asked, FILTERS, DEFAULT_LETTERS, MAX_LETTERS)
        return jsonify({"letters": await desk().dead_letters(limit)})

    @app.get("/api/v1/cluster/dlq/<name>/<entry_id>")
    @guarded
    async def letter(name: str, entry_id: str) -> Response:
        found = await desk().dead_letter(name, entry_id)
        return _unknown() if found is None else jsonify(found)

    @app.delete("/api/v1/cluster/dlq/<name>/<entry_id>")
    @guarded
    async def drop(name: str, entry_id: str) -> Response:
        if await desk().dead_letter(name, entry_id) is None or not await desk().drop(name, entry_id):
            return _unknown()
        logger.info("letter_dropped", instance=name, letter=entry_id)
        return jsonify({"dropped": f"{name}/{entry_id}"})

    @app.post("/api/v1/cluster/dlq/<name>/<entry_id>/replay")
    @guarded
    async def replay(name: str, entry_id: str) -> Response:
        if await desk().dead_letter(name, entry_id) is None:
            return _unknown()
        if problem := await desk().replay(name, entry_id):
            return error_body("not_replayable", f"The letter cannot be delivered again: {problem}.", 409)
        logger.info("letter_replayed", instance=name, letter=entry_id)
        return jsonify({"replayed": f"{name}/{entry_id}"})


def _fleet(instance: Instance) -> dict[str, Any]:
    """The nodes as this instance knows them."""
    nodes = instance.nodes()
    return {
        "total_nodes": len(nodes),
        "online_nodes": sum(node.online for node, _ in nodes),
        "ready_nodes": sum(
            node.status is Status.READY and not CORE_SERVICES & ~node.services.running for node, _ in nodes
        ),
        "nodes": [_node(node, used, instance) for node, used in nodes],
    }


def _node(node: Node, used: int, instance: Instance) -> dict[str, Any]:
    return {
        "node_id": node.id,
        "platform": node.platform,
        "status": node.status.value,
        "online": node.online,
        "cpu_usage": node.usage.cpu_percent,
        "memory_usage": node.usage.mem_percent,
        "gpu_usage": node.usage.gpu_percent,
        "current_jobs": used,
        "max_concurrent_jobs": node.cap,
        "last_heartbeat": instance.epoch_ms(node.last_heartbeat_at),
        "services": [_service(node, *one) for one in node.services.listed[:MAX_SERVICES]],
        "capabilities": [_capability(node, kind) for kind in KINDS],
    }


def _service(node: Node, service_id: str, service_type: str, status: str) -> dict[str, str]:
    """A service as the node lists it; `unavailable` if it said since then that it lacks it."""
    if service_id in node.services.marked:
        status = "unavailable"
    return {"service_id": service_id, "service_type": service_type, "status": status}


def _capability(node: Node, kind: Services) -> dict[str, Any]:
    ready = bool(node.services.running & kind)
    return {
        "service_type": kind.names[0],
        "ready": ready,
        "reason": None if ready else node.services.why_not(kind).value,
        "ready_impl_ids": node.services.ready_ids(kind),
    }


def _unknown() -> Response:
    message = "There is no such dead letter; GET /api/v1/cluster/dlq lists them."
    return error_body("letter_not_found", message, 404)
