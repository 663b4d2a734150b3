"""A registry on a clock of the test, and what it knows, in one comparable value."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from linguad.core.accounts import Actor
from linguad.core.tenant import Key, Tenant
from linguad.store.database import Database
from linguad.store.pepper import Pepper
from linguad.store.registry import Registry

ACTOR = Actor(type="operator", id="test", request_id="r-1")
PEPPER = Pepper(b"salt of the tests", Path("pepper"))
START = 1_700_000_000.0
"""When every test begins, Unix s; not at a full minute."""

State = tuple[list[tuple[Tenant, int]], dict[str, list[Key]], list[tuple[str, str] | None]]


class Clock:
    """Wall time that a test sets."""

    now = START

    def __call__(self) -> float:
        return self.now


async def loaded(database: Database, clock: Clock | None = None, pepper: Pepper | None = PEPPER) -> Registry:
    """A registry that knows everything."""
    registry = Registry(database, pepper, clock or Clock())
    await registry.load()
    return registry


def state(registry: Registry, tenants: Iterable[str] = (), texts: Iterable[str] = ()) -> State:
    """Everything that a registry answers, about these tenants and texts of keys too."""
    known = [(tenant, registry.revision(tenant.id)) for tenant in registry.tenants()]
    ids = {tenant.id for tenant, _ in known} | set(tenants)
    found = [registry.lookup(text) for text in texts]
    return (
        known,
        {tenant_id: registry.keys_of(tenant_id) for tenant_id in ids},
        [one and (one[0].id, one[1].id) for one in found],
    )
