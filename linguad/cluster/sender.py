"""Writes our letters into the inbox of one other process, in order."""

from __future__ import annotations

from typing import cast

import trio

from linguad import log
from linguad.cluster.place import Place
from linguad.cluster.scripts import SEND
from linguad.core.outgoing import Outgoing, Waiting
from linguad.metrics import LETTERS, child
from linguad.net.bell import Bell
from linguad.net.redis.errors import RedisAway, RedisRefusal
from linguad.wire.peer import Peer

BATCH_LETTERS, BATCH_BYTES = 64, 1024 * 1024
"""Most that is written by one script, which nobody else's command can interrupt."""

RETRY_S = 0.2
"""Pause before what Redis did not take is written again, s."""

ASK_S = 0.25
"""How often the receiver's count is asked for while much is on its way and nothing is written, s."""

logger = log.get(__name__)


class Sender:
    """Mutable state: letters to one process, and the task that writes them."""

    def __init__(self, place: Place, peer: Peer, account: str, max_bytes: int) -> None:
        self._place = place
        self._peer = peer
        self._ask_above = max_bytes // 2
        self._outgoing = Outgoing(account, max_bytes)
        self._bell = Bell()
        self._scope = trio.CancelScope()
        self._told_reason = ""

    @property
    def unacknowledged_bytes(self) -> int:
        """Bytes it is not done with."""
        return self._outgoing.unacknowledged_bytes

    def put(self, kind: str, body: bytes, audio: bytes, lane: str, expires_at: float) -> bool:
        """Queue a letter; False if it is refused."""
        taken = self._outgoing.put(kind, body, audio, lane, expires_at)
        if taken:
            self._bell.ring()
        return taken

    def close(self) -> None:
        """The process is gone: drop what waits."""
        self._scope.cancel()

    async def run(self) -> None:
        """Write what is queued until closed."""
        outgoing = self._outgoing
        with self._scope:
            while True:
                while outgoing:
                    self._drop_late()
                    if batch := outgoing.batch(BATCH_LETTERS, BATCH_BYTES):
                        await self._write(batch)
                if outgoing.written_bytes > self._ask_above:
                    with trio.move_on_after(ASK_S):
                        await self._bell.wait()
                    if not outgoing:
                        await self._write([])
                else:
                    await self._bell.wait()
        child(LETTERS, "any", "lost").inc(len(outgoing))

    async def _write(self, batch: list[Waiting]) -> None:
        """Write a batch, or with none only ask for the receiver's count."""
        place, outgoing, name = self._place, self._outgoing, self._peer.instance
        keys = [place.key(what, name) for what in ("alive", "inbox", "acked")]
        now = trio.current_time()
        words: list[str | bytes | int] = [self._peer.boot, outgoing.account, place.me.instance]
        for letter in batch:
            left_ms = max(1, int((letter.expires_at - now) * 1000))
            words += (letter.kind, letter.body, letter.audio, letter.lane, letter.seq, left_ms)
        try:
            reply = cast("list[int] | None", await SEND(place.redis.caller, keys, words))
        except RedisAway as error:
            await self._pause(str(error))
        except RedisRefusal as error:
            outgoing.blocked = bool(batch)
            await self._pause(str(error))
        else:
            if reply is None:
                await self._pause("its sign of life is missing")
            else:
                outgoing.written(batch, *reply)
                self._told_reason = ""

    async def _pause(self, reason: str) -> None:
        if reason != self._told_reason:
            self._told_reason = reason
            logger.warning(
                "letters_wait", instance=self._peer.instance, reason=reason, letters=len(self._outgoing)
            )
        await trio.sleep(RETRY_S)

    def _drop_late(self) -> None:
        for letter in self._outgoing.expire(trio.current_time()):
            child(LETTERS, letter.kind, "expired").inc()
