"""The membership of this instance: who we are to the others, from the first sign of life to the last.

Redis may be away at any time. Then we are no member, nobody is declared dead, and what needs others fails;
once it is back we announce ourselves, and everybody who registered with `when_up` says again what we own.
"""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable
from typing import cast

import trio
from msgspec import json
from msgspec.structs import replace

from linguad import log
from linguad.cluster.bus import Bus
from linguad.cluster.dead import DeadLetters
from linguad.cluster.desk import Desk
from linguad.cluster.inbox import Inbox
from linguad.cluster.page import Page
from linguad.cluster.peers import Peers
from linguad.cluster.place import Place, identity, instance_name, way_to_redis
from linguad.cluster.scripts import ADOPT, ANNOUNCE, BURY, LEAVE, SEEN
from linguad.config.cluster import Cluster as ClusterSettings
from linguad.errors import LinguadError
from linguad.metrics import INSTANCES_ADOPTED, PRESENCE_HEARTBEATS
from linguad.net.redis.errors import RedisAway, RedisRefusal
from linguad.net.redis.keys import Keys
from linguad.net.redis.service import RedisService
from linguad.wire.peer import Peer

REJOIN_S = 0.2
"""Mean pause before we announce ourselves again, s; half of it random, since all others do the same."""

ADOPTION_MS = 60_000
"""How long an instance has for the inbox of a dead one; then another tries."""

HEIRS_MS = 3600 * 1000
"""How long it is known how many have tried: a letter that ends its heir must not end them all."""

GOODBYE_S = 2.0
"""How long Redis may take to be told that we leave, s."""

logger = log.get(__name__)


class DuplicateInstance(LinguadError):
    """Another process lives under our name."""


class Vanished(Exception):
    """Our sign of life had ended: we stood still for too long, and the others take us for dead."""


class Cluster:
    """Owns the connections to Redis, the peers, the bus, and the parts that others add. `run` in a task."""

    def __init__(self, settings: ClusterSettings, counts: Callable[[], tuple[int, int]]) -> None:
        """`counts` gives the nodes and sessions that are attached here. Raises ConfigError, RedisError."""
        self.heartbeat_s = settings.heartbeat_seconds
        self._counts = counts
        self._channels: dict[bytes, Callable[[bytes], object]] = {}
        self._told: dict[bool, list[Callable[[], None]]] = {True: [], False: []}
        me = identity(instance_name(settings.instance_id, os.environ), settings.address)
        keys = Keys(settings.key_prefix)
        self.redis = RedisService(
            way_to_redis(settings, me.instance),
            inbox=keys.of("i", me.instance, "inbox"),
            on_message=self._message,
            on_resync=self._resync,
        )
        self.place = Place(me, keys, self.redis)
        self.peers = Peers(self.place, self.heartbeat_s)
        self.bus = Bus(
            self.place,
            self.peers,
            max_bytes=settings.max_unacknowledged_bytes,
            max_deliveries=settings.max_deliveries,
        )
        self.dead = DeadLetters(self.place, settings.dead_letters_kept, self.bus.is_kept)
        self._inbox = Inbox(self.place, self.bus, self.dead)
        self.page = Page(self.place, self.peers, self.bus)
        self.desk = Desk(self.place, self.page, self.dead)
        self._up = False
        self._was_up = False
        self._reason = ""
        self._member = trio.CancelScope()
        self._refused_since: float | None = None
        self.on_channel(keys.instances, lambda _payload: self.peers.hint())

    @property
    def up(self) -> bool:
        """Whether Redis is there and we are a member; False is `"degraded": ["redis"]` in `/ready`."""
        return self._up

    @property
    def keys(self) -> Keys:
        """Names of keys in Redis."""
        return self.place.keys

    def when_up(self, do: Callable[[], None]) -> None:
        """Call each time we have become a member: say again what we own. Synchronous, must not raise."""
        self._told[True].append(do)

    def when_down(self, do: Callable[[], None]) -> None:
        """Call each time we are a member no more."""
        self._told[False].append(do)

    def after_letters(self, do: Callable[[], None]) -> None:
        """Call after each row of letters that was handled: what they led to can leave. Must not raise."""
        self._inbox.after.append(do)

    def on_channel(self, channel: str, do: Callable[[bytes], object]) -> None:
        """Have the messages of a channel of Redis, which are hints and may be lost. Before `run`."""
        self._channels[channel.encode()] = do

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part until cancelled; started at once, whether Redis is there or not.

        Raises DuplicateInstance if another process lives under our name when we come.
        """
        # before there is a connection: it subscribes as soon as it comes up
        await self.redis.listener.subscribe(*(channel.decode() for channel in self._channels))
        async with trio.open_nursery() as nursery:
            await nursery.start(self.redis.run)
            await nursery.start(self.bus.run)
            nursery.start_soon(self._take_part)
            task_status.started()

    async def drain(self) -> None:
        """Tell the others that we take no new work; what is under way goes on."""
        self.place.me = replace(self.place.me, draining=True)
        if self._up:
            await self._calmly(self._announce_change)

    async def leave(self) -> None:
        """Tell the others that we are gone; to be called last. What lies unread is adopted."""
        self._member.cancel()
        if self._up:
            self._reason = "we leave"
            self._set_down(self._reason)
            await self._calmly(self._say_goodbye)

    async def _take_part(self) -> None:
        with self._member:
            while True:
                try:
                    await self._join()
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._inbox.serve)
                        nursery.start_soon(self._beat)
                        nursery.start_soon(self._look)
                except* (RedisAway, RedisRefusal, Vanished) as group:
                    self._set_down(str(_first(group)))
                await trio.sleep(REJOIN_S * random.uniform(0.5, 1.5))

    async def _join(self) -> None:
        await self.redis.caller.wait_up()
        await self.redis.listener.wait_up()
        await self._announce_change()
        await self.peers.look()
        self._up = self._was_up = self.bus.open = True
        self._reason = ""
        logger.info("cluster_joined", instance=self.place.me.instance, peers=len(self.peers.alive()))
        for do in self._told[True]:
            do()

    def _set_down(self, reason: str) -> None:
        self.peers.blind()
        if reason != self._reason:
            self._reason = reason
            logger.warning(
                "cluster_left", instance=self.place.me.instance, was_member=self._up, reason=reason
            )
        if not self._up:
            return
        self._up = self.bus.open = False
        for do in self._told[False]:
            do()

    async def _beat(self) -> None:
        while True:
            await trio.sleep(self.heartbeat_s)
            if not await self._announce():
                raise Vanished("our sign of life had ended, because this process stood still")
            await self.page.measure()

    async def _announce(self) -> bool:
        """Say that we live; whether we did already. Raises RedisAway, RedisRefusal, DuplicateInstance."""
        place, (nodes, sessions) = self.place, self._counts()
        me = replace(place.me, nodes=nodes, sessions=sessions)
        ttl_ms = int(2000 * self.heartbeat_s)
        while True:
            began = trio.current_time()
            words = (me.boot, json.encode(me), ttl_ms)
            now_ms, lived, other = cast(
                "tuple[int, int, bytes | None]",
                await ANNOUNCE(self.redis.caller, [place.key("alive")], words),
            )
            place.clock.heard(now_ms, began)
            if other is None:
                self._refused_since = None
                PRESENCE_HEARTBEATS.inc()
                await SEEN(self.redis.caller, [place.keys.instances], [me.instance])
                return bool(lived)
            if self._up:
                raise Vanished("another process took our name while this one stood still")
            self._judge(Peer.read(me.instance, other), began)
            # it may be the process before us, which can no longer renew its sign of life
            await trio.sleep(self.heartbeat_s / 10)

    def _judge(self, other: Peer, now: float) -> None:
        """Another process has our name: raises if it outlives a sign of life."""
        if self._refused_since is None:
            self._refused_since = now
            logger.warning("instance_id_taken", instance=other.instance, host=other.hostname, pid=other.pid)
        if now - self._refused_since < 3 * self.heartbeat_s:
            return
        text = (
            f"the instance id {other.instance} belongs to process {other.pid} on {other.hostname}, which "
            "runs; set cluster.instance_id to auto, or to another name on each instance"
        )
        if not self._was_up:
            raise DuplicateInstance(text)
        raise Vanished(text)

    async def _announce_change(self) -> None:
        await self._announce()
        await self.redis.caller.call(("PUBLISH", self.place.keys.instances, self.place.me.instance))

    async def _say_goodbye(self) -> None:
        place, name = self.place, self.place.me.instance
        await self._inbox.remove()
        keys = [place.key(what) for what in ("alive", "inbox", "acked", "dlq")]
        if await LEAVE(self.redis.caller, keys, [place.me.boot]):
            await self.redis.caller.call(("ZREM", place.keys.instances, name))
        await self.redis.caller.call(("PUBLISH", place.keys.instances, name))

    async def _calmly(self, tell: Callable[[], Awaitable[None]]) -> None:
        """Tell Redis something that it need not hear."""
        with trio.move_on_after(GOODBYE_S, shield=True):
            try:
                await tell()
            except (RedisAway, RedisRefusal, Vanished) as error:
                logger.debug("cluster_untold", reason=str(error))

    async def _look(self) -> None:
        while True:
            await self.peers.wait()
            await self.peers.look()
            for name in self.peers.orphans:
                await self._adopt(name)

    async def _adopt(self, name: str) -> None:
        """Take over what a dead instance left, if nobody else does."""
        place, caller, me = self.place, self.redis.caller, self.place.me.instance
        keys = [place.key(what, name) for what in ("alive", "adopter", "heirs")]
        heirs = cast("int", await ADOPT(caller, keys, [me, ADOPTION_MS, HEIRS_MS]))
        if not heirs:
            return
        letters = await self._inbox.adopt(name, heirs)
        await self.dead.inherit(name)
        more = [place.key(what, name) for what in ("inbox", "acked", "dlq")]
        if not await BURY(caller, [*keys, *more], [me]):
            return
        await caller.call(("ZREM", place.keys.instances, name))
        INSTANCES_ADOPTED.inc()
        logger.info("instance_adopted", instance=name, letters=letters)

    def _message(self, channel: bytes, payload: bytes) -> None:
        if (do := self._channels.get(channel)) is not None:
            do(payload)

    def _resync(self) -> None:
        self.peers.hint()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
