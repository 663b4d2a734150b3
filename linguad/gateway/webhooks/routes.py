"""`/v1/webhooks`: where a tenant wants to be told what happens, and what was told (gateway 11.5)."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from msgspec.structs import replace
from quart import Response, g, jsonify
from quart_trio import QuartTrio

from linguad.core.accounts import Actor, ConflictError, NotFoundError
from linguad.core.tenant import Caller, Scope
from linguad.core.webhooks import (
    Delivery,
    DeliveryState,
    EventType,
    Webhook,
    rotated,
    secret,
    switched_off,
    switched_on,
)
from linguad.errors import LinguadError
from linguad.gateway.access.protect import actor
from linguad.gateway.refusals import answer_refusals
from linguad.web.body import json_object
from linguad.web.problems import Problem
from linguad.web.query import cursor, limit_of, number_of, query
from linguad.wire.moment import told

MAX_URL_CHARS = 2000
"""Longest URL: what every server takes."""

MAX_DESCRIPTION_CHARS = 200

MEMBERS = ("url", "events", "description")
"""What a new webhook is made of."""

_DELIVERY = re.compile(r"dlv_[0-9a-f]{24}")

View = Callable[..., Awaitable[Response]]


class Registry(Protocol):
    """Where the webhooks are; changes raise NotFoundError, ConflictError and StoreError."""

    def find(self, webhook_id: str) -> Webhook | None:
        """A webhook, None if there is none."""
        ...

    def of_tenant(self, tenant_id: str) -> list[Webhook]:
        """The webhooks of a tenant, the oldest first."""
        ...

    async def create(self, webhook: Webhook, actor: Actor) -> None:
        """Keep a new one."""
        ...

    async def change(
        self, webhook_id: str, actor: Actor, action: str, now: float, change: Callable[[Webhook], Webhook]
    ) -> Webhook:
        """Change one; `action` names that in the audit trail."""
        ...

    async def delete(self, webhook_id: str, actor: Actor, now: float) -> None:
        """Forget one and its deliveries."""
        ...


class History(Protocol):
    """What was sent, and what waits to be."""

    async def find(self, webhook_id: str, delivery_id: str) -> Delivery:
        """A delivery of a webhook. Raises NotFoundError."""
        ...

    async def page(self, webhook_id: str, limit: int, before: int | None) -> list[tuple[int, Delivery]]:
        """Deliveries with their numbers, the latest first, from below number `before` on."""
        ...


class Sender(Protocol):
    """Sends deliveries."""

    async def ping(self, webhook: Webhook) -> Delivery:
        """Send a `ping` to one webhook."""
        ...

    async def redeliver(self, delivery: Delivery) -> Delivery:
        """Send an event once more."""
        ...


class Webhooks:
    """What callers may do with the webhooks of their tenant; methods raise Problem and StoreError."""

    def __init__(
        self,
        registry: Registry,
        history: History,
        sender: Sender,
        check_url: Callable[[str], Awaitable[None]],
        key: bytes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`check_url` raises LinguadError for what cannot be sent to; `key` is that of the courier."""
        self._registry = registry
        self._history = history
        self._sender = sender
        self._check_url = check_url
        self._key = key
        self._clock = clock

    async def create(self, caller: Caller, body: Mapping[str, Any]) -> Webhook:
        """A new webhook, made of `MEMBERS`."""
        webhook = Webhook(
            id=f"wh_{secrets.token_hex(12)}",
            tenant_id=caller.tenant.id,
            url=await self._url(body.get("url")),
            events=_events(body.get("events")),
            description=_description(body.get("description", "")),
            created_at=self._clock(),
        )
        try:
            await self._registry.create(webhook, actor())
        except ConflictError as error:
            raise Problem(409, "too_many_webhooks", str(error), retryable=False) from error
        return webhook

    def of_tenant(self, caller: Caller) -> list[Webhook]:
        """All webhooks of the caller's tenant, the oldest first."""
        return self._registry.of_tenant(caller.tenant.id)

    def find(self, caller: Caller, webhook_id: str) -> Webhook:
        """A webhook of the caller's tenant."""
        webhook = self._registry.find(webhook_id)
        if webhook is None or webhook.tenant_id != caller.tenant.id:
            message = "There is no such webhook; GET /v1/webhooks lists them."
            raise Problem(404, "webhook_not_found", message)
        return webhook

    async def change(self, caller: Caller, webhook_id: str, body: Mapping[str, Any]) -> Webhook:
        """Change some of `MEMBERS` or `enabled`; switching it on forgets its failures."""
        self.find(caller, webhook_id)
        changes: dict[str, Any] = {}
        if "url" in body:
            changes["url"] = await self._url(body["url"])
        if "events" in body:
            changes["events"] = _events(body["events"])
        if "description" in body:
            changes["description"] = _description(body["description"])
        enabled = body.get("enabled")
        if "enabled" in body and not isinstance(enabled, bool):
            raise Problem.wrong_field("enabled", "allowed is true or false")

        def change(webhook: Webhook) -> Webhook:
            changed = replace(webhook, **changes)
            if enabled is True and not changed.enabled:
                return switched_on(changed)
            if enabled is False and changed.enabled:
                return switched_off(changed, "it was switched off by its owner")
            return changed

        return await self._registry.change(webhook_id, actor(), "webhook.change", self._clock(), change)

    async def rotate(self, caller: Caller, webhook_id: str) -> Webhook:
        """Give a webhook a new secret; the old one signs too for a day."""
        self.find(caller, webhook_id)
        now = self._clock()
        return await self._registry.change(
            webhook_id, actor(), "webhook.rotate", now, lambda webhook: rotated(webhook, now)
        )

    async def delete(self, caller: Caller, webhook_id: str) -> None:
        """Forget a webhook and its deliveries."""
        self.find(caller, webhook_id)
        await self._registry.delete(webhook_id, actor(), self._clock())

    async def ping(self, caller: Caller, webhook_id: str) -> Delivery:
        """Send a `ping`."""
        return await self._sender.ping(self._enabled(caller, webhook_id))

    async def deliveries(
        self, caller: Caller, webhook_id: str, limit: int, before: int | None
    ) -> tuple[list[Delivery], int | None]:
        """A page of deliveries, the latest first, and the position where the next one goes on."""
        self.find(caller, webhook_id)
        found = await self._history.page(webhook_id, limit + 1, before)
        page = found[:limit]
        return [delivery for _, delivery in page], page[-1][0] if len(found) > limit else None

    async def redeliver(self, caller: Caller, webhook_id: str, delivery_id: str) -> Delivery:
        """Send an event once more."""
        webhook = self._enabled(caller, webhook_id)
        try:
            if not _DELIVERY.fullmatch(delivery_id):
                raise NotFoundError(f"There is no delivery {delivery_id[:64]}.")
            return await self._sender.redeliver(await self._history.find(webhook.id, delivery_id))
        except NotFoundError as error:
            raise Problem(404, "delivery_not_found", str(error)) from error

    def secret(self, webhook: Webhook) -> str:
        """What signs its deliveries."""
        return secret(self._key, webhook.id, webhook.generation)

    def _enabled(self, caller: Caller, webhook_id: str) -> Webhook:
        webhook = self.find(caller, webhook_id)
        if not webhook.enabled:
            message = "The webhook is switched off; switch it on with PATCH and enabled true, then try again."
            raise Problem(409, "webhook_disabled", message, retryable=False)
        return webhook

    async def _url(self, given: object) -> str:
        if not isinstance(given, str) or not given or len(given) > MAX_URL_CHARS:
            raise Problem.wrong_field(
                "url", f"allowed is an https:// URL of at most {MAX_URL_CHARS} characters"
            )
        try:
            await self._check_url(given)
        except LinguadError as error:
            raise Problem.wrong_field("url", str(error)) from error
        return given


def add_webhook_routes(
    app: QuartTrio,
    protect: Callable[[Scope], Callable[[View], View]],
    webhooks: Webhooks,
    once: Callable[[View], View] = lambda view: view,
) -> None:
    """Serve webhooks on an app.

    `protect` lets only keys with a scope through and sets `g.caller`; `once` honours Idempotency-Key.
    """
    guard = protect(Scope.WEBHOOKS)
    # a webhook may be deleted between the look and the change
    answer_refusals(app)

    @app.post("/v1/webhooks")
    @guard
    @once
    async def create_webhook() -> Response:
        webhook = await webhooks.create(g.caller, await json_object(MEMBERS))
        response = _with_secret(webhook, webhooks, 201)
        response.headers["Location"] = f"/v1/webhooks/{webhook.id}"
        return response

    @app.get("/v1/webhooks")
    @guard
    async def list_webhooks() -> Response:
        query(())
        items = [webhook_page(webhook) for webhook in webhooks.of_tenant(g.caller)]
        return jsonify({"items": items, "next_cursor": None})

    @app.get("/v1/webhooks/<webhook_id>")
    @guard
    async def show_webhook(webhook_id: str) -> Response:
        return jsonify(webhook_page(webhooks.find(g.caller, webhook_id)))

    @app.patch("/v1/webhooks/<webhook_id>")
    @guard
    async def change_webhook(webhook_id: str) -> Response:
        body = await json_object((*MEMBERS, "enabled"))
        return jsonify(webhook_page(await webhooks.change(g.caller, webhook_id, body)))

    @app.delete("/v1/webhooks/<webhook_id>")
    @guard
    async def delete_webhook(webhook_id: str) -> Response:
        await webhooks.delete(g.caller, webhook_id)
        return Response("", status=204)

    @app.post("/v1/webhooks/<webhook_id>/rotate-secret")
    @guard
    async def rotate_webhook(webhook_id: str) -> Response:
        return _with_secret(await webhooks.rotate(g.caller, webhook_id), webhooks, 200)

    @app.post("/v1/webhooks/<webhook_id>/test")
    @guard
    async def test_webhook(webhook_id: str) -> Response:
        return _accepted(await webhooks.ping(g.caller, webhook_id))

    @app.get("/v1/webhooks/<webhook_id>/deliveries")
    @guard
    async def list_deliveries(webhook_id: str) -> Response:
        asked = query(("limit", "cursor"))
        page, position = await webhooks.deliveries(g.caller, webhook_id, limit_of(asked), number_of(asked))
        items = [delivery_page(delivery) for delivery in page]
        return jsonify({"items": items, "next_cursor": cursor(position) if position is not None else None})

    @app.post("/v1/webhooks/<webhook_id>/deliveries/<delivery_id>/redeliver")
    @guard
    async def redeliver(webhook_id: str, delivery_id: str) -> Response:
        return _accepted(await webhooks.redeliver(g.caller, webhook_id, delivery_id))


def webhook_page(webhook: Webhook) -> dict[str, Any]:
    """A webhook as JSON, without its secret."""
    return {
        "id": webhook.id,
        "url": webhook.url,
        "events": sorted(webhook.events),
        "description": webhook.description,
        "enabled": webhook.enabled,
        "disabled_reason": webhook.disabled_reason,
        "created_at": told(webhook.created_at),
    }


def delivery_page(delivery: Delivery) -> dict[str, Any]:
    """A delivery as JSON, without what it tells."""
    waits = delivery.state is DeliveryState.WAITING
    return {
        "id": delivery.id,
        "event_id": delivery.event_id,
        "type": delivery.type,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "created_at": told(delivery.created_at),
        "next_attempt_at": told(delivery.due_at) if waits else None,
        "finished_at": told(delivery.finished_at),
        "last_status": delivery.last_status,
        "last_error": delivery.last_error or None,
    }


def _with_secret(webhook: Webhook, webhooks: Webhooks, status: int) -> Response:
    response = jsonify(webhook_page(webhook) | {"secret": webhooks.secret(webhook)})
    response.status_code = status
    response.headers["Cache-Control"] = "no-store"
    return response


def _accepted(delivery: Delivery) -> Response:
    response = jsonify(delivery_page(delivery))
    response.status_code = 202
    return response


def _events(given: object) -> frozenset[EventType]:
    known = list(EventType)
    if isinstance(given, list) and given and all(isinstance(one, str) and one in known for one in given):
        return frozenset(map(EventType, given))
    raise Problem.wrong_field("events", f"allowed is a list of one or more of {', '.join(known)}")


def _description(given: object) -> str:
    if isinstance(given, str) and len(given) <= MAX_DESCRIPTION_CHARS:
        return given
    raise Problem.wrong_field("description", f"allowed is text of at most {MAX_DESCRIPTION_CHARS} characters")
