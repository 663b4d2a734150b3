"""`GET /api/v1/utterances/ID`: the time line of a conversation. Needs the admin token."""

from __future__ import annotations

import msgspec
from quart import Response
from quart_trio import QuartTrio

from linguad.core.explain import find
from linguad.core.timeline import MAX_ROWS, of_conversation, rows
from linguad.ops.instance import Instance
from linguad.web.admin import admin_only
from linguad.web.app import error_body

NOT_FOUND = (
    "No utterance of that name is known. Give a session id, a trace id, a job id, or SESSION:INDEX; the last "
    "jobs.explained_jobs ended jobs are remembered, and none over a restart."
)


def add_utterance_routes(app: QuartTrio, instance: Instance, token: str) -> None:
    """Serve the time lines on an app."""

    @app.get("/api/v1/utterances/<path:name>")
    @admin_only(token)
    async def utterances(name: str) -> Response:
        jobs = instance.dispatch.jobs
        found = rows(of_conversation(jobs, find(jobs, name), name), instance.epoch_ms)
        if not found:
            return error_body("utterance_not_found", NOT_FOUND, 404)
        body = {"utterances": found, "most": MAX_ROWS}
        return Response(msgspec.json.encode(body), content_type="application/json")
