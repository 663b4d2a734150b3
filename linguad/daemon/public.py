"""The public API of this instance, put together: its store, its app and what runs beside it."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from linguad.config import Config
from linguad.core.clock import Clock
from linguad.core.metering import Metering
from linguad.core.tenant import BillingMode, Scope
from linguad.daemon.doors import Door
from linguad.dispatch.engine import Engine
from linguad.errors import CloseReason, StoreError
from linguad.gateway.account import add_account_routes, add_ticket_routes
from linguad.gateway.admin import add_admin_routes
from linguad.gateway.admission import Admission
from linguad.gateway.app import OK, create_gateway_app
from linguad.gateway.budget import Budgets
from linguad.gateway.capacity import Capacity, add_capacity_routes
from linguad.gateway.docs import add_docs
from linguad.gateway.operations import OPERATIONS
from linguad.gateway.protect import Doorkeeper, protected
from linguad.gateway.sound import Sounds
from linguad.gateway.stream import Streams, link_settings
from linguad.gateway.talk import Talks
from linguad.gateway.tickets import Tickets
from linguad.gateway.translate import PATH as TRANSLATE_PATH
from linguad.gateway.translate import Translator, add_translate_route
from linguad.gateway.usage import add_admin_usage_routes, add_usage_routes
from linguad.net.front import Front, FrontSettings
from linguad.net.http import HttpApp
from linguad.net.links import Links
from linguad.net.outbox import Budget
from linguad.net.peer import TrustedProxies
from linguad.sessions.inside import Inside
from linguad.sessions.serve import Sessions
from linguad.store.bookkeeper import Bookkeeper
from linguad.store.start import Store
from linguad.web.bodies import LargeBodies

STREAM_PATH = "/v1/stream"
SELECT_ONE = "SELECT 1"

FIRST_CALL = """\
The public API is on port {port}; its first key is in {key}. Try:
  curl -s http://localhost:{port}/v1/speech/translate -H "Authorization: Bearer $(cat {key})" \\
    -F audio=@demo/audio/weather.wav -F src_lang=en -F tgt_lang=es | tee answer.json | jq -r .text
  jq -r .audio_tts answer.json | base64 -d > answer.wav
"""


class Nobody:
    """Hears of no event."""

    def emit(self, tenant_id: str, type: str, data: dict[str, Any]) -> None:
        """Nothing."""


class PublicApi:
    """Serves the API while its store is open."""

    def __init__(
        self,
        config: Config,
        kept: Store,
        proxies: TrustedProxies,
        sessions: Sessions,
        engine: Engine,
        clock: Clock,
        budget: Budget,
    ) -> None:
        settings = config.gateway
        self._config = config
        self._proxies = proxies
        self._engine = engine
        self._store = kept
        registry = kept.registry
        self._books = Bookkeeper(kept.database, self._is_billed)
        budgets = Budgets(self._books, settings.billing_overdraft_seconds)
        engine.keep_books(Metering(clock, credit_superseded=settings.billing_credit_superseded), self._books)
        self._admission = Admission(registry, settings, budgets)
        talks, sounds = Talks(Inside(sessions, trio.current_time)), Sounds()
        capacity, tickets = Capacity(engine), Tickets(settings)
        app = create_gateway_app(self._admission, self)
        add_account_routes(app, self._admission)
        add_ticket_routes(app, self._admission, tickets, settings)
        add_capacity_routes(app, self._admission, capacity)
        add_usage_routes(app, self._protect, self._books)
        add_admin_routes(app, registry, self._protect, lambda view: view)
        add_admin_usage_routes(app, self._protect, self._books, registry.tenant)
        translator = Translator(talks, sounds, settings, capacity)
        add_translate_route(app, self._admission, translator, capacity, settings, Nobody())
        add_docs(app, OPERATIONS, page=not settings.production)
        self._app = LargeBodies(app, [TRANSLATE_PATH])
        doorkeeper = Doorkeeper(self._admission, tickets, settings)
        self._streams = Streams(doorkeeper, self._admission, talks, sounds, settings)
        self._links = Links(
            "stream",
            link_settings(settings, config.server.handshake_seconds, config.server.write_timeout_seconds),
            self._streams.talk,
            budget,
            self._streams.doorman,
        )

    def door(self) -> Door:
        """Its port."""
        settings = self._config.gateway
        http = HttpApp("gateway", self._app, self._proxies, (STREAM_PATH,))
        front = Front(
            "gateway",
            {STREAM_PATH: self._links.serve},
            http.serve,
            FrontSettings(proxies=self._proxies, head_seconds=self._config.server.peek_seconds),
        )
        return Door("gateway", settings.host, settings.port, front, http, "gateway.port")

    def hint(self, port: int) -> str:
        """How a first call is made, for whoever started the daemon by hand; never a key itself."""
        key = self._store.dev_key_file
        return "" if key is None else FIRST_CALL.format(port=port, key=shlex.quote(str(key)))

    async def run(self) -> None:
        """What goes on beside the requests, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._store.registry.run)
            nursery.start_soon(self._books.run)
            nursery.start_soon(self._streams.run)

    def stop(self) -> None:
        """Begin nothing new on open streams; what was said is still answered."""
        self._streams.stop()

    def abandon(self) -> None:
        """The server stops now: end what is open."""
        self._streams.abandon()
        self._links.close_all(CloseReason.SHUTDOWN)

    async def checks(self) -> Mapping[str, str]:
        """How what the API needs is (gateway 9)."""
        return {
            "scheduler": OK,
            "store": await self._store_state(),
            "rate_store": OK,
        }

    def _protect(self, scope: Scope) -> Any:
        return protected(self._admission, scope)

    def _is_billed(self, tenant_id: str) -> bool:
        tenant = self._store.registry.tenant(tenant_id)
        return tenant is not None and tenant.billing_mode is not BillingMode.NONE

    async def _store_state(self) -> str:
        try:
            await self._store.database.read(lambda connection: connection.exec_driver_sql(SELECT_ONE).close())
        except StoreError:
            return "away"
        return OK

    @asynccontextmanager
    async def books_open(self) -> AsyncIterator[None]:
        """Usage is written until the end, and the last of it then."""
        await self._books.open()
        try:
            yield
        finally:
            await self._books.flush()
