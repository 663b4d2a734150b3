"""Tenants and keys in memory, a clock that stands still, and an app with a few views behind the door."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace
from quart import Response, jsonify, request
from quart.typing import TestClientProtocol
from quart_trio import QuartTrio

from linguad.config.gateway import Gateway
from linguad.core.coverage import Served
from linguad.core.tenant import DEFAULT_SCOPES, Key, Scope, Tenant
from linguad.gateway.access.account import add_account_routes, add_ticket_routes
from linguad.gateway.access.admission import Admission, Budgets
from linguad.gateway.access.protect import Doorkeeper, caller, protected
from linguad.gateway.access.tickets import Tickets
from linguad.gateway.app import create_gateway_app
from linguad.gateway.capacity import Capacity, add_capacity_routes
from linguad.net.http import PEER
from linguad.net.peer import Peer
from linguad.web.problems import Problem

EPOCH = 1_800_000_000.0
"""Unix time at which the clock stands."""

AWAY = Peer("198.51.100.7", 4000, "https")
"""A client far away."""


class KeyRing:
    """A `KeyStore` of its own."""

    def __init__(self) -> None:
        self._tenants: dict[str, Tenant] = {}
        self._keys: dict[str, Key] = {}
        self._by_text: dict[str, str] = {}
        self.uses: list[str] = []

    def add(self, tenant_id: str = "acme", scopes: frozenset[Scope] = DEFAULT_SCOPES, **limits: Any) -> str:
        """A tenant and a key for it; returns the key."""
        tenant = Tenant(id=tenant_id, name=tenant_id.title(), created_at=EPOCH, updated_at=EPOCH)
        self._tenants[tenant_id] = replace(tenant, **limits)
        return self.add_key(tenant_id, scopes)

    def add_key(self, tenant_id: str = "acme", scopes: frozenset[Scope] = DEFAULT_SCOPES) -> str:
        key_id = f"{tenant_id}{len(self._keys):0>12}"[-12:]
        text = f"lk_test_{key_id}_" + "s" * 43
        self._keys[key_id] = Key(
            id=key_id, tenant_id=tenant_id, prefix=text[:16], scopes=scopes, created_at=EPOCH
        )
        self._by_text[text] = key_id
        return text

    def own_key(self, text: str) -> None:
        """Let an operator's text be a key of the first tenant."""
        self._by_text[text] = next(iter(self._keys))

    def change_tenant(self, tenant_id: str, **changes: Any) -> None:
        self._tenants[tenant_id] = replace(self._tenants[tenant_id], **changes)

    def change_key(self, text: str, **changes: Any) -> None:
        key_id = self._by_text[text]
        self._keys[key_id] = replace(self._keys[key_id], **changes)

    def lookup(self, credential: str) -> tuple[Key, Tenant] | None:
        key = self._keys.get(self._by_text.get(credential, ""))
        return None if key is None else (key, self._tenants[key.tenant_id])

    def tenant(self, tenant_id: str) -> Tenant | None:
        return self._tenants.get(tenant_id)

    def tenants(self) -> list[Tenant]:
        return list(self._tenants.values())

    def key(self, key_id: str) -> Key | None:
        return self._keys.get(key_id)

    def used(self, key_id: str) -> None:
        self.uses.append(key_id)


@dataclass
class Daemon:
    """What the app asks of the rest."""

    states: dict[str, str] = field(
        default_factory=lambda: {"scheduler": "ok", "store": "ok", "rate_store": "ok"}
    )
    asked: int = 0
    served: list[Served] = field(default_factory=list)

    async def checks(self) -> Mapping[str, str]:
        self.asked += 1
        return self.states

    def languages(self) -> list[Served]:
        return self.served


class House:
    """An app and all behind it; `now` is the monotonic time of its limits."""

    def __init__(self, *, budgets: Budgets | None = None, **settings: Any) -> None:
        self.now = 1000.0
        self.keys = KeyRing()
        self.daemon = Daemon()
        self.settings = Gateway(**settings)
        self.admission = Admission(
            self.keys, self.settings, budgets, lambda: self.now, lambda: EPOCH + self.now
        )
        self.tickets = Tickets(self.settings, lambda: self.now)
        self.door = Doorkeeper(self.admission, self.tickets, self.settings)
        self.app = create_gateway_app(self.admission, self.daemon)
        add_account_routes(self.app, self.admission, lambda tenant: 42 if tenant.id == "acme" else None)
        add_ticket_routes(self.app, self.admission, self.tickets, self.settings, lambda: EPOCH + self.now)
        add_capacity_routes(self.app, self.admission, Capacity(self.daemon))
        self.bodies: list[bytes] = []
        _add_views(self.app, self.admission, self.bodies)

    @property
    def client(self) -> TestClientProtocol:
        return self.app.test_client()

    async def ask(
        self, path: str, key: str | None = None, *, method: str = "GET", peer: Peer = AWAY, **more: Any
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, JSON body and headers of an answer; an error has to have the one shape."""
        headers = dict(more.pop("headers", {}))
        if key is not None:
            headers.setdefault("Authorization", f"Bearer {key}")
        scope = {PEER: peer, "scheme": peer.scheme}
        answer = await self.client.open(path, method=method, headers=headers, scope_base=scope, **more)
        body = await answer.get_json()
        if answer.status_code >= 400:
            check_error(answer.status_code, body, answer.headers)
        return answer.status_code, body, answer.headers


def check_error(status: int, body: Any, headers: Mapping[str, str]) -> None:
    """An error has its one shape (gateway 11.2)."""
    assert set(body) == {"error"}
    error = body["error"]
    assert set(error) - {"details", "trace_id"} == {"code", "message", "status", "request_id", "retryable"}
    assert error["status"] == status
    assert error["request_id"] == headers["X-Request-Id"]
    assert error["code"] == error["code"].lower()
    assert error["message"]
    assert "lk_" not in str(body)
    assert headers["Content-Type"] == "application/json"
    if status == 429:
        assert int(headers["Retry-After"]) >= 1


def _add_views(app: QuartTrio, admission: Admission, bodies: list[bytes]) -> None:
    @app.post("/v1/echo")
    @protected(admission, Scope.TRANSLATE)
    async def echo() -> Response:
        bodies.append(await request.get_data())
        return jsonify({"tenant": caller().tenant.id})

    @app.get("/v1/crash")
    @protected(admission)
    async def crash() -> Response:
        raise KeyError("secret")

    @app.get("/v1/tea")
    @protected(admission)
    async def tea() -> Response:
        raise Problem(418, "teapot", "Ask for coffee elsewhere.")
