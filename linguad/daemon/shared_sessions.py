"""How the sessions of this instance and of others are one: what goes on elsewhere, rooms, pairing codes."""

from __future__ import annotations

import trio

from linguad.cluster.pairing import SharedCodes
from linguad.cluster.rooms import RoomMail
from linguad.cluster.service import Cluster
from linguad.cluster.sessions import SessionRecords
from linguad.config import Config
from linguad.core.pairing import PairingCodes
from linguad.sessions.serve import Sessions


class SharedSessions:
    """Made once, before the cluster runs; has no state of its own."""

    def __init__(self, cluster: Cluster, sessions: Sessions, codes: PairingCodes, config: Config) -> None:
        """`codes` are the pairing codes of the nodes that are here."""
        grace_s = config.sessions.detach_grace_seconds
        self._records = SessionRecords(cluster, grace_s)
        self._records.connect(sessions.join(self._records))
        sharing = sessions.rooms.share(cluster.place.me.instance, grace_s, trio.current_time())
        self._rooms = RoomMail(cluster, sharing, lambda: sessions.rooms.rules.idle_s)
        self._rooms.connect(sessions.meet(self._rooms))
        self._codes = SharedCodes(cluster, codes)
        sessions.redeem = self._codes.redeem

    async def run(self) -> None:
        """Tell others what they need, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._records.run)
            nursery.start_soon(self._rooms.run)
            nursery.start_soon(self._codes.run)

    async def flush(self) -> None:
        """We are about to go: tell all that was not told."""
        await self._records.flush()
