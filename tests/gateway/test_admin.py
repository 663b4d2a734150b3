"""`/admin/v1` over a real store: tenants, keys, what is refused, and the audit trail (gateway 11.1)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from quart import Response, g
from quart_trio import QuartTrio

from linguad.core.accounts import SYSTEM
from linguad.core.tenant import ADMIN_SCOPES, Caller, Scope, Tenant
from linguad.gateway.admin import add_admin_routes
from linguad.store.database import Database
from linguad.store.pepper import load_pepper
from linguad.store.registry import Registry
from linguad.web.app import create_app
from linguad.web.problems import answer_problems

Json = dict[str, Any]
View = Callable[..., Awaitable[Response]]

OPERATOR = Caller(
    tenant=Tenant(id="house", name="House", created_at=0, updated_at=0), key_id="boss", scopes=ADMIN_SCOPES
)


class Api:
    """The routes and the store behind them; `asked` are the scopes that were asked for."""

    def __init__(self, accounts: Registry) -> None:
        self.accounts = accounts
        self.asked: list[Scope] = []
        self.app: QuartTrio = create_app("test")
        answer_problems(self.app)
        add_admin_routes(self.app, accounts, self._protect, lambda view: view)

    def _protect(self, scope: Scope) -> Callable[[View], View]:
        def decorate(view: View) -> View:
            @wraps(view)
            async def protected(*args: Any, **kwargs: Any) -> Response:
                self.asked.append(scope)
                g.caller = OPERATOR
                return await view(*args, **kwargs)

            return protected

        return decorate

    async def call(
        self, method: str, path: str, body: Json | None = None, status: int = 200, **headers: str
    ) -> Json:
        """The JSON of an answer that has this status."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        response = await self.app.test_client().open(
            f"/admin/v1{path}", method=method, json=body, headers=sent
        )
        assert response.status_code == status, await response.get_data(as_text=True)
        self.headers = response.headers
        return await response.get_json() if status != 204 else {}

    async def refused(
        self, status: int, method: str, path: str, body: Json | None = None, **more: str
    ) -> Json:
        """The error of an answer."""
        error: Json = (await self.call(method, path, body, status, **more))["error"]
        assert error["status"] == status
        return error


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    database = Database(f"sqlite:///{tmp_path / 'linguad.db'}")
    await database.open()
    registry = Registry(database, load_pepper("", tmp_path))
    await registry.load()
    await registry.change(SYSTEM, lambda change: change.add_tenant("default", "Default", {}))
    yield Api(registry)
    await database.close()


async def test_life_of_a_tenant(api: Api) -> None:
    made = await api.call("POST", "/tenants", {"name": "Shop", "burst": 7}, 201)
    tenant_id = made["tenant_id"]
    assert api.headers["Cache-Control"] == "no-store"
    key = made["api_key"]
    assert key["key"].startswith(f"lk_live_{key['key_id']}_")
    found = api.accounts.lookup(key["key"])
    assert found is not None
    assert (found[0].id, found[1].id) == (key["key_id"], tenant_id)

    shown = await api.call("GET", f"/tenants/{tenant_id}")
    assert (shown["burst"], shown["enabled"], shown["status"]) == (7, True, "active")
    assert shown["created_at"].endswith("Z")
    changed = await api.call("PATCH", f"/tenants/{tenant_id}", {"burst": None, "metadata": {"plan": "gold"}})
    assert (changed["burst"], changed["metadata"], changed["name"]) == (None, {"plan": "gold"}, "Shop")

    assert (await api.call("POST", f"/tenants/{tenant_id}/disable"))["enabled"] is False
    assert (await api.call("POST", f"/tenants/{tenant_id}/enable"))["enabled"] is True
    await api.call("DELETE", f"/tenants/{tenant_id}", status=204)
    assert (await api.refused(404, "GET", f"/tenants/{tenant_id}"))["code"] == "tenant_not_found"
    found = api.accounts.lookup(key["key"])
    assert found is None or found[0].revoked_at is not None


async def test_a_tenant_without_a_key(api: Api) -> None:
    assert "api_key" not in await api.call("POST", "/tenants", {"name": "Quiet", "create_key": False}, 201)


async def test_the_default_tenant_stays(api: Api) -> None:
    error = await api.refused(409, "DELETE", "/tenants/default")
    assert (error["code"], error["retryable"]) == ("conflict", False)


async def test_changes_that_cross_each_other(api: Api) -> None:
    await api.call("GET", "/tenants/default")
    seen = api.headers["ETag"]
    await api.call("PATCH", "/tenants/default", {"name": "Mine"}, If_Match=seen)
    assert api.headers["ETag"] != seen
    error = await api.refused(412, "PATCH", "/tenants/default", {"name": "Yours"}, If_Match=seen)
    assert error["code"] == "precondition_failed"
    await api.refused(412, "PATCH", "/tenants/default", {"name": "Yours"}, If_Match="nonsense")
    assert (await api.call("PATCH", "/tenants/default", {"name": "Ours"}, If_Match="*"))["name"] == "Ours"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "x", "max_requests_per_second": 0}, "max_requests_per_second"),
        ({"name": "x", "colour": "red"}, "colour"),
        ({"name": "x", "allowed_origins": ["not an origin"]}, "allowed_origins"),
        ({"name": "x", "metadata": {"a": "b" * 5000}}, "metadata"),
        ({"name": "x", "create_key": "yes"}, "create_key"),
        ({"name": "x", "tenant_id": "mine"}, "tenant_id"),
    ],
)
async def test_wrong_members_are_named(api: Api, body: Json, field: str) -> None:
    error = await api.refused(422, "POST", "/tenants", body)
    assert (error["code"], error["details"][0]["field"]) == ("invalid_field", field)
    assert len(api.accounts.tenants()) == 1


@pytest.mark.parametrize("data", [b"{", b"[]", b'"x"', b"\xff"])
async def test_bodies_that_are_no_object(api: Api, data: bytes) -> None:
    response = await api.app.test_client().post("/admin/v1/tenants", data=data)
    assert response.status_code == 400
    assert (await response.get_json())["error"]["code"] == "invalid_json"


async def test_the_list_in_pages(api: Api) -> None:
    for number in range(5):
        await api.call("POST", "/tenants", {"name": f"Shop {number}"}, 201)
    names, path = [], "/tenants?limit=2&q=shop"
    while True:
        page = await api.call("GET", path)
        names += [tenant["name"] for tenant in page["items"]]
        if page["next_cursor"] is None:
            break
        path = f"/tenants?limit=2&q=shop&cursor={page['next_cursor']}"
    assert names == [f"Shop {number}" for number in range(5)]
    assert (await api.call("GET", "/tenants?status=disabled"))["items"] == []


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "status=odd", "cursor=%00", "cursor=bm9uZQ==", "colour=red"]
)
async def test_wrong_questions(api: Api, query: str) -> None:
    error = await api.refused(422, "GET", f"/tenants?{query}")
    assert error["details"][0]["field"] == query.partition("=")[0]


async def test_life_of_a_key(api: Api) -> None:
    body = {"label": "till", "scopes": ["speech:stream"], "env": "test", "expires_at": "2999-01-01T00:00:00Z"}
    made = (await api.call("POST", "/tenants/default/keys", body, 201))["api_key"]
    assert made["key"].startswith("lk_test_")
    assert (made["label"], made["scopes"]) == ("till", ["speech:stream"])
    path = f"/tenants/default/keys/{made['key_id']}"
    fresh = (await api.call("POST", f"{path}/rotate", {"grace_seconds": 60}, 201))["api_key"]
    listed = (await api.call("GET", "/tenants/default/keys"))["items"]
    assert [key["key_id"] for key in listed] == [made["key_id"], fresh["key_id"]]
    assert "key" not in listed[0]
    assert listed[0]["expires_at"] < "2999"
    await api.call("DELETE", path, status=204)
    found = api.accounts.lookup(made["key"])
    assert found is not None
    assert found[0].revoked_at is not None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"scopes": ["fly"]}, "scopes"),
        ({"scopes": "speech:stream"}, "scopes"),
        ({"scopes": []}, "scopes"),
        ({"env": "moon"}, "env"),
        ({"label": 5}, "label"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_keys_that_cannot_be(api: Api, body: Json, field: str) -> None:
    error = await api.refused(422, "POST", "/tenants/default/keys", body)
    assert error["details"][0]["field"] == field


async def test_keys_of_others_and_too_many(api: Api) -> None:
    other = (await api.call("POST", "/tenants", {"name": "Other"}, 201))["api_key"]["key_id"]
    assert (await api.refused(404, "DELETE", f"/tenants/default/keys/{other}"))["code"] == "key_not_found"
    assert (await api.refused(404, "GET", "/tenants/nobody/keys"))["code"] == "tenant_not_found"
    for _ in range(20):
        await api.call("POST", "/tenants/default/keys", {}, 201)
    assert (await api.refused(409, "POST", "/tenants/default/keys", {}))["code"] == "conflict"


async def test_the_audit_trail(api: Api) -> None:
    made = await api.call("POST", "/tenants", {"name": "Shop"}, 201, X_Request_Id="req-1")
    await api.call("POST", f"/tenants/{made['tenant_id']}/disable")
    trail = await api.call("GET", f"/audit?tenant_id={made['tenant_id']}")
    assert [record["action"] for record in trail["items"]] == [
        "tenant.disable",
        "key.create",
        "tenant.create",
    ]
    first = trail["items"][-1]
    assert (first["actor_type"], first["actor_id"], first["request_id"]) == ("key", "boss", "req-1")
    assert made["api_key"]["key"] not in str(trail)
    page = await api.call("GET", "/audit?limit=1")
    following = await api.call("GET", f"/audit?limit=1&cursor={page['next_cursor']}")
    assert following["items"][0]["audit_id"] < page["items"][0]["audit_id"]
    assert (await api.call("GET", "/audit?since=2999-01-01T00:00:00Z"))["items"] == []
    await api.refused(422, "GET", "/audit?since=yesterday")


async def test_which_scope_opens_what(api: Api) -> None:
    await api.call("GET", "/tenants")
    await api.call("GET", "/tenants/default/keys")
    await api.call("GET", "/audit")
    assert api.asked == [Scope.ADMIN_TENANTS, Scope.ADMIN_KEYS, Scope.ADMIN_TENANTS]
