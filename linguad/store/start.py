"""What the daemon does with the store at its start: open it, and see that somebody can call (gateway 4.2)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

import trio
from sqlalchemy import delete, insert, select

from linguad import log
from linguad.config import Config
from linguad.config.store import Store as StoreSettings
from linguad.core.accounts import DEFAULT_TENANT, SYSTEM, ConflictError, KeyWish
from linguad.core.api_key import (
    MAX_OPERATOR_CHARS,
    MIN_OPERATOR_CHARS,
    SAFE_OPERATOR_CHARS,
    may_be_made_up,
)
from linguad.core.tenant import Key
from linguad.errors import LinguadError, StoreError
from linguad.files import replace_file
from linguad.store import keys, tenants
from linguad.store.changes import Change
from linguad.store.database import Database, store_url
from linguad.store.pepper import load_pepper
from linguad.store.registry import Registry
from linguad.store.schema import meta

KEY_VARIABLE = "LINGUA_API_KEY"
"""Environment variable with the key of the tenant `default`."""

OPERATOR_KEY = "operator_key"
"""Row of `meta` with the id of the key that the variable held last."""

DEV_KEY_LABEL = "made at the first start"
GOOD_KEY = "make a good one with: openssl rand -hex 32"

CLOSE_SECONDS = 5.0
"""How long the last write may wait for its turn when the daemon ends."""

logger = log.get(__name__)


class Store(NamedTuple):
    """What the daemon has of its store."""

    database: Database
    registry: Registry
    dev_key_file: Path | None
    """The file with the key that linguad made itself, as long as that key works."""


@asynccontextmanager
async def opened(config: Config, env: Mapping[str, str] = os.environ) -> AsyncIterator[Store]:
    """The store of a daemon: held alone, brought to this version, with whom may call; closed at the end.

    Raises LinguadError when the daemon cannot start with it.
    """
    database = open_database(config, env)
    with held_alone(database, config.store):
        try:
            await database.open()
            store = await _with_callers(database, config, env)
            try:
                yield store
            finally:
                await _flush(store.registry)
        finally:
            with trio.CancelScope(shield=True):
                await database.close()


async def _flush(registry: Registry) -> None:
    """Write what is still noted, unless the database is away."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_SECONDS):
        try:
            await registry.flush()
        except StoreError as error:
            logger.warning("store_away", reason=str(error))


def open_database(config: Config, env: Mapping[str, str] = os.environ) -> Database:
    """The database of a configuration, not open yet. Raises ConfigError."""
    return Database(store_url(config.store.url, config.state_dir(env)))


@contextmanager
def held_alone(database: Database, settings: StoreSettings) -> Iterator[None]:
    """Keep other daemons from a SQLite file that is not shared. Raises LinguadError if another one has it."""
    if settings.shared or database.file is None:
        yield
        return
    path = database.file.with_name(database.file.name + ".lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LinguadError(
            f"The store cannot be held by {path}: {error.strerror}; set server.state_dir to a directory "
            "linguad may write to."
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LinguadError(
                f"Another linguad serves from the store {database.file}; stop it, give this one its own "
                "server.state_dir, or set store.shared = true for both."
            ) from None
        yield
    finally:
        os.close(lock)


async def _with_callers(database: Database, config: Config, env: Mapping[str, str]) -> Store:
    """The store with the tenant `default` and, if it may be, a key."""
    state_dir = config.state_dir(env)
    given = operator_key(env, production=config.gateway.production)
    pepper = await trio.to_thread.run_sync(load_pepper, config.gateway.pepper_file, state_dir)
    registry = Registry(database, pepper)
    await registry.load()
    dev_key_file = state_dir / "dev_api_key"
    await registry.change(SYSTEM, _has_default)
    if given:
        await _take_operator_key(registry, given)
    else:
        await _see_to_a_key(registry, dev_key_file, production=config.gateway.production)
    return Store(database, registry, dev_key_file if await _works(registry, dev_key_file) else None)


def operator_key(env: Mapping[str, str], *, production: bool) -> str:
    """The key of the environment, "" if none is given. Raises LinguadError for one that may not be."""
    given = env.get(KEY_VARIABLE, "").strip()
    if not given:
        return ""
    if not may_be_made_up(given):
        raise LinguadError(
            f"{KEY_VARIABLE} must have {MIN_OPERATOR_CHARS} to {MAX_OPERATOR_CHARS} printable ASCII "
            f"characters; {GOOD_KEY}"
        )
    if len(given) < SAFE_OPERATOR_CHARS:
        if production:
            raise LinguadError(
                f"{KEY_VARIABLE} has {len(given)} characters, and gateway.production asks for "
                f"{SAFE_OPERATOR_CHARS}; {GOOD_KEY}"
            )
        logger.warning("operator_key_short", chars=len(given), wanted=SAFE_OPERATOR_CHARS, cure=GOOD_KEY)
    return given


def _has_default(change: Change) -> None:
    if tenants.find(change.connection, DEFAULT_TENANT) is None:
        change.add_tenant(DEFAULT_TENANT, DEFAULT_TENANT, {})


async def _take_operator_key(registry: Registry, text: str) -> None:
    """Let the environment's key in, and revoke the one that it held before."""

    def take(change: Change) -> tuple[Key, str | None]:
        before = change.connection.execute(select(meta.c.value).where(meta.c.name == OPERATOR_KEY)).scalar()
        known = registry.lookup(text)
        if known is not None and known[0].id == before:
            return known[0], before
        key = change.take_key(DEFAULT_TENANT, text, KEY_VARIABLE)
        if before is not None:
            change.revoke_key(before)
        change.connection.execute(delete(meta).where(meta.c.name == OPERATOR_KEY))
        change.connection.execute(insert(meta).values(name=OPERATOR_KEY, value=key.id))
        return key, before

    try:
        key, before = await registry.change(SYSTEM, take)
    except ConflictError as error:
        raise LinguadError(f"{KEY_VARIABLE} cannot be used: {error} Give another; {GOOD_KEY}") from error
    if key.id != before:
        logger.info("operator_key_taken", key_id=key.id, instead_of=before)
    elif not key.usable(registry.now()):
        # somebody did that on purpose, and a restart must not undo it
        logger.warning("operator_key_revoked", key_id=key.id, cure=f"set {KEY_VARIABLE} to another key")


async def _see_to_a_key(registry: Registry, path: Path, *, production: bool) -> None:
    """Make a first key if no other works; where real customers are served, only say so."""

    def see(change: Change) -> str | None:
        if any(row.key.usable(change.now) for row in keys.unrevoked(change.connection)):
            return None
        if production:
            return ""
        issued = change.create_key(DEFAULT_TENANT, KeyWish(label=DEV_KEY_LABEL, test=True))
        # before the commit: a key whose text is nowhere would keep another one from being made
        try:
            replace_file(path, issued.text.encode() + b"\n")
        except OSError as error:
            raise LinguadError(
                f"The first key cannot be kept in {path}: {error.strerror}; set server.state_dir to a "
                "directory linguad may write to."
            ) from error
        return issued.key.id

    made = await registry.change(SYSTEM, see)
    if made:
        logger.info("dev_key_made", file=path, key_id=made)
    elif made == "":
        logger.warning("no_usable_key", cure=f"linguad key create {DEFAULT_TENANT}, or {KEY_VARIABLE}")


async def _works(registry: Registry, path: Path) -> bool:
    """Whether the key in a file opens something."""
    try:
        text = await trio.to_thread.run_sync(path.read_text)
    except (OSError, ValueError):
        return False
    known = registry.lookup(text.strip())
    return known is not None and known[0].usable(registry.now())
