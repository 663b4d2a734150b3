"""`linguad tenant`: make, list and change the customers of the public API (gateway 4.1)."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import msgspec
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
from linguad.commands.key import keys_table
from linguad.core.accounts import CHANGEABLE, KeyWish
from linguad.core.tenant import Tenant
from linguad.errors import LinguadError
from linguad.store.registry import Registry

LISTS = ("allowed_origins", "allowed_languages", "allowed_features")
"""Members that may be given as words with commas between."""

TEXTS = ("name", "pool_id")
"""Members that are never read as JSON, for a name may look like a number."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad tenant`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="create|list|show|set|…")
    create = actions.add_parser("create", help="make a tenant and its first key")
    create.add_argument("name", metavar="NAME", help="what it is called, 1 to 100 characters")
    create.add_argument("--no-key", action="store_true", help="make no key")
    change = actions.add_parser("set", help="change members of a tenant; an empty value is the default")
    _add_id(change)
    for action, times in ((create, "*"), (change, "+")):
        action.add_argument(
            "members",
            nargs=times,
            type=_member,
            metavar="MEMBER=VALUE",
            help=f"one of {', '.join(CHANGEABLE)}; lists with commas, metadata as JSON",
        )
    others = [
        actions.add_parser("list", help="list the tenants"),
        actions.add_parser("show", help="show a tenant with its keys"),
        actions.add_parser("disable", help="refuse its calls and end its streams, until it is enabled"),
        actions.add_parser("enable", help="let it call again"),
        actions.add_parser("delete", help="disable it for good and revoke its keys; its records stay"),
    ]
    for action in others[1:]:
        _add_id(action)
    others[-1].add_argument("--yes", action="store_true", help="really do it")
    for action in (create, change, *others):
        add_store_arguments(action)


def run(args: argparse.Namespace) -> int:
    """Do it and show what came of it. Raises LinguadError with the cure."""
    _ACTIONS[args.action](args)
    return 0


def _create(args: argparse.Namespace) -> None:
    wish = None if args.no_key else KeyWish(label="first")
    tenant, issued = with_registry(
        args,
        lambda registry: registry.create_tenant(actor(), args.name, dict(args.members), key=wish),
        makes_keys=wish is not None,
    )
    if args.json:
        print_data({"tenant": tenant, "api_key": issued and issued_data(issued)})
        return
    print(f"Tenant {tenant.name}: {tenant.id}")
    if issued is not None:
        print_issued(issued)
    print(FOLLOWS)


def _list(args: argparse.Namespace) -> None:
    async def read(registry: Registry) -> list[tuple[Tenant, int]]:
        now = time.time()
        return [
            (tenant, sum(key.usable(now) for key in registry.keys_of(tenant.id)))
            for tenant in registry.tenants()
        ]

    found = with_registry(args, read)
    if args.json:
        print_data({"items": [msgspec.to_builtins(one) | {"active_keys": keys} for one, keys in found]})
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("id", "name", "status", "requests/s", "sessions", "keys", "made"):
        right = name in ("requests/s", "sessions", "keys")
        # ids are copied, so they never wrap
        width = max(len(one.id) for one, _ in found) if name == "id" else None
        table.add_column(name, justify="right" if right else "left", min_width=width)
    for one, keys in found:
        table.add_row(
            Text(one.id),
            Text(one.name),
            one.status,
            f"{one.max_requests_per_second:g}",
            str(one.max_concurrent_sessions),
            str(keys),
            when(one.created_at),
        )
    Console(highlight=False).print(table)


def _show(args: argparse.Namespace) -> None:
    async def read(registry: Registry) -> dict[str, Any]:
        tenant = need_tenant(registry, args.id)
        return {"tenant": tenant, "keys": registry.keys_of(tenant.id)}

    found = with_registry(args, read)
    if args.json:
        print_data({"tenant": found["tenant"], "keys": [key_data(key) for key in found["keys"]]})
        return
    console = Console(highlight=False)
    for name, value in msgspec.to_builtins(found["tenant"]).items():
        console.print(Text.assemble((name.rjust(27), "dim"), "  ", _shown(name, value)), soft_wrap=True)
    console.print(keys_table(found["keys"]))


def _set(args: argparse.Namespace) -> None:
    _change(args, dict(args.members), "changed")


def _disable(args: argparse.Namespace) -> None:
    _change(args, {"status": "disabled"}, "disabled")


def _enable(args: argparse.Namespace) -> None:
    _change(args, {"status": "active"}, "enabled")


def _change(args: argparse.Namespace, members: dict[str, object], done: str) -> None:
    async def change(registry: Registry) -> Tenant:
        need_tenant(registry, args.id)
        return await registry.change_tenant(actor(), args.id, members)

    tenant = with_registry(args, change)
    if args.json:
        print_data({"tenant": tenant})
    else:
        print(f"Tenant {tenant.name} ({tenant.id}) is {done}. {FOLLOWS}")


def _delete(args: argparse.Namespace) -> None:
    async def delete(registry: Registry) -> Tenant:
        tenant = need_tenant(registry, args.id)
        if not args.yes:
            raise LinguadError(
                f"Tenant {tenant.name} would lose its keys for good; say it again with --yes, "
                f"or use linguad tenant disable {tenant.id}."
            )
        await registry.delete_tenant(actor(), args.id)
        return tenant

    tenant = with_registry(args, delete)
    if args.json:
        print_data({"deleted": tenant.id})
    else:
        print(f"Tenant {tenant.name} ({tenant.id}) is deleted. {FOLLOWS}")


_ACTIONS = {
    "create": _create,
    "list": _list,
    "show": _show,
    "set": _set,
    "disable": _disable,
    "enable": _enable,
    "delete": _delete,
}


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="id of the tenant, such as default")


def _member(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals or name not in CHANGEABLE:
        raise argparse.ArgumentTypeError(f"{text!r} is not MEMBER=VALUE; members are {', '.join(CHANGEABLE)}")
    return name, _value(name, value)


def _value(name: str, text: str) -> object:
    if not text:
        return None
    try:
        value: object = text if name in TEXTS else msgspec.json.decode(text)
    except msgspec.DecodeError:
        value = text
    if name in LISTS and isinstance(value, str):
        return [word.strip() for word in text.split(",")]
    return value


def _shown(name: str, value: object) -> str:
    if value is None:
        return "no limit" if name.startswith(("max_", "allowed_")) else "not set"
    if name.endswith("_at") and isinstance(value, float):
        return when(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    return f"{value:g}" if isinstance(value, float) else str(value)
