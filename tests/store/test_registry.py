"""Tenants and keys: what changes, who sees it, and that memory and database agree."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from accounts import ACTOR, START, Clock, loaded, state
from patience import PATIENCE_S
from sqlalchemy import Connection, update

from linguad.core.accounts import MAX_ACTIVE_KEYS, ConflictError, FieldsError, KeyWish, NotFoundError
from linguad.core.api_key import parse
from linguad.core.tenant import DEFAULT_SCOPES, Scope, Status
from linguad.store.database import Database
from linguad.store.keys import api_keys
from linguad.store.registry import Registry
from linguad.store.tenants import tenants


@pytest.fixture
async def clock() -> Clock:
    return Clock()


@pytest.fixture
async def registry(database: Database, clock: Clock) -> Registry:
    return await loaded(database, clock)


async def actions(registry: Registry, **query: Any) -> list[tuple[str, str]]:
    return [(one.action, one.target) for one in reversed(await registry.audit_trail(**query))]


async def test_a_tenant_with_a_key(registry: Registry) -> None:
    tenant, issued = await registry.create_tenant(ACTOR, "Acme", {"burst": 5}, key=KeyWish(label="first"))
    assert issued is not None
    assert (tenant.name, tenant.burst, tenant.created_at, tenant.active) == ("Acme", 5, START, True)
    assert tenant.id.startswith("tenant-")
    parts = parse(issued.text)
    assert parts is not None
    assert (parts.env, parts.id) == ("live", issued.key.id)
    assert issued.key.prefix == issued.text[:16]
    assert (issued.key.label, issued.key.scopes) == ("first", DEFAULT_SCOPES)
    assert registry.lookup(issued.text) == (issued.key, tenant)
    assert registry.tenant(tenant.id) == tenant
    assert registry.tenants() == [tenant]
    assert registry.keys_of(tenant.id) == [issued.key]
    assert registry.key(issued.key.id) == issued.key


@pytest.mark.parametrize("text", ["", "lk_", "x" * 20, "é" * 20, "\ud800" * 20, "x" * 100_000])
async def test_what_is_no_key(registry: Registry, text: str) -> None:
    _, issued = await registry.create_tenant(ACTOR, "Acme", key=KeyWish())
    assert issued is not None
    assert registry.lookup(text) is None
    assert registry.lookup(issued.text + text[:1]) is None or not text


async def test_another_process_sees_what_it_asks_for(registry: Registry, database: Database) -> None:
    tenant, issued = await registry.create_tenant(
        ACTOR,
        "Acme",
        {"metadata": {"a": ["\0", 1.5]}, "allowed_origins": ["https://a.example"], "allowed_languages": []},
        key=KeyWish(scopes=frozenset({Scope.ADMIN_KEYS}), expires_at=START + 5, test=True),
    )
    assert issued is not None
    assert issued.text.startswith("lk_test_")
    other = await loaded(database)
    assert state(other, texts=[issued.text]) == state(registry, texts=[issued.text])
    assert other.lookup(issued.text) == (issued.key, tenant)


async def test_changing_a_tenant(registry: Registry, clock: Clock) -> None:
    tenant, _ = await registry.create_tenant(ACTOR, "Acme", {"burst": 5})
    clock.now += 1
    seen = registry.revision(tenant.id)
    changed = await registry.change_tenant(
        ACTOR, tenant.id, {"name": "Bcme", "burst": None}, expected_revision=seen
    )
    assert (changed.name, changed.burst, changed.updated_at) == ("Bcme", None, START + 1)
    assert registry.tenant(tenant.id) == changed
    with pytest.raises(ConflictError, match="changed meanwhile"):
        await registry.change_tenant(ACTOR, tenant.id, {"name": "C"}, expected_revision=seen)
    clock.now += 1
    assert await registry.change_tenant(ACTOR, tenant.id, {"name": "Bcme"}) == changed, "nothing changed"
    disabled = await registry.change_tenant(ACTOR, tenant.id, {"status": "disabled"})
    assert disabled.status is Status.DISABLED
    with pytest.raises(FieldsError, match="burst: allowed is"):
        await registry.change_tenant(ACTOR, tenant.id, {"burst": 0})
    assert await actions(registry) == [
        ("tenant.create", tenant.id),
        ("tenant.change", tenant.id),
        ("tenant.disable", tenant.id),
    ]


async def test_a_deleted_tenant_is_gone_with_its_keys(registry: Registry, database: Database) -> None:
    tenant, issued = await registry.create_tenant(ACTOR, "Acme", key=KeyWish())
    assert issued is not None
    await registry.delete_tenant(ACTOR, tenant.id)
    for one in (registry, await loaded(database)):
        assert one.tenant(tenant.id) is None
        assert one.revision(tenant.id) == 0
        assert one.tenants() == []
        assert one.lookup(issued.text) is None
        key = one.key(issued.key.id)
        assert key is not None
        assert key.revoked_at == START
    for work in (
        registry.delete_tenant(ACTOR, tenant.id),
        registry.change_tenant(ACTOR, tenant.id, {"status": "active"}),
        registry.create_key(ACTOR, tenant.id),
    ):
        with pytest.raises(NotFoundError, match=tenant.id):
            await work


@pytest.mark.parametrize("name", ["nobody", "", "a\0b", "\ud800"])
async def test_what_there_is_not(registry: Registry, name: str) -> None:
    assert registry.tenant(name) is None
    assert registry.key(name) is None
    assert registry.keys_of(name) == []
    registry.used(name)
    for work in (
        registry.change_tenant(ACTOR, name, {}),
        registry.delete_tenant(ACTOR, name),
        registry.create_key(ACTOR, name),
        registry.rotate_key(ACTOR, name, 0),
        registry.revoke_key(ACTOR, name),
    ):
        with pytest.raises(NotFoundError):
            await work
    assert await actions(registry, tenant_id=name) == []


async def test_a_revoked_key_opens_nothing_at_once(registry: Registry, clock: Clock) -> None:
    _, issued = await registry.create_tenant(ACTOR, "Acme", key=KeyWish())
    assert issued is not None
    clock.now += 5
    key = await registry.revoke_key(ACTOR, issued.key.id)
    assert not key.usable(clock.now)
    assert (found := registry.lookup(issued.text)) is not None
    assert found[0] == key
    clock.now += 5
    assert await registry.revoke_key(ACTOR, issued.key.id) == key, "revoked before"
    with pytest.raises(ConflictError, match="works no more"):
        await registry.rotate_key(ACTOR, issued.key.id, 60)


async def test_rotation(registry: Registry, clock: Clock) -> None:
    wish = KeyWish(label="app", scopes=frozenset({Scope.STREAM}), expires_at=START + 100, test=True)
    _, issued = await registry.create_tenant(ACTOR, "Acme", key=wish)
    assert issued is not None
    clock.now += 10
    fresh = await registry.rotate_key(ACTOR, issued.key.id, 60)
    assert fresh.text.startswith("lk_test_")
    assert fresh.text != issued.text
    assert (fresh.key.label, fresh.key.scopes) == ("app", wish.scopes)
    assert fresh.key.expires_at == START + 110, "it lives as long as the old one"
    old = registry.key(issued.key.id)
    assert old is not None
    assert old.usable(START + 69)
    assert not old.usable(START + 70)
    again = await registry.rotate_key(ACTOR, fresh.key.id, 600)
    rotated = registry.key(fresh.key.id)
    assert rotated is not None
    assert rotated.expires_at == START + 110, "a grace makes no key live longer"
    await registry.rotate_key(ACTOR, again.key.id, 0)
    assert (gone := registry.key(again.key.id)) is not None
    assert not gone.usable(clock.now)
    with pytest.raises(FieldsError, match="grace_seconds"):
        await registry.rotate_key(ACTOR, fresh.key.id, -1)


async def test_so_many_keys_and_no_more(registry: Registry, clock: Clock) -> None:
    tenant, _ = await registry.create_tenant(ACTOR, "Acme")
    issued = [await registry.create_key(ACTOR, tenant.id) for _ in range(MAX_ACTIVE_KEYS)]
    with pytest.raises(ConflictError, match="20 active keys"):
        await registry.create_key(ACTOR, tenant.id)
    rotated = await registry.rotate_key(ACTOR, issued[0].key.id, 60)
    for _ in range(MAX_ACTIVE_KEYS - 1):
        rotated = await registry.rotate_key(ACTOR, rotated.key.id, 60)
    with pytest.raises(ConflictError, match="40 active keys"):
        await registry.rotate_key(ACTOR, rotated.key.id, 60)
    clock.now += 60
    await registry.revoke_key(ACTOR, issued[1].key.id)
    await registry.create_key(ACTOR, tenant.id)


async def test_a_refused_change_leaves_no_trace(registry: Registry, database: Database) -> None:
    tenant, _ = await registry.create_tenant(ACTOR, "Acme")
    before = state(registry)
    with pytest.raises(FieldsError, match="scopes"):
        await registry.create_tenant(ACTOR, "Bcme", key=KeyWish(scopes=frozenset()))
    with pytest.raises(FieldsError, match="label"):
        await registry.create_key(ACTOR, tenant.id, KeyWish(label="a" * 1000))
    assert state(registry) == state(await loaded(database)) == before
    assert await actions(registry) == [("tenant.create", tenant.id)]


async def test_the_audit_trail_tells_who_and_what(registry: Registry, clock: Clock) -> None:
    tenant, issued = await registry.create_tenant(ACTOR, "Acme", {"burst": 5}, key=KeyWish(label="app"))
    other, _ = await registry.create_tenant(ACTOR, "Other")
    assert issued is not None
    clock.now += 10
    fresh = await registry.rotate_key(ACTOR, issued.key.id, 60)
    await registry.revoke_key(ACTOR, issued.key.id)
    trail = await registry.audit_trail()
    assert [one.audit_id for one in trail] == sorted((one.audit_id for one in trail), reverse=True)
    first = trail[-1]
    assert (first.actor_type, first.actor_id, first.request_id) == ("operator", "test", "r-1")
    assert (first.action, first.created_at, first.tenant_id) == ("tenant.create", START, tenant.id)
    assert first.payload == {"name": "Acme", "burst": 5}
    assert issued.text not in repr(trail)
    assert await actions(registry, tenant_id=tenant.id) == [
        ("tenant.create", tenant.id),
        ("key.create", issued.key.id),
        ("key.rotate", fresh.key.id),
        ("key.revoke", issued.key.id),
    ]
    assert await actions(registry, since=START + 1, limit=1) == [("key.revoke", issued.key.id)]
    before = trail[0].audit_id
    assert await actions(registry, since=START + 1, before_id=before) == [("key.rotate", fresh.key.id)]
    assert await actions(registry, tenant_id=other.id) == [("tenant.create", other.id)]


async def test_last_use_is_kept_to_the_minute(registry: Registry, database: Database, clock: Clock) -> None:
    _, issued = await registry.create_tenant(ACTOR, "Acme", key=KeyWish())
    assert issued is not None
    key_id = issued.key.id

    def last_used(registry: Registry) -> float | None:
        key = registry.key(key_id)
        assert key is not None
        return key.last_used_at

    await registry.flush()
    registry.used(key_id)
    minute = START // 60 * 60
    assert last_used(registry) == minute
    assert last_used(await loaded(database)) is None
    await registry.flush()
    other = await loaded(database)
    assert last_used(other) == minute
    clock.now += 61
    registry.used(key_id)
    await registry.revoke_key(ACTOR, key_id)
    await registry.refresh()
    assert last_used(registry) == minute + 60, "what is not written yet is not forgotten"
    await registry.flush()
    await other.refresh()
    assert last_used(other) == minute + 60


async def test_uses_that_cannot_be_written_stay_noted(registry: Registry, database: Database) -> None:
    _, issued = await registry.create_tenant(ACTOR, "Acme", key=KeyWish())
    assert issued is not None
    registry.used(issued.key.id)
    with trio.CancelScope() as scope:
        scope.cancel()
        await registry.flush()
    await registry.flush()
    written = (await loaded(database)).key(issued.key.id)
    assert written is not None
    assert written.last_used_at == START // 60 * 60


async def test_changes_of_another_process_are_seen_soon(registry: Registry, database: Database) -> None:
    other = await loaded(database)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registry.run)
        with trio.fail_after(PATIENCE_S):
            tenant, issued = await other.create_tenant(ACTOR, "Acme", key=KeyWish())
            while registry.tenant(tenant.id) is None:
                await registry.wait_change()
            assert issued is not None
            assert registry.lookup(issued.text) == (issued.key, tenant)
            await other.change_tenant(ACTOR, tenant.id, {"status": "disabled"})
            await registry.wait_change()
            assert (seen := registry.tenant(tenant.id)) is not None
            assert not seen.active
        nursery.cancel_scope.cancel()


async def test_own_changes_wake_who_waits(registry: Registry) -> None:
    tenant, _ = await registry.create_tenant(ACTOR, "Acme")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registry.wait_change)
        await trio.testing.wait_all_tasks_blocked()
        await registry.change_tenant(ACTOR, tenant.id, {"name": "Bcme"})


async def test_what_was_seen_later_is_not_overwritten_by_what_was_read_earlier(
    registry: Registry, database: Database
) -> None:
    """A poll that began before a change of our own must not bring a revoked key back for a moment."""
    other = await loaded(database)
    _, issued = await other.create_tenant(ACTOR, "Acme", key=KeyWish())
    assert issued is not None
    real = database.read

    async def slow_read(work: Any) -> Any:
        news = await real(work)
        await registry.revoke_key(ACTOR, issued.key.id)
        return news

    database.read = slow_read  # type: ignore[method-assign]
    await registry.refresh()
    key = registry.key(issued.key.id)
    assert key is not None
    assert key.revoked_at == START


async def test_without_a_pepper_everything_but_keys(database: Database) -> None:
    registry = await loaded(database, pepper=None)
    tenant, _ = await registry.create_tenant(ACTOR, "Acme")
    assert registry.lookup("x" * 40) is None
    with pytest.raises(LookupError):
        await registry.create_key(ACTOR, tenant.id)
    assert registry.keys_of(tenant.id) == []


async def test_settings_of_a_newer_version_do_no_harm(registry: Registry, database: Database) -> None:
    _, issued = await registry.create_tenant(ACTOR, "Acme", key=KeyWish())
    assert issued is not None

    def write(connection: Connection) -> None:
        connection.execute(update(tenants).values(settings={"colour": "blue", "burst": 3}))
        connection.execute(update(api_keys).values(scopes=["speech:sing", "speech:stream"]))

    await database.write(write)
    other = await loaded(database)
    assert (found := other.lookup(issued.text)) is not None
    assert found[0].scopes == {Scope.STREAM}
    assert found[1].burst == 3
