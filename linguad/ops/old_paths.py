"""Paths that scripts of the earlier server ask for and that never existed there: answered by a 307."""

from __future__ import annotations

from urllib.parse import quote

from quart import Response, request
from quart_trio import QuartTrio

MOVED = {
    "/api/stats": "/api/v1/stats",
    "/api/nodes": "/api/v1/nodes",
    "/api/nodes/<path:node_id>": "/api/v1/nodes/",
    "/api/pools": "/api/v1/pools",
    "/api/cluster/stats": "/api/v1/cluster",
}
"""Each with its successor."""


def add_old_paths(app: QuartTrio) -> None:
    """Answer them on an app."""

    def serve(path: str, successor: str) -> None:
        async def moved(node_id: str = "") -> Response:
            # relative to the host, which a proxy may call otherwise
            query = request.query_string.decode("latin-1")
            place = successor + quote(node_id, safe="") + (f"?{query}" if query else "")
            return Response(b"", status=307, headers={"Location": place})

        app.add_url_rule(path, endpoint=path, view_func=moved)

    for path, successor in MOVED.items():
        serve(path, successor)
