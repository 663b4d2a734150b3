"""Tells tenants' webhooks what has happened: the service that keeps events and sends them (gateway 11.5).

`emit` is for anybody and never waits. An event is first kept in memory, at once handed to the store, and
from there sent by whoever has room: at least once, in no order, with retries over two days. Sending needs
nothing that a crash could lose.
"""

from __future__ import annotations

import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import trio
from msgspec import Struct

from linguad import log
from linguad.core.webhooks import (
    API_VERSION,
    Delivery,
    DeliveryState,
    EventType,
    Try,
    Webhook,
    after,
    headers,
    secrets_in_force,
)
from linguad.errors import LinguadError, StoreError
from linguad.metrics import WEBHOOK_ATTEMPTS, WEBHOOK_EVENTS_LOST, WEBHOOK_QUEUE, WEBHOOKS_DISABLED
from linguad.net.bell import Bell
from linguad.net.supervise import guarded
from linguad.wire.moment import told

PER_WEBHOOK = 4
"""Tries of one webhook at once (gateway 11.5)."""

MAX_UNWRITTEN_BYTES = 16 * 2**20
"""Events that may wait for the store: some ten thousand, a minute of a busy server."""

CLAIM_MARGIN_SECONDS = 50.0
"""How much longer than a try may last its delivery is ours: the store may be slow to take what it came to."""

LOOK_SECONDS = 30.0
"""How often the store is looked at without cause: other instances may have died with deliveries of theirs."""

SWEEP_SECONDS = 3600.0
"""How often deliveries that ended long ago are removed."""

COUNT_SECONDS = 10.0
"""How often waiting deliveries are counted, for the metrics."""

AWAY_SECONDS = 1.0
"""Pause after the store could not be used."""

FLUSH_SECONDS = 5.0
"""How long the last events may take into the store when the daemon ends."""

logger = log.get(__name__)


class Directory(Protocol):
    """Where the webhooks are."""

    def find(self, webhook_id: str) -> Webhook | None:
        """A webhook, None if there is none."""
        ...

    def wanting(self, tenant_id: str, type: EventType) -> list[Webhook]:
        """The webhooks of a tenant to which an event goes."""
        ...


class Queue(Protocol):
    """The durable queue; every method raises StoreError when the store is away."""

    async def add(self, new: Sequence[Delivery]) -> None:
        """Keep new deliveries."""
        ...

    async def claim(
        self, now: float, until: float, *, most: int, per_webhook: int, running: Mapping[str, int]
    ) -> list[Delivery]:
        """At most so many that are due, and that nobody else tries `until` then."""
        ...

    async def finish(self, delivery: Delivery, tried: Try) -> Webhook | None:
        """Keep a delivery after a try; returns its webhook if that was switched off by it."""
        ...

    async def end(self, webhook_id: str, reason: str, now: float) -> None:
        """End the waiting deliveries of a webhook."""
        ...

    async def next_due(self, full: Sequence[str]) -> float | None:
        """When the next one is due, of other webhooks than these."""
        ...

    async def waiting(self) -> int:
        """How many wait for a try."""
        ...

    async def sweep(self, before: float) -> int:
        """Remove what ended before a moment."""
        ...


class Sent(Struct, frozen=True):
    """What came of sending one delivery."""

    outcome: str
    """Label for the metrics."""
    status: int | None = None
    error: str = ""


class Post(Protocol):
    """Sends a delivery, within its own limits; never raises because of what the receiver does."""

    async def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> Sent:
        """What came of it."""
        ...


class CourierRules(Struct, frozen=True, kw_only=True):
    """Limits of the courier."""

    try_seconds: float = 10
    max_attempts: int = 9
    at_once: int = 32
    history_seconds: float = 7 * 86400


class Courier:
    """Mutable state: events that the store does not have yet, and how many tries of each webhook go on."""

    def __init__(
        self,
        directory: Directory,
        queue: Queue,
        post: Post,
        key: bytes,
        rules: CourierRules,
        *,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`key` is the server's secret that those of webhooks are made of; `clock` gives Unix seconds."""
        self._directory = directory
        self._queue = queue
        self._post = post
        self._key = key
        self._rules = rules
        self._clock = clock
        self._chance = chance
        self._unwritten: list[Delivery] = []
        self._unwritten_bytes = 0
        self._lost = False
        self._news = Bell()
        self._work = trio.Event()
        self._running: Counter[str] = Counter()
        self._swept_at = -SWEEP_SECONDS
        self._counted_at = -COUNT_SECONDS
        WEBHOOK_QUEUE.labels("unwritten").set_function(lambda: len(self._unwritten))
        WEBHOOK_QUEUE.labels("running").set_function(self._running.total)

    def emit(self, tenant_id: str, type: str, data: Mapping[str, Any], also: str | None = None) -> None:
        """Tell a tenant's webhooks; never waits. `data` is plain data for JSON.

        `also` is the id of a webhook that is told whatever it wants. If the store does not keep up, the
        event is lost and counted. Raises ValueError for an unknown type.
        """
        kind = EventType(type)
        wanting = self._directory.wanting(tenant_id, kind)
        named = None if also is None else self._directory.find(also)
        if named is not None and named.enabled and named not in wanting:
            wanting = [*wanting, named]
        if wanting:
            self._enqueue(self._deliveries(wanting, tenant_id, kind, data))

    async def ping(self, webhook: Webhook) -> Delivery:
        """Send a `ping` to one webhook; returns its delivery, which is kept. Raises StoreError."""
        (delivery,) = self._deliveries(
            [webhook], webhook.tenant_id, EventType.PING, {"webhook_id": webhook.id}
        )
        await self._queue.add([delivery])
        self._work.set()
        return delivery

    async def redeliver(self, delivery: Delivery) -> Delivery:
        """Send an event once more, as a delivery of its own, which is returned. Raises StoreError."""
        now = self._clock()
        again = msgspec.structs.replace(
            delivery,
            id=_fresh("dlv"),
            created_at=now,
            due_at=now,
            state=DeliveryState.WAITING,
            attempts=0,
            last_status=None,
            last_error="",
            finished_at=None,
        )
        await self._queue.add([again])
        self._work.set()
        return again

    async def run(self) -> None:
        """Write and send, for ever; when cancelled, what is unwritten still goes to the store."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                await self._send(nursery)
        finally:
            with trio.move_on_after(FLUSH_SECONDS, shield=True):
                await self._last_flush()

    def _deliveries(
        self, webhooks: Sequence[Webhook], tenant_id: str, type: EventType, data: Mapping[str, Any]
    ) -> list[Delivery]:
        now = self._clock()
        event_id = _fresh("evt")
        body = msgspec.json.encode(
            {
                "id": event_id,
                "type": type.value,
                "created_at": told(now),
                "tenant_id": tenant_id,
                "api_version": API_VERSION,
                "data": data,
            }
        )
        return [
            Delivery(
                id=_fresh("dlv"),
                webhook_id=webhook.id,
                tenant_id=tenant_id,
                event_id=event_id,
                type=type,
                body=body,
                created_at=now,
                due_at=now,
            )
            for webhook in webhooks
        ]

    def _enqueue(self, new: list[Delivery]) -> None:
        size = sum(len(delivery.body) for delivery in new)
        if self._unwritten_bytes + size > MAX_UNWRITTEN_BYTES:
            WEBHOOK_EVENTS_LOST.inc()
            if not self._lost:
                logger.warning("webhook_events_lost", unwritten=len(self._unwritten))
            self._lost = True
            return
        self._unwritten += new
        self._unwritten_bytes += size
        self._news.ring()

    async def _write(self) -> None:
        """Hand events to the store; what comes while it works goes with the next transaction."""
        while True:
            if not self._unwritten:
                await self._news.wait()
            try:
                await self._flush()
            except StoreError as error:
                logger.debug("webhook_events_unwritten", count=len(self._unwritten), reason=str(error))
                await trio.sleep(AWAY_SECONDS)

    async def _flush(self) -> None:
        batch = list(self._unwritten)
        if not batch:
            return
        await self._queue.add(batch)
        # taken off only now, so that they count until the store has them
        del self._unwritten[: len(batch)]
        self._unwritten_bytes = sum(len(delivery.body) for delivery in self._unwritten)
        self._lost = False
        self._work.set()

    async def _last_flush(self) -> None:
        try:
            await self._flush()
        except StoreError as error:
            logger.warning("webhook_events_unwritten", count=len(self._unwritten), reason=str(error))

    async def _send(self, nursery: trio.Nursery) -> None:
        """Claim what is due whenever there is room, and sleep until something is."""
        while True:
            # new before the look, or what comes during it would be missed
            self._work = trio.Event()
            try:
                pause = await self._send_due(nursery)
            except StoreError as error:
                logger.debug("webhook_queue_away", reason=str(error))
                pause = AWAY_SECONDS
            with trio.move_on_after(pause):
                await self._work.wait()

    async def _send_due(self, nursery: trio.Nursery) -> float:
        """Start every try that there is room for; returns how long nothing more will be due, s."""
        await self._sweep()
        while room := self._rules.at_once - self._running.total():
            now = self._clock()
            claimed = await self._queue.claim(
                now,
                now + self._rules.try_seconds + CLAIM_MARGIN_SECONDS,
                most=room,
                per_webhook=PER_WEBHOOK,
                running=self._running,
            )
            for delivery in claimed:
                self._running[delivery.webhook_id] += 1
                nursery.start_soon(self._deliver, delivery)
            if not claimed:
                await self._count()
                due = await self._queue.next_due(self._full())
                return LOOK_SECONDS if due is None else min(LOOK_SECONDS, max(0.0, due - self._clock()))
        return LOOK_SECONDS

    def _full(self) -> list[str]:
        return [webhook_id for webhook_id, count in self._running.items() if count >= PER_WEBHOOK]

    async def _count(self) -> None:
        """Count what waits, now and then: of a long queue that costs milliseconds."""
        if trio.current_time() >= self._counted_at + COUNT_SECONDS:
            self._counted_at = trio.current_time()
            WEBHOOK_QUEUE.labels("waiting").set(await self._queue.waiting())

    async def _sweep(self) -> None:
        if trio.current_time() >= self._swept_at + SWEEP_SECONDS:
            await self._queue.sweep(self._clock() - self._rules.history_seconds)
            self._swept_at = trio.current_time()

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            await guarded("webhook", self._try, delivery)
        finally:
            self._running[delivery.webhook_id] -= 1
            if not self._running[delivery.webhook_id]:
                del self._running[delivery.webhook_id]
            self._work.set()

    async def _try(self, delivery: Delivery) -> None:
        webhook = self._directory.find(delivery.webhook_id)
        try:
            if webhook is None or not webhook.enabled:
                await self._queue.end(delivery.webhook_id, "the webhook is switched off", self._clock())
                return
            now = self._clock()
            signed = headers(delivery, secrets_in_force(self._key, webhook, now), now)
            sent = await self._post(webhook.url, signed, delivery.body)
            WEBHOOK_ATTEMPTS.labels(sent.outcome).inc()
            await self._note(delivery, Try(at=self._clock(), status=sent.status, error=sent.error))
        except LinguadError as error:
            # The delivery is due again when our claim ends: at least once, here once more.
            logger.warning("webhook_try_unwritten", delivery=delivery.id, reason=str(error))

    async def _note(self, delivery: Delivery, tried: Try) -> None:
        done = after(delivery, tried, self._chance(), self._rules.max_attempts)
        switched_off = await self._queue.finish(done, tried)
        if not tried.delivered:
            waits = done.state is DeliveryState.WAITING
            logger.info(
                "webhook_try_failed",
                tenant=delivery.tenant_id,
                webhook=delivery.webhook_id,
                delivery=delivery.id,
                type=delivery.type.value,
                attempts=done.attempts,
                reason=tried.problem,
                next_in_s=round(done.due_at - tried.at) if waits else None,
            )
        if switched_off is not None:
            WEBHOOKS_DISABLED.inc()
            logger.warning(
                "webhook_disabled",
                tenant=switched_off.tenant_id,
                webhook=switched_off.id,
                reason=switched_off.disabled_reason,
            )


def _fresh(kind: str) -> str:
    """A new id: `evt_` or `dlv_` and 96 random bits."""
    return f"{kind}_{secrets.token_hex(12)}"
