"""Which pool a node or a job belongs to, in plain Python (pools-and-cluster 2; resolution 36)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

Item = TypeVar("Item")

POOL_LADDER: Final = (1, 2, 3, 5, 7, 11, 17, 29, 47, 79, 127, 211, 347, 577, 997)  # primes, × 1.65 or so

MASK: Final = 0xFFFF_FFFF_FFFF_FFFF
_FNV_START: Final = 0xCBF2_9CE4_8422_2325
_FNV_PRIME: Final = 0x100_0000_01B3


def fnv1a64(key: str | bytes, seed: int) -> int:
    """64-bit FNV-1a of the key (text as UTF-8) followed by the seed as 8 bytes, least significant first.

    Raises OverflowError for a seed outside 64 bits, TypeError for another kind of key.
    """
    if not isinstance(key, (str, bytes)):
        raise TypeError("a key is text or bytes")
    state = _FNV_START
    for byte in (key.encode() if isinstance(key, str) else key) + seed.to_bytes(8, "little"):
        state = (state ^ byte) * _FNV_PRIME & MASK
    return state


def pool_id_for_key(count: int, seed: int, key: str | bytes) -> int:
    """The pool, 0 to count - 1, in which a node or a job belongs; a count below 1 means 1."""
    return fnv1a64(key, seed) % max(count, 1)


def pick_index_for_key(n: int, seed: int, key: str | bytes) -> int:
    """The index, 0 to n - 1, that a key prefers in a list of n; n below 1 means 1."""
    return fnv1a64(key, seed) % max(n, 1)


def pool_probe_order(count: int, preferred: int) -> list[int]:
    """All pool ids once, as a ring from the preferred one; a count below 1 means 1."""
    return ring_order_ids(range(max(count, 1)), preferred)


def ring_order_ids(ids: Sequence[Item], start: int) -> list[Item]:
    """The ids as a ring from index `start` (modulo their number)."""
    at = start % len(ids) if ids else 0
    return [*ids[at:], *ids[:at]]


def pool_count_for(members: int, max_members: int = 100) -> int:
    """The smallest number of the ladder with at most `max_members` a pool on average; ValueError below 1."""
    if max_members < 1:
        raise ValueError("max_members must be at least 1")
    return next((count for count in POOL_LADDER if count * max_members >= members), POOL_LADDER[-1])
