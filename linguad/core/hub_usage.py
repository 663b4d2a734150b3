"""What nodes and the hub itself tell about the use of models and packages (model-hub 11.6)."""

from __future__ import annotations

from typing import Literal, get_args

from msgspec import Struct

Kind = Literal["model", "service"]
Metric = Literal["request", "download", "install", "load", "error"]
METRICS: tuple[Metric, ...] = get_args(Metric)

MAX_EVENTS = 500
MAX_COUNT = 10_000
OLDEST_S = 7 * 86400
"""Older events are refused; for so long ids are remembered, so that nothing is counted twice."""
NEWEST_S = 300
"""So far in the future a wrong clock may be."""
KEPT_S = 30 * 86400
"""How long single events are kept; what they add up to per hour stays."""
HOUR_S = 3600

WINDOWS = {"1d": 86400, "7d": 7 * 86400, "30d": 30 * 86400}
"""Windows of a ranking in seconds; `all` has no beginning."""


class UsageEvent(Struct, frozen=True, kw_only=True):
    """Something was used; `at` in Unix seconds."""

    event_id: str
    type: Metric
    kind: Kind
    name: str
    version: str
    at: float
    node_id: str = ""
    platform: str = ""
    count: int = 1


class UsageHour(Struct, frozen=True):
    """How often something was used in one hour (Unix seconds of its beginning)."""

    hour: int
    type: str
    count: int


def wrong_time(at: float, now: float) -> str:
    """Why an event of this time is refused; "" if it is not (both Unix seconds)."""
    if at < now - OLDEST_S:
        return "at: older than 7 days"
    if at > now + NEWEST_S:
        return "at: more than 5 minutes in the future; set the clock right"
    return ""


def ranked(counts: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Ids by how often they were used, equal ones by id."""
    return sorted(counts, key=lambda item: (-item[1], item[0]))
