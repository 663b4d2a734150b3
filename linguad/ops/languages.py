"""`GET /api/v1/languages`: the pairs of languages that are served now. For everybody: no jobs, no nodes."""

from __future__ import annotations

from typing import Protocol

import msgspec
from quart import Response, request
from quart_trio import QuartTrio

from linguad.core.coverage import Served
from linguad.ops.query import answer_wrong, check, language

FILTERS = {
    "src": "a language that is spoken, such as en",
    "tgt": "a language that is wanted, such as es",
}
"""What the pairs can be narrowed down by, and what each may be."""


class Fleet(Protocol):
    """What is known of all nodes."""

    def languages(self) -> list[Served]:
        """The pairs that are served, sorted."""
        ...


def add_language_routes(app: QuartTrio, fleet: Fleet) -> None:
    """Serve the languages on an app."""
    answer_wrong(app)

    @app.get("/api/v1/languages")
    async def languages() -> Response:
        asked = request.args.to_dict()
        check(asked, FILTERS)
        src, tgt = (language(name, asked, FILTERS) for name in FILTERS)
        pairs = [one for one in fleet.languages() if src in (None, one.src) and tgt in (None, one.tgt)]
        body = {
            "pairs": pairs,
            "sources": sorted({one.src for one in pairs}),
            "targets": sorted({one.tgt for one in pairs}),
        }
        return Response(msgspec.json.encode(body), content_type="application/json")
