"""Webhooks and their deliveries on both databases: what is kept, claimed, and left after a kill."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace
from patience import PATIENCE_S

from linguad.core.accounts import Actor, ConflictError, NotFoundError
from linguad.core.tenant import Tenant
from linguad.core.webhooks import (
    GIVE_UP_SECONDS,
    MAX_PER_TENANT,
    Delivery,
    DeliveryState,
    EventType,
    Try,
    Webhook,
    after,
    switched_off,
)
from linguad.store import audit, tenants
from linguad.store.database import Database
from linguad.store.delivery_queue import DeliveryQueue
from linguad.store.tenants import TenantRow
from linguad.store.webhooks import WebhookRegistry

OWNER = Actor(type="key", id="abc", request_id="r-1")


@pytest.fixture
async def registry(database: Database) -> AsyncIterator[WebhookRegistry]:
    for name in ("t", "u"):
        row = TenantRow(tenant=Tenant(id=name, name=name, created_at=0, updated_at=0), revision=1)
        await database.write(lambda connection, row=row: tenants.add(connection, row))
    registry = WebhookRegistry(database)
    await registry.load()
    return registry


@pytest.fixture
def queue(database: Database, registry: WebhookRegistry) -> DeliveryQueue:
    return DeliveryQueue(database, registry)


def webhook(id: str = "wh_1", tenant_id: str = "t", created_at: float = 0) -> Webhook:
    return Webhook(
        id=id,
        tenant_id=tenant_id,
        url=f"https://example.com/{id}",
        events=frozenset({EventType.JOB_COMPLETED, EventType.JOB_FAILED}),
        created_at=created_at,
        description="für Tests",
    )


def delivery(number: int, webhook_id: str = "wh_1", due_at: float = 100) -> Delivery:
    return Delivery(
        id=f"dlv_{number}",
        webhook_id=webhook_id,
        tenant_id="t",
        event_id=f"evt_{number}",
        type=EventType.JOB_COMPLETED,
        body=b'{"\xc3\xa4": 1}',
        created_at=50,
        due_at=due_at,
    )


async def test_webhooks_are_kept_and_seen_by_other_instances(
    database: Database, registry: WebhookRegistry
) -> None:
    other = WebhookRegistry(database)
    await other.load()
    await registry.create(webhook("wh_2", created_at=2), OWNER)
    await registry.create(webhook("wh_1", created_at=1), OWNER)
    await other.refresh()
    for each in (registry, other):
        assert each.of_tenant("t") == [webhook("wh_1", created_at=1), webhook("wh_2", created_at=2)]
        assert each.find("wh_1") == webhook("wh_1", created_at=1)
        assert each.wanting("t", EventType.SESSION_STARTED) == each.of_tenant("u") == []
    await other.change("wh_1", OWNER, "webhook.change", 5, lambda one: switched_off(one, "by its owner"))
    await other.delete("wh_2", OWNER, 6)
    await registry.refresh()
    (left,) = registry.of_tenant("t")
    assert (left.enabled, left.disabled_reason) == (False, "by its owner")
    assert registry.wanting("t", EventType.JOB_COMPLETED) == []
    assert registry.find("wh_2") is None
    notes = await database.read(lambda connection: audit.trail(connection, tenant_id="t"))
    assert [note.action for note in notes] == [
        *("webhook.delete", "webhook.change", "webhook.create", "webhook.create")
    ]
    with pytest.raises(NotFoundError):
        await registry.delete("wh_2", OWNER, 7)
    with pytest.raises(NotFoundError):
        await registry.change("wh_2", OWNER, "webhook.change", 7, lambda one: one)


async def test_a_tenant_has_at_most_ten(database: Database, url: str, registry: WebhookRegistry) -> None:
    """Also when two instances make them at the same time."""
    second = Database(url)
    other = WebhookRegistry(second)
    refused = []

    async def create(registry: WebhookRegistry, number: int) -> None:
        try:
            await registry.create(webhook(f"wh_{number}"), OWNER)
        except ConflictError as error:
            refused.append(str(error))

    async with trio.open_nursery() as nursery:
        for number in range(MAX_PER_TENANT + 4):
            nursery.start_soon(create, registry if number % 2 else other, number)
    await second.close()
    await registry.refresh()
    assert len(refused) == 4
    assert "delete one" in refused[0]
    assert len(registry.of_tenant("t")) == MAX_PER_TENANT
    await registry.create(webhook("another", "u"), OWNER)


async def claim(queue: DeliveryQueue, now: float, **more: object) -> list[str]:
    wanted = {"most": 100, "per_webhook": 100, "running": {}} | more
    return [one.id for one in await queue.claim(now, now + 60, **wanted)]  # type: ignore[arg-type]


async def test_what_is_due_is_claimed_once(queue: DeliveryQueue) -> None:
    await queue.add([delivery(1, due_at=101), delivery(2, due_at=100), delivery(3, due_at=500)])
    assert await queue.next_due([]) == 100
    assert await claim(queue, 99) == []
    assert await claim(queue, 101) == ["dlv_2", "dlv_1"]
    assert await claim(queue, 102) == []
    assert await queue.next_due([]) == 161
    assert await queue.next_due(["wh_1"]) is None
    assert await claim(queue, 161) == ["dlv_1", "dlv_2"]
    assert await queue.waiting() == 3


async def test_what_is_added_twice_is_there_once(queue: DeliveryQueue) -> None:
    """Events are handed over again when nobody knows whether the transaction before came to its end."""
    await queue.add([delivery(1)])
    await queue.add([delivery(1), delivery(2)])
    assert await claim(queue, 100) == ["dlv_1", "dlv_2"]


async def test_no_webhook_takes_all_the_room(queue: DeliveryQueue) -> None:
    await queue.add([delivery(n, due_at=n) for n in range(10)])
    await queue.add([delivery(n, "wh_2", due_at=n) for n in range(10, 20)])
    assert await claim(queue, 50, most=20, per_webhook=4) == [
        *("dlv_0", "dlv_1", "dlv_2", "dlv_3"),
        *("dlv_10", "dlv_11", "dlv_12", "dlv_13"),
    ]
    assert await claim(queue, 50, most=3, per_webhook=4, running={"wh_1": 4, "wh_2": 3}) == ["dlv_14"]
    assert await claim(queue, 50, most=3, per_webhook=4, running={"wh_1": 4, "wh_2": 4}) == []


async def test_two_instances_share_the_work(queue: DeliveryQueue, url: str) -> None:
    await queue.add([delivery(n) for n in range(200)])
    second = Database(url)
    other = DeliveryQueue(second, WebhookRegistry(second))
    claimed: list[str] = []

    async def work(queue: DeliveryQueue) -> None:
        while found := await claim(queue, 200, most=7):
            claimed.extend(found)

    async with trio.open_nursery() as nursery:
        for each in (queue, other):
            nursery.start_soon(work, each)
    await second.close()
    assert sorted(claimed) == sorted(f"dlv_{n}" for n in range(200))


async def test_the_life_of_a_delivery(queue: DeliveryQueue, registry: WebhookRegistry) -> None:
    await registry.create(webhook(), OWNER)
    await queue.add([delivery(1)])
    (claimed,) = await queue.claim(100, 160, most=1, per_webhook=1, running={})
    assert claimed == delivery(1)
    failed = Try(at=105, error="no answer within 10 s")
    assert await queue.finish(after(claimed, failed, 0.5, 9), failed) is None
    assert await queue.find("wh_1", "dlv_1") == replace(
        claimed, attempts=1, due_at=115, last_error="no answer within 10 s"
    )
    assert (registry.find("wh_1") or webhook()).failing_since == 105
    (claimed,) = await queue.claim(115, 175, most=1, per_webhook=1, running={})
    worked = Try(at=116, status=204)
    assert await queue.finish(after(claimed, worked, 0.5, 9), worked) is None
    found = await queue.find("wh_1", "dlv_1")
    assert (found.state, found.attempts, found.last_status) == (DeliveryState.DELIVERED, 2, 204)
    assert (registry.find("wh_1") or webhook()).failing_since is None
    with pytest.raises(NotFoundError):
        await queue.find("wh_2", "dlv_1")
    assert await queue.sweep(116) == 0
    assert await queue.sweep(117) == 1


@pytest.mark.parametrize(
    ("tried", "says"),
    [
        (Try(at=150, status=410), "410"),
        (Try(at=110 + GIVE_UP_SECONDS, status=500), "3 days"),
    ],
)
async def test_a_webhook_that_is_switched_off_ends_its_deliveries(
    queue: DeliveryQueue, registry: WebhookRegistry, tried: Try, says: str
) -> None:
    await registry.create(replace(webhook(), failing_since=110), OWNER)
    await registry.create(webhook("wh_2"), OWNER)
    await queue.add([delivery(1), delivery(2), delivery(3, "wh_2")])
    (claimed,) = await queue.claim(100, 160, most=1, per_webhook=1, running={})
    off = await queue.finish(after(claimed, tried, 0.5, 9), tried)
    assert off is not None
    assert says in (off.disabled_reason or "")
    assert registry.find("wh_1") == off
    (_, rest), (_, first) = await queue.page("wh_1", 10, None)
    assert {rest.state, (await queue.find("wh_2", "dlv_3")).state} == {
        *(DeliveryState.FAILED, DeliveryState.WAITING)
    }
    assert first.attempts + rest.attempts == 1
    # what was under way meanwhile does not wake it again
    late = Try(at=tried.at + 1, status=500)
    assert await queue.finish(after(replace(claimed, id=rest.id), late, 0.5, 9), late) is None
    assert (await queue.find("wh_1", rest.id)).state is DeliveryState.FAILED


async def test_a_deleted_webhook_takes_its_deliveries_along(
    queue: DeliveryQueue, registry: WebhookRegistry
) -> None:
    await registry.create(webhook(), OWNER)
    await queue.add([delivery(1)])
    await registry.delete("wh_1", OWNER, 5)
    assert await queue.waiting() == 0
    # a try that was under way ends without a trace
    tried = Try(at=150, status=500)
    assert await queue.finish(after(delivery(1), tried, 0.5, 9), tried) is None
    assert await queue.page("wh_1", 10, None) == []


async def test_pages(queue: DeliveryQueue) -> None:
    await queue.add([delivery(n) for n in range(5)])
    await queue.add([delivery(9, "wh_2")])
    first = await queue.page("wh_1", 3, None)
    assert [one.id for _, one in first] == ["dlv_4", "dlv_3", "dlv_2"]
    second = await queue.page("wh_1", 3, first[-1][0])
    assert [one.id for _, one in second] == ["dlv_1", "dlv_0"]


async def test_a_kill_loses_nothing(url: str) -> None:
    """Another process keeps ten, claims three and is killed; all ten come, those three a minute later."""
    script = Path(__file__).parent / "mortal_queue.py"
    process = await trio.lowlevel.open_process([sys.executable, script, url], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with trio.fail_after(PATIENCE_S):
        async with process.stdout:
            said = b""
            while not said.endswith(b"\n"):
                said += await process.stdout.receive_some()
            process.kill()
            await process.wait()
    assert said == b"3\n"
    database = Database(url)
    await database.open()
    queue = DeliveryQueue(database, WebhookRegistry(database))
    late = await queue.next_due([])
    assert late is not None
    rest = await queue.claim(late, late + 60, most=100, per_webhook=100, running={})
    again = await queue.claim(late + 60, late + 120, most=100, per_webhook=100, running={})
    assert len(rest) == 7
    assert {one.id for one in again} == {f"dlv_{n}" for n in range(10)}
    assert {one.attempts for one in again} == {0}
    await database.close()
