"""How much each tenant of the public API may ask for: requests per second and things at once (gateway 4.3).

Nothing here waits: whoever is over a limit is told when to come again.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import TypeVar

from msgspec import Struct

from linguad.core.bucket import Bucket

IDLE_S = 60.0
"""How long a full bucket is kept, so that one that is used again soon need not be made anew."""

LOOKS = 2
"""Entries looked at per new use, whether they can be forgotten: more are forgotten than can be added."""

K = TypeVar("K")
V = TypeVar("V")


class Standing(Struct, frozen=True, kw_only=True):
    """How a tenant stands after a request."""

    limit: int
    """Requests that may come at once."""
    remaining: int
    """How many of these are left."""
    full_in_s: float
    """When all are there again."""
    wait_s: float = 0.0
    """0 if the request may go on, else when to try again; infinite if it never may."""
    overall: bool = False
    """It has to wait because of what all tenants together ask for."""


class Wish(Struct, frozen=True, kw_only=True):
    """What one instance asks all of them for, in the name of a tenant."""

    tenant: str
    burst: int = 0
    """Requests that may come at once; 0 if none is to be counted."""
    per_second: float = 0.0
    sessions: int = 0
    """Sessions of this instance together with the new one; 0 if none is wanted."""
    most_sessions: int = 0
    """On all instances together."""


class Verdict(Struct, frozen=True, kw_only=True):
    """What came of it."""

    standing: Standing
    """On all instances; without meaning if no request was to be counted."""
    session: bool
    """Whether there is room for the new session."""
    sessions_elsewhere: int
    """Sessions of the tenant on the other instances."""


class Rates:
    """Mutable state: a token bucket for each tenant that asked lately, and one for all together.

    In any `t` seconds a tenant is let through at most `burst + per_second * t` times.
    """

    def __init__(self, per_second_in_all: float = 0.0) -> None:
        """`per_second_in_all` is the limit of all tenants together, in a second and at once; 0 is none."""
        self._all = Bucket(burst_of(per_second_in_all) if per_second_in_all else 0, per_second_in_all)
        self._buckets: OrderedDict[str, tuple[Bucket, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, tenant: str, burst: int, per_second: float, now: float) -> Standing:
        """Count a request of a tenant with these limits, if it may go on; `burst` is at least 1."""
        forget(self._buckets, lambda entry: now > max(entry[1] + IDLE_S, entry[0].full_at(entry[1])))
        if tenant in self._buckets:
            bucket, _ = self._buckets.pop(tenant)
        else:
            bucket = Bucket(burst, per_second)
        self._buckets[tenant] = bucket, now
        bucket.change(burst, per_second, now)
        wait_s, overall = 0.0, False
        if not bucket.take(now):
            wait_s = bucket.ready_at(now) - now
        elif not self._all.take(now):
            bucket.give_back()
            wait_s, overall = self._all.ready_at(now) - now, True
        full_in_s = bucket.full_at(now) - now
        return Standing(
            limit=burst, remaining=bucket.left, full_in_s=full_in_s, wait_s=wait_s, overall=overall
        )

    def give_back(self, tenant: str) -> None:
        """The request that was let through last does not go on after all."""
        if tenant in self._buckets:
            self._buckets[tenant][0].give_back()
            self._all.give_back()


def burst_of(per_second: float) -> int:
    """Requests that may come at once where nothing else is said: those of a second, at least one."""
    return max(1, int(per_second) + (per_second > int(per_second)))


class Lease:
    """The right to one thing at a time, until it is released; releasing it again does nothing."""

    def __init__(self, leases: Leases, tenant: str) -> None:
        self._leases: Leases | None = leases
        self._tenant = tenant

    def release(self) -> bool:
        """Give it back; says whether it was still held."""
        leases, self._leases = self._leases, None
        if leases is not None:
            leases.take_back(self._tenant)
        return leases is not None


class Leases:
    """Mutable state: how many things each tenant has going on."""

    def __init__(self) -> None:
        self._used: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._used.total()

    def tenants(self) -> list[str]:
        """Those that have any."""
        return list(self._used)

    def used(self, tenant: str) -> int:
        """How many a tenant has."""
        return self._used.get(tenant, 0)

    def take(self, tenant: str, most: int) -> Lease | None:
        """One more for a tenant that may have so many; None if it has them."""
        if self.used(tenant) >= most:
            return None
        self._used[tenant] += 1
        return Lease(self, tenant)

    def take_back(self, tenant: str) -> None:
        """Only for `Lease.release`."""
        self._used[tenant] -= 1
        if not self._used[tenant]:
            del self._used[tenant]


def forget(entries: OrderedDict[K, V], past: Callable[[V], bool], looks: int = LOOKS) -> None:
    """Drop what is past among the entries that were looked at longest ago; the others are next in turn last.

    Called for every addition this keeps a table as small as what is in use.
    """
    for key, entry in list(islice(entries.items(), looks)):
        if past(entry):
            del entries[key]
        else:
            entries.move_to_end(key)
