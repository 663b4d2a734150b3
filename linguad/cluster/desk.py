"""What operators can ask of the cluster and do to it, for the HTTP routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from linguad.cluster.dead import DeadLetters
from linguad.cluster.families import instances, sizes
from linguad.cluster.page import Page
from linguad.cluster.place import Place
from linguad.wire.peer import Peer


class Desk:
    """All of it raises RedisAway or RedisRefusal while Redis cannot be asked."""

    def __init__(self, place: Place, page: Page, dead: DeadLetters) -> None:
        self._place = place
        self._page = page
        self._dead = dead

    async def page(self) -> Mapping[str, Any]:
        """All instances, and what lies in their inboxes."""
        return await self._page()

    async def key_families(self) -> list[dict[str, Any]]:
        """How many keys there are of each family, and their memory."""
        found = await sizes(self._place.redis.caller, self._place.keys)
        return [one._asdict() for one in found]

    async def dead_letters(self, most: int) -> list[dict[str, object]]:
        """The newest dead letters of all instances."""
        names = await instances(self._place.redis.caller, self._place.keys)
        letters = [letter for name in names for letter in await self._dead.listed(name, most)]
        return sorted(letters, key=lambda letter: str(letter["id"]).rpartition("/")[2], reverse=True)[:most]

    async def dead_letter(self, instance: str, entry_id: str) -> dict[str, object] | None:
        """One of them, if it is there."""
        return await self._dead.one(instance, entry_id)

    async def drop(self, instance: str, entry_id: str) -> bool:
        """Remove one; False if it is not there."""
        return await self._dead.drop(instance, entry_id)

    async def replay(self, instance: str, entry_id: str) -> str:
        """Put one into its inbox again; why not, or "" if it is done."""
        sign = await self._place.redis.caller.call(("GET", self._place.key("alive", instance)))
        if not isinstance(sign, bytes):
            return f"{instance} is not alive"
        return await self._dead.replay(instance, Peer.read(instance, sign).boot, entry_id)
