"""The second connection: channels and blocking reads, which would hold up everybody on the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from linguad import log
from linguad.net.redis.errors import RedisAway, RedisRefusal
from linguad.net.redis.link import Link, Resolver
from linguad.net.redis.manners import Words
from linguad.net.redis.replies import Push
from linguad.net.redis.status import Limits, Status

logger = log.get(__name__)


class Listener:
    """Mutable state: the channels that are wanted. Subscribes to them anew on every connection.

    Messages of channels are hints: what was published while the connection was away is lost, which is what
    `on_resync` is for.
    """

    def __init__(
        self,
        resolve: Resolver,
        limits: Limits,
        *,
        name: str,
        client_name: str,
        on_message: Callable[[bytes, bytes], object],
        on_resync: Callable[[], object],
        cluster: bool = False,
    ) -> None:
        """`on_message(channel, payload)` and `on_resync()` must not block and must not raise.

        `on_resync` is called each time all channels are subscribed to on a new connection, the first one
        too: whatever happened before it may have been missed. In a cluster `resolve` names the master of the
        stream that is read.
        """
        self._on_message = on_message
        self._on_resync = on_resync
        self._channels: set[str] = set()
        self._ready = trio.Event()
        self._link = Link(
            resolve,
            limits,
            name=name,
            client_name=client_name,
            cluster=cluster,
            on_push=self._pushed,
            # the stream went to another server of the cluster, or the server is no master any more
            leave_on=frozenset({"READONLY", "MOVED", "ASK"}),
        )

    @property
    def up(self) -> bool:
        """Whether there is a connection."""
        return self._link.up

    def status(self) -> Status:
        """What is to be known about the connection now."""
        return self._link.status()

    async def wait_up(self) -> None:
        """Wait until there is a connection that has all its subscriptions."""
        await self._ready.wait()

    async def call(
        self, words: Words, *, seconds: float | None = None, repeatable: bool = False, op: str = ""
    ) -> object:
        """As `Link.call`, for XREAD and XREADGROUP with BLOCK; all other commands wait behind those.

        Raises RedisAway if a blocking read is not answered in its time; no entry is lost by that which is
        read as pending again.
        """
        return await self._link.call(words, seconds=seconds, repeatable=repeatable, op=op)

    async def call_all(self, commands: Sequence[Words]) -> list[object]:
        """As `Link.call_all`."""
        return await self._link.call_all(commands)

    async def subscribe(self, *channels: str) -> None:
        """Want messages of these channels, now or, if Redis is away, as soon as it is back.

        Returns when Redis has confirmed it, which may take as long as a blocking read. Raises RedisRefusal
        if it is not allowed.
        """
        new = [channel for channel in channels if channel not in self._channels]
        self._channels.update(new)
        await self._tell("SUBSCRIBE", new)

    async def unsubscribe(self, *channels: str) -> None:
        """Want them no more. Raises as `subscribe` does."""
        old = [channel for channel in channels if channel in self._channels]
        self._channels.difference_update(old)
        await self._tell("UNSUBSCRIBE", old)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the connection and its subscriptions until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._link.run)
            task_status.started()
            while True:
                gone = await self._link.wait_up()
                try:
                    await self._begin()
                except RedisAway as error:
                    logger.debug("redis_subscription_late", link=self._link.name, reason=str(error))
                except RedisRefusal as error:
                    self._link.cut(str(error))
                await gone.wait()
                if self._ready.is_set():
                    self._ready = trio.Event()

    async def _begin(self) -> None:
        # who waits for `_ready` does not block the connection before this
        if self._channels:
            await self._link.call(("SUBSCRIBE", *sorted(self._channels)))
        self._ready.set()
        self._on_resync()

    async def _tell(self, command: str, channels: list[str]) -> None:
        if not channels or not self._link.up:
            await trio.lowlevel.checkpoint()
            return
        try:
            await self._link.call((command, *channels))
        except RedisAway as error:
            # the next connection subscribes to what is wanted then
            logger.debug("redis_subscription_late", link=self._link.name, reason=str(error))

    def _pushed(self, push: Push) -> None:
        match push:
            case [b"message", bytes(channel), bytes(payload)]:
                self._on_message(channel, payload)
