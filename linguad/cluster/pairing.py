"""Pairing codes in Redis: a code of a node at one instance is good at all of them, once (resolution 50).

The instance of the node makes it and writes `{pair:<code>}` behind; whoever is given it asks Redis, which
gives it to one alone. While Redis is away a code is good at the instance of its node, as without others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

import trio

from linguad import log
from linguad.cluster.service import Cluster
from linguad.cluster.session_scripts import DROP_CODE
from linguad.core.pairing import LiveCode, PairingCodes
from linguad.net.redis.errors import RedisAway, RedisRefusal
from linguad.wire.letters_sessions import PairingUsed

ASK_S = 1.0
"""How long a client waits for the answer whether its code is good, s."""

LETTER_S = 300.0
"""How long the instance of the node is worth telling, s."""

DIGITS = 6

logger = log.get(__name__)


class SharedCodes:
    """Has no state but what is to be written."""

    def __init__(self, cluster: Cluster, codes: PairingCodes) -> None:
        self._cluster = cluster
        self._codes = codes
        self._nursery: trio.Nursery | None = None
        codes.when_made = self._made
        codes.when_ended = self._ended
        cluster.bus.on(PairingUsed, lambda _sender, letter, _: codes.used(letter.code))
        cluster.when_up(self._write_all)

    async def run(self) -> None:
        """Write what is made here, for ever."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await trio.sleep_forever()

    async def redeem(self, code: str, origin: str) -> str | None:
        """The node that a code stands for, once; "" if it is wrong; None if Redis cannot be asked."""
        now = trio.current_time()
        if not self._codes.allows(origin, now):
            return ""
        if len(code) != DIGITS or not (code.isascii() and code.isdecimal()):
            self._codes.wrong(origin, now)
            return ""
        if not self._cluster.up:
            return None
        with trio.move_on_after(ASK_S):
            try:
                kept = await self._cluster.redis.caller.call(("GETDEL", self._key(code)))
            except (RedisAway, RedisRefusal) as error:
                logger.warning("pairing_code_unasked", reason=str(error))
                return None
            if kept is None:
                self._codes.wrong(origin, now)
                return ""
            instance, _, node_id = cast("bytes", kept).decode().partition(" ")
            # to ourselves it is handed over at once
            self._cluster.bus.send(instance, PairingUsed(code), lane=code, expires_s=LETTER_S)
            return node_id
        return None

    def _made(self, live: LiveCode) -> None:
        left_s = int(live.expires_at - trio.current_time())
        if left_s > 0:
            self._soon(self._keep, live, left_s)

    def _ended(self, live: LiveCode) -> None:
        self._soon(self._drop, live, 0)

    def _write_all(self) -> None:
        for live in self._codes.live:
            self._made(live)

    def _soon(self, write: Callable[[LiveCode, int], Awaitable[None]], live: LiveCode, left_s: int) -> None:
        if self._cluster.up and self._nursery is not None:
            self._nursery.start_soon(self._calmly, write, live, left_s)

    async def _calmly(
        self, write: Callable[[LiveCode, int], Awaitable[None]], live: LiveCode, left_s: int
    ) -> None:
        try:
            await write(live, left_s)
        except (RedisAway, RedisRefusal) as error:
            logger.warning("pairing_code_unasked", reason=str(error))

    async def _keep(self, live: LiveCode, left_s: int) -> None:
        caller, key, value = self._cluster.redis.caller, self._key(live.code), self._value(live)
        if await caller.call(("SET", key, value, "NX", "EX", left_s)) is not None:
            return
        if await caller.call(("GET", key)) != value.encode():
            # in one of a million cases another instance has made the same one; its node shows it already
            logger.warning("pairing_code_taken", node=live.node_id)
            self._codes.used(live.code)

    async def _drop(self, live: LiveCode, _left_s: int) -> None:
        await DROP_CODE(self._cluster.redis.caller, [self._key(live.code)], [self._value(live)])

    def _value(self, live: LiveCode) -> str:
        return f"{self._cluster.place.me.instance} {live.node_id}"

    def _key(self, code: str) -> str:
        return self._cluster.keys.of("pair", code)
