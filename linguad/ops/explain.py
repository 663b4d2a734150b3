"""`GET /api/v1/explain/ID`: all about a job, and which node could do it now. Needs the admin token."""

from __future__ import annotations

from typing import Protocol

import msgspec
from quart import Response, jsonify
from quart_trio import QuartTrio

from linguad.web.admin import admin_only
from linguad.web.app import error_body


class Jobs(Protocol):
    """Where the jobs are."""

    def explain(self, name: str) -> list[dict[str, object]]:
        """The jobs meant by a job id, a node's job id, a trace id, or `SESSION:INDEX`."""
        ...


def add_explain_routes(app: QuartTrio, jobs: Jobs, token: str) -> None:
    """Serve explanations on an app."""

    @app.get("/api/v1/explain/<path:name>")
    @admin_only(token)
    async def explain(name: str) -> Response:
        found = jobs.explain(name)
        if not found:
            message = (
                "No job of that id is known. Give a job id, a trace id, or SESSION:INDEX; the last "
                "jobs.explained_jobs ended jobs are remembered, and none over a restart."
            )
            return error_body("job_not_found", message, 404)
        return jsonify({"jobs": msgspec.to_builtins(found)})
