"""Sessions in Redis: who has each, and what another instance needs to go on with it (resolution 49).

`{s:<session>}:lease` names the owner and an epoch, `{s:<session>}:resume` holds the record. Both end when
nobody renews them. What changes is written behind: never waited for, and not too often for one session.
"""

from __future__ import annotations

from math import inf
from typing import Protocol, cast

import msgspec
import trio
from msgspec.structs import replace

from linguad import log
from linguad.cluster.service import Cluster
from linguad.cluster.session_scripts import END_SESSION, TAKE_SESSION, WRITE_SESSION
from linguad.core.deadlines import Deadlines
from linguad.core.resume import hash_of
from linguad.metrics import SESSION_WRITES
from linguad.net.bell import Bell
from linguad.net.redis.errors import RedisAway, RedisRefusal
from linguad.wire.letters_sessions import SessionTaken
from linguad.wire.resume import SessionRecord

APART_S = 0.25
"""Between two writes of one session, s; the first change after a while is written at once."""

RENEW_S = 60.0
"""How often the record of a session is renewed that has a connection and does not change, s."""

TAKE_S = 1.0
"""How long a client waits for the answer whether its session is known, s."""

FLUSH_S = 2.0
"""How long Redis may take for all sessions when we go, s."""

RETRY_S = 0.5
"""Pause before what Redis did not take is written again, s."""

BATCH = 100
"""Sessions written at once, before others have their turn."""

MAX_OVER = 10_000
"""Ended sessions that Redis is still to be told of; of more their records end by themselves."""

LETTER_S = 60.0
"""How long the former owner of a session is worth telling, s."""

logger = log.get(__name__)


class SessionKeeper(Protocol):
    """The sessions of this instance."""

    def all(self) -> list[str]:
        """Those that others may take."""
        ...

    def record(self, session_id: str) -> SessionRecord | None:
        """What others need to know of one; None if it is over."""
        ...

    def left_s(self, session_id: str) -> float | None:
        """How long one is still kept; None while it has a connection."""
        ...

    def saved(self, session_id: str, record: SessionRecord) -> None:
        """Others know this now."""
        ...

    def lost(self, session_id: str) -> None:
        """Another instance has it."""
        ...


class SessionRecords:
    """Mutable state: the epoch in which each session is ours, and when it is to be written next."""

    def __init__(self, cluster: Cluster, grace_s: float) -> None:
        """`grace_s` is how long sessions are kept without a connection."""
        self._cluster = cluster
        self._place = cluster.place
        self._grace_s = grace_s
        self._keeper: SessionKeeper
        self._epochs: dict[str, int] = {}
        self._written_at: dict[str, float] = {}
        self._due: Deadlines[str] = Deadlines()
        self._over: set[str] = set()
        self._bell = Bell()
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(SessionRecord).decode
        cluster.bus.on(SessionTaken, self._taken)
        cluster.when_up(self._write_all)

    def connect(self, keeper: SessionKeeper) -> None:
        """Whose sessions these are."""
        self._keeper = keeper

    @property
    def up(self) -> bool:
        """Whether Redis is there."""
        return self._cluster.up

    def changed(self, session_id: str) -> None:
        """Write a session soon."""
        written_at = self._written_at.get(session_id, -inf)
        self._due.set(session_id, max(trio.current_time(), written_at + APART_S))
        self._bell.ring()

    def ended(self, session_id: str) -> None:
        """A session is over: nobody can go on with it."""
        if len(self._over) >= MAX_OVER:
            self._forget(session_id)
        elif session_id in self._epochs or session_id in self._written_at:
            self._over.add(session_id)
        self._due.set(session_id, None)
        self._bell.ring()

    async def take(self, session_id: str, token: str) -> SessionRecord | None:
        """Take a session over, if Redis knows it in time and this is its token."""
        if not self.up:
            return None
        caller, me = self._place.redis.caller, self._place.me
        try:
            with trio.move_on_after(TAKE_S):
                words = (hash_of(token), me.instance, me.boot)
                reply = await TAKE_SESSION(caller, self._keys(session_id), words)
                if reply is None:
                    return None
                body, epoch, before = cast("tuple[bytes, int, bytes]", reply)
                record = self._decode(body)
                self._epochs[session_id] = epoch
                if before and (name := before.decode()) != me.instance:
                    letter = SessionTaken(session=session_id, epoch=epoch)
                    self._cluster.bus.send(name, letter, lane=session_id, expires_s=LETTER_S)
                return replace(record, epoch=epoch)
        except (RedisAway, RedisRefusal, msgspec.DecodeError) as error:
            logger.warning("session_untaken", session=session_id, reason=str(error))
        return None

    async def run(self) -> None:
        """Write what changes, for ever."""
        while True:
            now = trio.current_time()
            batch: list[str] = []
            while self.up and len(batch) < BATCH and (session_id := self._due.pop(now)) is not None:
                batch.append(session_id)
            over = list(self._over)[:BATCH] if self.up else []
            if batch or over:
                await self._write(batch, over)
                continue
            due = self._due.due() if self.up else None
            with trio.move_on_at(trio.current_time() + RENEW_S if due is None else due):
                await self._bell.wait()

    async def flush(self) -> None:
        """Write all sessions now, for we are about to go. What Redis does not take in time is lost."""
        ids = self._keeper.all() if self.up else []
        with trio.move_on_after(FLUSH_S):
            for at in range(0, len(ids), BATCH):
                await self._write(ids[at : at + BATCH], [])

    async def _write(self, batch: list[str], over: list[str]) -> None:
        failed: list[str] = []

        async def attempt(session_id: str, is_over: bool) -> None:
            try:
                await (self._remove(session_id) if is_over else self._write_one(session_id))
            except (RedisAway, RedisRefusal) as error:
                logger.debug("session_unwritten", session=session_id, reason=str(error))
                failed.append(session_id)

        async with trio.open_nursery() as nursery:
            for session_id in batch:
                nursery.start_soon(attempt, session_id, False)
            for session_id in over:
                nursery.start_soon(attempt, session_id, True)
        if failed:
            await trio.sleep(RETRY_S)
            for session_id in failed:
                if session_id not in self._over:
                    self.changed(session_id)

    async def _write_one(self, session_id: str) -> None:
        record = self._keeper.record(session_id)
        if record is None:
            return
        now, left_s = trio.current_time(), self._keeper.left_s(session_id)
        self._written_at[session_id] = now
        keep_s = self._grace_s + 2 * RENEW_S if left_s is None else left_s
        me, epoch = self._place.me, self._epochs.get(session_id, 0)
        words = (
            me.instance,
            me.boot,
            epoch,
            max(1, int(keep_s * 1000)),
            record.token_hash,
            self._encode(record),
        )
        SESSION_WRITES.inc()
        reply = await WRITE_SESSION(self._place.redis.caller, self._keys(session_id), words)
        if reply is None:
            self._lose(session_id)
            return
        self._epochs[session_id] = max(cast("int", reply), self._epochs.get(session_id, 0))
        self._keeper.saved(session_id, record)
        if left_s is None:
            self._due.set(session_id, self._due.at(session_id) or now + RENEW_S)

    async def _remove(self, session_id: str) -> None:
        me = self._place.me
        await END_SESSION(self._place.redis.caller, self._keys(session_id), (me.instance, me.boot))
        self._over.discard(session_id)
        self._forget(session_id)

    def _taken(self, _sender: str, letter: SessionTaken, _audio: bytes) -> None:
        if letter.epoch > self._epochs.get(letter.session, 0):
            self._lose(letter.session)

    def _lose(self, session_id: str) -> None:
        self._due.set(session_id, None)
        self._forget(session_id)
        self._keeper.lost(session_id)

    def _forget(self, session_id: str) -> None:
        self._epochs.pop(session_id, None)
        self._written_at.pop(session_id, None)

    def _write_all(self) -> None:
        for session_id in self._keeper.all():
            self._due.set(session_id, trio.current_time())
        self._bell.ring()

    def _keys(self, session_id: str) -> list[str]:
        return [self._cluster.keys.of("s", session_id, what) for what in ("lease", "resume")]
