"""What Redis holds of an installation, found without KEYS and SCAN: by the registers that name it.

Keys that no register names end by themselves soon after nobody writes them any more; docs/cluster.md has all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, cast

from linguad.net.redis.commands import Caller
from linguad.net.redis.keys import Keys

OF_INSTANCE = ("alive", "inbox", "acked", "dlq", "adopter", "heirs")
"""Keys of one instance."""

PIECE = 500
"""Keys that are asked about at once."""


BUCKETS = 16
"""Parts of the register of nodes, each on some master of a Redis Cluster."""


class Named(NamedTuple):
    """A key with the name of its kind, as in docs/cluster.md."""

    family: str
    key: str


async def _instances(redis: Caller, keys: Keys) -> AsyncIterator[Named]:
    for name in await instances(redis, keys):
        for what in OF_INSTANCE:
            yield Named(f"{{i:<instance>}}:{what}", keys.of("i", name, what))
    yield Named("reg:inst", keys.instances)


async def _nodes(redis: Caller, keys: Keys) -> AsyncIterator[Named]:
    for bucket in range(BUCKETS):
        register = keys.of("b", str(bucket), "nodes")
        for raw in cast("list[bytes]", await redis.call(("ZRANGE", register, 0, -1))):
            yield Named("{n:<node>}:rec", keys.of("n", raw.decode(), "rec"))
        for what in ("seq", "gone", "nodes"):
            yield Named(f"{{b:<bucket>}}:{what}", keys.of("b", str(bucket), what))


REGISTERS = (_instances, _nodes)
"""Each tells the keys that a register names, and the register last: what is broken off can be repeated."""


class Size(NamedTuple):
    """How much there is of a family."""

    family: str
    keys: int
    bytes: int


async def instances(redis: Caller, keys: Keys) -> list[str]:
    """All names in the register of instances, alive or not. Raises as `Link.call` does."""
    listed = cast("list[bytes]", await redis.call(("ZRANGE", keys.instances, 0, -1)))
    return [name.decode(errors="replace") for name in listed]


async def sizes(redis: Caller, keys: Keys) -> list[Size]:
    """Count the keys that are there and the memory they take. Raises as `Link.call` does."""
    counted: dict[str, Size] = {}
    async for piece in _pieces(redis, keys):
        taken = await redis.call_all([("MEMORY", "USAGE", named.key) for named in piece])
        for named, size in zip(piece, taken, strict=True):
            before = counted.get(named.family, Size(named.family, 0, 0))
            more = (1, size) if isinstance(size, int) else (0, 0)
            counted[named.family] = Size(named.family, before.keys + more[0], before.bytes + more[1])
    return sorted(counted.values())


async def wipe(redis: Caller, keys: Keys) -> int:
    """Delete all that the registers name; how many keys there were. Raises as `Link.call` does."""
    deleted = 0
    async for piece in _pieces(redis, keys):
        answers = await redis.call_all([("UNLINK", named.key) for named in piece])
        deleted += sum(answer for answer in answers if isinstance(answer, int))
    return deleted


async def _pieces(redis: Caller, keys: Keys) -> AsyncIterator[Sequence[Named]]:
    """All keys, in pieces, each read from its register before any of the piece is touched."""
    piece: list[Named] = []
    for walk in REGISTERS:
        async for named in walk(redis, keys):
            piece.append(named)
            if len(piece) >= PIECE:
                yield piece
                piece = []
    if piece:
        yield piece
