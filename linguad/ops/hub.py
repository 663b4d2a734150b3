"""`GET /api/v1/hub`: the models of the hub with their channels, and what is used most, for pages.

Where the hub runs in this process it is asked directly, else over HTTP; nobody asks more often than each
`FRESH_S`, whoever looks; one that cannot be asked is left alone for `AWAY_S`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
import trio
from msgspec import Struct
from quart import Response
from quart_trio import QuartTrio

from linguad.errors import LinguadError
from linguad.net.http_client import Limits, request
from linguad.ops.viewers import Viewers
from linguad.web.app import error_body

FRESH_S = 15.0
"""How long an answer holds, s."""

AWAY_S = 5.0
"""How long a failure does: nobody queues for a hub that makes each of them wait."""

LIMITS = Limits(connect_seconds=3.0, whole_seconds=10.0)

MODELS = "/api/models?include_yanked=1"
RANKINGS = {
    "model_ranking": "/api/model-usage/ranking?limit=200",
    "service_ranking": "/api/service-usage/ranking?limit=200",
}


class Shelf(Protocol):
    """A hub."""

    async def told(self) -> Mapping[str, Any]:
        """Its models and rankings. Raises LinguadError while it cannot be asked."""
        ...


class Version(Struct, frozen=True):
    """A version of a model; `status` is published, deprecated, yanked or corrupt."""

    version: str
    size_bytes: int = 0
    status: str = "published"


class Model(Struct, frozen=True):
    """A model, newest version first."""

    id: str
    name: str = ""
    task: str = ""
    languages: tuple[str, ...] = ()
    default_version: str = ""
    channels: dict[str, str] = {}
    versions: tuple[Version, ...] = ()


class Place(Struct, frozen=True):
    """A row of a ranking as a hub tells it."""

    rank: int
    request_count: int
    model_id: str = ""
    service_id: str = ""


class RemoteShelf:
    """Another hub."""

    def __init__(self, url: str, *, limits: Limits = LIMITS) -> None:
        self._url = url.rstrip("/")
        self._limits = limits

    async def told(self) -> Mapping[str, Any]:
        """Its models; a ranking that it does not tell is None."""
        told: dict[str, Any] = {"models": await self._ask(MODELS, list[Model])}
        for name, path in RANKINGS.items():
            try:
                places = await self._ask(path, list[Place])
            except LinguadError:
                told[name] = None
                continue
            told[name] = [
                {"id": one.model_id or one.service_id, "count": one.request_count, "rank": one.rank}
                for one in places
            ]
        return told

    async def _ask(self, path: str, kind: Any) -> Any:
        async with request("GET", self._url + path, limits=self._limits) as response:
            if response.status != 200:
                raise LinguadError(f"the hub answers with status {response.status}")
            answer = await response.read()
        try:
            return msgspec.json.decode(answer, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise LinguadError(f"the answer of the hub cannot be read: {error}") from error


def add_hub_route(app: QuartTrio, shelf: Callable[[], Shelf | None], viewers: Viewers) -> None:
    """Serve what the hub tells on an app; `shelf` gives the hub, if there is one."""
    one_at_a_time = trio.Lock()
    body, problem, until = b"", "", 0.0

    @app.get("/api/v1/hub")
    @viewers.only
    async def hub() -> Response:
        nonlocal body, problem, until
        found = shelf()
        if found is None:
            return error_body("no_hub", "There is no hub: set hub.enabled or hub.url.", 503)
        async with one_at_a_time:
            if trio.current_time() >= until:
                try:
                    body, problem = msgspec.json.encode(await found.told()), ""
                except LinguadError as error:
                    problem = f"The hub cannot be asked: {error}."
                until = trio.current_time() + (AWAY_S if problem else FRESH_S)
        if problem:
            return error_body("hub_away", problem, 503)
        return Response(body, content_type="application/json")
