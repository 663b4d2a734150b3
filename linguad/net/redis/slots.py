"""Which slot of a Redis Cluster a command is for, and what servers say about slots. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from linguad.net.redis.address import Address
from linguad.net.redis.errors import RedisRefusal
from linguad.net.redis.manners import Word, Words, name_of

SLOTS = REDIS_CLUSTER_HASH_SLOTS

_KEYLESS = frozenset({"PING", "PUBLISH", "TIME", "INFO", "ECHO", "SCRIPT", "CLUSTER"})
_ALL_KEYS = frozenset({"DEL", "UNLINK", "EXISTS", "TOUCH", "MGET", "RENAME", "RENAMENX"})
_KEY_SECOND = frozenset({"XGROUP", "XINFO", "OBJECT", "MEMORY"})
_SCRIPTS = frozenset({"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO"})


def slot_of_key(key: Word) -> int:
    """The slot of one key: of its hash tag, if it has one."""
    return key_slot(bytes(key) if isinstance(key, bytes | memoryview) else str(key).encode())


def slot_of(words: Words) -> int | None:
    """The slot of a command's keys; None if it has none. Raises ValueError if its keys are in several.

    Commands that are not named here have one key, right behind their name.
    """
    name = name_of(words)
    if name in _KEYLESS:
        return None
    slots = {slot_of_key(key) for key in _keys(name, words)}
    if len(slots) != 1:
        raise ValueError(f"{name} in a cluster wants keys of one slot: give them one hash tag")
    return slots.pop()


def masters(reply: object, asked: Address) -> Iterator[tuple[range, Address]]:
    """Slots and their master, from the reply of `asked` to CLUSTER SLOTS."""
    for first, last, master, *_replicas in cast("list[list[Any]]", reply):
        host: bytes | None = master[0]
        # a server that does not know its own name leaves it out
        known = host not in (None, b"", b"?")
        yield range(first, last + 1), asked.at(host.decode() if host and known else asked.host, master[1])


def named(error: RedisRefusal, asked: Address) -> Address:
    """The server in `MOVED 3999 127.0.0.1:6381`; without a host it is on the one that was asked."""
    host, _, port = error.said.rpartition(" ")[2].rpartition(":")
    return asked.at(host.strip("[]") or asked.host, int(port))


def _keys(name: str, words: Words) -> Sequence[Word]:
    if name in _ALL_KEYS:
        return words[1:]
    if name in _SCRIPTS:
        return words[3 : 3 + int(words[2])]
    if name in ("XREAD", "XREADGROUP"):
        upper = [word.upper() if isinstance(word, str | bytes) else word for word in words]
        after = next(place for place, word in enumerate(upper, 1) if word in ("STREAMS", b"STREAMS"))
        return words[after : after + (len(words) - after) // 2]
    return words[2:3] if name in _KEY_SECOND else words[1:2]
