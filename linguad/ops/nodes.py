"""`GET /api/v1/nodes`: who is registered, what it offers, how it is doing. Needs the admin token."""

from __future__ import annotations

from typing import Any, Protocol

from quart import Response, jsonify
from quart_trio import QuartTrio

from linguad.core.node import Node
from linguad.web.admin import admin_only


class Directory(Protocol):
    """Where the nodes are."""

    def nodes(self) -> list[tuple[Node, int]]:
        """Every known node and the slots it has in use."""
        ...


def add_node_routes(app: QuartTrio, directory: Directory, token: str) -> None:
    """Serve the list of nodes on an app."""

    @app.get("/api/v1/nodes")
    @admin_only(token)
    async def nodes() -> Response:
        return jsonify({"nodes": [describe(node, used) for node, used in directory.nodes()]})


def describe(node: Node, used: int) -> dict[str, Any]:
    """A node as JSON; `slots_used` of `slots` jobs are running."""
    return {
        "node_id": node.id,
        "status": node.status.value,
        "platform": node.platform,
        "gpus": [gpu.name for gpu in node.hardware.gpus or ()],
        "accepts_public_jobs": node.accepts_public,
        "slots": node.cap,
        "slots_used": used,
        "services_running": node.services.running.names,
        "services_unavailable": node.services.marked,
        "no_work_reasons": dict(node.no_work),
        "asr_languages": sorted(node.languages.asr),
        "tts_languages": sorted(node.languages.tts),
        "cpu_percent": node.usage.cpu_percent,
        "gpu_percent": node.usage.gpu_percent,
    }
