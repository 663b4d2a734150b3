"""Both connections to Redis as one service: alone, behind sentinels, or a cluster."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import trio

from linguad.net.redis import sentinel
from linguad.net.redis.address import Address, parse
from linguad.net.redis.cluster import Cluster
from linguad.net.redis.commands import Redis
from linguad.net.redis.link import Link, Resolver
from linguad.net.redis.listener import Listener
from linguad.net.redis.status import Limits, Status


class RedisSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach Redis and how long to wait for it."""

    instance_id: str
    """Who we are, in CLIENT LIST."""
    url: str = "redis://127.0.0.1:6379"
    """One server, or sentinels: `redis+sentinel://…`. May hold a password."""
    urls: tuple[str, ...] = ()
    """Some servers of a Redis Cluster, instead of `url`."""
    sentinel_user: str = ""
    sentinel_password: str = ""
    limits: Limits = Limits()


class RedisService:
    """The connections of one instance. `run` must run in a task; Redis may be away at any time.

    `redis` has all commands, `caller` is what scripts want, `listener` what `streams.read` wants.
    """

    def __init__(
        self,
        settings: RedisSettings,
        *,
        inbox: str,
        on_message: Callable[[bytes, bytes], object],
        on_resync: Callable[[], object],
    ) -> None:
        """`inbox` is the key of the stream that the listener reads; the callbacks are those of `Listener`.

        Raises RedisAddressError.
        """
        client = f"linguad:{settings.instance_id}"
        self.caller: Link | Cluster
        if settings.urls:
            seeds = [parse(url) for url in settings.urls]
            self.caller = Cluster(seeds, settings.limits, name="main", client_name=client)
            resolve = self.caller.resolver(inbox)
        else:
            resolve = _resolver(settings)
            self.caller = Link(resolve, settings.limits, name="main", client_name=client)
        self.redis = Redis(self.caller)
        self.listener = Listener(
            resolve,
            settings.limits,
            name="listener",
            client_name=f"{client}:listener",
            on_message=on_message,
            on_resync=on_resync,
            cluster=bool(settings.urls),
        )

    @property
    def up(self) -> bool:
        """Whether commands go through and messages come: False is `"degraded": ["redis"]` in `/ready`."""
        return self.caller.up and self.listener.up

    def status(self) -> list[Status]:
        """What is to be known about each connection."""
        own = self.caller.status()
        return [*(own if isinstance(own, list) else [own]), self.listener.status()]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the connections until cancelled; started at once, whether Redis is there or not."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.caller.run)
            await nursery.start(self.listener.run)
            task_status.started()


def _resolver(settings: RedisSettings) -> Resolver:
    if settings.url.startswith(sentinel.SCHEMES):
        return sentinel.Sentinels(
            settings.url, user=settings.sentinel_user, password=settings.sentinel_password
        )
    address = parse(settings.url)

    async def resolve() -> Address:
        return address

    return resolve
