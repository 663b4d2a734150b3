"""`POST /api/v1/drain`: the instance ends as after SIGTERM. It wants the admin token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from quart import Response, jsonify
from quart_trio import QuartTrio

from linguad.web.admin import admin_only


class Instance(Protocol):
    """This instance."""

    def drain(self) -> bool:
        """Begin to end; False if that had begun."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """Its sessions and open jobs, among others."""
        ...


def add_drain_route(app: QuartTrio, instance: Instance, seconds: float, token: str) -> None:
    """Serve it on an app; jobs have `seconds` to end."""

    @app.post("/api/v1/drain")
    @admin_only(token)
    async def drain() -> Response:
        began = instance.drain()
        facts = instance.facts()
        response = jsonify(
            {
                "draining": True,
                "began": began,
                "seconds": seconds,
                "sessions": facts["sessions"],
                "open_jobs": facts["open_jobs"],
            }
        )
        response.status_code = 202
        return response
