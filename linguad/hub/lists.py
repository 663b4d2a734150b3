"""The two lists that every node asks for all the time: straight from memory (model-hub 4.2, 7.2)."""

from __future__ import annotations

from functools import partial
from urllib.parse import parse_qs

import trio

from linguad.hub import listing
from linguad.hub.access import Access, Rates
from linguad.hub.answers import Answer, OldProblem, Request
from linguad.hub.catalog import Catalog

MODELS, SERVICES = "/api/models", "/api/services"
PATHS = (MODELS, SERVICES)


class Lists:
    """Answers requests for `PATHS`."""

    def __init__(self, catalog: Catalog, access: Access, rates: Rates) -> None:
        self._catalog = catalog
        self._access = access
        self._rates = rates

    async def answer(self, request: Request) -> Answer:
        """The answer. Raises Problem."""
        if request.method not in ("GET", "HEAD"):
            raise OldProblem(405, "method_not_allowed", "Method Not Allowed", headers={"Allow": "GET, HEAD"})
        who = self._access.reader(request.headers, request.peer)
        self._rates.take(who, trio.current_time())
        snapshot = self._catalog.current
        head = [
            (b"content-type", b"application/json"),
            (b"etag", snapshot.etag.encode()),
            (b"cache-control", b"public, max-age=10"),
            (b"x-catalog-revision", b"%d" % snapshot.revision),
        ]
        if snapshot.etag in request.headers.get("if-none-match", ""):
            return Answer(304, head)
        models = request.path == MODELS
        if not request.query:
            return Answer(200, head, snapshot.models_json if models else snapshot.services_json)
        asked = {name: values[0] for name, values in parse_qs(request.query, keep_blank_values=True).items()}
        made, cursor = await self._catalog.ask(partial(listing.encoded, models=models, asked=asked))
        if cursor:
            head.append((b"x-next-cursor", cursor.encode()))
        return Answer(200, head, made)
