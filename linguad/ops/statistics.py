"""`GET /api/v1/stats`: what the earlier server's pages read, and old nodes (pools-and-cluster 7.1, 7.2)."""

from __future__ import annotations

import time
from math import inf

from quart import Response
from quart_trio import QuartTrio

from linguad import metrics
from linguad.ops.snapshot import Snapshot


def add_stats_route(app: QuartTrio, snapshot: Snapshot) -> None:
    """Serve the statistics on an app; open to everybody."""
    durations = metrics.STATS_SECONDS[""]

    @app.get("/api/v1/stats")
    async def stats() -> Response:
        began = time.perf_counter()
        metrics.STATS_REQUESTS.inc()
        if snapshot.stale:
            metrics.STATS_STALE.inc()
        snapshot.ask()
        answer = Response(snapshot.json, content_type="application/json")
        age_s = snapshot.age_s
        if age_s != inf:
            answer.headers["X-Snapshot-Age-Ms"] = str(round(age_s * 1000))
        answer.headers["X-Snapshot-Stale"] = "true" if snapshot.stale else "false"
        durations.observe(time.perf_counter() - began)
        return answer
