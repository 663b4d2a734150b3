"""Entries of Redis streams with plain types; redis-py's own have a dozen shapes."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from linguad.net.redis.commands import Caller

Key = str | bytes

BEGIN = b"0-0"
"""Lies before every entry."""


class Entry(NamedTuple):
    """One entry of a stream."""

    id: bytes
    fields: dict[bytes, bytes]


async def read(
    redis: Caller, stream: Key, after: bytes = BEGIN, *, count: int, block_ms: int = 0
) -> list[Entry]:
    """Entries of one stream that come after an id.

    With `block_ms`, for a listener only, it waits so long for the first one; [] if none came. Raises as
    `Link.call` does.
    """
    block = ("BLOCK", block_ms) if block_ms else ()
    words = ("XREAD", "COUNT", count, *block, "STREAMS", stream, after)
    reply = cast("dict[bytes, list[Any]] | None", await redis.call(words))
    if not reply:
        return []
    return [Entry(item[0], fields(item[1])) for item in next(iter(reply.values()))]


def fields(flat: list[bytes]) -> dict[bytes, bytes]:
    """The fields of an entry, as Redis gives them, by name."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
