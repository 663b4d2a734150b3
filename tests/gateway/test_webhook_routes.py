"""`/v1/webhooks` over a real store and courier: what is answered, refused, signed and listed."""

from __future__ import annotations

import hashlib
import hmac
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import trio
from patience import PATIENCE_S
from quart import Response, g, request
from quart_trio import QuartTrio
from tls_server import Exchange, Seen, make_certificate, web_server

from linguad.core.accounts import SYSTEM
from linguad.core.tenant import DEFAULT_SCOPES, Caller, Scope
from linguad.core.webhooks import EventType
from linguad.gateway.webhooks.courier import Courier, CourierRules
from linguad.gateway.webhooks.post import GuardedPost
from linguad.gateway.webhooks.routes import Webhooks, add_webhook_routes
from linguad.store.database import Database
from linguad.store.delivery_queue import DeliveryQueue
from linguad.store.registry import Registry
from linguad.store.webhooks import WebhookRegistry
from linguad.web.app import create_app
from linguad.web.problems import answer_problems

Json = dict[str, Any]
View = Callable[..., Awaitable[Response]]
KEY = b"k" * 32
FAR = "https://8.8.8.8/hook"
"""A public address, which needs no name to be looked up."""


class Api:
    """The routes for a tenant named by a header, over what stands behind them."""

    def __init__(
        self,
        tenants: Registry,
        registry: WebhookRegistry,
        queue: DeliveryQueue,
        post: GuardedPost,
        server_tls: ssl.SSLContext,
    ) -> None:
        self.server_tls = server_tls
        self.courier = Courier(registry, queue, post, KEY, CourierRules())
        self.app: QuartTrio = create_app("test")
        self.asked: list[Scope] = []
        self.headers: Any = None
        self._tenants = tenants
        answer_problems(self.app)
        webhooks = Webhooks(registry, queue, self.courier, post.check, KEY)
        add_webhook_routes(self.app, self._protect, webhooks)

    def _protect(self, scope: Scope) -> Callable[[View], View]:
        def decorate(view: View) -> View:
            @wraps(view)
            async def protected(*args: Any, **kwargs: Any) -> Response:
                self.asked.append(scope)
                tenant = self._tenants.tenant(request.headers["X-Tenant"])
                assert tenant is not None
                g.caller = Caller(tenant=tenant, key_id="k1", scopes=DEFAULT_SCOPES)
                return await view(*args, **kwargs)

            return protected

        return decorate

    async def call(
        self, method: str, path: str = "", body: Any = None, status: int = 200, tenant: str = "t"
    ) -> Json:
        """The JSON of an answer that has this status."""
        answer = await self.app.test_client().open(
            f"/v1/webhooks{path}", method=method, json=body, headers={"X-Tenant": tenant}
        )
        assert answer.status_code == status, await answer.get_data(as_text=True)
        self.headers = answer.headers
        return await answer.get_json() if status != 204 else {}

    async def error(
        self, status: int, method: str, path: str = "", body: Any = None, tenant: str = "t"
    ) -> Json:
        """The error of an answer."""
        error: Json = (await self.call(method, path, body, status, tenant))["error"]
        return error

    async def make(self, url: str = FAR, **more: Any) -> Json:
        return await self.call("POST", "", {"url": url, "events": ["job.completed"]} | more, 201)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    database = Database(f"sqlite:///{tmp_path / 'linguad.db'}")
    await database.open()
    tenants = Registry(database)
    await tenants.load()
    for name in ("t", "u"):
        await tenants.change(SYSTEM, lambda change, name=name: change.add_tenant(name, name, {}))
    registry = WebhookRegistry(database)
    await registry.load()
    certificate = make_certificate(tmp_path)
    post = GuardedPost(["127.0.0.0/8"], 10, certificate.client)
    api = Api(tenants, registry, DeliveryQueue(database, registry), post, certificate.server)
    with trio.fail_after(PATIENCE_S):
        yield api
    await database.close()


async def test_the_life_of_a_webhook(api: Api) -> None:
    made = await api.make(description="für den Chat")
    assert api.headers["Location"] == f"/v1/webhooks/{made['id']}"
    assert api.headers["Cache-Control"] == "no-store"
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert len(secret) == 6 + 43
    assert made | {"id": "", "created_at": ""} == {
        "id": "",
        "url": FAR,
        "events": ["job.completed"],
        "description": "für den Chat",
        "enabled": True,
        "disabled_reason": None,
        "created_at": "",
    }
    path = f"/{made['id']}"
    assert await api.call("GET", path) == made
    assert await api.call("GET") == {"items": [made], "next_cursor": None}
    changes = {"events": ["ping", "job.failed"], "enabled": False, "url": "https://1.1.1.1/"}
    changed = await api.call("PATCH", path, changes)
    assert changed["events"] == ["job.failed", "ping"]
    assert (changed["enabled"], changed["url"]) == (False, "https://1.1.1.1/")
    assert changed["disabled_reason"] == "it was switched off by its owner"
    assert (await api.error(409, "POST", f"{path}/test"))["code"] == "webhook_disabled"
    assert (await api.call("PATCH", path, {"enabled": True}))["disabled_reason"] is None
    rotated = await api.call("POST", f"{path}/rotate-secret")
    assert rotated["secret"] not in ("", secret)
    assert "secret" not in await api.call("GET", path)
    await api.call("DELETE", path, status=204)
    assert (await api.error(404, "GET", path))["code"] == "webhook_not_found"
    assert set(api.asked) == {Scope.WEBHOOKS}


async def test_others_do_not_see_it(api: Api) -> None:
    path = f"/{(await api.make())['id']}"
    for method, below in [
        *(("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/deliveries"), ("POST", "/test")),
        *(("POST", "/rotate-secret"), ("POST", f"/deliveries/dlv_{'0' * 24}/redeliver")),
    ]:
        error = await api.error(404, method, path + below, {} if method == "PATCH" else None, tenant="u")
        assert error["code"] == "webhook_not_found"
    assert (await api.call("GET", tenant="u"))["items"] == []


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        ({"url": None}, "url", "https://"),
        ({"url": "https://" + "a" * 2000}, "url", "2000"),
        ({"url": "http://8.8.8.8/"}, "url", "webhook_allowed_networks"),
        ({"url": "https://10.0.0.1/"}, "url", "webhook_allowed_networks"),
        ({"url": "https://[::1]/"}, "url", "webhook_allowed_networks"),
        ({"url": "https://169.254.169.254/latest/meta-data"}, "url", "webhook_allowed_networks"),
        ({"url": "https://user:pw@8.8.8.8/"}, "url", "user or password"),
        ({"url": "file:///etc/passwd"}, "url", "https://host/path"),
        ({"url": 7}, "url", "https://"),
        ({"events": []}, "events", "job.completed"),
        ({"events": "ping"}, "events", "list"),
        ({"events": ["job.eaten"]}, "events", "job.completed"),
        ({"events": [{}]}, "events", "job.completed"),
        ({"description": 5}, "description", "text"),
        ({"description": "x" * 201}, "description", "200"),
        ({"secret": "mine"}, "secret", "not known"),
    ],
)
async def test_what_is_refused(api: Api, body: Json, field: str, says: str) -> None:
    error = await api.error(422, "POST", "", {"url": FAR, "events": ["ping"]} | body)
    assert error["code"] == "invalid_field"
    (detail,) = error["details"]
    assert detail["field"] == field
    assert says in detail["reason"]


async def test_changes_that_are_refused(api: Api) -> None:
    path = f"/{(await api.make())['id']}"
    for body in ({"enabled": "yes"}, {"url": "https://127.0.0.1"[:5]}, {"events": None}, {"id": "x"}):
        assert (await api.error(422, "PATCH", path, body))["code"] == "invalid_field"
    for asked in ("limit=0", "limit=201", "cursor=%21", "cursor=YQ==", "page=2"):
        assert (await api.error(422, "GET", f"{path}/deliveries?{asked}"))["code"] == "invalid_field"
    for delivery_id in (f"dlv_{'0' * 24}", "%00", "x" * 300):
        error = await api.error(404, "POST", f"{path}/deliveries/{delivery_id}/redeliver")
        assert error["code"] == "delivery_not_found"


async def test_ten_and_no_more(api: Api) -> None:
    for _ in range(10):
        await api.make()
    error = await api.error(409, "POST", "", {"url": FAR, "events": ["ping"]})
    assert (error["code"], error["retryable"]) == ("too_many_webhooks", False)
    await api.call("POST", "", {"url": FAR, "events": ["ping"]}, 201, tenant="u")


class Receiver:
    """A real receiver that answers each delivery with the next of these statuses."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = list(statuses)
        self.send, self.got = trio.open_memory_channel[Seen](10)

    async def serve(self, exchange: Exchange) -> None:
        await exchange.answer(self._statuses.pop(0))
        await self.send.send(exchange.seen)


async def until_ended(api: Api, path: str, count: int) -> list[Json]:
    """The deliveries, when so many have ended; there is no event to wait for, only the API."""
    while True:
        items: list[Json] = (await api.call("GET", f"{path}/deliveries"))["items"]
        if sum(item["state"] != "waiting" for item in items) == count:
            return items
        await trio.sleep(0.01)


async def test_a_ping_arrives_and_verifies_and_can_be_sent_again(api: Api) -> None:
    receiver = Receiver(200, 204)
    async with web_server(receiver.serve, api.server_tls) as port, trio.open_nursery() as nursery:
        nursery.start_soon(api.courier.run)
        made = await api.make(f"https://localhost:{port}/hook")
        path = f"/{made['id']}"
        sent = await api.call("POST", f"{path}/test", status=202)
        assert (sent["type"], sent["state"], sent["attempts"]) == ("ping", "waiting", 0)
        seen = await receiver.got.receive()
        stamp, sign = seen.headers["x-lingua-signature"].split(",")
        message = stamp.removeprefix("t=").encode() + b"." + seen.body
        expected = hmac.new(made["secret"].encode(), message, hashlib.sha256).hexdigest()
        assert sign == f"v1={expected}"
        (done,) = await until_ended(api, path, 1)
        assert (done["id"], done["state"], done["attempts"], done["last_status"]) == (
            *(sent["id"], "delivered", 1, 200),
        )
        assert done["last_error"] is done["next_attempt_at"] is None
        again = await api.call("POST", f"{path}/deliveries/{sent['id']}/redeliver", status=202)
        assert again["event_id"] == sent["event_id"] != again["id"]
        assert (await receiver.got.receive()).body == seen.body
        latest, _ = await until_ended(api, path, 2)
        assert latest["id"] == again["id"]
        first = await api.call("GET", f"{path}/deliveries?limit=1")
        assert [item["id"] for item in first["items"]] == [again["id"]]
        second = await api.call("GET", f"{path}/deliveries?limit=1&cursor={first['next_cursor']}")
        assert [item["id"] for item in second["items"]] == [sent["id"]]
        assert second["next_cursor"] is None
        nursery.cancel_scope.cancel()


async def test_410_switches_it_off(api: Api) -> None:
    receiver = Receiver(410)
    async with web_server(receiver.serve, api.server_tls) as port, trio.open_nursery() as nursery:
        nursery.start_soon(api.courier.run)
        made = await api.make(f"https://localhost:{port}/hook")
        api.courier.emit("t", EventType.JOB_COMPLETED, {"job_id": "j"})
        (done,) = await until_ended(api, f"/{made['id']}", 1)
        assert (done["state"], done["last_status"]) == ("failed", 410)
        page = await api.call("GET", f"/{made['id']}")
        # the delivery ends first, then its webhook
        with trio.fail_after(PATIENCE_S):
            while page["enabled"]:
                page = await api.call("GET", f"/{made['id']}")
        assert "410" in page["disabled_reason"]
        nursery.cancel_scope.cancel()
