"""Health, readiness, metrics, and the base app's answers to errors."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from quart import Response, request
from quart_trio import QuartTrio
from trio.testing import MockClock

from linguad.net.http import PEER
from linguad.net.peer import Peer
from linguad.ops.app import create_ops_app
from linguad.web.address import client_of
from linguad.web.app import BODY_SECONDS, MAX_BODY_BYTES, create_app


@dataclass
class Status:
    """The daemon as the pages see it."""

    draining: bool = False
    reasons: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def facts(self) -> Mapping[str, Any]:
        return {"version": "1.2.3"}

    def not_ready(self) -> Sequence[str]:
        return self.reasons

    def degraded(self) -> Sequence[str]:
        return self.missing


async def test_health_is_always_ok() -> None:
    client = create_ops_app(Status(draining=True, reasons=["no store"])).test_client()
    answer = await client.get("/health")
    assert answer.status_code == 200
    assert await answer.get_data(as_text=True) == "OK"


@pytest.mark.parametrize(
    ("status", "code", "reasons"),
    [
        (Status(), 200, []),
        (Status(missing=["redis"]), 200, []),
        (Status(reasons=["no store"]), 503, ["no store"]),
        (Status(draining=True), 503, ["draining"]),
    ],
)
async def test_ready(status: Status, code: int, reasons: list[str]) -> None:
    answer = await create_ops_app(status).test_client().get("/ready")
    assert answer.status_code == code
    assert await answer.get_json() == {
        "ready": code == 200,
        "draining": status.draining,
        "reasons": reasons,
        "degraded": status.missing,
        "version": "1.2.3",
    }


async def test_metrics_are_prometheus_text() -> None:
    answer = await create_ops_app(Status()).test_client().get("/metrics")
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert b"# TYPE linguad_link_crashes_total counter" in await answer.get_data()


@pytest.fixture
def app() -> QuartTrio:
    app = create_app("test")

    @app.post("/echo")
    async def echo() -> Response:
        return Response(await request.get_data())

    @app.get("/crash")
    async def crash() -> Response:
        async with trio.open_nursery():
            raise KeyError("a secret")

    @app.post("/json")
    async def take_json() -> Response:
        return Response(str(await request.get_json()))

    @app.get("/who")
    async def who() -> Response:
        peer = client_of(request)
        return Response(f"{peer.address} {peer.scheme}")

    return app


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/echo", 405, "method_not_allowed"),
        ("GET", "/crash", 500, "internal_error"),
        ("POST", "/json", 400, "bad_request"),
    ],
)
async def test_errors_are_json_without_a_traceback(
    app: QuartTrio, method: str, path: str, status: int, code: str
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await app.test_client().open(path, method=method, headers=headers, data=b"{")
    assert answer.status_code == status
    assert answer.content_type == "application/json"
    body = await answer.get_json()
    assert set(body) == {"error"}
    assert body["error"]["code"] == code
    assert body["error"]["message"]
    assert body["error"]["request_id"] == answer.headers["X-Request-Id"]
    assert "secret" not in str(body)
    assert ("Allow" in answer.headers) == (status == 405)


async def test_request_id_is_taken_if_sane_else_made(app: QuartTrio) -> None:
    client = app.test_client()
    for given in ("req-1", "a.b:c_D" * 5):
        answer = await client.get("/who", headers={"X-Request-Id": given})
        assert answer.headers["X-Request-Id"] == given
    for given in ("", " ", "x" * 129, "a b", "<script>", "-x"):
        answer = await client.get("/who", headers={"X-Request-Id": given})
        uuid.UUID(answer.headers["X-Request-Id"])


async def test_body_that_is_too_big_is_413(app: QuartTrio) -> None:
    client = app.test_client()
    assert (await client.post("/echo", data=bytes(MAX_BODY_BYTES))).status_code == 200
    answer = await client.post("/echo", data=bytes(MAX_BODY_BYTES + 1))
    assert answer.status_code == 413
    assert (await answer.get_json())["error"]["code"] == "request_entity_too_large"


async def test_body_that_does_not_come_is_408(app: QuartTrio, autojump_clock: MockClock) -> None:
    async with app.test_client().request("/echo", method="POST") as connection:
        await connection.send(b"half")
        await trio.sleep(BODY_SECONDS + 1)
        answer = await connection.as_response()
    assert answer.status_code == 408
    assert (await answer.get_json())["error"]["code"] == "request_timeout"


async def test_client_is_who_the_front_door_says(app: QuartTrio) -> None:
    scope = {PEER: Peer("198.51.100.7", 4, "https")}
    answer = await app.test_client().get("/who", scope_base=scope)
    assert await answer.get_data() == b"198.51.100.7 https"
    answer = await app.test_client().get("/who", scope_base={"client": ("::ffff:10.0.0.1", 1)})
    assert await answer.get_data() == b"10.0.0.1 http"
