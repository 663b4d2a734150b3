"""Deletes what an installation has in Redis; for operators, from outside of any instance."""

from __future__ import annotations

import trio

from linguad.cluster.families import instances, wipe
from linguad.cluster.place import way_to_redis
from linguad.config.cluster import Cluster as ClusterSettings
from linguad.errors import LinguadError
from linguad.net.redis.keys import Keys
from linguad.net.redis.service import RedisService

CONNECT_S = 10.0
"""How long Redis may take to answer, s."""


async def wiped(settings: ClusterSettings, force: bool) -> int:
    """Delete all that the registers name; how many keys there were.

    Raises LinguadError if instances live, unless `force`, or if Redis is away.
    """
    keys = Keys(settings.key_prefix)
    service = RedisService(
        way_to_redis(settings, "wipe"),
        inbox=keys.of("i", "wipe", "inbox"),
        on_message=lambda _channel, _payload: None,
        on_resync=lambda: None,
    )
    problem = ""
    deleted = 0
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        with trio.move_on_after(CONNECT_S) as scope:
            await service.caller.wait_up()
        if scope.cancelled_caught:
            reasons = "; ".join(link.reason for link in service.status() if link.reason)
            problem = f"Redis is away: {reasons}"
        elif (alive := await _alive(service, keys)) and not force:
            problem = f"nothing was deleted; first stop what runs, or say --force: {', '.join(alive)}"
        else:
            deleted = await wipe(service.caller, keys)
        nursery.cancel_scope.cancel()
    if problem:
        raise LinguadError(problem)
    return deleted


async def _alive(service: RedisService, keys: Keys) -> list[str]:
    names = await instances(service.caller, keys)
    asked = [("EXISTS", keys.of("i", name, "alive")) for name in names]
    found = await service.caller.call_all(asked) if asked else []
    return [name for name, alive in zip(names, found, strict=True) if alive]
