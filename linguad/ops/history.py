"""`GET /api/v1/history`: the gauges of a day, one value a minute, in memory."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from quart import Response, request
from quart_trio import QuartTrio

from linguad.ops.query import check, number
from linguad.ops.viewers import Viewers

MINUTES = 24 * 60
"""How far back it goes; 4 bytes for each gauge and minute."""

FILTERS = {"minutes": f"a whole number from 1 to {MINUTES}, how far back"}


class History:
    """Mutable state: a ring of the last values of each gauge, written once a minute."""

    def __init__(self, names: Sequence[str]) -> None:
        self._rings = {name: array("f", bytes(4 * MINUTES)) for name in names}
        self._written = 0
        self._last_ms = 0

    def __len__(self) -> int:
        return min(self._written, MINUTES)

    def add(self, values: Mapping[str, float], at_ms: int) -> None:
        """A minute is over; `at_ms` is Unix time."""
        place = self._written % MINUTES
        for name, ring in self._rings.items():
            ring[place] = values[name]
        self._written += 1
        self._last_ms = at_ms

    def last(self, minutes: int) -> dict[str, Any]:
        """The values of the last so many minutes as JSON, the oldest first."""
        count = min(minutes, len(self))
        places = [number % MINUTES for number in range(self._written - count, self._written)]
        return {
            "interval_seconds": 60,
            "until_ms": self._last_ms,
            "minutes": count,
            "gauges": {
                name: [round(ring[place], 3) for place in places] for name, ring in self._rings.items()
            },
        }


def add_history_route(app: QuartTrio, history: History, viewers: Viewers) -> None:
    """Serve the history on an app."""

    @app.get("/api/v1/history")
    @viewers.only
    async def last_minutes() -> Response:
        asked = request.args.to_dict()
        check(asked, FILTERS)
        minutes = number("minutes", asked, FILTERS, MINUTES, MINUTES)
        return Response(msgspec.json.encode(history.last(minutes)), content_type="application/json")
