"""What a node table accepts, in both of its twins."""

from __future__ import annotations

from math import inf
from typing import Final

from linguad._pool_ids import POOL_LADDER

MAX_EXCLUDED: Final = 4  # rows that one selection may exclude
MAX_CHOICES: Final = 16  # more samples than this cost more than they improve
MAX_CAP: Final = 10_000  # slots of a node; keeps every sum of slots far inside 64 bits

POLICIES: Final = ("expected_finish", "least_connections", "random")  # what makes a row better than another


def check_table(
    choices: int, max_members: int, pools: int, policy: str, sticky_ratio: float, sticky_margin_s: float
) -> None:
    """Raises ValueError for what no table can be made of."""
    if not 1 <= choices <= MAX_CHOICES:
        raise ValueError(f"choices must be 1 to {MAX_CHOICES}")
    if max_members < 1 or not 0 <= pools <= POOL_LADDER[-1]:
        raise ValueError(f"max_members must be at least 1, pools 0 to {POOL_LADDER[-1]}")
    if policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(POLICIES)}")
    if not 1.0 <= sticky_ratio < inf:
        raise ValueError("sticky_ratio must be a finite number, 1 or more")
    checked_seconds(sticky_margin_s)


def checked_cap(cap: int) -> int:
    """The cap, if it is one."""
    if not 0 <= cap <= MAX_CAP:
        raise ValueError(f"cap must be 0 to {MAX_CAP}")
    return cap


def checked_speed(speed: float) -> float:
    """The speed, if it is one."""
    if not 0.0 < speed < inf:
        raise ValueError("speed must be a positive finite number")
    return float(speed)


def checked_seconds(seconds: float) -> float:
    """The seconds, if they can be added to others."""
    if not 0.0 <= seconds < inf:
        raise ValueError("seconds must be a finite number, 0 or more")
    return float(seconds)
