"""Health, readiness and metrics on the scheduler's port (pools-and-cluster 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, REGISTRY, generate_latest
from quart import Response, jsonify
from quart_trio import QuartTrio

from linguad.web.app import create_app


class OpsStatus(Protocol):
    """What the daemon tells about itself."""

    @property
    def draining(self) -> bool:
        """The daemon is on its way out and takes no new work."""

    def facts(self) -> Mapping[str, Any]:
        """Plain facts about the instance that `/ready` shows as well."""

    def not_ready(self) -> Sequence[str]:
        """Why no work should be sent here; empty if it should."""

    def degraded(self) -> Sequence[str]:
        """What is missing although work is done, such as `redis`."""


def create_ops_app(status: OpsStatus) -> QuartTrio:
    """The app with `/health`, `/ready` and `/metrics`."""
    app = create_app("linguad.ops")

    @app.get("/health")
    async def health() -> Response:
        return Response("OK", content_type="text/plain; charset=utf-8")

    @app.get("/ready")
    async def ready() -> Response:
        reasons = [*(["draining"] if status.draining else []), *status.not_ready()]
        response = jsonify(
            {
                "ready": not reasons,
                "draining": status.draining,
                "reasons": reasons,
                "degraded": list(status.degraded()),
                **status.facts(),
            }
        )
        response.status_code = 503 if reasons else 200
        return response

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(REGISTRY), content_type=CONTENT_TYPE_PLAIN_0_0_4)

    return app
