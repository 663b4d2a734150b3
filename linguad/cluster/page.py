"""What operators see of the cluster: its instances and what lies in their inboxes (pools-and-cluster 7.4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import trio

from linguad.cluster.bus import Bus
from linguad.cluster.families import instances
from linguad.cluster.peers import Peers
from linguad.cluster.place import Place
from linguad.metrics import INBOX_PENDING
from linguad.net.redis.errors import granted
from linguad.wire.peer import Peer

FRESH_S = 2.0
"""How long an answer holds, s: many may look at it."""


class Page:
    """Mutable state: the last answer."""

    def __init__(self, place: Place, peers: Peers, bus: Bus) -> None:
        self._place = place
        self._peers = peers
        self._bus = bus
        self._parts: dict[str, Callable[[], object]] = {}
        self._answer: dict[str, Any] = {}
        self._until = trio.current_time()

    def add(self, name: str, tell: Callable[[], object]) -> None:
        """Have a member more, such as the age of the directory."""
        self._parts[name] = tell

    async def __call__(self) -> Mapping[str, Any]:
        """The whole page, as JSON can have it. Raises RedisAway, RedisRefusal."""
        now = trio.current_time()
        if not self._answer or now >= self._until:
            self._answer = await self._made()
            self._until = now + FRESH_S
        return self._answer | {name: tell() for name, tell in self._parts.items()}

    async def measure(self) -> None:
        """Put our own inbox into the metrics. Raises as `__call__` does."""
        pending = await self._place.redis.caller.call(("XLEN", self._place.key("inbox")))
        INBOX_PENDING.set(cast("int", pending))

    async def _made(self) -> dict[str, Any]:
        place = self._place
        listed = await instances(place.redis.caller, place.keys)
        names = sorted({*listed, place.me.instance})
        shown = [await self._instance(name) for name in names]
        return {
            "instance_id": place.me.instance,
            "redis_key_prefix": place.keys.prefix,
            "total_instances": len(shown),
            "online_instances": sum(one["is_online"] for one in shown),
            "total_sessions": sum(one["sessions_owned"] for one in shown),
            "total_pending": sum(one["inbox_pending"] for one in shown),
            "total_dlq": sum(one["dlq_length"] for one in shown),
            "instances": shown,
            "redis": [
                {
                    "link": link.name,
                    "server": link.server,
                    "version": link.version,
                    "state": link.state.name.lower(),
                }
                for link in place.redis.status()
            ],
            "unacknowledged_bytes": self._bus.unacknowledged(),
            "peers_age_seconds": round(trio.current_time() - self._peers.looked_at, 1),
        }

    async def _instance(self, name: str) -> dict[str, Any]:
        sign = await self._place.redis.caller.call(("GET", self._place.key("alive", name)))
        pending, dead = await self._inbox(name)
        peer = Peer.read(name, sign) if isinstance(sign, bytes) else Peer(instance=name, boot="")
        uptime_s = time.time() - peer.started_at_ms / 1000 if peer.started_at_ms else 0
        return {
            "instance_id": name,
            "hostname": peer.hostname,
            "pid": peer.pid,
            "version": peer.version,
            "address": peer.address,
            "started_at_ms": peer.started_at_ms,
            "uptime_seconds": max(0, int(uptime_s)),
            "is_online": sign is not None,
            "draining": peer.draining,
            "inbox_length": pending,
            "inbox_pending": pending,
            "dlq_length": dead,
            "nodes_owned": peer.nodes,
            "sessions_owned": peer.sessions,
        }

    async def _inbox(self, name: str) -> tuple[int, int]:
        """Letters that are not done with, and dead ones."""
        place = self._place
        asked = [("XLEN", place.key(what, name)) for what in ("inbox", "dlq")]
        pending, dead = map(granted, await place.redis.caller.call_all(asked))
        return cast("int", pending), cast("int", dead)
