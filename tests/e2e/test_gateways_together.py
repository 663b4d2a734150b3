"""Two gateways on one store and one Redis are one API: limits, tickets, accounts; with and without Redis."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from conftest import Start
from postgres import Postgres
from processes import PATIENCE_S, Api, DaemonProcess, form
from redis_server import RedisServer
from stream_app import SECOND, refused, stream_of, ticket_of

from linguad.net.dial import DialError

HEARTBEAT_S = 2.0
COUNTER = "scheduler_phase2_redis_op_total{"


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A server of the test's own."""
    server = RedisServer().start()
    yield server
    server.clear_away()


class Pair:
    """Daemons a and b, and an operator of both."""

    def __init__(
        self,
        a: DaemonProcess,
        b: DaemonProcess,
        at_a: Api,
        at_b: Api,
        instance: Callable[[str], DaemonProcess],
    ) -> None:
        """`instance` starts one more."""
        self.a, self.b = a, b
        self.instance = instance
        self.at_a, self.at_b = at_a, at_b

    async def tenant(self, **members: Any) -> tuple[str, str]:
        """A new tenant and its key, which both know."""
        made = await self.at_a.call("POST", "/admin/v1/tenants", {"name": "t", **members})
        assert made.status == 201, made
        key: str = made.json["api_key"]["key"]
        await self.until(self.at_b, key, 200)
        return made.json["tenant_id"], key

    async def until(self, api: Api, key: str, status: int) -> None:
        """Wait until a key has this effect; it costs nothing if the first time is enough."""
        with trio.fail_after(PATIENCE_S):
            while (await api.call("GET", "/v1/languages", key=key)).status != status:  # noqa: ASYNC110
                await trio.sleep(0.05)


Together = Callable[..., Any]


@pytest.fixture
def together(start: Start, redis: RedisServer, tmp_path: Path) -> Together:
    """Two daemons that are one API."""

    @asynccontextmanager
    async def begin(store: str = "", **gateway: Any) -> AsyncIterator[Pair]:
        pepper = tmp_path / "pepper"
        pepper.write_text("a secret that all of these daemons know")
        shared = {"url": store or f"sqlite:///{tmp_path / 'shared.db'}", "shared": True}
        gateway |= {"pepper_file": str(pepper), "failed_auth_limit": 0}

        def instance(name: str) -> DaemonProcess:
            cluster = {"redis_url": redis.url, "instance_id": name, "heartbeat_seconds": HEARTBEAT_S}
            return start(cluster=cluster, store=shared, gateway=gateway, hub={"enabled": False})

        a = instance("a")
        await a.event("cluster_joined")
        operator = await a.operator()
        b = instance("b")
        await b.event("cluster_joined")
        port = (await b.event("listening", door="gateway"))["port"]
        await b.event("started")
        yield Pair(a, b, operator, b.resume(operator, port), instance)

    return begin


async def test_one_rate(together: Together) -> None:
    async with together() as pair:
        _, key = await pair.tenant(max_requests_per_second=0.001, burst=10)
        said = [await api.call("GET", "/v1/me", key=key) for api in (pair.at_a, pair.at_b) * 6]
        let_in = [reply for reply in said if reply.status == 200]
        left = [int(reply.headers["ratelimit-remaining"]) for reply in let_in]
        assert left == list(range(left[0], -1, -1)), "each knows of the requests at the other"
        assert left[0] <= 8
        for reply in said[len(let_in) :]:
            assert reply.problem(429)["code"] == "rate_limited"
            assert int(reply.headers["retry-after"]) > 500
        assert {reply.status for reply in said[-2:]} == {429}


async def test_sessions_of_both_until_one_is_killed(together: Together) -> None:
    async with together() as pair:
        _, key = await pair.tenant(max_concurrent_sessions=2)
        async with stream_of(pair.at_a, key=key) as first, stream_of(pair.at_b, key=key) as second:
            await first.say("start")
            await first.hear("started")
            me = (await pair.at_b.call("GET", "/v1/me", key=key)).json
            assert me["sessions_in_use"] == 1
            room = (await pair.at_b.call("GET", "/v1/capacity", key=key)).json
            assert room["free_sessions"] == 1
            await second.say("start")
            await second.hear("started")
            for api in (pair.at_a, pair.at_b):
                reply = await api.translate(SECOND, key=key, src_lang="en", tgt_lang="es")
                assert reply.problem(429)["code"] == "too_many_sessions"
            async with stream_of(pair.at_b, key=key) as third:
                await third.say("start")
                assert (await third.hear("error"))["code"] == "too_many_sessions"
                pair.a.signal(signal.SIGKILL)
                with trio.fail_after(PATIENCE_S):
                    while True:
                        await third.say("start")
                        message = json.loads(await third.socket.get_message())
                        if message["type"] == "started":
                            break
                        assert message["code"] == "too_many_sessions", message
                        await trio.sleep(0.5)


async def asked(daemon: DaemonProcess) -> int:
    """How often a daemon has asked Redis for the limits of all instances."""
    text = (await daemon.get("/metrics"))[1]
    counts = [line for line in text.splitlines() if line.startswith(COUNTER) and 'op="admit"' in line]
    return sum(int(float(line.split()[-1])) for line in counts)


async def test_a_request_asks_redis_once_and_a_native_session_never(together: Together) -> None:
    async with together() as pair, pair.b.working_node():
        _, key = await pair.tenant()
        before = await asked(pair.b)
        for _ in range(3):
            assert (await pair.at_b.call("GET", "/v1/me", key=key)).status == 200
            assert (await pair.at_b.translate(SECOND, key=key, src_lang="en", tgt_lang="es")).status == 200
        assert await asked(pair.b) == before + 6
        async with pair.b.client() as client:
            await client.utterance(0)
            await client.result(utterance_index=0)
        assert await asked(pair.b) == before + 6


async def test_keys_and_tickets(together: Together) -> None:
    async with together() as pair:
        tenant, _ = await pair.tenant()
        made = await pair.at_b.call("POST", f"/admin/v1/tenants/{tenant}/keys", {"scopes": ["speech:stream"]})
        assert made.status == 201, made
        other = made.json["api_key"]
        await pair.until(pair.at_a, other["key"], 200)
        done = await pair.at_a.call("DELETE", f"/admin/v1/tenants/{tenant}/keys/{other['key_id']}")
        assert done.status == 204
        await pair.until(pair.at_b, other["key"], 401)

        ticket = await ticket_of(pair.at_a)
        async with stream_of(pair.at_b, f"?ticket={ticket}", key="") as app:
            await app.say("start")
            await app.hear("started")
        for api in (pair.at_a, pair.at_b):
            status, problem = await refused(api, f"?ticket={ticket}", key="")
            assert (status, problem["code"]) == (401, "invalid_credentials")


async def test_one_that_starts_leaves_the_books_of_others_alone(together: Together) -> None:
    async with together() as pair, pair.a.working_node():
        _, key = await pair.tenant(billing_mode="prepaid")
        async with stream_of(pair.at_a, key=key) as app:
            await app.say("start", src_lang="en", tgt_lang="es")
            await app.hear("started")
            for number in range(2):
                await app.speak()
                await app.say("end")
                await app.hear("final")
                if not number:
                    one_more = pair.instance("c")
                    await one_more.event("started")
                    settled = [one for one in one_more.events if one["event"] == "sessions_settled"]
                    assert settled == []
        with trio.fail_after(PATIENCE_S):
            while True:
                usage = (await pair.at_b.call("GET", "/v1/usage?granularity=day", key=key)).json
                if usage["totals"]["billed_seconds"] == 2:
                    break
                await trio.sleep(0.2)


async def test_without_redis_each_keeps_the_limits_by_itself(together: Together, redis: RedisServer) -> None:
    async with together() as pair, pair.a.working_node():
        _, key = await pair.tenant(max_requests_per_second=0.001, burst=5)
        redis.stop()
        statuses = [(await pair.at_b.call("GET", "/v1/me", key=key)).status for _ in range(6)]
        assert statuses[-1] == 429
        assert statuses[0] == 200
        assert (await pair.at_b.call("GET", "/health/ready", key="")).status == 200
        assert (await pair.at_a.translate(SECOND, src_lang="en", tgt_lang="es")).status == 200
        redis.start()
        await pair.b.event("limits_not_shared")


async def test_without_redis_nobody_comes_in_if_that_is_wanted(
    together: Together, redis: RedisServer
) -> None:
    async with together(limits_fail_mode="closed") as pair:
        _, key = await pair.tenant()
        redis.stop()
        reply = await pair.at_b.call("GET", "/v1/me", key=key)
        assert reply.problem(503)["code"] == "limits_unavailable"
        assert reply.headers["retry-after"]
        redis.start()
        await pair.until(pair.at_b, key, 200)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    running = Postgres()
    try:
        running.start()
        yield running
    finally:
        running.clear_away()


async def test_a_request_sent_to_both_is_done_once(together: Together, postgres: Postgres) -> None:
    async with together(store=postgres.make_database()) as pair, pair.a.working_node(), pair.b.working_node():
        _, key = await pair.tenant()
        replies = []

        async def translate(api: Api) -> None:
            body, kind = form(SECOND, src_lang="en", tgt_lang="es")
            headers = {"Content_Type": kind, "Idempotency_Key": "the-same"}
            replies.append(await api.call("POST", "/v1/speech/translate", body, key=key, **headers))

        async with trio.open_nursery() as nursery:
            for api in (pair.at_a, pair.at_b, pair.at_a, pair.at_b):
                nursery.start_soon(translate, api)
        done = [reply for reply in replies if reply.status == 200]
        assert {reply.status for reply in replies} <= {200, 409}
        assert sum("idempotency-replayed" not in reply.headers for reply in done) == 1
        for api in (pair.at_a, pair.at_b):
            await translate(api)
            assert replies[-1].headers["idempotency-replayed"] == "true"
        with trio.fail_after(PATIENCE_S):
            while True:
                usage = (await pair.at_b.call("GET", "/v1/usage?granularity=day", key=key)).json
                if usage["totals"]["audio_ms_in"] == 1000:
                    break
                await trio.sleep(0.2)


async def test_a_gateway_alone_gives_its_work_to_others(
    start: Start, redis: RedisServer, tmp_path: Path
) -> None:
    def instance(name: str, **more: Any) -> DaemonProcess:
        cluster = {"redis_url": redis.url, "instance_id": name, "heartbeat_seconds": HEARTBEAT_S}
        return start(cluster=cluster, only=name, **more)

    store = {"url": f"sqlite:///{tmp_path / 'shared.db'}", "shared": True}
    scheduler = instance("scheduler")
    gateway = instance("gateway", store=store)
    api = await gateway.gateway()
    async with scheduler.working_node():
        with trio.fail_after(PATIENCE_S):
            while not (await api.call("GET", "/v1/capacity?from=en&to=es")).json["ready_nodes"]:  # noqa: ASYNC110
                await trio.sleep(0.1)
        pairs = (await api.call("GET", "/v1/languages")).json["pairs"]
        assert ("en", "es") in [(pair["src"], pair["tgt"]) for pair in pairs]
        reply = await api.translate(SECOND, src_lang="en", tgt_lang="es")
        assert reply.status == 200, reply
        assert reply.json["text"]
        async with stream_of(api) as app:
            await app.say("start", src_lang="en", tgt_lang="es")
            await app.hear("started")
            await app.speak()
            await app.say("end")
            assert (await app.hear("final"))["text"]
    assert (await gateway.get("/ready"))[0] == 200
    with pytest.raises(DialError, match="426"):
        async with gateway.node():
            pass


async def test_a_gateway_alone_needs_a_cluster(start: Start) -> None:
    daemon = start(only="gateway")
    assert await trio.to_thread.run_sync(daemon.wait) != 0
    assert any("cluster.redis_url" in line for line in daemon.complaints)
