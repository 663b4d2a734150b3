"""Tells the other instances at once that tenants, keys or webhooks have changed: they read the store again.

What is told is a hint and may be lost; the store is asked each second anyway (resolution 40).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from linguad import log
from linguad.cluster.service import Cluster
from linguad.net.redis.errors import RedisAway, RedisRefusal

logger = log.get(__name__)


class AccountNews:
    """Mutable state: whether there is something to tell. `run` in a task."""

    def __init__(self, cluster: Cluster, hints: Sequence[Callable[[], None]]) -> None:
        """`hints` are called when somebody else has changed something. Before the cluster runs."""
        self._place = cluster.place
        self._hints = hints
        self._news = trio.Event()
        cluster.on_channel(cluster.keys.accounts, self._heard)
        cluster.when_up(self._look)

    def tell(self) -> None:
        """Something was changed here, and is in the store."""
        self._news.set()

    async def run(self) -> None:
        """Tell it, for ever."""
        place = self._place
        while True:
            await self._news.wait()
            self._news = trio.Event()
            try:
                await place.redis.caller.call(("PUBLISH", place.keys.accounts, place.me.boot))
            except (RedisAway, RedisRefusal) as error:
                logger.debug("accounts_untold", reason=str(error))

    def _heard(self, boot: bytes) -> None:
        if boot != self._place.me.boot.encode():
            self._look()

    def _look(self) -> None:
        for hint in self._hints:
            hint()
