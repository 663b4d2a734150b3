"""A warning of a quota is told by one of several instances, on both databases."""

from __future__ import annotations

from typing import Any

import trio
from links import until

from linguad.gateway.usage.thresholds import Thresholds
from linguad.store.database import Database
from linguad.store.idempotency import IdempotencyRecords

NOON = 1_790_000_000.0
DAY_S = 86_400


async def test_one_of_two_instances_tells(database: Database, url: str) -> None:
    second = Database(url)
    await second.open()
    told: list[tuple[str, Any, Any]] = []
    now = [NOON]

    def emit(tenant: str, kind: str, data: dict[str, object]) -> None:
        assert kind == "usage.threshold"
        told.append((tenant, data["period"], data["percent"]))

    instances = [Thresholds(IdempotencyRecords(one), emit, lambda: now[0]) for one in (database, second)]
    async with trio.open_nursery() as nursery:
        for one in instances:
            nursery.start_soon(one.run)
        for one in instances:
            one.crossed("acme", "day", 80)
            one.crossed("acme", "month", 80)
            one.crossed("other", "day", 80)
        for one in instances:
            # the last that each tells: what it was told before is done
            one.crossed("end", "day", 80 + instances.index(one))
        await until(lambda: sum(tenant == "end" for tenant, _, _ in told) == 2)
        assert sorted(told[:]) == sorted(
            [
                ("acme", "day", 80),
                ("acme", "month", 80),
                ("other", "day", 80),
                ("end", "day", 80),
                ("end", "day", 81),
            ]
        )
        now[0] += DAY_S
        for one in instances:
            one.crossed("acme", "day", 80)
            one.crossed("acme", "month", 80)
            one.crossed("end", "day", 90 + instances.index(one))
        await until(lambda: sum(tenant == "end" for tenant, _, _ in told) == 4)
        assert sum(tenant == "acme" for tenant, _, _ in told) == 3, "a new day, the same month"
        nursery.cancel_scope.cancel()
    await second.close()
