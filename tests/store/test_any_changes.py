"""Whatever is done in two processes: both, and one that starts later, know what the database holds."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from accounts import ACTOR, START, Clock, loaded, state
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, func, select, update

from linguad.core.accounts import MAX_ACTIVE_KEYS, ConflictError, KeyWish, NotFoundError
from linguad.store.audit import audit
from linguad.store.changes import seen_revision
from linguad.store.database import Database
from linguad.store.keys import api_keys
from linguad.store.registry import Registry
from linguad.store.schema import meta
from linguad.store.tenants import tenants

which = st.integers(0, 3)
STEPS = st.one_of(
    st.tuples(st.just("create"), st.sampled_from([None, KeyWish(), KeyWish(expires_at=START + 1000)])),
    st.tuples(
        st.just("change"), which, st.sampled_from([{"burst": 5}, {"status": "disabled"}, {"status": None}])
    ),
    st.tuples(st.just("delete"), which),
    st.tuples(st.just("create_key"), which),
    st.tuples(st.just("rotate"), which, st.sampled_from([0, 90])),
    st.tuples(st.just("revoke"), which),
    st.tuples(st.just("use"), which),
    st.tuples(st.just("sleep"), st.sampled_from([1, 70])),
    st.tuples(st.just("flush")),
    st.tuples(st.just("refresh")),
)
HISTORIES = st.lists(st.tuples(st.booleans(), STEPS), max_size=25)


class Story:
    """What a history does, and the ids and texts that came of it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.tenants: list[str] = []
        self.keys: list[str] = []
        self.texts: list[str] = []

    async def do(self, registry: Registry, step: tuple[Any, ...]) -> None:
        match step:
            case "create", wish:
                tenant, issued = await registry.create_tenant(ACTOR, "x", key=wish)
                self.tenants.append(tenant.id)
                self._remember(issued)
            case "change", number, members:
                await registry.change_tenant(ACTOR, _pick(self.tenants, number), members)
            case "delete", number:
                await registry.delete_tenant(ACTOR, _pick(self.tenants, number))
            case "create_key", number:
                self._remember(await registry.create_key(ACTOR, _pick(self.tenants, number)))
            case "rotate", number, grace:
                self._remember(await registry.rotate_key(ACTOR, _pick(self.keys, number), grace))
            case "revoke", number:
                await registry.revoke_key(ACTOR, _pick(self.keys, number))
            case "use", number:
                registry.used(_pick(self.keys, number))
            case "sleep", seconds:
                self.clock.now += seconds
            case ("flush",):
                await registry.flush()
            case ("refresh",):
                await registry.refresh()

    def _remember(self, issued: Any) -> None:
        if issued is not None:
            self.keys.append(issued.key.id)
            self.texts.append(issued.text)


def _pick(ids: list[str], number: int) -> str:
    return ids[number % len(ids)] if ids else "nobody"


def wipe(connection: Connection) -> None:
    """As new."""
    for table in (audit, api_keys, tenants):
        connection.execute(delete(table))
    connection.execute(update(meta).where(meta.c.name == "revision").values(value="0"))


async def play(url: str, history: list[tuple[bool, tuple[Any, ...]]]) -> None:
    database = Database(url)
    await database.write(wipe)
    clock = Clock()
    story = Story(clock)
    registries = [await loaded(database, clock) for _ in range(2)]
    for second, step in history:
        before = await database.read(seen_revision)
        try:
            await story.do(registries[second], step)
        except (NotFoundError, ConflictError):
            assert await database.read(seen_revision) == before, "what is refused changes nothing"
    for registry in registries:
        await registry.flush()
    for registry in registries:
        await registry.refresh()
    registries.append(await loaded(database, clock))
    states = [state(registry, story.tenants, story.texts) for registry in registries]
    assert states[0] == states[1] == states[2]
    for tenant_id, held in states[0][1].items():
        assert sum(key.usable(clock.now) for key in held) <= 2 * MAX_ACTIVE_KEYS
        assert registries[0].tenant(tenant_id) or not any(key.usable(clock.now) for key in held)
    for key_id, text in zip(story.keys, story.texts, strict=True):
        found = registries[0].lookup(text)
        key = registries[0].key(key_id)
        assert key is not None
        assert found is None or found[0] == key
        assert (found is None) == (registries[0].tenant(key.tenant_id) is None)
    made = await database.read(
        lambda connection: connection.execute(
            select(func.count()).where(audit.c.action.in_(("key.create", "key.rotate")))
        ).scalar()
    )
    assert made == len(story.keys)
    await database.close()


@pytest.fixture
def made_url(url: str) -> str:
    """One database with its tables, which every history wipes."""

    async def make() -> None:
        database = Database(url)
        await database.open()
        await database.close()

    trio.run(make)
    return url


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(history=HISTORIES)
def test_memory_and_database_agree(made_url: str, history: list[Any]) -> None:
    trio.run(play, made_url, history)
