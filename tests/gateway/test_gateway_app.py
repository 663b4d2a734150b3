"""The app of the API: order of the door, one shape of errors, CORS, health, what callers may know."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from house import AWAY, EPOCH, Daemon, House, check_error
from prometheus_client import generate_latest
from trio.testing import MockClock

from linguad import __version__
from linguad.core.coverage import Served
from linguad.core.tenant import DEFAULT_SCOPES, Scope, Status
from linguad.gateway.app import READY_FRESH_S, READY_PATIENCE_S, create_gateway_app
from linguad.gateway.capacity import BUSY_WAIT_S, NO_NODE_WAIT_S
from linguad.net.peer import Peer

RATE_HEADERS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
PAGE = "https://app.example.com"


def preflight(origin: str) -> dict[str, str]:
    return {"Origin": origin, "Access-Control-Request-Method": "POST"}


async def test_every_refusal_has_its_status_and_the_one_shape() -> None:
    house = House(require_https=True)
    key = house.keys.add("acme")
    few = house.keys.add_key("acme", frozenset({Scope.USAGE}))
    off = house.keys.add("off", status=Status.DISABLED)
    body = {"method": "POST", "data": b"x"}
    big = {"method": "POST", "data": bytes(16 * 1024 * 1024 + 1)}
    for path, credential, more, status, code in [
        ("/v1/nothing", None, {}, 404, "not_found"),
        ("/v1/nothing", key, {}, 404, "not_found"),
        ("/v1/echo", key, {}, 405, "method_not_allowed"),
        ("/v1/echo", None, body, 401, "unauthorized"),
        ("/v1/echo", "lk_test_", body, 401, "invalid_credentials"),
        ("/v1/echo", "a" * 300, body, 401, "invalid_credentials"),
        ("/v1/echo", off, body, 403, "tenant_disabled"),
        ("/v1/echo", few, body, 403, "insufficient_scope"),
        ("/v1/echo", key, {**body, "headers": {"Origin": PAGE}}, 403, "origin_not_allowed"),
        ("/v1/echo", key, {**body, "peer": Peer("198.51.100.7")}, 403, "https_required"),
        ("/v1/echo", key, big, 413, "payload_too_large"),
        ("/v1/crash", key, {}, 500, "internal_error"),
        ("/v1/tea", key, {}, 418, "teapot"),
        ("/v1/echo", key, body, 200, None),
    ]:
        got, answer, headers = await house.ask(path, credential, **more)
        assert (got, answer.get("error", {}).get("code")) == (status, code)
        if status == 405:
            assert "POST" in headers["Allow"]
    assert house.bodies == [b"x"]


async def test_answers_carry_the_rate_wherever_somebody_is_known() -> None:
    house = House()
    key = house.keys.add("acme", frozenset({Scope.USAGE}), burst=10)
    left = []
    for path, method in (("/v1/me", "GET"), ("/v1/crash", "GET"), ("/v1/tea", "GET"), ("/v1/echo", "POST")):
        _, _, headers = await house.ask(path, key, method=method)
        left.append(headers["RateLimit-Remaining"])
        assert all(name in headers for name in RATE_HEADERS)
    assert left == ["9", "8", "7", "6"]
    for path in ("/v1/me", "/health", "/v1/nothing"):
        answer = await house.client.get(path)
        assert not any(name in answer.headers for name in RATE_HEADERS)


async def test_one_request_too_many_in_an_instant_is_one_429() -> None:
    house = House()
    key = house.keys.add(max_requests_per_second=100.0)
    answers = []

    async def ask() -> None:
        answers.append(await house.ask("/v1/echo", key, method="POST", data=b"x"))

    async with trio.open_nursery() as nursery:
        for _ in range(101):
            nursery.start_soon(ask)
    statuses = [status for status, _, _ in answers]
    assert (statuses.count(200), statuses.count(429)) == (100, 1)
    (refused,) = (headers for status, _, headers in answers if status == 429)
    assert (refused["RateLimit-Remaining"], refused["Retry-After"]) == ("0", "1")
    assert len(house.bodies) == 100


async def test_rate_comes_before_origin_and_scope() -> None:
    house = House()
    key = house.keys.add("acme", frozenset(), burst=1, max_requests_per_second=1.0)
    assert (await house.ask("/v1/echo", key, method="POST"))[0] == 403
    status, body, _ = await house.ask("/v1/echo", key, method="POST")
    assert (status, body["error"]["code"]) == (429, "rate_limited")


async def test_a_revoked_key_fails_on_the_next_request() -> None:
    house = House()
    key = house.keys.add()
    assert (await house.ask("/v1/me", key))[0] == 200
    house.keys.change_key(key, revoked_at=EPOCH)
    status, _, headers = await house.ask("/v1/me", key)
    assert (status, headers["WWW-Authenticate"]) == (401, 'Bearer error="invalid_token"')


@pytest.mark.parametrize("given", ["mine-1", None])
async def test_request_id_is_on_every_answer(given: str | None) -> None:
    house = House()
    key = house.keys.add()
    for path in ("/health", "/v1/me", "/v1/nothing", "/v1/crash"):
        headers = {"Authorization": f"Bearer {key}"} | ({"X-Request-Id": given} if given else {})
        answer = await house.client.get(path, headers=headers)
        assert answer.headers["X-Request-Id"] == (given or answer.headers["X-Request-Id"])


class TestPages:
    async def test_a_preflight_needs_no_key_and_costs_nothing(self) -> None:
        house = House(cors_allowed_origins=(PAGE,))
        key = house.keys.add(burst=1, max_requests_per_second=1.0)
        for _ in range(5):
            answer = await house.client.options("/v1/echo", headers=preflight(PAGE))
            assert answer.status_code == 204
            assert answer.headers["Access-Control-Allow-Origin"] == PAGE
            assert answer.headers["Access-Control-Allow-Methods"] == "GET, POST, DELETE, PATCH"
            assert "Idempotency-Key" in answer.headers["Access-Control-Allow-Headers"]
            assert answer.headers["Access-Control-Max-Age"] == "600"
            assert answer.headers["Vary"] == "Origin"
            assert "Access-Control-Allow-Credentials" not in answer.headers
        status, _, headers = await house.ask(
            "/v1/echo", key, method="POST", data=b"x", headers={"Origin": PAGE}
        )
        assert status == 200
        assert headers["Access-Control-Allow-Origin"] == PAGE
        assert "RateLimit-Remaining" in headers["Access-Control-Expose-Headers"]

    async def test_nobody_is_allowed_by_default(self) -> None:
        house = House()
        key = house.keys.add()
        for headers in (preflight(PAGE), preflight("null")):
            answer = await house.client.options("/v1/echo", headers=headers)
            assert answer.status_code == 204
            assert not [name for name in answer.headers if name[0].startswith("Access-Control")]
            assert answer.headers["Vary"] == "Origin"
        _, _, headers_of = await house.ask("/v1/me", key)
        assert "Access-Control-Allow-Origin" not in headers_of

    async def test_a_tenants_page_may_call_for_it_alone_and_reads_why_not(self) -> None:
        house = House()
        own = house.keys.add("own", allowed_origins=(PAGE,))
        other = house.keys.add("other")
        assert (await house.ask("/v1/me", own, headers={"Origin": PAGE}))[0] == 200
        for key, status in ((other, 403), (None, 401)):
            got, _, headers = await house.ask("/v1/me", key, headers={"Origin": PAGE})
            assert (got, headers["Access-Control-Allow-Origin"]) == (status, PAGE)

    async def test_own_pages_may_call(self) -> None:
        house = House()
        key = house.keys.add()
        headers = {"Origin": "https://api.example.com", "Host": "api.example.com"}
        assert (await house.ask("/v1/me", key, headers=headers))[0] == 200

    async def test_preflight_of_what_does_not_exist(self) -> None:
        answer = await House(cors_allowed_origins=(PAGE,)).client.options("/v1/no", headers=preflight(PAGE))
        assert answer.status_code == 404

    async def test_other_options_are_answered_without_a_key(self) -> None:
        answer = await House().client.options("/v1/echo")
        assert answer.status_code == 200
        assert "POST" in answer.headers["Allow"]


class TestHealth:
    @pytest.mark.parametrize("path", ["/health", "/health/live"])
    async def test_probes_get_what_they_always_got(self, path: str) -> None:
        answer = await House(require_https=True).client.get(path)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert await answer.get_data() == b"OK"

    async def test_ready(self, autojump_clock: MockClock) -> None:
        house = House()
        checks = {"scheduler": "ok", "store": "ok", "rate_store": "ok"}
        ready = {"status": "ready", "checks": checks, "version": __version__}
        for _ in range(3):
            assert (await house.ask("/health/ready"))[:2] == (200, ready)
        assert house.daemon.asked == 1
        house.daemon.states = checks | {"store": "unreachable"}
        await trio.sleep(READY_FRESH_S)
        answer = await house.client.get("/health/ready")
        assert answer.status_code == 503
        assert await answer.get_json() == {
            "status": "not_ready",
            "checks": checks | {"store": "unreachable"},
            "version": __version__,
        }
        assert house.daemon.asked == 2

    async def test_a_part_that_does_not_answer_is_not_waited_for(self, autojump_clock: MockClock) -> None:
        class Stuck(Daemon):
            async def checks(self) -> Mapping[str, str]:
                await trio.sleep_forever()
                raise AssertionError

        client = create_gateway_app(House().admission, Stuck()).test_client()
        with trio.fail_after(READY_PATIENCE_S + 1):
            answer = await client.get("/health/ready")
        assert answer.status_code == 503
        assert (await answer.get_json())["checks"] == {"checks": "no answer in time"}


async def test_answers_can_be_read_by_people() -> None:
    house = House()
    headers = {"Authorization": f"Bearer {house.keys.add(name='示例')}"}
    answer = await house.client.open("/v1/me", headers=headers)
    data = await answer.get_data(as_text=True)
    assert data.startswith('{"tenant_id":"acme","name":"示例","status":')


async def test_me() -> None:
    house = House()
    key = house.keys.add(max_audio_seconds_per_day=60)
    with await house.admission.session(house.admission.identify(key, AWAY)):
        status, body, _ = await house.ask("/v1/me", key)
    assert status == 200
    assert body == {
        "tenant_id": "acme",
        "name": "Acme",
        "status": "active",
        "key_id": key.split("_")[2],
        "scopes": sorted(DEFAULT_SCOPES),
        "limits": {
            "max_requests_per_second": 100.0,
            "burst": 100,
            "max_concurrent_sessions": 10,
            "max_audio_seconds_per_day": 60,
            "max_audio_seconds_per_month": None,
            "max_upload_bytes": None,
        },
        "sessions_in_use": 1,
        "balance_seconds": 42,
    }
    _, body, _ = await house.ask("/v1/me", house.keys.add("other"))
    assert "balance_seconds" not in body


class TestCapacity:
    def house(self) -> tuple[House, str]:
        house = House()
        key = house.keys.add(default_src_lang="en", default_tgt_lang="es")
        house.daemon.served = [
            Served("de", "es", 3, 7),
            Served("en", "es", 2, 5),
            Served("en", "fr", 1, 0),
        ]
        return house, key

    @pytest.mark.parametrize(
        ("query", "answer"),
        [
            ("?from=en&to=es", {"ready_nodes": 2, "free_slots": 5, "enough": True}),
            ("", {"from": "en", "to": "es", "sessions": 1, "enough": True, "free_sessions": 10}),
            ("?sessions=5", {"enough": True}),
            ("?sessions=6", {"enough": False, "free_slots": 5}),
            ("?from=EN-us", {"from": "en", "ready_nodes": 2}),
            ("?from=auto&to=es&sessions=7", {"from": "auto", "ready_nodes": 3, "enough": True}),
            ("?to=fr", {"ready_nodes": 1, "free_slots": 0, "enough": False, "retry_after_s": BUSY_WAIT_S}),
            ("?to=ja", {"ready_nodes": 0, "free_slots": 0, "retry_after_s": NO_NODE_WAIT_S}),
            ("?from=zz&to=zz", {"ready_nodes": 0, "enough": False}),
        ],
    )
    async def test_room_for_sessions(self, query: str, answer: dict[str, Any]) -> None:
        house, key = self.house()
        status, body, _ = await house.ask(f"/v1/capacity{query}", key)
        assert status == 200
        assert body | answer == body

    async def test_the_tenants_own_limit_counts(self) -> None:
        house, key = self.house()
        house.keys.change_tenant("acme", max_concurrent_sessions=2)
        with await house.admission.session(house.admission.identify(key, AWAY)):
            _, body, _ = await house.ask("/v1/capacity?sessions=2", key)
        assert (body["free_sessions"], body["enough"]) == (1, False)

    @pytest.mark.parametrize(
        ("path", "field"),
        [
            ("/v1/capacity?to=auto", "to"),
            ("/v1/capacity?from=", "from"),
            ("/v1/capacity?from=e%20n", "from"),
            ("/v1/languages?to=" + "x" * 33, "to"),
            ("/v1/capacity?sessions=0", "sessions"),
            ("/v1/capacity?sessions=many", "sessions"),
            ("/v1/capacity?sessions=9999999", "sessions"),
            ("/v1/capacity?sessions=" + "9" * 5000, "sessions"),
        ],
    )
    async def test_wrong_questions(self, path: str, field: str) -> None:
        house, key = self.house()
        status, body, _ = await house.ask(path, key)
        assert (status, body["error"]["details"][0]["field"]) == (422, field)

    async def test_languages(self) -> None:
        house, key = self.house()
        _, body, _ = await house.ask("/v1/languages?from=en", key)
        assert body == {
            "pairs": [
                {"src": "en", "tgt": "es", "ready_nodes": 2, "free_slots": 5},
                {"src": "en", "tgt": "fr", "ready_nodes": 1, "free_slots": 0},
            ],
            "sources": ["en"],
            "targets": ["es", "fr"],
        }
        house.keys.change_tenant("acme", allowed_languages=("en", "fr"))
        _, body, _ = await house.ask("/v1/languages", key)
        assert [(one["src"], one["tgt"]) for one in body["pairs"]] == [("en", "fr")]
        assert (await house.ask("/v1/languages"))[0] == 401


class TestTickets:
    async def make(self, house: House, key: str, **asked: Any) -> tuple[int, Any, Mapping[str, str]]:
        return await house.ask("/v1/stream/tickets", key, method="POST", json=asked)

    async def test_are_made(self) -> None:
        house = House()
        key = house.keys.add()
        status, body, headers = await house.ask("/v1/stream/tickets", key, method="POST")
        assert status == 201
        assert set(body) == {"ticket", "expires_at"}
        assert headers["Cache-Control"] == "no-store"
        until = datetime.fromtimestamp(EPOCH + house.now + 60, UTC)
        assert body["expires_at"] == until.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        _, body, _ = await self.make(house, key, ttl_seconds=120)
        until = datetime.fromtimestamp(EPOCH + house.now + 120, UTC)
        assert body["expires_at"] == until.strftime("%Y-%m-%dT%H:%M:%S.000Z")

    @pytest.mark.parametrize(
        ("asked", "status", "names"),
        [
            ({"ttl_seconds": 121}, 422, "ttl_seconds"),
            ({"ttl_seconds": 0}, 422, "ttl_seconds"),
            ({"ttl_seconds": "60"}, 422, "ttl_seconds"),
            ({"ttl_seconds": True}, 422, "ttl_seconds"),
            ({"origin": "example.com"}, 422, "origin"),
            ({"origin": 7}, 422, "origin"),
            ({"orgin": PAGE}, 422, "orgin"),
            ({"origin": PAGE}, 403, "allowed_origins"),
        ],
    )
    async def test_wrong_wishes(self, asked: dict[str, Any], status: int, names: str) -> None:
        house = House()
        got, body, _ = await self.make(house, house.keys.add(), **asked)
        assert got == status
        assert names in body["error"]["message"]

    @pytest.mark.parametrize("data", [b"{", b"[]", b"\xff", b"null"])
    async def test_wrong_bodies(self, data: bytes) -> None:
        house = House()
        status, body, _ = await house.ask("/v1/stream/tickets", house.keys.add(), method="POST", data=data)
        assert (status, body["error"]["code"]) == (400, "invalid_json")

    @pytest.mark.parametrize("scopes", [{Scope.TICKETS}, {Scope.STREAM}])
    async def test_need_both_scopes(self, scopes: set[Scope]) -> None:
        house = House()
        status, body, _ = await self.make(house, house.keys.add("acme", frozenset(scopes)))
        assert (status, body["error"]["code"]) == (403, "insufficient_scope")


async def test_metrics_do_not_grow_by_what_callers_make_up() -> None:
    house = House()
    for word in ("FLY", "SWIM"):
        await house.client.open("/v1/nothing", method=word)
        await house.client.open("/v1/echo", method=word)
    figures = generate_latest().decode()
    assert 'method="unknown",route="unknown",status="404"' in figures
    assert "FLY" not in figures
    assert "SWIM" not in figures


async def test_each_request_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    key = house.keys.add()
    headers = {"X-Request-Id": "mine", "Content-Length": "3"}
    caplog.set_level("INFO", "linguad")
    await house.ask("/v1/echo?a=1", key, method="POST", data=b"abc", headers=headers)
    await house.ask("/v1/nothing")
    await house.client.get("/health")
    await house.client.options("/v1/echo", headers=preflight(PAGE))
    logs = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    told = [entry for entry in logs if entry["event"] == "api_request"]
    assert [(entry["route"], entry["status"]) for entry in told] == [
        ("/v1/echo", 200),
        ("unknown", 404),
        ("/v1/echo", 204),
    ]
    first = told[0]
    assert (first["request_id"], first["tenant"], first["bytes_in"]) == ("mine", "acme", 3)
    assert first["key_id"] == key.split("_")[2]
    assert key not in str(logs)


def test_the_shape_of_errors_is_really_looked_at() -> None:
    with pytest.raises(AssertionError):
        check_error(404, {"error": {"code": "not_found"}}, {})
