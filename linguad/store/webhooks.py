"""All webhooks in memory, written through to the store (gateway 11.5, resolution 40); no secret is kept.

Every change counts a revision up; other instances ask for it each second and read all webhooks anew when it
has grown. There are at most ten for each tenant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from sqlalchemy import Column, Connection, ForeignKey, Table, Text, delete, func, insert, select, update

from linguad import log
from linguad.core.accounts import Actor, ConflictError, NotFoundError
from linguad.core.webhooks import MAX_PER_TENANT, EventType, Webhook
from linguad.errors import StoreError
from linguad.store import audit, deliveries
from linguad.store.database import Database, locked
from linguad.store.news import News
from linguad.store.schema import Json, meta, metadata

REVISION = "webhooks_revision"
"""Row of `meta` that counts the changes."""

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenants.id"), nullable=False, index=True),
    Column("settings", Json, nullable=False),
)

logger = log.get(__name__)


class WebhookRegistry:
    """Webhooks of all tenants; `load` before anything is asked, `run` beside it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._webhooks: dict[str, Webhook] = {}
        self._by_tenant: dict[str, list[Webhook]] = {}
        self._seen = -1
        self.news = News()

    def find(self, webhook_id: str) -> Webhook | None:
        """A webhook, None if there is none."""
        return self._webhooks.get(webhook_id)

    def of_tenant(self, tenant_id: str) -> list[Webhook]:
        """The webhooks of a tenant, the oldest first."""
        return self._by_tenant.get(tenant_id, [])

    def wanting(self, tenant_id: str, type: EventType) -> list[Webhook]:
        """The webhooks to which an event goes."""
        return [webhook for webhook in self.of_tenant(tenant_id) if webhook.wants(type)]

    async def create(self, webhook: Webhook, actor: Actor) -> None:
        """Keep a new webhook. Raises ConflictError if its tenant has too many, and StoreError."""

        def work(connection: Connection) -> None:
            # counted first: from here on no other transaction adds one
            count_up(connection)
            count = connection.execute(
                select(func.count()).select_from(webhooks).where(webhooks.c.tenant_id == webhook.tenant_id)
            ).scalar_one()
            if count >= MAX_PER_TENANT:
                raise ConflictError(
                    f"There are {count} webhooks, as many as there may be; delete one that is not needed."
                )
            row = {"id": webhook.id, "tenant_id": webhook.tenant_id, "settings": _plain(webhook)}
            connection.execute(insert(webhooks).values(row))
            said = {"url": webhook.url, "events": sorted(webhook.events)}
            _note(connection, actor, "webhook.create", webhook, webhook.created_at, said)

        await self._database.write(work)
        await self.written()

    async def change(
        self, webhook_id: str, actor: Actor, action: str, now: float, change: Callable[[Webhook], Webhook]
    ) -> Webhook:
        """Change a webhook; one that is switched off has its waiting deliveries failed.

        `action` names it in the audit trail. Raises NotFoundError, StoreError.
        """

        def work(connection: Connection) -> Webhook:
            count_up(connection)
            changed = change(_locked(connection, webhook_id))
            save(connection, changed, now)
            said = {"url": changed.url, "events": sorted(changed.events), "enabled": changed.enabled}
            _note(connection, actor, action, changed, now, said)
            return changed

        changed = await self._database.write(work)
        await self.written()
        return changed

    async def delete(self, webhook_id: str, actor: Actor, now: float) -> None:
        """Forget a webhook and its deliveries. Raises NotFoundError, StoreError."""

        def work(connection: Connection) -> None:
            count_up(connection)
            webhook = _locked(connection, webhook_id)
            deliveries.forget(connection, webhook_id)
            connection.execute(delete(webhooks).where(webhooks.c.id == webhook_id))
            _note(connection, actor, "webhook.delete", webhook, now, {"url": webhook.url})

        await self._database.write(work)
        await self.written()

    async def load(self) -> None:
        """Read everything. Raises StoreError."""
        self._seen = -1
        await self.refresh()

    async def refresh(self) -> None:
        """Read everything anew if something has changed. Raises StoreError."""
        seen = self._seen

        def work(connection: Connection) -> tuple[int, list[Webhook]] | None:
            revision = _revision(connection)
            if revision == seen:
                return None
            rows = connection.execute(select(webhooks.c.settings)).scalars()
            return revision, [msgspec.convert(row, Webhook) for row in rows]

        news = await self._database.read(work)
        if news is None or news[0] < self._seen:
            return
        self._seen, found = news
        found.sort(key=lambda webhook: (webhook.created_at, webhook.id))
        self._webhooks = {webhook.id: webhook for webhook in found}
        self._by_tenant = {}
        for webhook in found:
            self._by_tenant.setdefault(webhook.tenant_id, []).append(webhook)

    async def written(self) -> None:
        """A transaction of ours has changed webhooks: see it, and tell the others. Raises StoreError."""
        self.news.tell()
        await self.refresh()

    async def run(self) -> None:
        """See what other instances change, for ever; goes on while the store is away."""
        while True:
            await self.news.wait()
            try:
                await self.refresh()
            except StoreError as error:
                logger.debug("webhooks_not_refreshed", reason=str(error))


def count_up(connection: Connection) -> None:
    """Say that webhooks change in this transaction; others that want to wait until it ends."""
    query = locked(select(meta.c.value).where(meta.c.name == REVISION))
    revision = int(connection.execute(query).scalar_one()) + 1
    connection.execute(update(meta).where(meta.c.name == REVISION).values(value=str(revision)))


def save(connection: Connection, webhook: Webhook, now: float) -> None:
    """Keep a webhook that has changed; `count_up` was called before."""
    connection.execute(update(webhooks).where(webhooks.c.id == webhook.id).values(settings=_plain(webhook)))
    if not webhook.enabled:
        deliveries.fail_waiting(connection, webhook.id, webhook.disabled_reason or "the webhook is off", now)


def read(connection: Connection, webhook_id: str) -> Webhook | None:
    """A webhook as the store has it."""
    row = connection.execute(select(webhooks.c.settings).where(webhooks.c.id == webhook_id)).scalar()
    return None if row is None else msgspec.convert(row, Webhook)


def _locked(connection: Connection, webhook_id: str) -> Webhook:
    webhook = read(connection, webhook_id)
    if webhook is None:
        raise NotFoundError(f"There is no webhook {webhook_id}.")
    return webhook


def _revision(connection: Connection) -> int:
    return int(connection.execute(select(meta.c.value).where(meta.c.name == REVISION)).scalar_one())


def _plain(webhook: Webhook) -> object:
    return msgspec.to_builtins(webhook)


def _note(
    connection: Connection,
    actor: Actor,
    action: str,
    webhook: Webhook,
    now: float,
    said: Mapping[str, object],
) -> None:
    audit.note(connection, actor, action, webhook.id, now, tenant_id=webhook.tenant_id, payload=said)
