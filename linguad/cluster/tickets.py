"""Tickets for web pages that any instance takes, each of them once (gateway 11.4)."""

from __future__ import annotations

from typing import cast

import trio

from linguad.cluster.place import Place
from linguad.net.redis.errors import RedisAway
from linguad.net.redis.manners import Words

PATIENCE_S = 1.0
"""How long a page waits for Redis, s."""


class SharedTickets:
    """Tickets in Redis, which forgets them when they are taken or their time is over."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def put(self, name: str, ticket: bytes, ttl_s: float) -> None:
        """Keep a ticket for so long. Raises RedisAway, RedisRefusal."""
        await self._call(("SET", self._key(name), ticket, "PX", round(ttl_s * 1000)))

    async def take(self, name: str) -> bytes | None:
        """A ticket that nobody has taken before, None if there is none. Raises RedisAway, RedisRefusal."""
        return cast("bytes | None", await self._call(("GETDEL", self._key(name))))

    def _key(self, name: str) -> str:
        return self._place.keys.of("ticket", name)

    async def _call(self, words: Words) -> object:
        with trio.move_on_after(PATIENCE_S):
            return await self._place.redis.caller.call(words)
        raise RedisAway("Redis does not answer in time", sent=True)
