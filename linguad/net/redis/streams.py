"""Entries of Redis streams with plain types; redis-py's own have a dozen shapes."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from linguad.net.redis.commands import Caller

Key = str | bytes


class Entry(NamedTuple):
    """One entry of a stream."""

    id: bytes
    fields: dict[bytes, bytes]
    """Empty if it was deleted before it could be read."""


class Claimed(NamedTuple):
    """What an XAUTOCLAIM found."""

    cursor: bytes
    """Where to go on; b"0-0" when all was seen."""
    entries: list[Entry]
    deleted: list[bytes]
    """Ids that waited for an ack, but whose entries are no more; from Redis 7 on."""


async def read_group(
    redis: Caller, stream: Key, group: str, consumer: str, *, start: str = ">", count: int, block_ms: int = 0
) -> list[Entry]:
    """Entries of one stream that nobody got yet, or with `start="0"` those this consumer has not acked.

    With `block_ms`, for a listener only, it waits so long for the first one; [] if none came. Raises as
    `Link.call` does; RedisRefusal with code NOGROUP if there is no such group.
    """
    block = ("BLOCK", block_ms) if block_ms else ()
    words = ("XREADGROUP", "GROUP", group, consumer, "COUNT", count, *block, "STREAMS", stream, start)
    reply = cast("dict[bytes, list[Any]] | None", await redis.call(words))
    return _entries(next(iter(reply.values()))) if reply else []


async def claim(
    redis: Caller, stream: Key, group: str, consumer: str, *, idle_ms: int, cursor: bytes = b"0-0", count: int
) -> Claimed:
    """Take over entries that others got `idle_ms` ago and have not acked. Raises as `read_group` does."""
    words = ("XAUTOCLAIM", stream, group, consumer, idle_ms, cursor, "COUNT", count)
    reply = cast("list[Any]", await redis.call(words))
    return Claimed(reply[0], _entries(reply[1]), reply[2] if len(reply) > 2 else [])


def _entries(raw: list[Any]) -> list[Entry]:
    # Redis 6.2 claims deleted entries as null; such an entry has no id, and no use
    return [Entry(item[0], _pairs(item[1] or [])) for item in raw if item]


def _pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
