"""A process of `test_webhook_store.py`: claims what is due, says so, and waits to be killed in the middle."""

from __future__ import annotations

import sys
import time

import trio

from linguad.core.webhooks import Delivery, EventType
from linguad.store.database import Database
from linguad.store.delivery_queue import DeliveryQueue
from linguad.store.webhooks import WebhookRegistry


async def main(url: str) -> None:
    database = Database(url)
    await database.open()
    queue = DeliveryQueue(database, WebhookRegistry(database))
    now = time.time()
    made = [
        Delivery(
            id=f"dlv_{number}",
            webhook_id="wh_1",
            tenant_id="t",
            event_id=f"evt_{number}",
            type=EventType.JOB_COMPLETED,
            body=b"{}",
            created_at=now,
            due_at=now,
        )
        for number in range(10)
    ]
    await queue.add(made)
    claimed = await queue.claim(now, now + 60, most=3, per_webhook=3, running={})
    print(len(claimed), flush=True)
    await trio.sleep_forever()


trio.run(main, sys.argv[1])
