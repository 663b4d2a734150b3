"""`linguad key`: make, list, rotate and revoke API keys (gateway 3.2)."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from linguad.commands.accounts import (
    FOLLOWS,
    actor,
    add_store_arguments,
    issued_data,
    key_data,
    need_tenant,
    print_data,
    print_issued,
    when,
    with_registry,
)
from linguad.commands.amounts import amount, amount_or_none
from linguad.core.accounts import KeyWish
from linguad.core.api_key import ID_CHARS, parse
from linguad.core.tenant import DEFAULT_SCOPES, Key, Scope
from linguad.errors import LinguadError
from linguad.store.registry import Registry

DAY_S = 86400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad key`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="create|list|rotate|revoke")
    create = actions.add_parser("create", help="make a key; it is shown once")
    create.add_argument("tenant", metavar="TENANT", help="id of its tenant, such as default")
    create.add_argument("--label", default="", help="what it is for, such as the name of an app")
    create.add_argument(
        "--scope",
        action="append",
        choices=[scope.value for scope in Scope],
        help="what it may be used for; may be given several times (default: all but the admin scopes)",
    )
    create.add_argument("--days", type=amount, metavar="N", help="how long it works (default: for ever)")
    create.add_argument("--test", action="store_true", help="let it begin with lk_test_, as a reminder")
    listing = actions.add_parser("list", help="list the keys of a tenant")
    listing.add_argument("tenant", metavar="TENANT", help="id of the tenant, such as default")
    rotate = actions.add_parser("rotate", help="make a key like another one, which soon stops working")
    rotate.add_argument("key", metavar="KEY", type=_key_id, help="id of the old key, or the key itself")
    rotate.add_argument(
        "--grace",
        type=amount_or_none,
        default=float(DAY_S),
        metavar="SECONDS",
        help="how long the old one goes on working (default: a day; at most a week)",
    )
    revoke = actions.add_parser("revoke", help="let a key open nothing from now on")
    which = revoke.add_mutually_exclusive_group(required=True)
    which.add_argument("key", nargs="?", metavar="KEY", type=_key_id, help="id of the key, or the key itself")
    which.add_argument("--all", action="store_true", help="all keys of all tenants, as after a lost pepper")
    revoke.add_argument("--yes", action="store_true", help="with --all: really do it")
    for action in (create, listing, rotate, revoke):
        add_store_arguments(action)


def run(args: argparse.Namespace) -> int:
    """Do it and show what came of it. Raises LinguadError with the cure."""
    _ACTIONS[args.action](args)
    return 0


def _create(args: argparse.Namespace) -> None:
    wish = KeyWish(
        label=args.label,
        scopes=frozenset(map(Scope, args.scope)) if args.scope else DEFAULT_SCOPES,
        expires_at=time.time() + args.days * DAY_S if args.days else None,
        test=args.test,
    )

    async def create(registry: Registry) -> None:
        need_tenant(registry, args.tenant)
        issued = await registry.create_key(actor(), args.tenant, wish)
        if args.json:
            print_data({"api_key": issued_data(issued)})
        else:
            print_issued(issued)
            print(FOLLOWS)

    with_registry(args, create, makes_keys=True)


def _list(args: argparse.Namespace) -> None:
    async def read(registry: Registry) -> list[Key]:
        return registry.keys_of(need_tenant(registry, args.tenant).id)

    found = with_registry(args, read)
    if args.json:
        print_data({"items": [key_data(key) for key in found]})
    else:
        Console(highlight=False).print(keys_table(found))


def _rotate(args: argparse.Namespace) -> None:
    async def rotate(registry: Registry) -> None:
        _need_key(registry, args.key)
        issued = await registry.rotate_key(actor(), args.key, args.grace)
        old = _need_key(registry, args.key)
        if args.json:
            print_data({"api_key": issued_data(issued), "old": key_data(old)})
        else:
            print_issued(issued)
            print(f"The old one, {old.id}, works until {when(old.expires_at)} UTC.")

    with_registry(args, rotate, makes_keys=True)


def _revoke(args: argparse.Namespace) -> None:
    async def revoke(registry: Registry) -> list[Key]:
        if not args.all:
            _need_key(registry, args.key)
            return [await registry.revoke_key(actor(), args.key)]
        kept = [key for tenant in registry.tenants() for key in registry.keys_of(tenant.id)]
        kept = [key for key in kept if key.revoked_at is None]
        if not args.yes:
            raise LinguadError(f"No app could call any more: {len(kept)} keys; say it again with --yes.")
        return [await registry.revoke_key(actor(), key.id) for key in kept]

    revoked = with_registry(args, revoke)
    if args.json:
        print_data({"revoked": [key_data(key) for key in revoked]})
    else:
        print(f"Revoked: {', '.join(key.id for key in revoked) or 'none'}. {FOLLOWS}")


_ACTIONS = {"create": _create, "list": _list, "rotate": _rotate, "revoke": _revoke}


def keys_table(keys: Iterable[Key]) -> Table:
    """Keys for people; ids never wrap, because they are copied."""
    now = time.time()
    table = Table(box=box.SIMPLE_HEAD, title="Keys", title_justify="left")
    for name in ("id", "label", "state", "made", "last used", "scopes"):
        table.add_column(name, min_width=ID_CHARS if name == "id" else None)
    for key in keys:
        table.add_row(
            Text(key.id),
            Text(key.label),
            _state(key, now),
            when(key.created_at),
            when(key.last_used_at) or "never",
            "all but admin" if key.scopes == DEFAULT_SCOPES else Text(" ".join(sorted(key.scopes))),
        )
    return table


def _state(key: Key, now: float) -> str:
    if key.revoked_at is not None:
        return f"revoked {when(key.revoked_at)}"
    if key.expires_at is None:
        return "works"
    return f"works until {when(key.expires_at)}" if now < key.expires_at else f"ended {when(key.expires_at)}"


def _key_id(text: str) -> str:
    """The id that is meant; who has a key at hand need not look for its id."""
    parts = parse(text)
    return text if parts is None else parts.id


def _need_key(registry: Registry, key_id: str) -> Key:
    key = registry.key(key_id)
    if key is None:
        raise LinguadError(
            "There is no such key; linguad key list TENANT shows a tenant's keys with their ids."
        )
    return key
