"""All tenants and keys in memory, written through to the store (resolution 40).

Questions are answered from memory, at once and without a database. Changes are committed first and then seen
here; those of other processes are seen within a second, because the revision in the store has grown.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeVar

import trio
from msgspec.structs import replace
from sqlalchemy import Connection, bindparam, or_, update

from linguad import log
from linguad.core.accounts import Actor, AuditRecord, IssuedKey, KeyWish
from linguad.core.api_key import MAX_OPERATOR_CHARS
from linguad.core.tenant import Key, Tenant
from linguad.errors import StoreError
from linguad.store import audit, keys, tenants
from linguad.store.changes import Change, next_revision, seen_revision
from linguad.store.database import Database
from linguad.store.keys import KeyRow, api_keys
from linguad.store.news import News
from linguad.store.pepper import Pepper, lookup_of
from linguad.store.tenants import TenantRow

FLUSH_SECONDS = 60.0
"""How often the last uses of keys are written; they are kept to the minute."""

MINUTE_S = 60

T = TypeVar("T")
logger = log.get(__name__)


class _Newer(NamedTuple):
    revision: int
    tenants: list[TenantRow]
    keys: list[KeyRow]


class Registry:
    """Tenants and keys; `load` before anything is asked, `run` beside it.

    Without a pepper no key is recognised and none can be made, but all else can be seen and done.
    """

    def __init__(
        self, database: Database, pepper: Pepper | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._pepper = pepper
        self._clock = clock
        self._tenants: dict[str, TenantRow] = {}
        self._keys: dict[str, KeyRow] = {}
        self._by_lookup: dict[str, list[str]] = {}
        self._by_tenant: dict[str, list[str]] = {}
        self._seen = -1
        self._used: dict[str, float] = {}
        self._changed = trio.Event()
        self.news = News()

    def lookup(self, credential: str) -> tuple[Key, Tenant] | None:
        """The key with this text and its tenant, None if there is none.

        The key may be revoked or expired and the tenant disabled; the caller looks at that.
        """
        if self._pepper is None or len(credential) > MAX_OPERATOR_CHARS or not credential.isascii():
            return None
        verifier = self._pepper.verifier(credential)
        for key_id in self._by_lookup.get(lookup_of(verifier), ()):
            row = self._keys[key_id]
            if hmac.compare_digest(row.verifier, verifier) and (tenant := self.tenant(row.key.tenant_id)):
                return row.key, tenant
        return None

    def tenant(self, tenant_id: str) -> Tenant | None:
        """A tenant, unless it was deleted."""
        row = self._tenants.get(tenant_id)
        return None if row is None or row.deleted_at is not None else row.tenant

    def revision(self, tenant_id: str) -> int:
        """Grows with every change of a tenant; 0 if there is no such tenant. It makes an ETag."""
        return 0 if self.tenant(tenant_id) is None else self._tenants[tenant_id].revision

    def tenants(self) -> list[Tenant]:
        """Every tenant that was not deleted, the oldest first."""
        rows = (row.tenant for row in self._tenants.values() if row.deleted_at is None)
        return sorted(rows, key=lambda tenant: (tenant.created_at, tenant.id))

    def key(self, key_id: str) -> Key | None:
        """A key by its id, in whatever state it is."""
        row = self._keys.get(key_id)
        return None if row is None else row.key

    def keys_of(self, tenant_id: str) -> list[Key]:
        """Every key that a tenant ever had, the oldest first."""
        found = [self._keys[key_id].key for key_id in self._by_tenant.get(tenant_id, ())]
        return sorted(found, key=lambda key: (key.created_at, key.id))

    def now(self) -> float:
        """The time by which keys expire, Unix seconds."""
        return self._clock()

    def used(self, key_id: str) -> None:
        """Note that a key was used now; written within a minute."""
        row = self._keys.get(key_id)
        minute = self._clock() // MINUTE_S * MINUTE_S
        if row is not None and minute > (row.key.last_used_at or 0.0):
            self._keys[key_id] = replace(row, key=replace(row.key, last_used_at=minute))
            self._used[key_id] = minute

    async def wait_change(self) -> None:
        """Wait until a tenant or key is not what it was, whoever changed it."""
        await self._changed.wait()

    async def create_tenant(
        self,
        actor: Actor,
        name: str,
        members: Mapping[str, object] | None = None,
        *,
        key: KeyWish | None = None,
    ) -> tuple[Tenant, IssuedKey | None]:
        """A new tenant, with a first key if one is wished for.

        `members` are plain data by the names of `Tenant`. Raises FieldsError and StoreError, as all changes.
        """
        return await self.change(actor, lambda change: change.create_tenant(name, members or {}, key))

    async def change_tenant(
        self,
        actor: Actor,
        tenant_id: str,
        members: Mapping[str, object],
        *,
        expected_revision: int | None = None,
    ) -> Tenant:
        """Change members of a tenant; None stands for a default. Raises NotFoundError, ConflictError."""
        return await self.change(
            actor, lambda change: change.change_tenant(tenant_id, members, expected_revision)
        )

    async def delete_tenant(self, actor: Actor, tenant_id: str) -> None:
        """Disable a tenant for good, revoke its keys. Raises NotFoundError, ConflictError for `default`."""
        await self.change(actor, lambda change: change.delete_tenant(tenant_id))

    async def create_key(self, actor: Actor, tenant_id: str, wish: KeyWish | None = None) -> IssuedKey:
        """A new key of a tenant. Raises NotFoundError, ConflictError if it has too many."""
        return await self.change(actor, lambda change: change.create_key(tenant_id, wish or KeyWish()))

    async def rotate_key(self, actor: Actor, key_id: str, grace_s: float) -> IssuedKey:
        """A new key like another one, which works for the grace. Raises NotFoundError, ConflictError."""
        return await self.change(actor, lambda change: change.rotate_key(key_id, grace_s))

    async def revoke_key(self, actor: Actor, key_id: str) -> Key:
        """Let a key open nothing from now on. Raises NotFoundError."""
        return await self.change(actor, lambda change: change.revoke_key(key_id))

    async def audit_trail(
        self,
        *,
        tenant_id: str | None = None,
        since: float | None = None,
        before_id: int | None = None,
        limit: int = 50,
    ) -> list[AuditRecord]:
        """What was changed, the latest first; `before_id` is the id of the last record of the page before."""
        return await self._database.read(
            lambda connection: audit.trail(
                connection, tenant_id=tenant_id, since=since, before_id=before_id, limit=limit
            )
        )

    async def change(self, actor: Actor, work: Callable[[Change], T]) -> T:
        """Do `work` as one transaction, and see here what it did."""

        def run(connection: Connection) -> tuple[T, Change]:
            change = Change(connection, self._pepper, actor, self._clock())
            return work(change), change

        result, change = await self._database.write(run)
        self._take(change.tenants, change.keys)
        self.news.tell()
        return result

    async def load(self) -> None:
        """Read everything. Raises LinguadError if the pepper is not the one the keys were made with."""
        if self._pepper is not None:
            await self._database.write(self._pepper.check)
        await self.refresh()

    async def refresh(self) -> None:
        """Read what has changed since the last time. Raises StoreError."""
        seen = self._seen

        def read(connection: Connection) -> _Newer | None:
            revision = seen_revision(connection)
            if revision == seen:
                return None
            return _Newer(revision, tenants.newer(connection, seen), keys.newer(connection, seen))

        news = await self._database.read(read)
        if news is not None:
            self._take(news.tenants, news.keys)
            self._seen = max(self._seen, news.revision)

    async def flush(self) -> None:
        """Write when keys were used last. Raises StoreError; what was not written stays noted."""
        used, self._used = self._used, {}
        if not used:
            return

        def write(connection: Connection) -> None:
            known = api_keys.c.last_used_at
            connection.execute(
                update(api_keys)
                .where(api_keys.c.id == bindparam("used_id"), or_(known.is_(None), known < bindparam("at")))
                .values(last_used_at=bindparam("at"), revision=next_revision(connection)),
                [{"used_id": key_id, "at": minute} for key_id, minute in used.items()],
            )

        try:
            await self._database.write(write)
        except BaseException:
            self._used = used | self._used
            raise

    async def run(self) -> None:
        """See what others change and write the last uses, for ever; goes on while the store is away."""
        away = False
        flush_at = trio.current_time() + FLUSH_SECONDS
        while True:
            await self.news.wait()
            try:
                await self.refresh()
                if trio.current_time() >= flush_at:
                    flush_at = trio.current_time() + FLUSH_SECONDS
                    await self.flush()
            except StoreError as error:
                if not away:
                    logger.warning("store_away", reason=str(error))
                away = True
            else:
                if away:
                    logger.info("store_back")
                away = False

    def _take(self, tenant_rows: Iterable[TenantRow], key_rows: Iterable[KeyRow]) -> None:
        """See rows of the store, unless later ones were seen already."""
        news = False
        for tenant in tenant_rows:
            held = self._tenants.get(tenant.id)
            if held is None or tenant.revision > held.revision:
                self._tenants[tenant.id] = tenant
                news = True
        for row in key_rows:
            news |= self._take_key(row)
        if news:
            self._changed.set()
            self._changed = trio.Event()

    def _take_key(self, row: KeyRow) -> bool:
        """See one; whether it is not what it was."""
        held = self._keys.get(row.id)
        if held is None:
            self._by_lookup.setdefault(row.lookup, []).append(row.id)
            self._by_tenant.setdefault(row.key.tenant_id, []).append(row.id)
        elif row.revision <= held.revision:
            return False
        elif (noted := held.key.last_used_at) is not None and noted > (row.key.last_used_at or 0.0):
            row = replace(row, key=replace(row.key, last_used_at=noted))
        self._keys[row.id] = row
        return held is None or row.key != held.key
