"""The durable queue of deliveries as the courier uses it: each method is one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from linguad.core.accounts import NotFoundError
from linguad.core.webhooks import Delivery, Try, Webhook, judged
from linguad.store import deliveries, webhooks
from linguad.store.database import Database
from linguad.store.webhooks import WebhookRegistry


class DeliveryQueue:
    """Deliveries of all webhooks. Every method raises StoreError when the store is away."""

    def __init__(self, database: Database, registry: WebhookRegistry) -> None:
        self._database = database
        self._registry = registry

    async def add(self, new: Sequence[Delivery]) -> None:
        """Keep new deliveries; when this returns, a crash does not lose them."""
        await self._database.write(lambda connection: deliveries.add(connection, new))

    async def claim(
        self, now: float, until: float, *, most: int, per_webhook: int, running: Mapping[str, int]
    ) -> list[Delivery]:
        """Deliveries that are due and that nobody else tries `until` then; see `deliveries.claim`."""
        return await self._database.write(
            lambda connection: deliveries.claim(
                connection, now, until, most=most, per_webhook=per_webhook, running=running
            )
        )

    async def finish(self, delivery: Delivery, tried: Try) -> Webhook | None:
        """Keep a delivery after a try; returns its webhook if the try switched that off."""

        def work(connection: Connection) -> tuple[bool, Webhook | None]:
            webhook = webhooks.read(connection, delivery.webhook_id)
            changes = webhook is not None and judged(webhook, tried) != webhook
            if changes:
                # taken before any row of the queue, as whoever switches a webhook off by hand does
                webhooks.count_up(connection)
                webhook = webhooks.read(connection, delivery.webhook_id)
            deliveries.save(connection, delivery)
            if not changes or webhook is None:
                return False, None
            after = judged(webhook, tried)
            webhooks.save(connection, after, tried.at)
            return True, after if webhook.enabled and not after.enabled else None

        changed, switched_off = await self._database.write(work)
        if changed:
            await self._registry.written()
        return switched_off

    async def end(self, webhook_id: str, reason: str, now: float) -> None:
        """End the waiting deliveries of a webhook that is off or gone."""
        await self._database.write(
            lambda connection: deliveries.fail_waiting(connection, webhook_id, reason, now)
        )

    async def next_due(self, full: Sequence[str]) -> float | None:
        """When the next delivery is due, of other webhooks than these; None if none waits."""
        return await self._database.read(lambda connection: deliveries.next_due(connection, full))

    async def waiting(self) -> int:
        """How many deliveries wait for a try."""
        return await self._database.read(deliveries.waiting)

    async def sweep(self, before: float) -> int:
        """Remove what ended before a moment (Unix s); returns how many."""
        return await self._database.write(lambda connection: deliveries.sweep(connection, before))

    async def find(self, webhook_id: str, delivery_id: str) -> Delivery:
        """A delivery of a webhook. Raises NotFoundError."""
        found = await self._database.read(
            lambda connection: deliveries.find(connection, webhook_id, delivery_id)
        )
        if found is None:
            raise NotFoundError(f"There is no delivery {delivery_id} of this webhook; old ones are removed.")
        return found

    async def page(self, webhook_id: str, limit: int, before: int | None) -> list[tuple[int, Delivery]]:
        """Deliveries of a webhook with their numbers, the latest first, from below number `before` on."""
        return await self._database.read(
            lambda connection: deliveries.page(connection, webhook_id, limit, before)
        )
