"""The public API of this instance, put together: its store, its app and what runs beside it."""

from __future__ import annotations

import shlex
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from linguad.config import Config
from linguad.config.gateway import Gateway
from linguad.core.clock import Clock
from linguad.core.metering import Metering
from linguad.core.tenant import BillingMode, Caller, Scope, Tenant
from linguad.daemon.doors import Door
from linguad.dispatch.engine import Engine
from linguad.errors import CloseReason, StoreError
from linguad.gateway.access.account import add_account_routes, add_ticket_routes
from linguad.gateway.access.admission import Admission
from linguad.gateway.access.protect import Doorkeeper, protected
from linguad.gateway.access.tickets import Tickets
from linguad.gateway.admin import add_admin_routes
from linguad.gateway.app import OK, create_gateway_app
from linguad.gateway.capacity import Capacity, add_capacity_routes
from linguad.gateway.idempotency import Idempotency
from linguad.gateway.jobs.routes import PATH as JOBS_PATH
from linguad.gateway.jobs.routes import SpeechJobs, add_job_routes
from linguad.gateway.jobs.runner import JobRules, JobRunner
from linguad.gateway.jobs.work import SpeechWork
from linguad.gateway.openapi.operations import OPERATIONS
from linguad.gateway.openapi.site import add_docs
from linguad.gateway.sdk import add_sdk_routes
from linguad.gateway.speech.sound import Sounds
from linguad.gateway.speech.talk import Talks
from linguad.gateway.speech.translate import PATH as TRANSLATE_PATH
from linguad.gateway.speech.translate import Translator, add_translate_route
from linguad.gateway.stream.listen import Listen
from linguad.gateway.stream.streams import Streams, link_settings
from linguad.gateway.usage.budget import Budgets
from linguad.gateway.usage.routes import add_admin_usage_routes, add_usage_routes, count_requests
from linguad.gateway.usage.thresholds import Thresholds
from linguad.gateway.webhooks.courier import Courier, CourierRules
from linguad.gateway.webhooks.post import GuardedPost
from linguad.gateway.webhooks.routes import Webhooks, add_webhook_routes
from linguad.net.front import Front, FrontSettings
from linguad.net.http import HttpApp
from linguad.net.links import Links
from linguad.net.outbox import Budget
from linguad.net.peer import TrustedProxies
from linguad.sessions.inside import Inside
from linguad.sessions.serve import Sessions
from linguad.store.bookkeeper import Bookkeeper
from linguad.store.delivery_queue import DeliveryQueue
from linguad.store.idempotency import IdempotencyRecords
from linguad.store.jobs import JobFiles, JobStore
from linguad.store.start import Store
from linguad.store.webhooks import WebhookRegistry
from linguad.web.bodies import LargeBodies

if TYPE_CHECKING:
    from linguad.cluster.service import Cluster

STREAM_PATH, LISTEN_PATH = "/v1/stream", "/v1/listen"
SELECT_ONE = "SELECT 1"

WEBHOOK_KEY = "linguad webhooks"
"""What the secrets of webhooks are derived from, with the pepper."""

DAY_S, HOUR_S = 86400, 3600

FIRST_CALL = """\
The public API is on port {port}; its first key is in {key}. Try:
  curl -s http://localhost:{port}/v1/speech/translate -H "Authorization: Bearer $(cat {key})" \\
    -F audio=@demo/audio/weather.wav -F src_lang=en -F tgt_lang=es | tee answer.json | jq -r .text
  jq -r .audio_tts answer.json | base64 -d > answer.wav
"""


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
        cluster: Cluster | None,
    ) -> None:
        settings = config.gateway
        self._config = config
        self._proxies = proxies
        self._engine = engine
        self._store = kept
        registry = kept.registry
        place = "" if cluster is None else cluster.place.me.instance
        self._books = Bookkeeper(kept.database, self._is_billed, instance=place)
        budgets = Budgets(self._books, settings.billing_overdraft_seconds)
        self._books.when_charged(self._charged)
        self._budgets = budgets
        engine.keep_books(Metering(clock, credit_superseded=settings.billing_credit_superseded), self._books)
        self._admission = Admission(registry, settings, budgets)
        self._cluster = cluster
        talks, sounds = Talks(Inside(sessions, trio.current_time)), Sounds()
        capacity, tickets = Capacity(engine), Tickets(settings)
        app = create_gateway_app(self._admission, self)
        add_account_routes(app, self._admission, self._balance)
        add_ticket_routes(app, self._admission, tickets, settings)
        add_capacity_routes(app, self._admission, capacity)
        add_usage_routes(app, self._protect, self._books)
        count_requests(app, self._books)
        records = IdempotencyRecords(kept.database)
        self._once = Idempotency(records, settings.translate_timeout_seconds)
        self._hooks = WebhookRegistry(kept.database)
        self._beside = [] if cluster is None else self._join(cluster, tickets)
        queue = DeliveryQueue(kept.database, self._hooks)
        post = GuardedPost(settings.webhook_allowed_networks, settings.webhook_timeout_seconds)
        key = kept.pepper.verifier(WEBHOOK_KEY)
        self._courier = Courier(self._hooks, queue, post, key, _courier_rules(settings))
        self._thresholds = Thresholds(records, self._courier.emit)
        budgets.when_threshold(self._thresholds.crossed)
        translator = Translator(
            talks, sounds, settings, capacity, self._admission.reserved, self._books.session_ms
        )
        add_translate_route(app, self._admission, translator, capacity, settings, self._courier, self._once)
        add_admin_routes(app, registry, self._protect, self._once.of_json("api_key.key"))
        add_admin_usage_routes(app, self._protect, self._books, registry.tenant, once=self._once.of_json())
        webhooks = Webhooks(self._hooks, queue, self._courier, post.check, key)
        add_webhook_routes(app, self._protect, webhooks, self._once.of_json("secret"))
        work, job_store = SpeechWork(translator, settings), JobStore(kept.database)
        self._jobs = self._job_runner(work, job_store)
        jobs = SpeechJobs(job_store, self._jobs, work, self._hooks.of_tenant)
        add_job_routes(app, self._protect, jobs, work.read_upload, self._once.once)
        add_sdk_routes(app)
        add_docs(app, OPERATIONS, page=not settings.production)
        self.routes = app.url_map
        """What is served, for the document of the API to be compared with."""
        self._app = LargeBodies(app, [TRANSLATE_PATH, JOBS_PATH], budget)
        doorkeeper = Doorkeeper(self._admission, tickets, settings)
        self._streams = Streams(
            doorkeeper,
            self._admission,
            talks,
            sounds,
            settings,
            emit=self._courier.emit,
            meter=budgets,
            hint=capacity.hint,
        )
        listen = Listen(self._streams, time.time)
        limits = link_settings(settings, config.server.handshake_seconds, config.server.write_timeout_seconds)
        self._links = Links("stream", limits, self._streams.talk, budget, self._streams.doorman)
        self._listens = Links("listen", limits, self._streams.talk, budget, listen.doorman)

    def door(self) -> Door:
        """Its port."""
        settings = self._config.gateway
        http = HttpApp("gateway", self._app, self._proxies, (STREAM_PATH, LISTEN_PATH))
        front = Front(
            "gateway",
            {STREAM_PATH: self._links.serve, LISTEN_PATH: self._listens.serve},
            http.serve,
            FrontSettings(proxies=self._proxies, head_seconds=self._config.server.peek_seconds),
        )
        return Door("gateway", settings.host, settings.port, front, http, "gateway.port")

    def hint(self, port: int) -> str:
        """How a first call is made, for whoever started the daemon by hand; never a key itself."""
        key = self._store.dev_key_file
        return "" if key is None else FIRST_CALL.format(port=port, key=shlex.quote(str(key)))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """What goes on beside the requests, for ever; starts when requests may come."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._books.run)
            nursery.start_soon(self._streams.run)
            nursery.start_soon(self._hooks.run)
            nursery.start_soon(self._courier.run)
            nursery.start_soon(self._thresholds.run)
            for run in self._beside:
                nursery.start_soon(run)
            await nursery.start(self._jobs.run)
            task_status.started()
            await trio.sleep_forever()

    def change(self, settings: Gateway) -> None:
        """Live by other limits from now on."""
        self._admission.change(settings)

    def stop(self) -> None:
        """Begin nothing new on open streams; what was said is still answered."""
        self._streams.stop()
        self._jobs.stop()

    def abandon(self) -> None:
        """The server stops now: end what is open."""
        self._streams.abandon()
        for links in (self._links, self._listens):
            links.close_all(CloseReason.SHUTDOWN)

    async def checks(self) -> Mapping[str, str]:
        """How what the API needs is (gateway 9)."""
        return {
            "scheduler": OK,
            "store": await self._store_state(),
            "rate_store": self._rate_store_state(),
        }

    def _join(self, cluster: Cluster, tickets: Tickets) -> list[Callable[[], Awaitable[None]]]:
        """Have limits, tickets and accounts in common with the other instances; returns what is to run."""
        from linguad.cluster.accounts import AccountNews
        from linguad.cluster.limits import SharedLimits
        from linguad.cluster.tickets import SharedTickets

        limits = SharedLimits(cluster, self._admission.leases)
        self._admission.share(limits)
        tickets.share(SharedTickets(cluster.place))
        told = (self._store.registry.news, self._hooks.news)
        news = AccountNews(cluster, [one.hint for one in told])
        for one in told:
            one.tell = news.tell
        return [limits.run, news.run]

    def _job_runner(self, work: SpeechWork, job_store: JobStore) -> JobRunner:
        settings = self._config.gateway
        return JobRunner(
            job_store,
            JobFiles(self._config.state_dir() / "jobs"),
            work,
            self._caller,
            self._admission.session,
            self._courier.emit,
            JobRules(
                at_once=settings.jobs_at_once,
                at_once_per_tenant=settings.jobs_at_once_per_tenant,
                queued_per_tenant=settings.jobs_queued_per_tenant,
                queued_bytes=settings.jobs_queued_bytes,
                retention_seconds=settings.jobs_retention_hours * HOUR_S,
            ),
        )

    def _caller(self, tenant_id: str, key_id: str) -> Caller | None:
        """Who asked for something before, if they still may."""
        registry = self._store.registry
        tenant, key = registry.tenant(tenant_id), registry.key(key_id)
        if tenant is None or key is None:
            return None
        who = Caller(tenant=tenant, key_id=key_id, scopes=key.scopes)
        return who if self._admission.holds(who) else None

    def _protect(self, scope: Scope) -> Any:
        return protected(self._admission, scope)

    def _is_billed(self, tenant_id: str) -> bool:
        tenant = self._store.registry.tenant(tenant_id)
        return tenant is not None and tenant.billing_mode is not BillingMode.NONE

    def _balance(self, tenant: Tenant) -> int | None:
        """What a tenant has paid for and not used, in seconds."""
        return self._books.balance_seconds(tenant.id) if tenant.billing_mode is BillingMode.PREPAID else None

    def _charged(self, tenant_id: str) -> None:
        if tenant := self._store.registry.tenant(tenant_id):
            self._budgets.charged(tenant)

    def _rate_store_state(self) -> str:
        """Without Redis we are ready unless we have to refuse everybody."""
        is_away = self._cluster is not None and not self._cluster.up
        return "away" if is_away and self._admission.needs_others else OK

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
        await self._hooks.load()
        self._budgets.assume_told(self._store.registry.tenants())
        try:
            yield
        finally:
            await self._books.close()


def _courier_rules(settings: Gateway) -> CourierRules:
    return CourierRules(
        try_seconds=settings.webhook_timeout_seconds,
        max_attempts=settings.webhook_max_attempts,
        at_once=settings.webhooks_at_once,
        history_seconds=settings.webhook_history_days * DAY_S,
    )
