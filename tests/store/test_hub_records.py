"""Statistics of the hub on both databases."""

from __future__ import annotations

import trio

from linguad.core.accounts import Actor
from linguad.core.hub_usage import UsageEvent, UsageHour
from linguad.store.audit import note
from linguad.store.database import Database
from linguad.store.hub import HubRecords

NOW = 1_700_002_800.0
HOUR = 1_700_002_800


def event(number: int, name: str = "m", *, count: int = 1, at: float = NOW) -> UsageEvent:
    return UsageEvent(
        event_id=str(number), type="request", kind="model", name=name, version="1.0.0", at=at, count=count
    )


async def test_events_are_counted_once(database: Database) -> None:
    records = HubRecords(database)
    assert await records.count([event(1), event(2, count=5), event(1)]) == 2
    assert await records.count([event(2), event(3, "a", count=6)]) == 1
    assert await records.count([]) == 0
    assert await records.ranking("model", "request", 0) == [("a", 6), ("m", 6)]
    assert await records.ranking("model", "download", 0) == []
    assert await records.ranking("service", "request", 0) == []


async def test_events_at_the_same_time_are_all_counted(database: Database) -> None:
    records = HubRecords(database)
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(records.count, [event(number)])
    assert await records.ranking("model", "request", 0) == [("m", 20)]


async def test_windows_and_series(database: Database) -> None:
    records = HubRecords(database)
    await records.count([event(1), event(2, at=NOW + 3599), event(3, at=NOW - 1)])
    assert await records.ranking("model", "request", NOW) == [("m", 2)]
    assert await records.series("model", "m", NOW - 3600, NOW + 1) == [
        UsageHour(HOUR - 3600, "request", 1),
        UsageHour(HOUR, "request", 2),
    ]
    await records.forget(NOW + 40 * 86400)
    assert await records.ranking("model", "request", 0) == [("m", 3)]
    assert await records.count([event(1)]) == 1


async def test_what_was_decided(database: Database) -> None:
    records = HubRecords(database)
    await records.note(Actor(type="key", id="k"), "model.yank", "m@1.0.0", {"reason": "bad"}, NOW)
    (record,) = await records.trail(None, 10)
    assert (record.action, record.target, record.payload) == ("hub.model.yank", "m@1.0.0", {"reason": "bad"})
    assert await records.trail(NOW + 1, 10) == []


async def test_decisions_of_others_do_not_push_those_of_the_hub_out(database: Database) -> None:
    records = HubRecords(database)
    operator = Actor(type="operator", id="o")
    await records.note(operator, "model.yank", "m@1.0.0", {}, NOW)
    for action in ("tenant.update", "hubxmodel"):
        await database.write(lambda connection, action=action: note(connection, operator, action, "t", NOW))
    assert [record.action for record in await records.trail(None, 1)] == ["hub.model.yank"]
