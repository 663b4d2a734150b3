"""What nodes tell the hub of their use, and what it makes of it (model-hub 11.6)."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import msgspec
from quart import Response

from linguad.core.hub_usage import (
    MAX_COUNT,
    MAX_EVENTS,
    METRICS,
    WINDOWS,
    Kind,
    Metric,
    UsageEvent,
    wrong_time,
)
from linguad.core.tenant import Scope
from linguad.hub.answers import HubProblem
from linguad.hub.app import HubApp, args, body, moment, number, plain
from linguad.hub.names import is_id

MAX_USAGE_BYTES = 256 * 1024


class _Event(msgspec.Struct):
    event_id: str
    type: Metric
    at: str | float
    version: str = ""
    model_id: str | None = None
    service_id: str | None = None
    node_id: str | None = None
    platform: str | None = None
    count: int = 1


class _Events(msgspec.Struct):
    events: list[Any]


def add_usage_routes(hub: HubApp, *, anonymous: bool) -> None:
    """Count and rank use; with `anonymous`, who counts needs no key."""
    app = hub.app

    @app.get("/api/model-usage/ranking")
    async def model_ranking() -> Response:
        return await _ranking(hub, "model", "model_id")

    @app.get("/api/service-usage/ranking")
    async def service_ranking() -> Response:
        return await _ranking(hub, "service", "service_id")

    @app.get("/api/model-usage/<model_id>")
    async def series(model_id: str) -> Response:
        hub.reader()
        asked = args()
        step = {"day": 86400, "hour": 3600}.get(asked.get("granularity", "day"))
        if step is None:
            raise HubProblem.wrong_field("granularity", "must be day or hour")
        until = moment("to", asked.get("to"), time.time())
        since = moment("from", asked.get("from"), until - WINDOWS["30d"])
        points: dict[int, dict[str, int]] = {}
        for one in await hub.records.series("model", model_id, since, until):
            point = points.setdefault(one.hour // step * step, {})
            point[one.type] = point.get(one.type, 0) + one.count
        told = [
            {"at": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), **counts}
            for at, counts in sorted(points.items())
        ]
        return plain({"model_id": model_id, "points": told})

    @app.post("/api/model-usage/events")
    async def events() -> Response:
        if anonymous:
            hub.reader()
        else:
            hub.who(Scope.HUB_USAGE)
        given = (await body(_Events, most=MAX_USAGE_BYTES)).events
        if len(given) > MAX_EVENTS:
            raise HubProblem.wrong_field("events", f"must be at most {MAX_EVENTS}")
        accepted: list[UsageEvent] = []
        rejected = []
        for index, one in enumerate(given):
            try:
                accepted.append(_event(one, time.time()))
            except (ValueError, msgspec.ValidationError) as error:
                rejected.append({"index": index, "reason": str(error)})
        new = await hub.records.count(accepted)
        told = {"accepted": new, "duplicates": len(accepted) - new, "rejected": rejected}
        return plain(told, 202)


async def _ranking(hub: HubApp, kind: Kind, member: str) -> Response:
    hub.reader()
    asked = args()
    window, metric = asked.get("window", "30d"), asked.get("metric", "request")
    if window not in (*WINDOWS, "all"):
        raise HubProblem.wrong_field("window", "must be 1d, 7d, 30d or all")
    if metric not in METRICS:
        raise HubProblem.wrong_field("metric", f"must be one of {', '.join(METRICS)}")
    since = time.time() - WINDOWS[window] if window in WINDOWS else 0.0
    counts = await hub.records.ranking(kind, metric, since)
    task = asked.get("task")
    if task and kind == "model":
        models = hub.catalog.current.models
        counts = [one for one in counts if one[0] in models and models[one[0]].info.task == task]
    most = number("limit", 50, 1, 200)
    return plain(
        [
            {member: name, "request_count": count, "rank": rank}
            for rank, (name, count) in enumerate(counts[:most], 1)
        ]
    )


def _event(given: Any, now: float) -> UsageEvent:
    """An event as it is counted. Raises ValueError that says what is wrong."""
    event = msgspec.convert(given, _Event)
    name = event.model_id or event.service_id or ""
    if not is_id(name):
        raise ValueError("model_id or service_id: must be an id")
    if not 1 <= len(event.event_id) <= 64:
        raise ValueError("event_id: must be a UUID")
    if not 1 <= event.count <= MAX_COUNT:
        raise ValueError(f"count: must be 1 to {MAX_COUNT}")
    at = event.at if isinstance(event.at, float) else moment("at", event.at, now)
    if wrong := wrong_time(at, now):
        raise ValueError(wrong)
    return UsageEvent(
        event_id=event.event_id,
        type=event.type,
        kind="model" if event.model_id else "service",
        name=name,
        version=event.version[:64],
        at=at,
        node_id=(event.node_id or "")[:128],
        platform=(event.platform or "")[:32],
        count=event.count,
    )
