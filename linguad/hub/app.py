"""What everybody may read from the hub (model-hub 4, 7, 11.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
import trio
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, REGISTRY, generate_latest
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from linguad import log
from linguad.core.tenant import Scope
from linguad.errors import StoreError
from linguad.hub import listing
from linguad.hub.access import Access, Rates, Who
from linguad.hub.answers import HubProblem, OldProblem, Request, disk_problem
from linguad.hub.catalog import Catalog
from linguad.hub.entries import canonical, manifest
from linguad.hub.snapshot import Snapshot
from linguad.hub.usage import Records
from linguad.web.address import client_of
from linguad.web.app import MAX_BODY_BYTES, create_app, request_id
from linguad.web.problems import Problem

VERSION = "3.0.0"
MAX_WAIT_SECONDS = 60
JSON_TYPE = "application/json"

T = TypeVar("T")
logger = log.get(__name__)


class HubApp:
    """The routes; `access` and `rates` decide about each request."""

    def __init__(
        self,
        catalog: Catalog,
        access: Access,
        rates: Rates,
        records: Records,
        *,
        not_ready: Callable[[], Awaitable[list[str]]],
    ) -> None:
        self.catalog = catalog
        self.access = access
        self.records = records
        self._rates = rates
        self._not_ready = not_ready
        self.app = _bare_app()
        self._add_reads(self.app)

    def who(self, scope: Scope) -> Who:
        """Who asks, if he may. Raises Problem."""
        who = self.access.require(headers(), client_of(request), scope)
        self._rates.take(who, trio.current_time())
        return who

    def reader(self) -> Who:
        """Who wants to read, if he may. Raises Problem."""
        who = self.access.reader(headers(), client_of(request))
        self._rates.take(who, trio.current_time())
        return who

    def fresh(self, value: object, of: Snapshot | None = None) -> Response:
        """An answer made `of` a snapshot, else of the present one; 304 for who has it already."""
        snapshot = of or self.catalog.current
        text = value if isinstance(value, bytes) else msgspec.json.encode(value)
        response = Response(text, content_type=JSON_TYPE)
        response.headers["ETag"] = snapshot.etag
        response.headers["Cache-Control"] = "public, max-age=10"
        response.headers["X-Catalog-Revision"] = str(snapshot.revision)
        if snapshot.etag in request.headers.get("If-None-Match", ""):
            response = Response(b"", 304, response.headers)
        return response

    def _add_reads(self, app: QuartTrio) -> None:
        @app.get("/")
        async def root() -> Response:
            only_get()
            return plain({"message": "Lingua Model Hub Service v3", "version": VERSION})

        @app.get("/health")
        async def health() -> Response:
            only_get()
            return plain({"status": "OK"})

        @app.get("/health/ready")
        async def ready() -> Response:
            reasons = await self._not_ready()
            return plain({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

        @app.get("/metrics")
        async def metrics() -> Response:
            return Response(generate_latest(REGISTRY), content_type=CONTENT_TYPE_PLAIN_0_0_4)

        @app.get("/api/models/<model_id>")
        async def model(model_id: str) -> Response:
            self.reader()
            return self.fresh(listing.model(self.catalog.current, model_id).encoded)

        @app.get("/api/models/<model_id>/versions")
        async def versions(model_id: str) -> Response:
            self.reader()
            entry = listing.model(self.catalog.current, model_id)
            info = entry.info
            return self.fresh(
                {
                    "model_id": model_id,
                    "default_version": info.default_version,
                    "latest_version": info.latest_version,
                    "channels": info.channels,
                    "versions": listing.versions(entry, args().get("status")),
                }
            )

        @app.get("/api/models/<model_id>/versions/<version>")
        async def version(model_id: str, version: str) -> Response:
            self.reader()
            entry = listing.version(self.catalog.current, model_id, version)
            response = self.fresh(entry.info)
            response.headers["Content-Location"] = f"/api/models/{model_id}/versions/{entry.info.version}"
            return response

        @app.get("/api/models/<model_id>/versions/<version>/manifest")
        async def version_manifest(model_id: str, version: str) -> Response:
            self.reader()
            entry = listing.version(self.catalog.current, model_id, version)
            if not entry.hashed:
                raise HubProblem(
                    503,
                    "not_hashed",
                    "Not all digests are known yet; ask again.",
                    headers={"Retry-After": "10"},
                )
            return self.fresh(canonical(manifest(model_id, entry)))

        @app.get("/api/models/<model_id>/versions/<version>/delta")
        async def delta(model_id: str, version: str) -> Response:
            self.reader()
            snapshot = self.catalog.current
            old = listing.version(snapshot, model_id, args().get("from", ""))
            return self.fresh(listing.delta(old, listing.version(snapshot, model_id, version)))

        @app.get("/api/services/<service_id>")
        async def service(service_id: str) -> Response:
            self.reader()
            return self.fresh(listing.service(self.catalog.current, service_id).info)

        @app.get("/api/services/<service_id>/<version>/<platform>")
        async def variant(service_id: str, version: str, platform: str) -> Response:
            self.reader()
            info = listing.service(self.catalog.current, service_id).info
            here = [one for one in info.variants if one.platform == platform]
            if not here:
                raise OldProblem(404, "service_not_found", "Service not found")
            wanted = info.latest_version if version == "latest" else version
            found = next((one for one in here if one.version == wanted), None)
            if found is None:
                raise OldProblem(404, "variant_not_found", "Service variant not found")
            return self.fresh(found)

        @app.get("/api/services/<service_id>/<version>/checksum")
        async def package_checksum(service_id: str, version: str) -> Response:
            self.reader()
            entry = listing.service(self.catalog.current, service_id)
            platform = args().get("platform", "")
            found = entry.variants.get((version, platform))
            if found is None:
                raise OldProblem(404, "variant_not_found", "Service variant not found")
            return self.fresh(
                {
                    "service_id": service_id,
                    "version": version,
                    "platform": platform,
                    "sha256": found.file.sha256,
                    "size_bytes": found.file.stamp.size,
                }
            )

        @app.get("/api/keys")
        async def keys() -> Response:
            self.reader()
            return plain(self.catalog.keys.listed())

        @app.get("/api/sync/manifest")
        async def sync() -> Response:
            self.reader()
            asked = args()
            since = number("since", -1, 0, 2**63)
            wait = number("wait", 0, 0, MAX_WAIT_SECONDS)
            with trio.move_on_after(wait):
                await self.catalog.wait_change(since)
            if wait and since == self.catalog.current.revision:
                return Response(b"", 304, {"X-Catalog-Revision": str(since)})
            now, changes = self.catalog.current, self.catalog.since(since)
            told = await self.catalog.ask(lambda now: msgspec.json.encode(listing.sync(now, changes, asked)))
            return self.fresh(told, now)


def args() -> Mapping[str, str]:
    """The query, the first value of each name."""
    return request.args.to_dict()


def headers() -> dict[str, str]:
    """The headers, names in lower case."""
    return {name.lower(): value for name, value in request.headers.items()}


def plain(value: object, status: int = 200) -> Response:
    """A JSON answer that nobody keeps."""
    return Response(msgspec.json.encode(value), status, content_type=JSON_TYPE)


async def body(kind: type[T], *, empty: bytes = b"", most: int = MAX_BODY_BYTES) -> T:
    """A request's body; `empty` is what none means. Raises HubProblem that names the field."""
    data = await request.get_data(as_text=False) or empty
    if len(data) > most:
        raise HubProblem(413, "too_large", f"At most {most} bytes at once.")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise HubProblem(422, "invalid_field", f"The body cannot be used: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HubProblem(422, "invalid_json", f"The body is no JSON: {error}") from None


def number(name: str, default: int, low: int, high: int) -> int:
    """A whole number of the query. Raises HubProblem."""
    given = args().get(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdecimal() and len(given) <= 19 and low <= int(given) <= high):
        raise HubProblem.wrong_field(name, f"must be a whole number from {low} to {high}")
    return int(given)


def moment(name: str, given: str | None, default: float) -> float:
    """A time in RFC 3339 as Unix seconds. Raises HubProblem."""
    if given is None:
        return default
    try:
        parsed = datetime.fromisoformat(given)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise HubProblem.wrong_field(name, "must be a time like 2026-01-31T12:00:00Z") from None


def only_get() -> None:
    """Refuse HEAD where it never was answered. Raises MethodNotAllowed."""
    if request.method != "GET":
        raise MethodNotAllowed(["GET"])


def _bare_app() -> QuartTrio:
    app = create_app("linguad.hub")

    @app.errorhandler(Problem)
    async def on_problem(problem: Problem) -> Response:
        # not by jsonify, which ends with a line end that the old answers do not have
        response = plain(problem.body(request_id()), problem.status)
        response.headers.extend(problem.headers)
        return response

    @app.errorhandler(HTTPException)
    async def on_http_error(error: HTTPException) -> Response:
        status = error.code or 500
        code = error.name.lower().replace(" ", "_")
        if status in (404, 405):
            response = plain(OldProblem(status, code, error.name.title()).body(request_id()), status)
            if isinstance(error, MethodNotAllowed):
                allowed = sorted(error.valid_methods or ["GET"])
                bare = request.path in ("/", "/health")
                response.headers["Allow"] = "GET" if bare else ", ".join(allowed)
            return response
        return plain(HubProblem(status, code, error.description or error.name).body(request_id()), status)

    @app.errorhandler(StoreError)
    async def on_store_error(_error: StoreError) -> Response:
        problem = HubProblem(503, "store_unavailable", "Statistics cannot be reached now; try again.")
        return plain(problem.body(request_id()), 503)

    @app.errorhandler(OSError)
    async def on_disk_error(error: OSError) -> Response:
        logger.warning("hub_disk_failed", path=request.path, reason=str(error))
        problem = disk_problem(error)
        return plain(problem.body(request_id()), problem.status)

    return app


def seen() -> Request:
    """The request being answered, without its body."""
    raw: bytes = request.query_string
    return Request(request.method, request.path, raw.decode("latin-1"), headers(), client_of(request))
