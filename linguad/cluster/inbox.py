"""Reads our inbox: what was handed out and not done with first, then what is new."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import trio

from linguad.cluster.bus import Bus
from linguad.cluster.dead import DeadLetters
from linguad.cluster.place import GROUP, Place
from linguad.cluster.scripts import DONE
from linguad.errors import WireError
from linguad.net.bell import Bell
from linguad.net.redis.errors import RedisRefusal
from linguad.net.redis.manners import Words
from linguad.net.redis.streams import Entry, claim, read_group
from linguad.wire.letters import Envelope

READ_LETTERS = 64
"""Letters asked for at once."""

CLAIMED_LETTERS = 16
"""The same of those that were handed out before, whose deliveries are looked up as well."""

BLOCK_MS = 1000
"""How long Redis holds a read back while nothing comes; new subscriptions wait as long."""

DONE_LETTERS = 256
"""Most letters that are acknowledged by one script."""

BACKLOG = 1024
"""Letters handled and not yet acknowledged, at which reading waits."""

COUNTS_MS = 3600 * 1000
"""How long the counts of senders are kept after the last letter."""


class Handled(NamedTuple):
    """A letter that is done with."""

    id: bytes
    account: str
    size: int
    burial: Words | None
    """The command that keeps it as a dead letter."""


class Inbox:
    """Mutable state: letters that are handled and not acknowledged yet."""

    def __init__(self, place: Place, bus: Bus, dead: DeadLetters) -> None:
        self._place = place
        self._bus = bus
        self._dead = dead
        self._handled: list[Handled] = []
        self._bell = Bell()
        self._room = trio.Event()

    async def serve(self) -> None:
        """Read until cancelled. Raises RedisAway, and RedisRefusal (NOGROUP if Redis lost the inbox)."""
        self._handled = []  # what was not acknowledged is handed out again
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._acknowledge)
            await self._read_again()
            while True:
                place = self._place
                entries = await read_group(
                    place.redis.listener,
                    place.key("inbox"),
                    GROUP,
                    place.me.instance,
                    count=READ_LETTERS,
                    block_ms=BLOCK_MS,
                )
                self._handle(entries)
                if len(self._handled) > BACKLOG:
                    self._room = trio.Event()
                    await self._room.wait()

    async def adopt(self, instance: str) -> int:
        """Handle what a dead instance left unread; how many letters that were. Raises as `serve` does."""
        place, key, count = self._place, self._place.key("inbox", instance), 0
        try:
            while True:
                me = place.me.instance
                claimed = await claim(place.redis.caller, key, GROUP, me, idle_ms=0, count=CLAIMED_LETTERS)
                entries = claimed.entries or await read_group(
                    place.redis.caller, key, GROUP, me, count=CLAIMED_LETTERS
                )
                if not entries:
                    return count
                await self._done([self._judged(entry, 1) for entry in entries], instance)
                count += len(entries)
        except RedisRefusal as error:
            if error.code != "NOGROUP":
                raise
            return count

    async def _read_again(self) -> None:
        """Letters that were handed out, to whomever, by whom they were not acknowledged."""
        place, key, cursor = self._place, self._place.key("inbox"), b"0-0"
        caller = place.redis.caller
        while True:
            claimed = await claim(
                caller, key, GROUP, place.me.instance, idle_ms=0, cursor=cursor, count=CLAIMED_LETTERS
            )
            if claimed.entries:
                first, last = claimed.entries[0].id, claimed.entries[-1].id
                pending = await caller.call(("XPENDING", key, GROUP, first, last, CLAIMED_LETTERS))
                deliveries = {one[0]: int(one[3]) for one in cast("list[Any]", pending)}
                self._handle(claimed.entries, deliveries)
            cursor = claimed.cursor
            if cursor == b"0-0":
                return

    def _handle(self, entries: list[Entry], deliveries: dict[bytes, int] | None = None) -> None:
        for entry in entries:
            self._handled.append(self._judged(entry, (deliveries or {}).get(entry.id, 1)))
        self._bell.ring()

    def _judged(self, entry: Entry, deliveries: int) -> Handled:
        try:
            envelope = Envelope.read(entry.fields)
        except WireError as error:
            envelope = _unreadable(entry)
            return Handled(entry.id, "", 0, self._dead.command(envelope, str(error), deliveries))
        problem = self._bus.receive(envelope, deliveries=deliveries)
        burial = self._dead.command(envelope, problem, deliveries) if problem else None
        return Handled(entry.id, envelope.account, envelope.size, burial)

    async def _acknowledge(self) -> None:
        while True:
            while self._handled:
                some = self._handled[:DONE_LETTERS]
                await self._done(some, self._place.me.instance)
                del self._handled[: len(some)]
                self._room.set()
            await self._bell.wait()

    async def _done(self, some: list[Handled], instance: str) -> None:
        """Acknowledge letters of an inbox; dead ones are kept first."""
        place = self._place
        for one in some:
            if one.burial is not None:
                await place.redis.caller.call(one.burial)
        keys = [place.key(what, instance) for what in ("inbox", "acked")]
        words: list[str | bytes | int] = [GROUP, COUNTS_MS]
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
