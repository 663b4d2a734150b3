"""The task tree: what starts, what stops, in which order.

services            signals, watchdog, engine, session timer, HTTP app; a crash here ends the process
  connections       one guarded task per connection; a bug here ends that connection
    accept          the front door; cancelled first when the daemon stops
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import trio

from linguad import __version__, log
from linguad.config import Config, Part
from linguad.config.changes import taken_over
from linguad.core.clock import Clock
from linguad.core.dispatch import Dispatch
from linguad.core.fleet import Fleet
from linguad.daemon.doors import Door
from linguad.daemon.operating import add_operating_routes, show_state
from linguad.daemon.public import PublicApi
from linguad.daemon.rules import (
    job_rules,
    link_settings,
    memory_budget,
    node_rules,
    node_table,
    session_rules,
)
from linguad.daemon.view import View
from linguad.dispatch.engine import Engine
from linguad.dispatch.tasks import EngineTasks
from linguad.errors import CloseReason, ConfigError
from linguad.hub.hub import Hub
from linguad.hub.overview import Overview
from linguad.ids import RandomIds
from linguad.net import collector
from linguad.net.front import Front, FrontSettings
from linguad.net.http import HttpApp
from linguad.net.inherited import inherited
from linguad.net.links import Links
from linguad.net.peer import TrustedProxies
from linguad.net.supervise import notify, watch_signals, watchdog
from linguad.net.websocket import end_step
from linguad.nodes.memory import NodeMemory
from linguad.nodes.serve import Nodes
from linguad.ops.app import create_ops_app
from linguad.ops.cluster import add_cluster_routes
from linguad.ops.drain import add_drain_route
from linguad.ops.explain import add_explain_routes
from linguad.ops.hub import RemoteShelf, Shelf, add_hub_route
from linguad.ops.languages import add_language_routes
from linguad.ops.nodes import add_node_routes
from linguad.ops.pools import add_pool_routes
from linguad.ops.services import INDEX as SERVICES_INDEX
from linguad.ops.services import NoServices, OwnServices, RemoteServices, Services
from linguad.ops.watch import Watch
from linguad.pages.serving import add_pages
from linguad.pools import COMPILED
from linguad.sessions.last import LastSessions
from linguad.sessions.limit import SessionLimit
from linguad.sessions.serve import Sessions
from linguad.store.hub import HubRecords
from linguad.store.registry import Registry
from linguad.store.start import Store, opened
from linguad.web.admin import admin_token

if TYPE_CHECKING:
    from linguad.cluster.service import Cluster
    from linguad.daemon.shared_nodes import SharedNodes
    from linguad.daemon.shared_sessions import SharedSessions
    from linguad.tracing.export import Tracing

SESSION_PATH, NODE_PATH = "/ws/session", "/ws/node"

GOODBYE_SECONDS = 6.0
"""After the drain, how long peers may take over the close handshake (5 s) before their sockets are cut."""

CLOCK_SYNC_SECONDS = 60.0
"""How often wall time is compared with the monotonic clock, so that a corrected clock shows soon."""

SWITCH_SECONDS = 0.0005
"""How long a thread may keep the interpreter while the loop wants it. With Python's own 5 ms each call of the
loop to the system would cost that much while a large catalogue is read: 50 ms for one request."""

logger = log.get(__name__)


class Daemon:
    """One instance of linguad, put together from its parts."""

    def __init__(
        self, config: Config, *, only: Part | None = None, reread: Callable[[], Config] | None = None
    ) -> None:
        """With `only`, for which the configuration was read, one part alone; what it does not need stays
        idle. `reread` is what a reload asks.

        Raises ConfigError for a gateway alone without a cluster.
        """
        self.config = config
        self._reread = reread or (lambda: config)
        self._only = only
        self.services: Services = NoServices()
        self._shelf: Shelf | None = None
        self.draining = False
        self._told_to_end = False
        self._api: PublicApi | None = None
        self._accounts: Registry | None = None
        ids = RandomIds()
        self.clock = Clock(time.time() - trio.current_time())
        self._proxies = TrustedProxies(config.server.trusted_proxies)
        self.budget = memory_budget(config.server)
        self.fleet = Fleet(node_rules(config), node_table(config), ids)
        self.node_memory = NodeMemory(self.fleet, self.clock, config.state_dir() / "nodes.json")
        self.dispatch = Dispatch(self.fleet, job_rules(config), ids)
        self.engine = Engine(
            self.dispatch,
            self.budget,
            trio.lowlevel.current_clock().current_time,  # metrics may be read when all is over
            slow_path_s=config.log.slow_path_ms / 1000,
        )
        self.engine_tasks = EngineTasks(self.engine, config.nodes.status_scan_interval_seconds)
        throttle_s = config.sessions.error_throttle_ms / 1000
        trusted = TrustedProxies(config.sessions.trusted_sources)
        limit = SessionLimit(config.sessions.max_sessions, config.sessions.max_sessions_per_address, trusted)
        self._session_limit = limit
        self._last_sessions = LastSessions(config.state_dir() / "sessions.json")
        self.sessions = Sessions(
            self.engine,
            session_rules(config),
            ids,
            self.clock,
            throttle_s,
            self.budget,
            limit,
            trusted,
            self._last_sessions,
            trio.current_time,
        )
        self.node_sockets = Nodes(self.engine, config.nodes.register_timeout_seconds, self.clock)
        self.engine.connect(self.node_sockets, self.sessions)
        session_settings = link_settings(config.server, config.sessions, may_ping=False)
        node_settings = link_settings(config.server, config.nodes)
        self.session_links = Links("session", session_settings, self.sessions.talk, self.budget)
        self.node_links = Links("node", node_settings, self.node_sockets.talk, self.budget)
        self.shared_nodes: SharedNodes
        self._shared_sessions: SharedSessions
        self.cluster = self._cluster()
        self._tracing = self._traced()
        self.view = View(self)
        self.watch = Watch(self.view)
        show_state(self.view)

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until a stop signal, then end in order; starts with the port it listens on.

        Raises LinguadError when the port cannot be had.
        """
        sys.setswitchinterval(SWITCH_SECONDS)
        await self.load_memory()
        doors = [] if self._only == "hub" else [self._scheduler_door()]
        async with AsyncExitStack() as stack:
            if self.config.gateway.enabled or self.config.hub.enabled:
                kept = await stack.enter_async_context(opened(self.config))
                self._accounts = kept.registry
            if self.config.hub.enabled:
                doors.append(await self._hub_door(kept))
            if self.config.gateway.enabled:
                self._api = api = PublicApi(
                    self.config,
                    kept,
                    self._proxies,
                    self.sessions,
                    self.engine,
                    self.clock,
                    self.budget,
                    self.cluster,
                )
                await stack.enter_async_context(api.books_open())
                doors.append(api.door())
            try:
                await self._run(doors, task_status)
            finally:
                for door in doors:
                    door.close()
        logger.info("stopped")

    async def _run(
        self,
        doors: list[Door],
        task_status: trio.TaskStatus[int],
    ) -> None:
        server, stop = self.config.server, trio.Event()
        handed = inherited(door.name for door in doors)
        async with trio.open_nursery() as services:
            await services.start(watch_signals, stop, server.hard_stop_seconds, self.reload)
            services.start_soon(watchdog)
            services.start_soon(self._sync_clock)
            services.start_soon(self.engine_tasks.serve)
            services.start_soon(self.sessions.serve)
            services.start_soon(self.node_memory.run)
            services.start_soon(self.watch.run)
            if self._tracing is not None:
                self._tracing.start()
            if self.cluster is not None:
                await services.start(self.cluster.run)
                services.start_soon(self.shared_nodes.run)
                services.start_soon(self._shared_sessions.run)
            if not self.config.hub.enabled and (url := self.config.hub_url()):
                self.services = remote = RemoteServices(url, self.config.models_dir() / SERVICES_INDEX)
                services.start_soon(remote.run)
                self._shelf = RemoteShelf(url)
            if self._accounts is not None:
                services.start_soon(self._accounts.run)
            if self._api is not None:
                await services.start(self._api.run)
            for door in doors:
                await door.open(services, server, handed)
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accept:
                    for door in doors:
                        await door.serve(accept, connections)
                    self._started(doors[0].port)
                    if self._api is not None and sys.stderr.isatty():
                        gateway = next(door for door in doors if door.name == "gateway")
                        print(self._api.hint(gateway.port), file=sys.stderr)
                    task_status.started(doors[0].port)
                    await stop.wait()
                    self.draining = True
                    notify("STOPPING=1")
                    accept.cancel_scope.cancel()
                await self._drain()
                for door in doors:
                    await door.drain()
                connections.cancel_scope.deadline = trio.current_time() + GOODBYE_SECONDS
            await self.node_memory.save()
            if self.cluster is not None:
                await self._shared_sessions.flush()
                await self.cluster.leave()
            if self._tracing is not None:
                await self._tracing.close()
            services.cancel_scope.cancel()

    def _cluster(self) -> Cluster | None:
        """Our part in a cluster, if there is one; an instance alone has nothing of Redis in memory."""
        settings = self.config.cluster
        several = settings.redis_url or settings.redis_urls
        if self._only == "gateway" and not several:
            problem = "has to be set for a gateway alone: the nodes are at other instances"
            raise ConfigError([("cluster.redis_url", problem)])
        if self._only == "hub" or not several:
            return None
        from linguad.cluster.service import Cluster
        from linguad.daemon.shared_nodes import SharedNodes
        from linguad.daemon.shared_sessions import SharedSessions

        cluster = Cluster(settings, lambda: (len(self.node_sockets), len(self.sessions)))
        cluster.after_letters(end_step)
        self.shared_nodes = SharedNodes(cluster, self.engine, self.node_sockets)
        self._shared_sessions = SharedSessions(cluster, self.sessions, self.fleet.pairing, self.config)
        return cluster

    def _traced(self) -> Tracing | None:
        """Where spans go, if anywhere; else nothing of OpenTelemetry is in memory. Raises ConfigError."""
        settings = self.config.tracing
        if not settings.enabled:
            return None
        try:
            from linguad.tracing.export import Tracing
        except ImportError as error:
            problem = f"needs what `pip install linguad[tracing]` brings along: {error}"
            raise ConfigError([("tracing.enabled", problem)]) from error
        tracing = Tracing(settings, self.config.cluster.instance_id, self.clock.epoch_ms)
        self.sessions.when_over(tracing.ended)
        return tracing

    def _scheduler_door(self) -> Door:
        """The port of clients, nodes and operators."""
        server = self.config.server
        app = create_ops_app(self.view)
        token = admin_token(server.admin_token, self.config.state_dir())
        add_node_routes(app, self.view, token)
        add_explain_routes(app, self.view, token)
        add_language_routes(app, self.engine)
        add_cluster_routes(app, self.view, token)
        add_drain_route(app, self.view, server.drain_seconds, token)
        add_pool_routes(app, self.view, token)
        viewers = add_operating_routes(app, self.view, self.watch, token)
        add_hub_route(app, lambda: self._shelf, viewers)
        add_pages(app, viewers)
        sockets = {SESSION_PATH: self.session_links.serve, NODE_PATH: self.node_links.serve}
        if self._only == "gateway":
            # the port is for operators only
            sockets = {}
        http = HttpApp("ops", app, self._proxies, tuple(sockets))
        front = Front(
            "scheduler",
            sockets,
            http.serve,
            FrontSettings(proxies=self._proxies, head_seconds=server.peek_seconds),
        )
        return Door("scheduler", server.host, server.port, front, http, "server.port")

    async def _hub_door(self, kept: Store) -> Door:
        """The port of the model hub."""
        config, settings = self.config, self.config.hub
        front = FrontSettings(proxies=self._proxies, head_seconds=config.server.peek_seconds)
        token = admin_token(config.server.admin_token, config.state_dir())
        records = HubRecords(kept.database)
        hub = Hub(settings, config.models_dir(), kept.registry, records, token, front)
        await hub.open()
        self._shelf = Overview(hub.catalog, records)
        self.services = OwnServices(lambda: hub.catalog.current.services_json)
        return Door("hub", settings.host, settings.port, hub.front, hub, "hub.port")

    async def load_memory(self) -> None:
        """Read what the process before left in the state directory."""
        await self.node_memory.load()
        await self._last_sessions.load(time.time())

    def reload(self) -> None:
        """Take over what the settings say now as far as that goes without a restart, and open the log anew.

        Raises LinguadError with the reason if they cannot be used; then everything is as before.
        """
        config, taken, waiting = taken_over(self.config, self._reread())
        log.configure(config.log)
        self.config = config
        self.engine.change_rules(node_rules(config), job_rules(config))
        self.sessions.change_rules(session_rules(config))
        self._session_limit.change(config.sessions.max_sessions, config.sessions.max_sessions_per_address)
        if self._api is not None:
            self._api.change(config.gateway)
        logger.info("reloaded", changed=taken)
        if waiting:
            logger.warning("restart_needed", settings=waiting)

    def end(self) -> bool:
        """Begin to end, as after SIGTERM; False if that had begun."""
        if self.draining or self._told_to_end:
            return False
        self._told_to_end = True
        os.kill(os.getpid(), signal.SIGTERM)
        return True

    def _started(self, port: int) -> None:
        collector.settle()
        notify("READY=1")
        if not COMPILED:
            logger.warning("extension_missing", cure="install a C compiler and reinstall linguad")
        logger.info("started", version=__version__, host=self.config.server.host or "*", port=port)

    async def _drain(self) -> None:
        """Let jobs finish, then say goodbye: clients first, so that their results still come."""
        logger.info("draining", open_jobs=self.dispatch.open_jobs, sessions=len(self.sessions))
        self.dispatch.amnesty.draining = True
        if self.cluster is not None:
            self.shared_nodes.drain()
            await self.cluster.drain()
        if self._api is not None:
            self._api.stop()
        self.sessions.finish(self.config.server.drain_seconds)
        with trio.move_on_after(self.config.server.drain_seconds):
            await self.sessions.wait_gone()
            await self.engine_tasks.wait_idle()
        self.sessions.abandon()
        if self.cluster is not None:
            await self._shared_sessions.flush()
        await self.sessions.remember()
        if self._api is not None:
            self._api.abandon()
        self.watch.close()
        self.session_links.close_all(CloseReason.SHUTDOWN)
        self.node_links.close_all(CloseReason.SHUTDOWN)

    async def _sync_clock(self) -> None:
        while True:
            self.clock.offset_s = time.time() - trio.current_time()
            await trio.sleep(CLOCK_SYNC_SECONDS)
