"""A Redis Cluster: a link to each master, and what to do when a slot has moved to another.

Only commands with one key, with several keys of one slot, or with none are taken; see `slots`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import trio

from linguad import log
from linguad.net.redis.address import Address
from linguad.net.redis.errors import RedisAway, RedisError, RedisRefusal
from linguad.net.redis.link import Link, Resolver
from linguad.net.redis.manners import Words
from linguad.net.redis.slots import SLOTS, masters, named, slot_of, slot_of_key
from linguad.net.redis.status import Limits, Status

REDIRECTIONS = 2
"""How often a command is sent elsewhere at once; then servers name each other, because they have not agreed
yet on who has the slot, and a pause is due."""

REFRESH_S = 1.0
"""The slots are asked for at most so often, s: a move of many slots redirects thousands of commands."""

LOOK_S = 30.0
"""The slots are asked for at least so often, s, to find new masters and forget old ones."""

TRY_AGAIN_S = 0.05
"""Pause before a command is tried again whose slot just moves, s."""

logger = log.get(__name__)


class Cluster:
    """Mutable state: the master of each slot, and a link to each master. `run` must run in a task."""

    def __init__(self, seeds: Sequence[Address], limits: Limits, *, name: str, client_name: str) -> None:
        """`seeds` are asked for the slots; servers are logged in to as to the one that names them."""
        self._seeds = tuple(seeds)
        self._limits = limits
        self._name = name
        self._client_name = client_name
        self._owners: list[Address | None] = [None] * SLOTS
        self._masters: tuple[Address, ...] = ()
        self._links: dict[Address, tuple[Link, trio.CancelScope]] = {}
        self._nursery: trio.Nursery | None = None
        self._known = trio.Event()
        self._stale = trio.Event()
        self._reason = ""
        """Why the slots are not known, if they are not."""

    @property
    def up(self) -> bool:
        """Whether all slots have a master and all masters are connected."""
        return self._known.is_set() and None not in self._owners and not self._down()

    def status(self) -> list[Status]:
        """What is to be known about the link to each server."""
        return [link.status() for link, _ in self._links.values()]

    async def wait_up(self) -> None:
        """Wait until all slots have a master and all masters are connected."""
        await self._known.wait()
        while not self.up:
            with trio.move_on_after(REFRESH_S):
                for link in self._down():
                    await link.wait_up()

    def resolver(self, key: str) -> Resolver:
        """Where the master of this key is, for a listener that reads its stream."""
        slot = slot_of_key(key)

        async def resolve() -> Address:
            self._stale.set()
            await self._known.wait()
            return self._owners[slot] or self._away("nobody has the slot")

        return resolve

    async def call(
        self, words: Words, *, seconds: float | None = None, repeatable: bool = False, op: str = ""
    ) -> object:
        """As `Link.call`, on the server that has the slot; follows MOVED and ASK within the same time."""
        slot = slot_of(words)
        until = trio.current_time() + (self._limits.command_seconds if seconds is None else seconds)
        address, asking, redirected = await self._master(slot), False, 0
        while True:
            try:
                link = await self._link(address, until)
                if not asking:
                    left = until - trio.current_time() if redirected else seconds
                    return await link.call(words, seconds=left, repeatable=repeatable, op=op)
                # in one row, because ASKING is for the next command of the connection only
                _, answer = await link.call_all((("ASKING",), words))
                if isinstance(answer, RedisRefusal):
                    raise answer
                return answer
            except RedisAway:
                # perhaps another server has taken its slots over
                self._stale.set()
                raise
            except RedisRefusal as error:
                if error.code not in ("MOVED", "ASK", "TRYAGAIN"):
                    raise
                if error.code != "TRYAGAIN":
                    address, asking = named(error, address), error.code == "ASK"
                if error.code == "MOVED" and slot is not None:
                    self._owners[slot] = address
                    self._stale.set()
                redirected += 1
                # TRYAGAIN: some keys are there and some not, or none is anywhere
                if error.code == "TRYAGAIN" or redirected > REDIRECTIONS:
                    if trio.current_time() + TRY_AGAIN_S >= until:
                        self._away("a slot is being moved")
                    await trio.sleep(TRY_AGAIN_S)

    async def call_all(self, commands: Sequence[Words]) -> list[object]:
        """As `Link.call_all`, but without an order between commands for different slots."""
        for words in commands:
            slot_of(words)
        answers: list[object] = [None] * len(commands)

        async def one(place: int) -> None:
            try:
                answers[place] = await self.call(commands[place])
            except RedisError as error:
                answers[place] = error

        async with trio.open_nursery() as nursery:
            for place in range(len(commands)):
                nursery.start_soon(one, place)
        for answer in answers:
            if isinstance(answer, RedisAway):
                raise answer
        return answers

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the slots and the links until cancelled; started at once."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            while True:
                self._stale = trio.Event()
                await self._refresh()
                await trio.sleep(REFRESH_S)
                with trio.move_on_after(LOOK_S if self._known.is_set() else 0):
                    await self._stale.wait()

    def _down(self) -> list[Link]:
        links = (self._links[address][0] for address in self._masters)
        return [link for link in links if not link.up]

    async def _refresh(self) -> None:
        """Ask one server after the other for the slots, those that are connected first."""
        connected = [address for address, (link, _) in self._links.items() if link.up]
        reason = "no server of it is known"
        for address in dict.fromkeys((*connected, *self._seeds, *self._links)):
            try:
                link = await self._link(address, trio.current_time() + self._limits.connect_seconds)
                found = list(masters(await link.call(("CLUSTER", "SLOTS")), address))
            except RedisError as error:
                reason = str(error)
            else:
                self._reason = ""
                return self._take(found)
        if reason != self._reason:
            self._reason = reason
            logger.warning("redis_cluster_unknown", link=self._name, reason=reason)
        return None

    def _take(self, found: Sequence[tuple[range, Address]]) -> None:
        """Use the slots as they are now; old masters are let go once they are away."""
        self._owners = [None] * SLOTS
        for slots, address in found:
            self._owners[slots.start : slots.stop] = [address] * len(slots)
        self._masters = tuple({address for _, address in found})
        for address in self._masters:
            if address not in self._links:
                self._open(address)
        for address, (link, scope) in list(self._links.items()):
            if address not in self._masters and not link.up:
                del self._links[address]
                scope.cancel()
        self._known.set()

    async def _master(self, slot: int | None) -> Address:
        """Who has the slot; without one anybody who is connected. Raises RedisAway."""
        if slot is None:
            down = self._down()
            up = (address for address in self._masters if self._links[address][0] not in down)
            address = next(up, None)
        else:
            address = self._owners[slot]
        if address is None:
            self._stale.set()
            await trio.lowlevel.checkpoint()
            self._away(self._reason or "nobody has the slot")
        return address

    async def _link(self, address: Address, until: float) -> Link:
        """The link to a server; a new one may take until then (trio clock) to connect."""
        if address in self._links:
            return self._links[address][0]
        link = self._open(address)
        with trio.move_on_at(until):
            await link.wait_tried()
        return link

    def _open(self, address: Address) -> Link:
        if self._nursery is None:
            self._away("nothing runs it")

        async def resolve() -> Address:
            return address

        name = f"{self._name}:{address.host}:{address.port}"
        link = Link(resolve, self._limits, name=name, client_name=self._client_name, cluster=True)
        scope = trio.CancelScope()
        self._links[address] = link, scope

        async def keep() -> None:
            with scope:
                await link.run()

        self._nursery.start_soon(keep)
        return link

    def _away(self, reason: str) -> NoReturn:
        raise RedisAway(f"the Redis Cluster is away: {reason}", sent=False)
