"""A Redis Cluster: which master has which slot, a link to each, and what to do when a slot has moved.

Only commands with one key, several keys of one slot, or none are taken; scripts must have keys of one tag.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, cast

import trio
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from linguad import log
from linguad.net.redis.address import Address
from linguad.net.redis.errors import RedisAway, RedisError, RedisRefusal
from linguad.net.redis.link import Limits, Link, Resolver, Status
from linguad.net.redis.manners import Word, Words, name_of

REDIRECTIONS = 5
"""How often one command may be sent elsewhere; more is two servers that name each other."""

REFRESH_S = 1.0
"""The slots are asked for at most so often, s: a move of many slots redirects thousands of commands."""

TRY_AGAIN_S = 0.05
"""Pause before a command with several keys is tried again while its slot moves, s."""

_KEYLESS = frozenset({"PING", "PUBLISH", "TIME", "INFO", "ECHO", "SCRIPT", "CLUSTER"})
_ALL_KEYS = frozenset({"DEL", "UNLINK", "EXISTS", "TOUCH", "MGET", "RENAME", "RENAMENX"})
_KEY_SECOND = frozenset({"XGROUP", "XINFO", "OBJECT", "MEMORY"})
_SCRIPTS = frozenset({"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO"})

logger = log.get(__name__)


def slot_of(words: Words) -> int | None:
    """The slot of a command's keys; None if it has none. Raises ValueError if its keys are in several."""
    name = name_of(words)
    if name in _KEYLESS:
        return None
    slots = {key_slot(_encoded(key)) for key in _keys(name, words)}
    if len(slots) != 1:
        raise ValueError(f"{name} in a cluster wants keys of one slot: give them one hash tag")
    return slots.pop()


def _keys(name: str, words: Words) -> Sequence[Word]:
    if name in _ALL_KEYS:
        return words[1:]
    if name in _SCRIPTS:
        return words[3 : 3 + int(words[2])]
    if name in ("XREAD", "XREADGROUP"):
        after = [str(_encoded(word), "latin-1").upper() for word in words].index("STREAMS") + 1
        return words[after : after + (len(words) - after) // 2]
    return words[2:3] if name in _KEY_SECOND else words[1:2]


def _encoded(word: Word) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()


class Cluster:
    """Mutable state: the master of each slot, and a link to each master. `run` must run in a task."""

    def __init__(self, seeds: Sequence[Address], limits: Limits, *, name: str, client_name: str) -> None:
        """`seeds` are asked for the slots first; all servers are logged in to as to the first of them."""
        self._seeds = tuple(seeds)
        self._limits = limits
        self._name = name
        self._client_name = client_name
        self._owners: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._links: dict[Address, tuple[Link, trio.CancelScope]] = {}
        self._nursery: trio.Nursery | None = None
        self._known = trio.Event()
        self._stale = trio.Event()
        self._reason = "no server of it was asked yet"

    @property
    def up(self) -> bool:
        """Whether the slots are known and each has a master that is connected."""
        owners = set(self._owners)
        return None not in owners and all(a in self._links and self._links[a][0].up for a in owners if a)

    def status(self) -> list[Status]:
        """What is to be known about the link to each master."""
        return [link.status() for link, _ in self._links.values()]

    async def wait_up(self) -> None:
        """Wait until the slots are known and the masters connected."""
        while not self.up:
            await self._known.wait()
            for link, _ in list(self._links.values()):
                await link.wait_up()
            await trio.lowlevel.checkpoint()

    def resolver(self, key: str) -> Resolver:
        """Where the master of this key is, for a listener that reads its stream."""
        slot = key_slot(key.encode())

        async def resolve() -> Address:
            self._stale.set()
            await self._known.wait()
            return self._owners[slot] or self._away("nobody has the slot")

        return resolve

    async def call(
        self, words: Words, *, seconds: float | None = None, repeatable: bool = False, op: str = ""
    ) -> object:
        """As `Link.call`, on the server that has the slot; follows MOVED and ASK."""
        slot = slot_of(words)
        until = trio.current_time() + (self._limits.command_seconds if seconds is None else seconds)
        address, asking = self._master(slot), False
        for _ in range(REDIRECTIONS):
            try:
                link = await self._link(address, until)
                if not asking:
                    return await link.call(words, seconds=seconds, repeatable=repeatable, op=op)
                # one row in the buffer: ASKING is for the next command of the connection only
                _, answer = await link.call_all((("ASKING",), words))
                if not isinstance(answer, RedisRefusal):
                    return answer
                raise answer
            except RedisRefusal as error:
                if error.code == "TRYAGAIN" and trio.current_time() < until:
                    await trio.sleep(TRY_AGAIN_S)
                    continue
                if error.code not in ("MOVED", "ASK"):
                    raise
                address, asking = _named(error, address), error.code == "ASK"
                if slot is not None and not asking:
                    self._owners[slot] = address
                    self._stale.set()
            except RedisAway:
                # perhaps another server has taken its slots over
                self._stale.set()
                raise
        self._away("the servers send a command from one to the other")

    async def call_all(self, commands: Sequence[Words]) -> list[object]:
        """As `Link.call_all`, in turn for each server and without an order between them."""
        answers: list[object] = [None] * len(commands)

        async def one(position: int) -> None:
            try:
                answers[position] = await self.call(commands[position])
            except RedisError as error:
                answers[position] = error

        async with trio.open_nursery() as nursery:
            for position in range(len(commands)):
                nursery.start_soon(one, position)
        away = next((answer for answer in answers if isinstance(answer, RedisAway)), None)
        if away is not None:
            raise away
        return answers

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the slots and the links until cancelled; started at once."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            while True:
                await self._refresh()
                await trio.sleep(REFRESH_S)
                if self._known.is_set():
                    await self._stale.wait()

    async def _refresh(self) -> None:
        """Ask one server after the other for the slots, those that are connected first."""
        self._stale = trio.Event()
        connected = [address for address, (link, _) in self._links.items() if link.up]
        for address in dict.fromkeys((*connected, *self._seeds, *self._links)):
            try:
                deadline = trio.current_time() + self._limits.connect_seconds
                link = await self._link(address, deadline)
                found = cast("list[list[list[bytes | int]]]", await link.call(("CLUSTER", "SLOTS")))
            except RedisError as error:
                self._reason = str(error)
            else:
                return self._take(found, address)
        logger.warning("redis_cluster_unknown", link=self._name, reason=self._reason)
        return None

    def _take(self, found: list[list[list[bytes | int]]], asked: Address) -> None:
        owners: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *_), *_replicas in cast(
            "list[tuple[int, int, list[bytes | int]]]", found
        ):
            address = asked.at(host.decode() if isinstance(host, bytes) and host else asked.host, int(port))
            owners[first : last + 1] = [address] * (last - first + 1)
        self._owners = owners
        for address in {address for address in owners if address} - set(self._links):
            self._open(address)
        for address in set(self._links) - set(owners):
            _, scope = self._links.pop(address)
            scope.cancel()
        self._known.set()

    def _master(self, slot: int | None) -> Address:
        owners = self._owners if slot is None else (self._owners[slot],)
        up = (a for a in owners if a and a in self._links and self._links[a][0].up)
        address = next(up, None) or next(filter(None, owners), None)
        if address is None:
            self._stale.set()
            self._away(self._reason if not self._known.is_set() else "nobody has the slot")
        return address

    async def _link(self, address: Address, until: float) -> Link:
        """The link to a server; a new one may take until then (trio clock) to connect."""
        if address in self._links:
            return self._links[address][0]
        link = self._open(address)
        with trio.move_on_at(until):
            await link.wait_up()
        return link

    def _open(self, address: Address) -> Link:
        if self._nursery is None:
            self._away("it is not running")

        async def resolve() -> Address:
            return address

        link = Link(
            resolve,
            self._limits,
            name=f"{self._name}:{address.host}:{address.port}",
            client_name=self._client_name,
            cluster=True,
        )
        scope = trio.CancelScope()
        self._links[address] = link, scope

        async def keep() -> None:
            with scope:
                await link.run()

        self._nursery.start_soon(keep)
        return link

    def _away(self, reason: str) -> NoReturn:
        raise RedisAway(f"the Redis Cluster is away: {reason}", sent=False)


def _named(error: RedisRefusal, asked: Address) -> Address:
    """The server in `MOVED 3999 127.0.0.1:6381`; without a host it is on the one that was asked."""
    host, _, port = error.said.rpartition(" ")[2].rpartition(":")
    return asked.at(host.strip("[]") or asked.host, int(port))
