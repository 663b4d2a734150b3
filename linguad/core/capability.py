"""Capability pools: parts of the fleet by what nodes have installed (pools-and-cluster 1.8, 3.2).

Rules:
- A node is in the one pool that asks for most of what it has; of several alike its id decides.
- A job may go to the pools whose services go with those it needs. One of them is preferred: that of its
  tenant, else the one its route points to; the others follow as a ring.
- Without pools, which is the default, every node may do every job it fits.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from linguad.core.services import CORE_SERVICES, Services
from linguad.pools import pick_index_for_key

ANYWHERE: tuple[int, ...] = ()
"""Ids of the pools of a job that no pool keeps from any node."""

NOWHERE: tuple[int, ...] = (-1,)
"""Ids of the pools of a job that no pool is eligible for; no node is in that one."""

ALL_SERVICES = Services(~0)


class CapabilityPool(Struct, frozen=True, kw_only=True):
    """A part of the fleet."""

    id: int
    name: str = ""
    services: Services = Services.NONE
    """What its nodes have installed; none takes every node that fits no better pool, and every job."""


class Pin(Struct, frozen=True, kw_only=True):
    """The pool of one tenant."""

    pool: int
    strict: bool = False
    """Its jobs go nowhere else, be it full or empty."""


class Probe(Struct, frozen=True):
    """A pool that was asked for a node in vain."""

    pool: int | None
    """None if the job may go anywhere."""
    reason: str
    """A metric label."""


class PoolRules(Struct, frozen=True, kw_only=True):
    """The pools, and which of them a job may go to."""

    pools: tuple[CapabilityPool, ...] = ()
    """In the order of their ids."""
    compared: Services = CORE_SERVICES
    """Services of a job that are compared with those of a pool."""
    exact: bool = False
    """Whether a pool must have these and no other, rather than these among others."""
    strict: bool = False
    """Whether a job without an eligible pool ends, rather than being free to go to any."""
    fallback: bool = True
    """Whether a job may go to another pool than the preferred one."""
    tenants: Mapping[str, Pin] = {}
    hash_seed: int = 0

    def name(self, pool: int) -> str:
        """What a pool is called; "" if it has no name."""
        return next((one.name for one in self.pools if one.id == pool), "")

    def services(self, pool: int) -> Services:
        """What the nodes of a pool have installed."""
        return next((one.services for one in self.pools if one.id == pool), Services.NONE)

    def home(self, node_id: str, installed: Services) -> int | None:
        """The pool of a node that has these services, None if there is none for it."""
        fitting = [pool for pool in self.pools if not pool.services & ~installed]
        if not fitting:
            return None
        most = max(pool.services.bit_count() for pool in fitting)
        best = [pool.id for pool in fitting if pool.services.bit_count() == most]
        return best[pick_index_for_key(len(best), self.hash_seed, node_id)]

    def asked(self, needs: Services, tenant: str, route: int) -> tuple[int, ...]:
        """Ids of the pools that a job may go to, ascending; ANYWHERE or NOWHERE."""
        if not self.pools:
            return ANYWHERE
        eligible = self.eligible(needs)
        pin = self.tenants.get(tenant)
        if pin is not None and pin.strict:
            return (pin.pool,) if pin.pool in eligible else NOWHERE
        if eligible and not self.fallback:
            return (self.preferred(eligible, tenant, route),)
        return eligible or NOWHERE

    def preferred(self, pools: tuple[int, ...], tenant: str, route: int) -> int:
        """Which of the pools that a job may go to is asked first."""
        pin = self.tenants.get(tenant)
        if pin is None:
            return pools[route % len(pools)]
        return pin.pool if pin.pool in pools else pools[0]

    def in_order(self, pools: tuple[int, ...], tenant: str, route: int) -> tuple[int, ...]:
        """The pools that a job may go to, as a ring from the preferred one."""
        if len(pools) < 2:
            return pools
        first = pools.index(self.preferred(pools, tenant, route))
        return pools[first:] + pools[:first]

    def eligible(self, needs: Services) -> tuple[int, ...]:
        """Ids of the pools that go with what a job needs, whoever has it done."""
        wanted = needs & self.compared
        if wanted:
            found = tuple(pool.id for pool in self.pools if self._goes_with(pool.services, wanted))
        else:
            found = ()
        takes_any = not wanted or not (found or self.strict)
        return tuple(pool.id for pool in self.pools) if takes_any else found

    def _goes_with(self, offered: Services, wanted: Services) -> bool:
        if not offered:
            return True
        return offered == wanted if self.exact else not wanted & ~offered
