"""The API behind a real front door: proxies, bodies that are not read, refusals outside the app."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from house import House, check_error
from patience import PATIENCE_S

from linguad.net.front import Front, FrontSettings
from linguad.net.http import HttpApp
from linguad.net.listen import listen, port_of
from linguad.net.peer import TrustedProxies


class Answer:
    """An answer as it came over the wire."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {
            "-".join(word.capitalize() for word in name.split("-")): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }

    def error(self) -> Any:
        body = json.loads(self.body)
        check_error(self.status, body, self.headers)
        return body["error"]["code"]


@asynccontextmanager
async def front_door(house: House, *proxies: str) -> AsyncIterator[int]:
    trusted = TrustedProxies(proxies)
    http = HttpApp("gateway", house.app, trusted, {"/v1/stream"})
    front = Front("gateway", {}, http.serve, FrontSettings(trusted))
    listeners = await listen("localhost", 0)
    async with trio.open_nursery() as services:
        await services.start(http.run)
        await services.start(front.serve, listeners, services)
        yield port_of(listeners)
        services.cancel_scope.cancel()


async def ask(port: int, request: str, *headers: str, body: bytes = b"") -> Answer:
    head = "\r\n".join([f"{request} HTTP/1.1", "Host: x", "Connection: close", *headers, "", ""])
    got = b""
    with trio.fail_after(PATIENCE_S):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(head.encode() + body)
            async for chunk in stream:
                got += chunk
    return Answer(got)


async def test_a_day_at_the_door() -> None:
    house = House()
    key = house.keys.add(burst=3, max_requests_per_second=1.0)
    bearer = f"Authorization: Bearer {key}"
    async with front_door(house) as port:
        health = await ask(port, "GET /health")
        assert (health.status, health.body) == (200, b"OK")
        assert (await ask(port, "GET /v1/me")).error() == "unauthorized"
        assert (await ask(port, "GET /v1/me", bearer, bearer)).error() == "multiple_credentials"
        me = await ask(port, "GET /v1/me", bearer)
        assert (me.status, me.headers["Ratelimit-Remaining"]) == (200, "2")
        echo = await ask(port, "POST /v1/echo", bearer, "Content-Length: 3", body=b"abc")
        assert (echo.status, house.bodies) == (200, [b"abc"])
        assert (await ask(port, "GET /v1/nothing", bearer)).error() == "not_found"
        assert (await ask(port, "PUT /v1/echo", bearer)).error() == "method_not_allowed"
        assert (await ask(port, "GET /v1/crash", bearer)).error() == "internal_error"
        assert (await ask(port, "GET /v1/me", bearer)).error() == "rate_limited"


async def test_who_is_refused_need_not_send_the_body() -> None:
    house = House()
    key = house.keys.add("acme", frozenset())
    async with front_door(house) as port:
        for headers, code in (
            ([], "unauthorized"),
            ([f"Authorization: Bearer {key}"], "insufficient_scope"),
        ):
            answer = await ask(port, "POST /v1/echo", *headers, "Content-Length: 1000000")
            assert answer.error() == code


async def test_https_is_what_a_trusted_proxy_says() -> None:
    house = House(require_https=True)
    bearer = f"Authorization: Bearer {house.keys.add()}"
    said = ("X-Forwarded-For: 198.51.100.7", "X-Forwarded-Proto: https")
    async with front_door(house) as port:
        assert (await ask(port, "GET /v1/me", bearer)).status == 200
        assert (await ask(port, "GET /v1/me", bearer, *said)).error() == "https_required"
    async with front_door(house, "127.0.0.0/8", "::1") as port:
        assert (await ask(port, "GET /v1/me", bearer, *said)).status == 200
        plain = (said[0], "X-Forwarded-Proto: http")
        assert (await ask(port, "GET /v1/me", bearer, *plain)).error() == "https_required"


async def test_clients_behind_a_proxy_are_stopped_one_by_one() -> None:
    house = House(failed_auth_limit=3)
    key = house.keys.add()
    async with front_door(house, "127.0.0.0/8", "::1") as port:

        async def me(address: str, credential: str) -> int:
            headers = (f"X-Forwarded-For: {address}", f"Authorization: Bearer {credential}")
            return (await ask(port, "GET /v1/me", *headers)).status

        assert [await me("198.51.100.7", "wrong" * 5) for _ in range(4)] == [401, 401, 401, 429]
        assert await me("198.51.100.7", key) == 429
        assert await me("198.51.100.8", key) == 200


@pytest.mark.parametrize(
    ("request_line", "headers", "status", "code"),
    [
        ("GET /v1/stream", (), 426, "upgrade_required"),
        (
            "GET /v1/me",
            (
                "Upgrade: websocket",
                "Connection: Upgrade",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            ),
            404,
            "not_found",
        ),
    ],
)
async def test_what_the_app_does_not_see_has_the_same_shape(
    request_line: str, headers: tuple[str, ...], status: int, code: str
) -> None:
    async with front_door(House()) as port:
        answer = await ask(port, request_line, *headers)
        assert (answer.status, answer.error()) == (status, code)
