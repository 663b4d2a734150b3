"""The public API of this instance, put together: its store, its app and what runs beside it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import trio

from linguad.config import Config
from linguad.daemon.doors import Door
from linguad.dispatch.engine import Engine
from linguad.errors import StoreError
from linguad.gateway.account import add_account_routes, add_ticket_routes
from linguad.gateway.admin import add_admin_routes
from linguad.gateway.admission import Admission
from linguad.gateway.app import OK, create_gateway_app
from linguad.gateway.capacity import Capacity, add_capacity_routes
from linguad.gateway.protect import protected
from linguad.gateway.sound import Sounds
from linguad.gateway.talk import Talks
from linguad.gateway.tickets import Tickets
from linguad.net.front import Front, FrontSettings
from linguad.net.http import HttpApp
from linguad.net.peer import TrustedProxies
from linguad.sessions.inside import Inside
from linguad.sessions.serve import Sessions
from linguad.store.start import Store, opened

STREAM_PATH = "/v1/stream"
SELECT_ONE = "SELECT 1"


class PublicApi:
    """Serves the API while its store is open."""

    def __init__(
        self, config: Config, proxies: TrustedProxies, sessions: Sessions, engine: Engine, kept: Store
    ) -> None:
        settings = config.gateway
        self._config = config
        self._proxies = proxies
        self._engine = engine
        self._store = kept
        registry = kept.registry
        self._admission = Admission(registry, settings)
        self._talks = Talks(Inside(sessions, trio.current_time))
        self._sounds = Sounds()
        capacity = Capacity(engine)
        tickets = Tickets(settings.max_tickets)
        app = create_gateway_app(self._admission, self)
        add_account_routes(app, self._admission)
        add_ticket_routes(app, self._admission, tickets, settings.ticket_ttl_seconds, time.time)
        add_capacity_routes(app, self._admission, capacity)
        add_admin_routes(app, registry, lambda scope: protected(self._admission, scope), lambda view: view)
        self._app = app

    def door(self) -> Door:
        """Its port."""
        settings = self._config.gateway
        http = HttpApp("gateway", self._app, self._proxies, (STREAM_PATH,))
        front = Front(
            "gateway",
            {},
            http.serve,
            FrontSettings(proxies=self._proxies, head_seconds=self._config.server.peek_seconds),
        )
        return Door("gateway", settings.host, settings.port, front, http, "gateway.port")

    async def run(self) -> None:
        """What goes on beside the requests, for ever."""
        await self._store.registry.run()

    async def checks(self) -> Mapping[str, str]:
        """How what the API needs is (gateway 9)."""
        return {
            "scheduler": OK,
            "store": await self._store_state(),
            "rate_store": OK,
        }

    async def _store_state(self) -> str:
        try:
            await self._store.database.read(lambda connection: connection.exec_driver_sql(SELECT_ONE).close())
        except StoreError:
            return "away"
        return OK


@asynccontextmanager
async def public_api(
    config: Config, proxies: TrustedProxies, sessions: Sessions, engine: Engine
) -> AsyncIterator[PublicApi]:
    """The API over its store, which is closed at the end. Raises LinguadError if it cannot be opened."""
    async with opened(config) as kept:
        yield PublicApi(config, proxies, sessions, engine, kept)
