"""Letting web pages of other origins call an API: an allow-list, never `*`, never cookies (gateway 11.9)."""

from __future__ import annotations

from collections.abc import Callable

from quart import Response, request
from quart_trio import QuartTrio

METHODS = "GET, POST, DELETE, PATCH"
HEADERS = "Authorization, Content-Type, Idempotency-Key, X-Request-Id, X-Trace-Id"
EXPOSED = (
    "RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, X-Request-Id, Location, "
    "Idempotency-Replayed"
)
MAX_AGE_S = 600
"""How long a browser remembers the answer to a preflight."""


def add_cors(app: QuartTrio, may_call: Callable[[str], bool]) -> None:
    """Answer preflights and mark answers for the pages that `may_call`, which gets their origin.

    A preflight is answered before any view runs: it needs no key and costs no request.
    """

    @app.before_request
    async def preflight() -> Response | None:
        asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if not asks or request.routing_exception is not None:
            return None
        answer = Response(b"", status=204)
        if may_call(request.headers.get("Origin", "")):
            answer.headers["Access-Control-Allow-Methods"] = METHODS
            answer.headers["Access-Control-Allow-Headers"] = HEADERS
            answer.headers["Access-Control-Max-Age"] = str(MAX_AGE_S)
        return answer

    @app.after_request
    async def mark(answer: Response) -> Response:
        answer.vary.add("Origin")
        origin = request.headers.get("Origin", "")
        if origin and may_call(origin):
            answer.headers["Access-Control-Allow-Origin"] = origin
            answer.headers["Access-Control-Expose-Headers"] = EXPOSED
        return answer
