"""kill -9 amid the writes of the public API, and what accounts may use: nothing acknowledged is lost, and the
ledger says what the records say.
"""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from math import ceil
from pathlib import Path
from typing import Any

import h11
import pytest
import trio
from conftest import Start
from harness import Json
from processes import PATIENCE_S, Api, DaemonProcess
from stream_app import SECOND

HERE: Json = {"webhook_allowed_networks": ["127.0.0.0/8"], "failed_auth_limit": 0}
HOOK: Json = {"url": "http://127.0.0.1:9/hook", "events": ["translation.completed"]}


class Acknowledged:
    """What the API said it has done."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        """Keys by the tenants they are of."""
        self.webhooks: dict[str, str] = {}
        """Ids by the tenants they are of."""
        self.deliveries: dict[str, str] = {}
        """Ids by tenants."""
        self.credits: dict[str, int] = {}
        self.translations = 0
        self.changed = trio.Event()


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Any]:
    """Starts daemons one after the other with the same state."""
    started: list[DaemonProcess] = []

    def begin() -> DaemonProcess:
        started.append(DaemonProcess(tmp_path, gateway=HERE))
        return started[-1]

    yield begin
    for daemon in started:
        daemon.clear_away()


async def write(operator: Api, name: str, done: Acknowledged) -> None:
    """Make a tenant with all that it may have, and note what was acknowledged, until the daemon is gone."""
    number = 0
    while True:
        number += 1
        body: Json = {"name": f"{name} {number}", "billing_mode": "prepaid"}
        made = await operator.call("POST", "/admin/v1/tenants", body)
        assert made.status == 201, made
        tenant, key = made.json["tenant_id"], made.json["api_key"]["key"]
        done.keys[tenant] = key
        credit: Json = {"seconds": 60, "reason": "credit", "request_id": f"{name}-{number}"}
        assert (await operator.call("POST", f"/admin/v1/tenants/{tenant}/credits", credit)).status == 200
        done.credits[tenant] = 60
        made = await operator.call("POST", "/v1/webhooks", HOOK, key=key)
        assert made.status == 201, made
        done.webhooks[tenant] = made.json["id"]
        made = await operator.call("POST", f"/v1/webhooks/{made.json['id']}/test", key=key)
        assert made.status == 202, made
        done.deliveries[tenant] = made.json["id"]
        made = await operator.translate(SECOND, key=key, src_lang="en", tgt_lang="es")
        assert made.status == 200, made
        done.translations += 1
        done.changed.set()


async def charged_ms(operator: Api, tenant: str) -> int:
    """What a tenant's usage shows."""
    usage = (await operator.call("GET", f"/admin/v1/tenants/{tenant}/usage")).json
    return int(usage["totals"]["audio_ms_in"])


async def test_kill_amid_writes(lives: Any) -> None:
    first: DaemonProcess = lives()
    operator, done = await first.operator(), Acknowledged()
    early = Acknowledged()
    async with trio.open_nursery() as nursery:

        async def work() -> None:
            with suppress(Exception):
                async with first.working_node():
                    await trio.sleep_forever()

        async def try_to(name: str) -> None:
            # the daemon goes away in the middle of it
            with suppress(OSError, trio.BrokenResourceError, h11.RemoteProtocolError):
                await write(operator, name, done)

        nursery.start_soon(work)
        for name in ("ann", "ben", "cem"):
            nursery.start_soon(try_to, name)
        with trio.fail_after(PATIENCE_S):
            # what is charged is written a moment after its translation
            while not early.keys or done.translations < 9:
                for tenant in tuple(done.deliveries):
                    if not early.keys and await charged_ms(operator, tenant):
                        early.keys[tenant] = done.keys[tenant]
                await done.changed.wait()
                done.changed = trio.Event()
        first.signal(signal.SIGKILL)
        await first.ended()
        nursery.cancel_scope.cancel()

    second: DaemonProcess = lives()
    port = (await second.gateway()).port
    operator = second.resume(operator, port)
    assert len(done.keys) >= 9
    for tenant, key in done.keys.items():
        me = (await operator.call("GET", "/v1/me", key=key)).json
        assert me["tenant_id"] == tenant
        if tenant in done.credits:
            assert me["balance_seconds"] in (59, 60)
        listed = (await operator.call("GET", "/v1/webhooks", key=key)).json["items"]
        if webhook := done.webhooks.get(tenant):
            assert [each["id"] for each in listed] == [webhook]
            sent = await operator.call("GET", f"/v1/webhooks/{webhook}/deliveries", key=key)
            assert {done.deliveries.get(tenant)} - {None} <= {each["id"] for each in sent.json["items"]}
    # what was shown before the kill is there after it
    assert early.keys
    for tenant in early.keys:
        assert await charged_ms(operator, tenant) == 1000
    second.stop()
    assert_books_agree(second.directory / "state" / "linguad.db")


def assert_books_agree(path: Path) -> None:
    """Charged is what was credited, the ledger is what was charged, and the counters are their sums."""
    with closing(sqlite3.connect(path)) as books:
        rows = books.execute("SELECT session_id, tenant_id, charged_ms, credited_ms FROM usage").fetchall()
        assert rows
        assert [row[2] for row in rows] == [row[3] for row in rows]
        sessions: dict[tuple[str, str], int] = {}
        for session, tenant, charged, _ in rows:
            sessions[tenant, session] = sessions.get((tenant, session), 0) + charged
        billed = {
            (tenant, session): -change
            for tenant, session, change in books.execute(
                "SELECT account, session_id, change_seconds FROM ledger WHERE session_id IS NOT NULL"
            )
        }
        assert billed == {name: ceil(ms / 1000) for name, ms in sessions.items() if ms}
        held = books.execute("SELECT SUM(charged_ms), COUNT(*) FROM metered_sessions").fetchone()
        assert held == (sum(sessions.values()), len(sessions))
        unsettled = books.execute("SELECT session_id FROM metered_sessions WHERE settled_at IS NULL")
        assert unsettled.fetchall() == []
        counted = books.execute("SELECT SUM(charged_ms), SUM(utterances) FROM usage_hours").fetchone()
        assert counted == (sum(sessions.values()), len([ms for ms in sessions.values() if ms]))
        balance: dict[str, int] = {}
        for account, change, before, after in books.execute(
            "SELECT account, change_seconds, balance_before, balance_after FROM ledger ORDER BY id"
        ):
            assert before == balance.get(account, 0)
            assert after == before + change
            balance[account] = after


async def test_prepaid_balance_overdraft_and_quota(start: Start) -> None:
    daemon = start(gateway={"billing_overdraft_seconds": 2})
    operator = await daemon.operator()

    async def tenant(**members: Any) -> Api:
        reply = await operator.call("POST", "/admin/v1/tenants", {"name": "t", **members})
        assert reply.status == 201, reply
        return daemon.resume(operator, operator.port, reply.json["api_key"]["key"])

    async def speak(api: Api) -> Any:
        return await api.translate(SECOND, src_lang="en", tgt_lang="es")

    async def balance(api: Api) -> int:
        return int((await api.call("GET", "/v1/me")).json["balance_seconds"])

    async with daemon.working_node():
        prepaid = await tenant(billing_mode="prepaid")
        name = (await prepaid.call("GET", "/v1/me")).json["tenant_id"]
        credit: Json = {"seconds": 1, "reason": "credit", "request_id": "c-1"}
        for _ in range(2):
            path = f"/admin/v1/tenants/{name}/credits"
            assert (await operator.call("POST", path, credit)).json["balance_after"] == 1
        for left in (0, -1, -2, -3):
            assert (await speak(prepaid)).status == 200
            assert await balance(prepaid) == left
        refused = (await speak(prepaid)).problem(402)
        assert (refused["code"], refused["retryable"]) == ("insufficient_balance", False)
        assert refused["details"] == {"balance_seconds": -3}
        ledger = f"/admin/v1/tenants/{name}/ledger"
        with trio.fail_after(PATIENCE_S):
            # lines are written a moment after their sessions
            while len((await operator.call("GET", ledger)).json["items"]) < 5:
                pass
        more = await operator.call("POST", path, credit | {"request_id": "c-2"}, Idempotency_Key="k")
        assert more.json["balance_after"] == -2
        again = await operator.call("POST", path, credit | {"request_id": "c-2"}, Idempotency_Key="k")
        assert (again.json, again.headers["idempotency-replayed"]) == (more.json, "true")
        assert (await speak(prepaid)).status == 200

        limited = await tenant(max_audio_seconds_per_day=2)
        for _ in range(2):
            assert (await speak(limited)).status == 200
        reply = await speak(limited)
        assert reply.problem(429)["code"] == "quota_exceeded"
        assert 1 <= int(reply.headers["retry-after"]) <= 86400
        usage = (await limited.call("GET", "/v1/usage")).json
        with trio.fail_after(PATIENCE_S):
            while usage["totals"]["audio_ms_in"] < 2000:
                usage = (await limited.call("GET", "/v1/usage")).json
        assert "balance_seconds" not in (await limited.call("GET", "/v1/me")).json
    daemon.stop()
    with closing(sqlite3.connect(daemon.directory / "state" / "linguad.db")) as books:
        changes = books.execute(
            "SELECT reason, change_seconds FROM ledger WHERE account = ? ORDER BY id", (name,)
        ).fetchall()
    assert [change for reason, change in changes if reason == "credit"] == [1, 1]
    assert [change for reason, change in changes if reason != "credit"] == [-1] * 5


async def test_many_at_once_do_not_use_up_more_than_there_is(start: Start) -> None:
    """What is being translated is reserved, and free again when nothing came of it."""
    daemon = start(jobs={"pending_timeout_seconds": 0.5})
    operator = await daemon.operator()
    body: Json = {"name": "t", "max_audio_seconds_per_day": 1}
    key = (await operator.call("POST", "/admin/v1/tenants", body)).json["api_key"]["key"]
    statuses: list[int] = []

    async def speak(tgt_lang: str = "es") -> None:
        reply = await operator.translate(SECOND, key=key, src_lang="en", tgt_lang=tgt_lang)
        statuses.append(reply.status)
        if reply.status == 429:
            assert reply.json["error"]["code"] == "quota_exceeded"

    async with daemon.node() as node, trio.open_nursery() as nursery:
        await speak("fi")
        nursery.start_soon(speak)
        job = await node.job()
        await speak()
        await node.answer(job)
    assert statuses == [503, 429, 200]
    daemon.stop()


@pytest.mark.parametrize(("trusted", "payer"), [([], "direct"), (["127.0.0.1/32"], "TENANT")])
async def test_a_client_cannot_claim_a_tenant(start: Start, trusted: list[str], payer: str) -> None:
    """A tenant named by a client counts only from where a trusted gateway calls."""
    daemon = start(sessions={"trusted_sources": trusted})
    operator = await daemon.operator()
    made = await operator.call("POST", "/admin/v1/tenants", {"name": "t", "billing_mode": "postpaid"})
    tenant = made.json["tenant_id"]
    async with daemon.working_node(), daemon.client(tenant_id=tenant) as client:
        await client.speak()
        await client.result()
    daemon.stop()
    with closing(sqlite3.connect(daemon.directory / "state" / "linguad.db")) as books:
        rows = books.execute("SELECT tenant_id, charged_ms > 0 FROM usage").fetchall()
        billed = books.execute("SELECT billed FROM metered_sessions").fetchall()
    assert rows == [(payer.replace("TENANT", tenant), 1)]
    assert billed == [(bool(trusted),)]
