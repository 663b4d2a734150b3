"""Reads inboxes: our own from its beginning on, and what a dead instance left.

A read takes nothing away: what was handed to a connection that died is simply read again by the next one, in
the same order. Only letters that are done with are removed, many at once and a little later, for nobody waits
for that; those that come twice are known by number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import trio

from linguad.cluster.bus import Bus
from linguad.cluster.dead import DeadLetters
from linguad.cluster.place import Place
from linguad.cluster.scripts import DONE
from linguad.errors import WireError
from linguad.net.bell import Bell
from linguad.net.redis.manners import Words
from linguad.net.redis.streams import BEGIN, Entry, read
from linguad.wire.letters import Envelope

READ_LETTERS = 64
"""Letters asked for at once."""

LEFT_LETTERS = 16
"""The same of a dead instance: this goes over the connection that everybody uses."""

BLOCK_MS = 1000
"""How long Redis holds a read back while nothing comes; new subscriptions wait as long."""

DONE_LETTERS = 256
"""Most letters that are removed by one script; so many are removed at once."""

DONE_BYTES = 1024 * 1024
"""The same for what they hold: until they are removed they fill Redis, and the bound of their senders."""

DONE_S = 0.05
"""How long what is handled may wait for more, so that it is removed together, s."""

BACKLOG = 1024
"""Letters handled and not yet removed, at which reading waits."""

COUNTS_MS = 3600 * 1000
"""How long the counts of senders are kept after the last letter."""


class Handled(NamedTuple):
    """A letter that is done with."""

    id: bytes
    account: str
    size: int
    burial: Words | None
    """The command that keeps it as a dead letter."""
    hurry: bool
    """It is not to wait: it is a dead letter, or an heir of ours could handle it once more."""


class Inbox:
    """Mutable state: letters that are handled and not removed yet."""

    def __init__(self, place: Place, bus: Bus, dead: DeadLetters) -> None:
        self._place = place
        self._bus = bus
        self._dead = dead
        self.after: list[Callable[[], None]] = []
        """What to call after each read, when its letters are handled. Synchronous, must not raise."""
        self._handled: list[Handled] = []
        self._bytes = 0
        self._hurry = False
        self._bell = Bell()
        self._room = trio.Event()

    async def serve(self) -> None:
        """Read until cancelled. Raises RedisAway, RedisRefusal."""
        self._handled, self._bytes, self._hurry = [], 0, False
        place, after = self._place, BEGIN
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._remove)
            while True:
                entries = await read(
                    place.redis.listener, place.key("inbox"), after, count=READ_LETTERS, block_ms=BLOCK_MS
                )
                if entries:
                    after = entries[-1].id
                    self._take([self._judged(entry, 1) for entry in entries])
                    for do in self.after:
                        do()
                while len(self._handled) > BACKLOG:
                    self._room = trio.Event()
                    await self._room.wait()

    async def remove(self) -> None:
        """Remove what is handled by now; before we leave as well. Raises as `serve` does."""
        self._bytes, self._hurry = 0, False
        left = len(self._handled)
        while left > 0:
            some = self._handled[: min(left, DONE_LETTERS)]
            del self._handled[: len(some)]
            left -= len(some)
            await self._done(some, self._place.me.instance)
            self._room.set()

    async def adopt(self, instance: str, heirs: int) -> int:
        """Handle what a dead instance left, as one of so many heirs; how many letters that were.

        Raises as `serve` does.
        """
        place, count = self._place, 0
        while entries := await read(place.redis.caller, place.key("inbox", instance), count=LEFT_LETTERS):
            await self._done([self._judged(entry, heirs) for entry in entries], instance)
            count += len(entries)
        return count

    def _judged(self, entry: Entry, deliveries: int) -> Handled:
        try:
            envelope = Envelope.read(entry.fields)
        except WireError as error:
            envelope = _unreadable(entry)
            unread = self._dead.command(envelope, str(error), deliveries)
            return Handled(entry.id, "", 0, unread, hurry=True)
        problem = self._bus.receive(envelope, deliveries=deliveries)
        burial = self._dead.command(envelope, problem, deliveries) if problem else None
        hurry = bool(problem) or self._bus.outlives(envelope.kind)
        return Handled(entry.id, envelope.account, envelope.size, burial, hurry)

    def _take(self, handled: list[Handled]) -> None:
        """Have these removed soon."""
        first = not self._handled
        self._handled += handled
        self._bytes += sum(one.size for one in handled)
        self._hurry = (
            self._hurry
            or len(self._handled) >= DONE_LETTERS
            or self._bytes >= DONE_BYTES
            or any(one.hurry for one in handled)
        )
        if first or self._hurry:
            self._bell.ring()

    async def _remove(self) -> None:
        while True:
            if not self._handled:
                await self._bell.wait()
            if not self._hurry:
                with trio.move_on_after(DONE_S):
                    await self._bell.wait()
            await self.remove()

    async def _done(self, some: list[Handled], instance: str) -> None:
        """Remove letters from an inbox; dead ones are kept first."""
        place = self._place
        for one in some:
            if one.burial is not None:
                await place.redis.caller.call(one.burial)
        keys = [place.key(what, instance) for what in ("inbox", "acked")]
        words: list[str | bytes | int] = [COUNTS_MS]
        for one in some:
            words += (one.id, one.account, one.size)
        await DONE(place.redis.caller, keys, words)


def _unreadable(entry: Entry) -> Envelope:
    """Whatever it is, as a letter without contents."""
    size = sum(map(len, entry.fields.values()))
    return Envelope(
        kind="unreadable",
        body=b"",
        sender="",
        to="",
        account="",
        seq=0,
        lane=f"{size} bytes",
        at_ms=0,
        expires_ms=0,
    )
