"""The directory of nodes in Redis: our records go there, changed ones are fetched (resolution 52).

A record is written before the register of its bucket names it. Channels only hint: every few seconds there is
a look whether a hint was lost. What Redis refuses or cannot take now is written again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import msgspec
import trio

from linguad import log
from linguad.cluster.families import BUCKETS
from linguad.cluster.roster import Roster, with_epoch
from linguad.cluster.scripts import NOTE_NODES, REMOVE_NODE, WRITE_NODE
from linguad.cluster.service import Cluster
from linguad.metrics import DIRECTORY_AGE, DIRECTORY_READS, DIRECTORY_WRITES
from linguad.net.redis.errors import RedisAway, RedisRefusal, granted
from linguad.pools import fnv1a64
from linguad.wire.record import NodeRecord

GATHER_S = 0.02
"""How long changes are gathered, so that many are written at once, s."""

POLL_S = 2.0
"""How often is looked for changes whose hint was lost, s."""

RETRY_S = 0.5
"""Pause before what Redis did not take is written again, s."""

BATCH = 200
"""Records written or read before others get their turn."""

HOLDS = 3.0
"""A record outlives the silence for which its node is closed by so much: its owner speaks first."""

RENEW = 1.0
"""A record that says nothing new is written again after so much of that silence."""

FORGET_MS = 600_000
"""How long the register names a node that is gone, ms: an instance that missed the hint looks sooner."""

logger = log.get(__name__)


class Written(NamedTuple):
    """What Redis was told of a node, and when."""

    epoch: int
    body: bytes
    at: float

    def says(self, epoch: int, body: bytes) -> bool:
        """Whether it is this."""
        return (self.epoch, self.body) == (epoch, body)


class Directory:
    """Mutable state: what was written last of each node, and how far each bucket was read."""

    def __init__(self, cluster: Cluster, roster: Roster) -> None:
        self._cluster = cluster
        self._place = cluster.place
        self._roster = roster
        self._written: dict[str, Written] = {}
        self._seen = [0.0] * BUCKETS
        self._hinted: set[int] = set()
        self._dead: dict[str, str] = {}
        """Nodes of processes that are gone, with their boots."""
        self._clock = trio.lowlevel.current_clock()
        self._looked_at = self._clock.current_time()
        self._to_write = trio.Event()
        self._to_read = trio.Event()
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(NodeRecord).decode
        self._channel = cluster.keys.of("b", "nodes", "hint")
        roster.when_dirty = self._dirty
        cluster.on_channel(self._channel, self._hint)
        cluster.peers.when_new(lambda _instance: self._read_all())
        cluster.peers.when_gone(self._gone)
        cluster.page.add("directory_age_seconds", lambda: round(self.age_s, 3))
        DIRECTORY_AGE.set_function(lambda: self.age_s)

    @property
    def age_s(self) -> float:
        """How long ago the nodes of others were last looked up, s; it grows while Redis is away."""
        return self._clock.current_time() - self._looked_at

    def up(self) -> None:
        """Redis is there, and may have forgotten everything."""
        self._written.clear()
        self._roster.everything()
        self._read_all()
        self._dirty()

    async def run(self) -> None:
        """Write and read, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            nursery.start_soon(self._read)

    def _dirty(self) -> None:
        self._to_write.set()

    def _read_all(self) -> None:
        self._seen = [0.0] * BUCKETS
        self._hinted.update(range(BUCKETS))
        self._to_read.set()

    def _hint(self, payload: bytes) -> None:
        if payload.isdigit() and int(payload) < BUCKETS:
            self._hinted.add(int(payload))
            self._to_read.set()

    def _gone(self, instance: str) -> None:
        """What a dead instance says of nodes is not true any more; whoever removes it tells the others."""
        self._dead |= self._roster.of(instance)
        self._dirty()

    # Writing

    async def _write(self) -> None:
        while True:
            await self._to_write.wait()
            await trio.sleep(GATHER_S)
            self._to_write = trio.Event()
            while self._cluster.up and (batch := self._roster.take_dirty(BATCH)):
                await self._tell(batch)
            while self._cluster.up and self._dead:
                await self._bury(dict(list(self._dead.items())[:BATCH]))

    async def _tell(self, batch: list[str]) -> None:
        """Write some records, then the register."""
        changed: dict[str, bool] = {}
        untold: list[str] = []

        async def tell(node_id: str) -> None:
            try:
                if (gone := await self._tell_one(node_id)) is not None:
                    changed[node_id] = gone
            except (RedisAway, RedisRefusal) as error:
                logger.debug("node_record_unwritten", node=node_id, reason=str(error))
                untold.append(node_id)

        async with trio.open_nursery() as nursery:
            for node_id in batch:
                nursery.start_soon(tell, node_id)
        untold += await self._note(changed)
        if untold:
            for node_id in untold:
                self._written.pop(node_id, None)
            await trio.sleep(RETRY_S)
            self._roster.put_back(untold)
            self._dirty()

    async def _tell_one(self, node_id: str) -> bool | None:
        """Write a record, or remove it; None if the others need not know, else whether the node is gone."""
        caller, boot, key = self._place.redis.caller, self._place.me.boot, self._key(node_id)
        offered = self._roster.offer(node_id)
        if offered is None:
            DIRECTORY_WRITES.inc()
            removed = await REMOVE_NODE(caller, [key], [boot])
            self._roster.withdrawn(node_id)
            self._written.pop(node_id, None)
            return True if removed else None
        record, connection, holds_s = offered
        body = self._encode(with_epoch(record, 0))
        before, now = self._written.get(node_id), trio.current_time()
        if before and before.says(record.epoch, body) and now - before.at < holds_s * RENEW:
            return None
        DIRECTORY_WRITES.inc()
        words = (boot, record.epoch, int(holds_s * HOLDS * 1000), body)
        held, epoch = cast("tuple[bytes, int]", await WRITE_NODE(caller, [key], words))
        if held.decode() != boot:
            await self._fetch([node_id])
            return None
        self._roster.leased(node_id, connection, epoch)
        self._written[node_id] = Written(epoch, body, now)
        return None if before and before.says(epoch, body) else False

    async def _bury(self, dead: dict[str, str]) -> None:
        caller = self._place.redis.caller
        removed: dict[str, bool] = {}

        async def remove(node_id: str, boot: str) -> None:
            try:
                if await REMOVE_NODE(caller, [self._key(node_id)], [boot]):
                    removed[node_id] = True
            except (RedisAway, RedisRefusal) as error:
                # records end by themselves, too
                logger.debug("node_record_left", node=node_id, reason=str(error))

        async with trio.open_nursery() as nursery:
            for node_id, boot in dead.items():
                nursery.start_soon(remove, node_id, boot)
        for node_id in dead:
            self._dead.pop(node_id, None)
        await self._note(removed)

    async def _note(self, changed: dict[str, bool]) -> list[str]:
        """Write into the register which nodes changed, and whether they are gone; those it did not take."""
        buckets: dict[int, list[str]] = {}
        for node_id in changed:
            buckets.setdefault(_bucket(node_id), []).append(node_id)
        untold: list[str] = []
        for bucket, node_ids in buckets.items():
            keys = [self._bucket_key(bucket, what) for what in ("seq", "nodes", "gone")]
            words: list[str | bytes | int] = [self._channel, bucket, FORGET_MS]
            for node_id in node_ids:
                words += (node_id, int(changed[node_id]))
            try:
                last = cast("int", await NOTE_NODES(self._place.redis.caller, keys, words))
            except (RedisAway, RedisRefusal) as error:
                logger.debug("node_register_unwritten", nodes=len(node_ids), reason=str(error))
                untold += node_ids
            else:
                if last < self._seen[bucket]:
                    self._seen[bucket] = 0.0  # the register was lost
        return untold

    # Reading

    async def _read(self) -> None:
        while True:
            with trio.move_on_after(POLL_S) as patience:
                await self._to_read.wait()
            self._to_read = trio.Event()
            buckets = sorted(self._hinted) if not patience.cancelled_caught else list(range(BUCKETS))
            self._hinted.clear()
            if self._cluster.up:
                try:
                    await self._look(buckets)
                    self._looked_at = trio.current_time()
                except (RedisAway, RedisRefusal) as error:
                    # it is looked again, at the latest when Redis is back
                    logger.debug("node_register_unread", reason=str(error))

    async def _look(self, buckets: list[int]) -> None:
        """Fetch what changed in some buckets."""
        more: list[int] = []
        asked = [self._since(bucket) for bucket in buckets]
        replies = await self._place.redis.caller.call_all(asked)
        for bucket, since, reply in zip(buckets, asked, replies, strict=True):
            found = _scored(cast("list[Any]", granted(reply)))
            await self._fetch([node_id for node_id, _ in found])
            # who came meanwhile wants all from the beginning
            if found and since == self._since(bucket):
                self._seen[bucket] = found[-1][1]
                if len(found) == BATCH:
                    more.append(bucket)
        if more:
            await self._look(more)

    def _since(self, bucket: int) -> tuple[str | int, ...]:
        key = self._bucket_key(bucket, "nodes")
        return ("ZRANGEBYSCORE", key, f"({self._seen[bucket]:.0f}", "+inf", "WITHSCORES", "LIMIT", 0, BATCH)

    async def _fetch(self, node_ids: Iterable[str]) -> None:
        """Read the records of some nodes, and take them."""
        node_ids = list(node_ids)
        asked = [("HMGET", self._key(node_id), "epoch", "body") for node_id in node_ids]
        replies = await self._place.redis.caller.call_all(asked) if asked else []
        for node_id, reply in zip(node_ids, replies, strict=True):
            epoch, body = cast("list[bytes | None]", granted(reply))
            DIRECTORY_READS.inc()
            self._roster.heard(node_id, self._record(node_id, epoch, body))

    def _record(self, node_id: str, epoch: bytes | None, body: bytes | None) -> NodeRecord | None:
        if epoch is None or body is None:
            return None
        try:
            return with_epoch(self._decode(body), int(epoch))
        except (msgspec.DecodeError, ValueError) as error:
            logger.warning("node_record_unreadable", node=node_id, reason=str(error))
            return None

    def _key(self, node_id: str) -> str:
        return self._cluster.keys.of("n", node_id, "rec")

    def _bucket_key(self, bucket: int, what: str) -> str:
        return self._cluster.keys.of("b", str(bucket), what)


def _bucket(node_id: str) -> int:
    return int(fnv1a64(node_id, 0) % BUCKETS)


def _scored(reply: list[Any]) -> list[tuple[str, float]]:
    return [(bytes(member).decode(), float(score)) for member, score in reply]
