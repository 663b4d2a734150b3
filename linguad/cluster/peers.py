"""The other instances: looked up in Redis once a second and at every hint, told to whoever wants to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import trio

from linguad import log
from linguad.cluster.families import instances
from linguad.cluster.place import ID, Place
from linguad.core.peers import PeerTable
from linguad.metrics import INSTANCES
from linguad.wire.peer import Peer

LOOKS_PER_HEARTBEAT = 5
"""How often the others are looked up, in heartbeats: a death is noticed soon after its sign of life ends."""

logger = log.get(__name__)


class Peers:
    """Live instances, ourselves left out. What is told is told from one task, synchronously."""

    def __init__(self, place: Place, heartbeat_s: float) -> None:
        self.look_s = heartbeat_s / LOOKS_PER_HEARTBEAT
        self._place = place
        self._table = PeerTable(2 * heartbeat_s)
        self._told: dict[str, list[Callable[[str], None]]] = {"new": [], "gone": [], "draining": []}
        self._hint = trio.Event()
        self.orphans: list[str] = []
        """Names in the register under which nobody lives; one of us adopts what they left."""
        self.looked_at = trio.current_time()
        """When they were last looked up."""

    def alive(self) -> Mapping[str, Peer]:
        """All of them by name, as of the last look; while Redis is away nobody is declared dead."""
        return self._table.alive

    def is_alive(self, instance: str) -> bool:
        """Whether it lives, as of the last look."""
        return instance in self._table.alive

    def when_gone(self, do: Callable[[str], None]) -> None:
        """Call with the name of each that dies, leaves, or was started anew (then it is new at once)."""
        self._told["gone"].append(do)

    def when_new(self, do: Callable[[str], None]) -> None:
        """Call with the name of each that comes."""
        self._told["new"].append(do)

    def when_draining(self, do: Callable[[str], None]) -> None:
        """Call with the name of each that takes no new work from now on."""
        self._told["draining"].append(do)

    def hint(self) -> None:
        """Somebody came or went: look now."""
        self._hint.set()

    def blind(self) -> None:
        """Redis is away."""
        self._table.blind()

    async def look(self) -> None:
        """Look who is there. Raises RedisAway, RedisRefusal."""
        place, redis = self._place, self._place.redis
        self._hint = trio.Event()
        listed = await instances(redis.caller, place.keys)
        names = [name for name in listed if ID.fullmatch(name) and name != place.me.instance]
        asked: list[tuple[Any, ...]] = [("GET", place.key("alive", name)) for name in names]
        signs = await redis.caller.call_all(asked) if asked else []
        found = {
            name: Peer.read(name, sign)
            for name, sign in zip(names, signs, strict=True)
            if isinstance(sign, bytes)
        }
        now = self.looked_at = trio.current_time()
        self._table.sighted(now)
        self.orphans = [name for name in names if name not in found and self._table.trusts(now)]
        for what, peer in self._table.seen(found, now):
            logger.info(
                "instance_changed", what=what, instance=peer.instance, host=peer.hostname, pid=peer.pid
            )
            for do in self._told[what]:
                do(peer.instance)
        INSTANCES.set(len(found) + 1)

    async def wait(self) -> None:
        """Wait until it is time to look again."""
        with trio.move_on_after(self.look_s):
            await self._hint.wait()
