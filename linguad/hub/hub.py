"""The hub put together: what its port serves, and what works behind it."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import trio
from quart import Response

from linguad import log
from linguad.config.hub import Hub as HubSettings
from linguad.hub import lists, openapi
from linguad.hub.access import Access, Downloads, KeyStore, Rates
from linguad.hub.admin import Admin
from linguad.hub.answers import Answer, Lines, Request
from linguad.hub.app import VERSION, HubApp, plain, seen
from linguad.hub.asgi import HubAsgi
from linguad.hub.catalog import Catalog
from linguad.hub.desk import Desk
from linguad.hub.direct import Direct
from linguad.hub.hasher import Hasher
from linguad.hub.publishing import Publisher
from linguad.hub.storage import PREFIX, Storage
from linguad.hub.uploads import UploadRules, Uploads
from linguad.hub.usage import Records, Usage
from linguad.hub.usage_routes import add_usage_routes
from linguad.metrics import HUB_DISK_FREE
from linguad.net.front import Front, FrontSettings
from linguad.net.head import Head
from linguad.net.http import HttpApp

CLEAN_SECONDS = 600.0
"""How often uploads and deletions that are over time are removed."""

DAY_S = 86400
MIN_FREE_BYTES = 64 * 1024 * 1024
"""With less free space the hub is not ready."""

DISK_SECONDS = 2.0
"""How long the disk may take to be looked at; one that takes longer is not ready."""

EXPOSED = b"Accept-Ranges, Content-Range, ETag, Content-Length, Retry-After, X-Catalog-Revision, X-Request-Id"

logger = log.get(__name__)


class Hub:
    """One hub: `await open()`, then `run` beside the other services, and `front.serve` on its sockets."""

    def __init__(
        self,
        settings: HubSettings,
        models_dir: Path,
        keys: KeyStore,
        records: Records,
        admin_token: str,
        front: FrontSettings,
    ) -> None:
        self.settings = settings
        self.catalog = Catalog(models_dir, signed_only=settings.signing_required)
        access = Access(keys, admin_token, public_read=settings.public_read, now=time.time)
        downloads = Downloads(
            settings.max_downloads, settings.max_downloads_per_caller, settings.max_downloads_per_address
        )
        rates = Rates(settings.requests_per_second)
        self._lists = lists.Lists(self.catalog, access, rates)
        self._hasher = Hasher(self.catalog)
        self._usage = Usage(records)
        rules = UploadRules(
            max_bytes=settings.max_package_bytes,
            keep_s=settings.upload_hours * 3600,
            allowed_programs=settings.allowed_programs,
        )
        self._uploads = Uploads(self.catalog, rules)
        publisher = Publisher(self.catalog, self._uploads, settings.allowed_programs)
        self._storage = Storage(self.catalog, access, downloads, self._usage, settings.redirect_base)
        hub_app = HubApp(self.catalog, access, rates, records, not_ready=self.not_ready)
        add_usage_routes(hub_app, anonymous=settings.anonymous_usage)
        self._tasks: trio.Nursery | None = None
        self._disk_look = trio.CapacityLimiter(1)
        desk = Desk(hub_app)
        Admin(hub_app, desk, self._uploads, publisher, self._hasher, self._nursery)
        self._add_docs(hub_app)
        self.app = hub_app.app
        asgi = HubAsgi(
            self.app,
            self._answer,
            access,
            self.catalog,
            self._uploads,
            publisher,
            desk.note,
            self.extra_headers,
            settings.max_chunk_bytes,
        )
        self.http = HttpApp("hub", asgi, front.proxies)
        self.direct = Direct(self._answer, self._wants, self.http.serve, front.proxies, self.extra_headers)
        self.front = Front("hub", {}, self.direct.serve, front)

    async def open(self) -> None:
        """Look at the models directory. Raises LinguadError with the cure."""
        await self.catalog.open()
        await self._uploads.open()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """What works behind the port, until cancelled; says when requests may come."""
        async with trio.open_nursery() as nursery:
            self._tasks = nursery
            nursery.start_soon(self.catalog.watch, self.settings.rescan_seconds)
            nursery.start_soon(self._hasher.run)
            nursery.start_soon(self._usage.run)
            nursery.start_soon(self._clean)
            await nursery.start(self.http.run)
            task_status.started()

    async def drain(self) -> None:
        """Close idle connections now, and the others as soon as their answer is out."""
        self.direct.drain()
        await self.http.drain()

    async def not_ready(self) -> list[str]:
        """Why nothing should be asked of this hub; a disk that hangs holds one thread and nobody who asks."""
        with trio.move_on_after(DISK_SECONDS):
            return await trio.to_thread.run_sync(
                self._disk_problems, abandon_on_cancel=True, limiter=self._disk_look
            )
        return ["disk_silent"]

    def _disk_problems(self) -> list[str]:
        if not os.access(self.catalog.root / "storage", os.R_OK | os.X_OK):
            return ["storage_unreadable"]
        return ["disk_full"] if self._free() < MIN_FREE_BYTES else []

    def extra_headers(self, request: Request) -> Lines:
        """CORS: what lets pages of allowed origins read an answer."""
        allowed = self.settings.cors
        origin = request.headers.get("origin", "")
        if not allowed:
            return []
        public = "*" in allowed and "authorization" not in request.headers
        if not origin or (origin not in allowed and not public):
            # what a cache keeps of this is nothing for pages that may read
            return [(b"vary", b"Origin")]
        lines = [
            (b"access-control-allow-origin", b"*" if origin not in allowed else origin.encode("latin-1")),
            (b"access-control-expose-headers", EXPOSED),
            (b"vary", b"Origin"),
        ]
        if request.method == "OPTIONS":
            methods = b"GET, HEAD" if origin not in allowed else b"GET, HEAD, POST, PUT, PATCH, DELETE"
            asked = request.headers.get("access-control-request-headers", "")
            lines += [
                (b"access-control-allow-methods", methods),
                (b"access-control-allow-headers", asked.encode("latin-1")),
                (b"access-control-max-age", b"600"),
            ]
        return lines

    def _wants(self, head: Head) -> bool:
        if head.method not in ("GET", "HEAD"):
            return False
        return head.path.startswith(PREFIX) or head.path in lists.PATHS

    async def _answer(self, request: Request) -> Answer:
        if request.path.startswith(PREFIX):
            return await self._storage.answer(request)
        return await self._lists.answer(request)

    def _add_docs(self, hub_app: HubApp) -> None:
        document = openapi.document(VERSION)
        page = openapi.page(VERSION)

        @hub_app.app.get("/openapi.json")
        async def described() -> Response:
            return plain(document)

        @hub_app.app.get("/docs")
        async def docs() -> Response:
            return Response(page, content_type="text/html; charset=utf-8")

        @hub_app.app.after_request
        async def allow_pages(response: Response) -> Response:
            for name, value in self.extra_headers(seen()):
                response.headers[name.decode()] = value.decode("latin-1")
            return response

    def _nursery(self) -> trio.Nursery:
        assert self._tasks is not None, "run has been started"
        return self._tasks

    def _free(self) -> int:
        return shutil.disk_usage(self.catalog.root).free

    async def _clean(self) -> None:
        while True:
            await self._uploads.expire(time.time())
            before = time.time() - self.settings.trash_days * DAY_S
            try:
                HUB_DISK_FREE.set(await trio.to_thread.run_sync(self._free))
                await trio.to_thread.run_sync(_empty_trash, self.catalog.root / "_trash", before)
            except OSError as error:
                logger.warning("hub_cleaning_failed", reason=str(error))
            await trio.sleep(CLEAN_SECONDS)


def _empty_trash(trash: Path, before: float) -> None:
    """Remove what was deleted before a time (Unix s); names begin with the moment (ns)."""
    for path in trash.iterdir():
        moment = path.name.partition("-")[0]
        if moment.isdecimal() and int(moment) / 1e9 < before:
            shutil.rmtree(path, ignore_errors=True)
