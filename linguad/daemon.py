"""The task tree: what starts, what stops, in which order. The one file that knows every part.

services            signals, watchdog, engine, session timer, HTTP app; a crash here ends the process
  connections       one guarded task per connection; a bug here ends that connection
    accept          the front door; cancelled first when the daemon stops
"""

from __future__ import annotations

import os
import time
from functools import partial

import trio

from linguad import __version__, log, metrics
from linguad.config import Config, Server
from linguad.config import Nodes as NodeSettings
from linguad.config import Sessions as SessionSettings
from linguad.core.capability import ALL_SERVICES, CapabilityPool, Pin, PoolRules
from linguad.core.clock import Clock
from linguad.core.dispatch import Dispatch
from linguad.core.fleet import Fleet
from linguad.core.groups import GroupRules
from linguad.core.health import Status
from linguad.core.node import Node
from linguad.core.pairing import LiveCode
from linguad.core.rooms import RoomRules
from linguad.core.rules import JobRules, NodeRules, SessionRules
from linguad.core.services import CORE_SERVICES, MarkRules, Services
from linguad.core.utterance import CutRules
from linguad.dispatch.engine import Engine
from linguad.dispatch.tasks import EngineTasks
from linguad.errors import CloseReason
from linguad.ids import RandomIds
from linguad.net import collector
from linguad.net.front import Front, FrontSettings
from linguad.net.http import HttpApp
from linguad.net.links import Links
from linguad.net.listen import listen, port_of
from linguad.net.outbox import Budget
from linguad.net.peer import TrustedProxies
from linguad.net.supervise import notify, watch_signals, watchdog
from linguad.net.websocket import LinkSettings
from linguad.nodes.memory import NodeMemory
from linguad.nodes.serve import Nodes
from linguad.ops.app import create_ops_app
from linguad.ops.explain import add_explain_routes
from linguad.ops.languages import add_language_routes
from linguad.ops.nodes import add_node_routes
from linguad.ops.pools import add_pool_routes
from linguad.pools import COMPILED, NodeTable
from linguad.sessions.last import LastSessions
from linguad.sessions.limit import SessionLimit
from linguad.sessions.serve import Sessions
from linguad.web.admin import admin_token
from linguad.wire.override import Override

SESSION_PATH, NODE_PATH = "/ws/session", "/ws/node"

GOODBYE_SECONDS = 6.0
"""After the drain, how long peers may take over the close handshake (5 s) before their sockets are cut."""

CLOCK_SYNC_SECONDS = 60.0
"""How often wall time is compared with the monotonic clock, so that a corrected clock shows soon."""

MEMORY_SHARE = 4
"""One part in so many of the machine's memory may hold buffers, where no limit is set."""

logger = log.get(__name__)


class Daemon:
    """One instance of linguad, put together from its parts."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.draining = False
        self._started_at = trio.current_time()
        ids = RandomIds()
        self._clock = Clock(time.time() - trio.current_time())
        server = config.server
        self._budget = Budget(server.max_buffered_bytes or _memory_bytes() // MEMORY_SHARE)
        pools = config.pools
        table = NodeTable(
            hash_seed=pools.hash_seed,
            rng_seed=int.from_bytes(os.urandom(8), "little") or 1,
            choices=pools.choices,
            max_members=pools.max_members,
            pools=pools.count,
            policy=pools.policy,
            sticky_ratio=pools.keep_ratio,
            sticky_margin_s=pools.keep_margin_seconds,
        )
        self.fleet = Fleet(_node_rules(config), table, ids)
        self.node_memory = NodeMemory(self.fleet, self._clock, config.state_dir() / "nodes.json")
        self.dispatch = Dispatch(self.fleet, _job_rules(config), ids)
        self.engine = Engine(self.dispatch, self._budget, trio.current_time)
        self.engine_tasks = EngineTasks(self.engine, config.nodes.status_scan_interval_seconds)
        throttle_s = config.sessions.error_throttle_ms / 1000
        trusted = TrustedProxies(config.sessions.trusted_sources)
        limit = SessionLimit(config.sessions.max_sessions, config.sessions.max_sessions_per_address, trusted)
        self._last_sessions = LastSessions(config.state_dir() / "sessions.json")
        self.sessions = Sessions(
            self.engine,
            _session_rules(config),
            ids,
            self._clock,
            throttle_s,
            self._budget,
            limit,
            trusted,
            self._last_sessions,
            trio.current_time,
        )
        self._node_sockets = Nodes(self.engine, config.nodes.register_timeout_seconds, self._clock)
        self.engine.connect(self._node_sockets, self.sessions)
        session_settings = _link_settings(config.server, config.sessions, may_ping=False)
        node_settings = _link_settings(config.server, config.nodes)
        self.session_links = Links("session", session_settings, self.sessions.talk, self._budget)
        self.node_links = Links("node", node_settings, self._node_sockets.talk, self._budget)
        metrics.BUFFERED_BYTES.set_function(lambda: self._budget.used)
        for status in Status:
            metrics.NODES.labels(status.value).set_function(partial(self._count_nodes, status))

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until a stop signal, then end in order; starts with the port it listens on.

        Raises LinguadError when the port cannot be had.
        """
        server = self.config.server
        proxies = TrustedProxies(server.trusted_proxies)
        app = create_ops_app(self)
        token = admin_token(server.admin_token, self.config.state_dir())
        add_node_routes(app, self, token)
        add_explain_routes(app, self, token)
        add_language_routes(app, self.engine)
        add_pool_routes(app, self, self.config.pools, token)
        await self.load_memory()
        http = HttpApp("ops", app, proxies, (SESSION_PATH, NODE_PATH))
        front = Front(
            "scheduler",
            {SESSION_PATH: self.session_links.serve, NODE_PATH: self.node_links.serve},
            http.serve,
            FrontSettings(proxies=proxies, head_seconds=server.peek_seconds),
        )
        stop = trio.Event()
        async with trio.open_nursery() as services:
            await services.start(watch_signals, stop, server.hard_stop_seconds, log.reopen)
            services.start_soon(watchdog)
            services.start_soon(self._sync_clock)
            services.start_soon(self.engine_tasks.serve)
            services.start_soon(self.sessions.serve)
            services.start_soon(self.node_memory.run)
            await services.start(http.run)
            listeners = await listen(server.host, server.port, server.backlog)
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accept:
                    await accept.start(front.serve, listeners, connections)
                    self._started(port_of(listeners))
                    task_status.started(port_of(listeners))
                    await stop.wait()
                    self.draining = True
                    notify("STOPPING=1")
                    accept.cancel_scope.cancel()
                await self._drain()
                await http.drain()
                connections.cancel_scope.deadline = trio.current_time() + GOODBYE_SECONDS
            await self.node_memory.save()
            services.cancel_scope.cancel()
        logger.info("stopped")

    async def load_memory(self) -> None:
        """Read what the process before left in the state directory."""
        await self.node_memory.load()
        await self._last_sessions.load(time.time())

    def facts(self) -> dict[str, object]:
        """What `/ready` tells beside readiness."""
        return {
            "version": __version__,
            "uptime_seconds": round(trio.current_time() - self._started_at, 1),
            "compiled": COMPILED,
            "sessions": len(self.sessions),
            "nodes": len(self._node_sockets),
            "open_jobs": self.dispatch.open_jobs,
        }

    def not_ready(self) -> list[str]:
        """Why this instance should get no new traffic, beside draining; nothing else can keep it away yet."""
        return []

    def degraded(self) -> list[str]:
        """Dependencies that are away while work goes on without them; none exist yet."""
        return []

    def nodes(self) -> list[tuple[Node, int]]:
        """Every known node and the slots it has in use."""
        fleet = self.fleet
        return [(node, fleet.slots_used(node.id)) for node in fleet.nodes.values()]

    def now(self) -> float:
        """The time of all records, monotonic s."""
        return trio.current_time()

    def epoch_ms(self, now: float) -> int:
        """Unix time in ms of a moment."""
        return self._clock.epoch_ms(now)

    def override(self, node_id: str, said: Override) -> None:
        """An operator says something about a known node; it holds at once and over restarts."""
        self.engine.override(node_id, said)
        self.node_memory.soon()

    def pairing_code(self, node_id: str) -> LiveCode:
        """A new pairing code for a known node."""
        return self.engine.pairing_code(node_id, "admin")

    def paired_with(self, node_id: str) -> list[str]:
        """Sessions that only this node serves."""
        return self.sessions.paired_with(node_id)

    def explain(self, name: str) -> list[dict[str, object]]:
        """The jobs meant by a job id, a node's job id, a trace id, or `SESSION:INDEX`."""
        return self.dispatch.explain(name, trio.current_time())

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
        self.sessions.finish(self.config.server.drain_seconds)
        with trio.move_on_after(self.config.server.drain_seconds):
            await self.engine_tasks.wait_idle()
        self.sessions.abandon()
        await self.sessions.remember()
        self.session_links.close_all(CloseReason.SHUTDOWN)
        self.node_links.close_all(CloseReason.SHUTDOWN)

    async def _sync_clock(self) -> None:
        while True:
            self._clock.offset_s = time.time() - trio.current_time()
            await trio.sleep(CLOCK_SYNC_SECONDS)

    def _count_nodes(self, status: Status) -> int:
        return sum(node.status is status for node in self.fleet.nodes.values())


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _session_rules(config: Config) -> SessionRules:
    sessions = config.sessions
    return SessionRules(
        cut=CutRules(
            pause_s=sessions.pause_ms / 1000,
            max_duration_ms=sessions.max_duration_ms,
            max_bytes=sessions.max_utterance_bytes,
            max_chunk_s=sessions.max_chunk_seconds,
            final_grace_s=sessions.final_reorder_grace_ms / 1000,
            padding_manual_ms=sessions.padding_manual_ms,
            padding_auto_ms=sessions.padding_auto_ms,
            short_ms=sessions.short_merge_threshold_ms,
            held_ms=sessions.short_hold_cap_ms,
            short_release_s=sessions.short_release_ms / 1000,
            silence_packet_bytes=sessions.silence_packet_bytes,
            silence_rms=sessions.silence_rms,
            burst_cuts=sessions.burst_cuts,
            cuts_per_second=sessions.cuts_per_second,
        ),
        gap_s=sessions.gap_timeout_ms / 1000,
        max_undelivered=sessions.max_undelivered_results,
        max_open=sessions.max_open_utterances,
        detach_grace_s=sessions.detach_grace_seconds,
        gateway_detach_grace_s=sessions.gateway_detach_grace_seconds,
        reorder_wait_s=sessions.utterance_reorder_wait_ms / 1000,
        idempotency_s=config.jobs.idempotency_ttl_seconds,
        hint_language=sessions.hint_language,
        burst_ms=sessions.mobile_burst_ms,
        # all of them must fit into the outbox at once, be the speech converted to PCM16
        kept_results=min(sessions.resume_results, sessions.outbound_queue_messages // 2),
        kept_bytes=min(sessions.resume_bytes, sessions.outbound_queue_bytes // 16),
        binary_frames=sessions.binary_frames,
        groups=GroupRules(
            window_s=sessions.group_window_ms / 1000,
            max_parts=sessions.group_max_parts,
            max_context_chars=sessions.context_max_chars,
        ),
        rooms=RoomRules(
            max_members=sessions.max_room_members,
            max_rooms=sessions.max_rooms,
            idle_s=sessions.room_idle_minutes * 60,
        ),
    )


def _node_rules(config: Config) -> NodeRules:
    nodes = config.nodes
    return NodeRules(
        heartbeat_timeout_s=nodes.heartbeat_timeout_seconds,
        scan_interval_s=nodes.status_scan_interval_seconds,
        warmup_timeout_s=nodes.warmup_timeout_seconds,
        health_check_count=nodes.health_check_count,
        failure_window=nodes.failure_window,
        failure_count=nodes.failure_count,
        consecutive_failure_count=nodes.consecutive_failure_count,
        quarantine_s=nodes.quarantine_seconds,
        quarantine_max_s=nodes.quarantine_max_seconds,
        require_gpu=nodes.require_gpu,
        overrides=nodes.overrides,
        max_concurrent_jobs=nodes.max_concurrent_jobs,
        resource_threshold=config.pools.resource_threshold,
        overload_penalty_s=config.pools.overload_penalty_seconds,
        gpu_queue_task_s=config.pools.gpu_queue_task_seconds,
        pools=_pool_rules(config),
        marks=MarkRules(
            ttl_s=nodes.unavailable_ttl_seconds,
            window_s=nodes.unavailable_window_seconds,
            max_reports=nodes.unavailable_max_reports,
        ),
    )


def _pool_rules(config: Config) -> PoolRules:
    pools = config.pools
    capability = [
        CapabilityPool(id=pool.id, name=name, services=Services.of(pool.required_services))
        for name, pool in pools.capability.items()
    ]
    return PoolRules(
        pools=tuple(sorted(capability, key=lambda pool: pool.id)),
        compared=CORE_SERVICES if pools.match_scope == "core_only" else ALL_SERVICES,
        exact=pools.match_mode == "exact",
        strict=pools.strict_eligibility,
        fallback=pools.fallback,
        tenants={
            tenant: Pin(pool=pools.capability[chosen.pool].id, strict=chosen.strict)
            for tenant, chosen in pools.tenants.items()
        },
        hash_seed=pools.hash_seed,
    )


def _job_rules(config: Config) -> JobRules:
    jobs = config.jobs
    return JobRules(
        timeout_base_s=jobs.timeout_base_seconds,
        timeout_factor=jobs.timeout_factor,
        timeout_min_s=jobs.timeout_min_seconds,
        timeout_max_s=jobs.timeout_max_seconds,
        pending_timeout_s=jobs.pending_timeout_seconds,
        failover_max_attempts=jobs.failover_max_attempts,
        max_age_s=jobs.job_max_age_seconds,
        send_cancel=jobs.send_cancel,
        terminal_retention_s=jobs.terminal_retention_seconds,
        late_result_s=config.sessions.late_result_window_ms / 1000,
        max_waiting=jobs.max_waiting,
        max_waiting_per_tenant=jobs.max_waiting_per_tenant,
        affinity=jobs.affinity,
        spread_tenants=frozenset(jobs.spread_tenants),
        spread_window_s=jobs.spread_window_seconds,
        require_features=jobs.features == "require",
        require_features_tenants=frozenset(jobs.require_features_tenants),
        pairing_allow_fallback=config.nodes.pairing_allow_fallback,
        explained_jobs=jobs.explained_jobs,
        hedge_percent=jobs.hedge_percent,
        hedge_part=jobs.hedge_after,
        lane_idle_s=jobs.affinity_idle_minutes * 60,
    )


def _link_settings(
    server: Server, settings: SessionSettings | NodeSettings, *, may_ping: bool = True
) -> LinkSettings:
    return LinkSettings(
        max_message_bytes=settings.max_message_bytes,
        outbox_messages=settings.outbound_queue_messages,
        outbox_bytes=settings.outbound_queue_bytes,
        handshake_seconds=server.handshake_seconds,
        write_seconds=server.write_timeout_seconds,
        ping_seconds=server.ping_interval_seconds,
        idle_seconds=server.idle_timeout_seconds,
        may_ping=may_ping,
    )
