"""One transaction that changes tenants and keys, with its audit records; no other code writes these tables.

Each takes the next revision first. Its row stays locked until the end, so that changes come one after the
other in all processes, and whoever has seen revision N has missed nothing up to N.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, select, update

from linguad.core.accounts import (
    DEFAULT_TENANT,
    MAX_ACTIVE_KEYS,
    Actor,
    ConflictError,
    IssuedKey,
    KeyWish,
    NotFoundError,
    checked_grace,
    checked_wish,
    tenant_members,
)
from linguad.core.api_key import PREFIX_CHARS
from linguad.core.tenant import Key, Status, Tenant
from linguad.store import audit, keys, tenants
from linguad.store.database import locked
from linguad.store.keys import KeyRow
from linguad.store.pepper import Pepper, lookup_of
from linguad.store.schema import meta
from linguad.store.tenants import TenantRow

REVISION = "revision"
"""Row of `meta` that counts the transactions."""

_STATUS_ACTIONS = {
    Status.ACTIVE: "tenant.enable",
    Status.DISABLED: "tenant.disable",
    Status.SUSPENDED: "tenant.suspend",
}


class Change:
    """What one actor does at one moment (Unix s). Methods raise NotFoundError, ConflictError, FieldsError."""

    def __init__(self, connection: Connection, pepper: Pepper | None, actor: Actor, now: float) -> None:
        self.connection = connection
        self.actor = actor
        self.now = now
        self.revision = next_revision(connection)
        self.tenants: list[TenantRow] = []
        self.keys: list[KeyRow] = []
        self._pepper = pepper

    def create_tenant(
        self, name: str, members: Mapping[str, object], wish: KeyWish | None = None
    ) -> tuple[Tenant, IssuedKey | None]:
        """A new tenant, with a first key if one is wished for."""
        tenant = self.add_tenant(f"tenant-{uuid.uuid4()}", name, members)
        return tenant, None if wish is None else self.create_key(tenant.id, wish)

    def add_tenant(self, tenant_id: str, name: str, members: Mapping[str, object]) -> Tenant:
        """A new tenant with this id."""
        checked = tenant_members({"name": name, **members})
        tenant = Tenant(id=tenant_id, created_at=self.now, updated_at=self.now, **checked)
        row = TenantRow(tenant=tenant, revision=self.revision)
        tenants.add(self.connection, row)
        self.tenants.append(row)
        self._note("tenant.create", tenant_id, tenant_id, checked)
        return tenant

    def change_tenant(
        self, tenant_id: str, members: Mapping[str, object], expected_revision: int | None = None
    ) -> Tenant:
        """Change members of a tenant; ConflictError if it is not in the expected revision any more."""
        row = self._tenant(tenant_id)
        if expected_revision is not None and row.revision != expected_revision:
            raise ConflictError(f"Tenant {tenant_id} was changed meanwhile; read it again first.")
        checked = tenant_members(members)
        tenant = msgspec.structs.replace(row.tenant, **checked)
        if tenant != row.tenant:
            tenant = msgspec.structs.replace(tenant, updated_at=self.now)
            self._save_tenant(msgspec.structs.replace(row, tenant=tenant))
            action = _STATUS_ACTIONS[tenant.status] if set(checked) == {"status"} else "tenant.change"
            self._note(action, tenant_id, tenant_id, checked)
        return tenant

    def delete_tenant(self, tenant_id: str) -> None:
        """Disable a tenant for good: its keys are revoked, its records stay (gateway 11.1)."""
        if tenant_id == DEFAULT_TENANT:
            raise ConflictError("The tenant default cannot be deleted; disable it instead.")
        row = self._tenant(tenant_id)
        for key in keys.of_tenant(self.connection, tenant_id):
            if key.key.revoked_at is None:
                self._save_key(key, revoked_at=self.now)
        tenant = msgspec.structs.replace(row.tenant, status=Status.DISABLED, updated_at=self.now)
        self._save_tenant(msgspec.structs.replace(row, tenant=tenant, deleted_at=self.now))
        self._note("tenant.delete", tenant_id, tenant_id, {})

    def create_key(self, tenant_id: str, wish: KeyWish) -> IssuedKey:
        """A new key of a tenant."""
        self._tenant(tenant_id)
        self._make_room(tenant_id, MAX_ACTIVE_KEYS)
        return self._issue(tenant_id, checked_wish(wish, self.now), "key.create", {})

    def rotate_key(self, key_id: str, grace_s: float) -> IssuedKey:
        """A new key like another one, which goes on working for the grace."""
        checked_grace(grace_s)
        row = self._key(key_id)
        old = row.key
        if not old.usable(self.now):
            raise ConflictError(f"Key {key_id} works no more; create a new one instead.")
        if not old.prefix:
            raise ConflictError(f"Key {key_id} was not made here; give LINGUA_API_KEY another value instead.")
        # the old one may come on top of the usual number, but not over and over
        self._make_room(old.tenant_id, 2 * MAX_ACTIVE_KEYS)
        wish = KeyWish(
            label=old.label,
            scopes=old.scopes,
            expires_at=None if old.expires_at is None else self.now + (old.expires_at - old.created_at),
            test=old.prefix.startswith("lk_test_"),
        )
        end = self.now + grace_s
        self._save_key(row, expires_at=end if old.expires_at is None else min(end, old.expires_at))
        return self._issue(old.tenant_id, wish, "key.rotate", {"old": key_id, "grace_seconds": grace_s})

    def revoke_key(self, key_id: str) -> Key:
        """Let a key open nothing from now on; one that was revoked before stays as it is."""
        row = self._key(key_id)
        if row.key.revoked_at is not None:
            return row.key
        self._note("key.revoke", key_id, row.key.tenant_id, {})
        return self._save_key(row, revoked_at=self.now)

    def take_key(self, tenant_id: str, text: str, label: str) -> Key:
        """The key with this text, which somebody made up: added, or in force again if it was revoked.

        Raises ConflictError if it belongs to another tenant.
        """
        verifier = self._verifier(text)
        for row in keys.alike(self.connection, lookup_of(verifier)):
            if row.verifier == verifier:
                if row.key.tenant_id != tenant_id:
                    raise ConflictError(f"It is a key of tenant {row.key.tenant_id} already.")
                if row.key.usable(self.now):
                    return row.key
                self._note("key.restore", row.id, tenant_id, {})
                return self._save_key(row, revoked_at=None, expires_at=None)
        wish = KeyWish(label=label)
        return self._add_key(tenant_id, keys.fresh_id(), "", verifier, wish, "key.take", {})

    def _issue(self, tenant_id: str, wish: KeyWish, action: str, payload: dict[str, Any]) -> IssuedKey:
        made = keys.fresh("test" if wish.test else "live")
        text = made.text()
        prefix = text[:PREFIX_CHARS]
        key = self._add_key(tenant_id, made.id, prefix, self._verifier(text), wish, action, payload)
        return IssuedKey(key, text)

    def _add_key(
        self,
        tenant_id: str,
        key_id: str,
        prefix: str,
        verifier: bytes,
        wish: KeyWish,
        action: str,
        payload: dict[str, Any],
    ) -> Key:
        key = Key(
            id=key_id,
            tenant_id=tenant_id,
            prefix=prefix,
            scopes=wish.scopes,
            created_at=self.now,
            label=wish.label,
            expires_at=wish.expires_at,
        )
        row = KeyRow(key=key, lookup=lookup_of(verifier), verifier=verifier, revision=self.revision)
        keys.add(self.connection, row)
        self.keys.append(row)
        asked = {"label": wish.label, "scopes": sorted(wish.scopes), "expires_at": wish.expires_at}
        self._note(action, key_id, tenant_id, payload | asked)
        return key

    def _verifier(self, text: str) -> bytes:
        if self._pepper is None:
            raise LookupError("whoever changes keys must open the store with its pepper")
        return self._pepper.verifier(text)

    def _make_room(self, tenant_id: str, most: int) -> None:
        active = sum(row.key.usable(self.now) for row in keys.of_tenant(self.connection, tenant_id))
        if active >= most:
            raise ConflictError(
                f"Tenant {tenant_id} has {active} active keys, as many as may be; revoke one first."
            )

    def _tenant(self, tenant_id: str) -> TenantRow:
        row = tenants.find(self.connection, tenant_id) if tenant_id.isprintable() else None
        if row is None:
            raise NotFoundError(f"There is no tenant {tenant_id}.")
        return row

    def _key(self, key_id: str) -> KeyRow:
        row = keys.find(self.connection, key_id) if key_id.isprintable() else None
        if row is None:
            raise NotFoundError(f"There is no key {key_id}.")
        return row

    def _save_tenant(self, row: TenantRow) -> None:
        row = msgspec.structs.replace(row, revision=self.revision)
        tenants.save(self.connection, row)
        self.tenants.append(row)

    def _save_key(self, row: KeyRow, **members: Any) -> Key:
        key = msgspec.structs.replace(row.key, **members)
        row = msgspec.structs.replace(row, key=key, revision=self.revision)
        keys.save(self.connection, row)
        self.keys.append(row)
        return key

    def _note(self, action: str, target: str, tenant_id: str, payload: Mapping[str, Any]) -> None:
        plain = msgspec.to_builtins(dict(payload))
        audit.note(self.connection, self.actor, action, target, self.now, tenant_id=tenant_id, payload=plain)


def next_revision(connection: Connection) -> int:
    """Count the revision up; other transactions that want to wait until this one ends."""
    revision = seen_revision(connection, lock=True) + 1
    connection.execute(update(meta).where(meta.c.name == REVISION).values(value=str(revision)))
    return revision


def seen_revision(connection: Connection, *, lock: bool = False) -> int:
    """The revision of the latest transaction that is done."""
    query = select(meta.c.value).where(meta.c.name == REVISION)
    return int(connection.execute(locked(query) if lock else query).scalar_one())
