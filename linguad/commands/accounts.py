"""What `linguad tenant` and `linguad key` share: they open the store, beside the server if it runs."""

from __future__ import annotations

import argparse
import getpass
import json
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
import trio

from linguad import config
from linguad.commands.config import add_config_argument
from linguad.core.accounts import Actor, IssuedKey
from linguad.core.tenant import Key, Tenant
from linguad.errors import LinguadError
from linguad.store.pepper import load_pepper
from linguad.store.registry import Registry
from linguad.store.start import open_database

FOLLOWS = "A server that is running follows within a second."

T = TypeVar("T")


def add_store_arguments(parser: argparse.ArgumentParser) -> None:
    """Which store is meant, and how the answer is printed."""
    add_config_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


def with_registry(
    args: argparse.Namespace, work: Callable[[Registry], Awaitable[T]], *, makes_keys: bool = False
) -> T:
    """What `work` gives with the tenants and keys of the store; only who makes keys needs the pepper.

    Raises LinguadError with the cure.
    """
    return trio.run(_with_registry, args, work, makes_keys)


async def _with_registry(
    args: argparse.Namespace, work: Callable[[Registry], Awaitable[T]], makes_keys: bool
) -> T:
    settings = config.load(args.config, os.environ)
    database = open_database(settings)
    if database.file is not None and not database.file.exists():
        raise LinguadError(
            f"There is no store at {database.file} yet; start linguad serve once, or name its configuration "
            "with --config FILE."
        )
    pepper = load_pepper(settings.gateway.pepper_file, settings.state_dir()) if makes_keys else None
    try:
        await database.open()
        registry = Registry(database, pepper)
        await registry.load()
        return await work(registry)
    finally:
        await database.close()


def actor() -> Actor:
    """Who types, for the audit trail."""
    try:
        name = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        name = str(os.getuid())
    return Actor(type="operator", id=name)


def need_tenant(registry: Registry, tenant_id: str) -> Tenant:
    """The tenant. Raises LinguadError if there is none."""
    tenant = registry.tenant(tenant_id)
    if tenant is None:
        raise LinguadError(f"There is no tenant {tenant_id!r}; linguad tenant list shows them.")
    return tenant


def print_data(data: object) -> None:
    """Print as JSON."""
    print(json.dumps(msgspec.to_builtins(data), indent=2, ensure_ascii=False))


def key_data(key: Key) -> dict[str, Any]:
    """A key as JSON shows it."""
    data: dict[str, Any] = msgspec.to_builtins(key)
    return {"key_id": data.pop("id")} | data | {"scopes": sorted(key.scopes)}


def issued_data(issued: IssuedKey) -> dict[str, Any]:
    """A new key as JSON shows it, this once with its text."""
    return {"key": issued.text} | key_data(issued.key)


def print_issued(issued: IssuedKey) -> None:
    """Show a new key to a person."""
    print(f"The key, shown only now: {issued.text}")
    print(f"Its id, which logs and lists name: {issued.key.id}")


def when(moment: float | None) -> str:
    """A time for people, UTC; "" for none."""
    return "" if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M")
