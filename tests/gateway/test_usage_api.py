"""GET /v1/usage and the routes of operators, over real books in SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quart import g
from quart.typing import TestClientProtocol as Client

from linguad.core.metering import Usage
from linguad.core.tenant import BillingMode, Caller, Scope, Tenant
from linguad.gateway.usage.routes import add_admin_usage_routes, add_usage_routes, asked_for
from linguad.store.bookkeeper import Bookkeeper
from linguad.store.database import Database
from linguad.web.app import create_app
from linguad.web.problems import Problem, answer_problems
from linguad.web.query import moment_of

NOON = 1_767_268_800.0  # 2026-01-01 12:00 UTC
TENANT = Tenant(id="t-1", name="One", created_at=0.0, updated_at=0.0, billing_mode=BillingMode.PREPAID)


def row(number: int, charged_ms: int, **members: Any) -> Usage:
    defaults: dict[str, Any] = {
        "id": f"job-{number}",
        "tenant": "t-1",
        "key": "K1",
        "session": f"s-{number}",
        "job": f"job-{number}",
        "attempt": 1,
        "node": "node-1",
        "owner": "ann/ben",
        "utterance": 0,
        "outcome": "ok",
        "audio_ms": charged_ms,
        "charged_ms": charged_ms,
        "credited_ms": charged_ms,
        "utterances": 1,
        "asr_ms": 1,
        "nmt_ms": 2,
        "tts_ms": 3,
        "total_ms": 9,
        "chars_asr": 4,
        "chars_translated": 5,
        "audio_ms_out": 900,
        "finished_at": NOON,
    }
    return Usage(**(defaults | members))


def protect(scope: Scope) -> Callable[[Any], Any]:
    """The stand-in of the real one: every caller has every scope."""

    def decorate(view: Any) -> Any:
        @wraps(view)
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            g.caller = Caller(tenant=TENANT, key_id="K1", scopes=frozenset({scope}))
            return await view(*args, **kwargs)

        return guarded

    return decorate


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Bookkeeper]:
    database = Database(f"sqlite:///{tmp_path / 'linguad.db'}")
    await database.open()
    made = Bookkeeper(database, lambda tenant: True, clock=lambda: NOON)
    await made.open()
    yield made
    await database.close()


@pytest.fixture
def client(books: Bookkeeper) -> Client:
    app = create_app("gateway")
    answer_problems(app)
    add_usage_routes(app, protect, books, lambda: NOON)
    add_admin_usage_routes(app, protect, books, {"t-1": TENANT}.get, lambda: NOON)
    return app.test_client()


async def get(client: Client, path: str) -> Any:
    return await (await client.get(path)).get_json()


async def post(client: Client, path: str, body: Any) -> tuple[int, Any]:
    response = await client.post(path, json=body)
    return response.status_code, await response.get_json()


async def test_usage_of_a_month(books: Bookkeeper, client: Client) -> None:
    for number, hours in enumerate((0, 1, 30)):
        books.record(row(number, 1500, finished_at=NOON + hours * 3600, key=f"K{number % 2}"))
    books.request("t-1", "K1", failed=True)
    await books.flush()
    answer = await get(client, "/v1/usage?to=2026-02-01")
    assert (answer["from"], answer["to"], answer["granularity"]) == (
        "2026-02-01T00:00:00Z",
        "2026-02-01T00:00:00Z",
        "day",
    )
    answer = await get(client, "/v1/usage?from=2026-01-01&to=2026-02-01")
    assert [(item["start"], item["audio_ms_in"]) for item in answer["items"]] == [
        ("2026-01-01T00:00:00Z", 3000),
        ("2026-01-02T00:00:00Z", 1500),
    ]
    assert answer["totals"] == {
        "requests": 1,
        "errors": 1,
        "sessions": 3,
        "utterances": 3,
        "audio_ms_in": 4500,
        "audio_ms_out": 2700,
        "chars_asr": 12,
        "chars_translated": 15,
        "asr_time_ms": 3,
        "nmt_time_ms": 6,
        "tts_time_ms": 9,
        "gpu_active_time_ms": 18,
        "total_processing_time_ms": 27,
        "billed_seconds": 6,
        "billed_minutes": 0,
    }
    assert answer["balance_seconds"] == -6
    answer = await get(client, "/v1/usage?from=2026-01-01&to=2026-02-01&granularity=month&group_by=key")
    assert [(item["start"], item["key_id"], item["audio_ms_in"]) for item in answer["items"]] == [
        ("2026-01-01T00:00:00Z", "K0", 3000),
        ("2026-01-01T00:00:00Z", "K1", 1500),
    ]
    answer = await get(client, "/v1/usage?from=2026-01-01T12:30:00Z&to=2026-01-01T13:30:00Z&granularity=hour")
    assert [item["start"] for item in answer["items"]] == ["2026-01-01T12:00:00Z", "2026-01-01T13:00:00Z"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("granularity=week", "granularity"),
        ("group_by=node", "group_by"),
        ("from=yesterday", "from"),
        ("from=0001-01-01", "from"),
        ("to=9999-12-31", "to"),
        ("from=2026-01-02&to=2026-01-01", "from"),
        ("from=2026-01-01&to=2026-04-04", "from"),
        ("form=2026-01-01", "form"),
    ],
)
async def test_usage_that_cannot_be_told(client: Client, query: str, field: str) -> None:
    response = await client.get(f"/v1/usage?{query}")
    assert response.status_code == 422
    error = (await response.get_json())["error"]
    assert (error["code"], error["details"][0]["field"]) == ("invalid_field", field)


@given(st.dictionaries(st.sampled_from(["from", "to", "granularity", "group_by"]), st.text(max_size=30)))
def test_any_query_is_answered_or_refused(query: dict[str, str]) -> None:
    try:
        asked = asked_for(query, NOON)
    except Problem as problem:
        (detail,) = list(problem.details or ())
        assert detail["field"] in query or detail["field"] == "from"
    else:
        assert asked.begin <= asked.end


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-01-01", NOON - 43_200),
        ("2026-01-01T12:00:00Z", NOON),
        ("2026-01-01T14:00:00+02:00", NOON),
        # what a query makes of it
        ("2026-01-01T14:00:00 02:00", NOON),
        ("2026-01-01T12:00:00.000 00:00", NOON),
        ("2026-01-01 12:00:00", NOON),
    ],
)
def test_moments_of_queries(text: str, at: float) -> None:
    assert moment_of("from", text) == at


async def test_ledger_and_credits(books: Bookkeeper, client: Client) -> None:
    books.record(row(1, 1500))
    books.session_ended("s-1")
    await books.flush()
    path = "/admin/v1/tenants/t-1/credits"
    body = {"seconds": 600, "reason": "credit", "request_id": "r-1"}
    for _ in range(2):
        status, line = await post(client, path, body)
        assert (status, line["change_seconds"], line["balance_after"]) == (200, 600, 598)
        assert (line["actor_type"], line["actor_id"], line["created_at"]) == (
            "key",
            "K1",
            "2026-01-01T12:00:00.000Z",
        )
    status, answer = await post(client, path, body | {"seconds": 601})
    assert (status, answer["error"]["code"]) == (409, "conflict")
    ledger = await get(client, "/admin/v1/tenants/t-1/ledger?limit=1")
    assert (ledger["balance_seconds"], ledger["items"]) == (598, [line])
    following = await get(client, f"/admin/v1/tenants/t-1/ledger?limit=5&cursor={ledger['next_cursor']}")
    assert following["next_cursor"] is None
    ((settled),) = following["items"]
    assert (settled["session_id"], settled["change_seconds"], settled["reason"], settled["tenant_id"]) == (
        "s-1",
        -2,
        "session_settlement",
        "t-1",
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"seconds": 0}, "seconds"),
        ({"seconds": -1}, "seconds"),
        ({"seconds": 1.5}, "seconds"),
        ({"reason": "gift"}, "reason"),
        ({"request_id": ""}, "request_id"),
        ({"request_id": "a b"}, "request_id"),
        ({"more": 1}, "more"),
        ({"seconds": 10**10, "reason": "adjustment"}, "seconds"),
    ],
)
async def test_credits_that_cannot_be(client: Client, change: dict[str, Any], field: str) -> None:
    body = {"seconds": 1, "reason": "refund", "request_id": "r"} | change
    status, answer = await post(client, "/admin/v1/tenants/t-1/credits", body)
    assert (status, answer["error"]["details"][0]["field"]) == (422, field)


async def test_bodies_that_are_none(client: Client) -> None:
    path = "/admin/v1/tenants/t-1/credits"
    for data, status, code in ((b"{", 400, "invalid_json"), (b"[]", 400, "invalid_json")):
        response = await client.post(path, data=data)
        assert response.status_code == status
        assert (await response.get_json())["error"]["code"] == code


async def test_unknown_tenants(client: Client) -> None:
    for path in ("usage", "ledger"):
        response = await client.get(f"/admin/v1/tenants/t-9/{path}")
        assert response.status_code == 404
        assert (await response.get_json())["error"]["code"] == "tenant_not_found"
    for query in ("limit=0", "limit=x", "cursor=-1"):
        assert (await client.get(f"/admin/v1/tenants/t-1/ledger?{query}")).status_code == 422


async def test_owners_of_nodes_are_paid(books: Bookkeeper, client: Client) -> None:
    books.record(row(1, 90_500))
    await books.flush()
    listed = await get(client, "/admin/v1/node-credits?limit=1")
    (account,) = listed["items"]
    assert account == {
        "owner": "ann/ben",
        "credited_seconds": 90,
        "transferred_seconds": 0,
        "balance_seconds": 90,
    }
    assert listed["next_cursor"] is None
    body = {"tenant_id": "t-1", "seconds": 60, "request_id": "r-1"}
    path = "/admin/v1/node-credits/ann%2Fben"
    for _ in range(2):
        status, answer = await post(client, f"{path}/transfer", body)
        assert (status, answer["account"]["balance_seconds"], answer["line"]["change_seconds"]) == (
            200,
            30,
            60,
        )
    assert [line["change_seconds"] for line in (await get(client, path))["transfers"]] == [-60]
    assert (await post(client, f"{path}/transfer", body | {"seconds": 31, "request_id": "r"}))[0] == 409
    assert (await post(client, f"{path}/transfer", body | {"tenant_id": "t-9"}))[0] == 404
    assert (await client.get("/admin/v1/node-credits/bob")).status_code == 404
