"""`linguad cluster`: the instances of an installation, its dead letters, and what it has in Redis."""

from __future__ import annotations

import argparse
import os
from typing import Any

import trio
from rich import box
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from linguad import config
from linguad.commands.asking import add_server_arguments, ask, console, print_json, query, quote
from linguad.commands.config import add_config_argument
from linguad.errors import LinguadError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad cluster`."""
    add_server_arguments(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    letters = actions.add_parser("dlq", help="dead letters: what no instance could do anything with")
    deeds = letters.add_subparsers(dest="deed", required=True, metavar="DEED")
    listing = deeds.add_parser("list", help="list them, newest first")
    add_server_arguments(listing, again=True)
    listing.add_argument("--limit", metavar="N", help="how many (default: 100)")
    for name, words in (
        ("show", "all that is kept of one"),
        ("replay", "have one delivered again, if it has not expired"),
        ("drop", "remove one"),
    ):
        deed = deeds.add_parser(name, help=words)
        add_server_arguments(deed, again=True)
        deed.add_argument("id", metavar="ID", help="as listed: INSTANCE/NUMBER")
    keys = actions.add_parser("keys", help="how many keys of which family are in Redis, and their memory")
    add_server_arguments(keys, again=True)
    wipe = actions.add_parser("wipe", help="delete all that an installation has in Redis")
    wipe.add_argument("--prefix", required=True, help="cluster.key_prefix of the installation")
    wipe.add_argument("--yes", action="store_true", help="do it")
    wipe.add_argument("--force", action="store_true", help="although instances live")
    add_config_argument(wipe)


def run(args: argparse.Namespace) -> int:
    """Ask the server and show its answer. Raises LinguadError with the cure when there is none."""
    if args.action == "wipe":
        return _wipe(args)
    if args.action == "dlq":
        return _dead_letters(args)
    answer = ask(args, "GET", "cluster/keys" if args.action == "keys" else "cluster")
    if print_json(args, answer):
        return 0
    screen = console()
    if args.action == "keys":
        screen.print(_families(answer["families"]))
        print("Keys that no register names, as leases, end by themselves and are not counted.")
        return 0
    screen.print(_instances(answer))
    print(
        f"{answer['online_instances']} of {answer['total_instances']} instances live; "
        f"{answer['ready_nodes']} of {answer['total_nodes']} nodes are ready; "
        f"{answer['total_dlq']} dead letters."
    )
    return 0


def _instances(answer: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Instances", title_justify="left")
    table.add_column("instance", overflow="fold")
    for name in ("state", "version"):
        table.add_column(name)
    for name in ("up for", "nodes", "sessions", "inbox", "dead"):
        table.add_column(name, justify="right")
    for one in answer["instances"]:
        state = "gone" if not one["is_online"] else "draining" if one["draining"] else "lives"
        here = " (asked)" if one["instance_id"] == answer["instance_id"] else ""
        numbers = ("nodes_owned", "sessions_owned", "inbox_length", "dlq_length")
        table.add_row(
            Text("\n".join(filter(None, (one["instance_id"] + here, one["address"])))),
            state,
            Text(one["version"]),
            f"{one['uptime_seconds']} s" if one["is_online"] else "",
            *(str(one[name]) for name in numbers),
        )
    return table


def _families(families: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("family")
    table.add_column("keys", justify="right")
    table.add_column("memory", justify="right")
    for one in families:
        table.add_row(Text(one["family"]), str(one["keys"]), decimal(one["bytes"]))
    return table


def _dead_letters(args: argparse.Namespace) -> int:
    if args.deed == "list":
        answer = ask(args, "GET", "cluster/dlq" + query(limit=args.limit))
        if not print_json(args, answer):
            _print_letters(answer["letters"])
        return 0
    instance, slash, number = args.id.rpartition("/")
    if not slash:
        raise LinguadError(f"{args.id!r} is no id of a dead letter; linguad cluster dlq list shows them")
    path = f"cluster/dlq/{quote(instance)}/{quote(number)}"
    if args.deed == "replay":
        answer = ask(args, "POST", f"{path}/replay")
    else:
        answer = ask(args, "GET" if args.deed == "show" else "DELETE", path)
    if not print_json(args, answer):
        for name, value in answer.items():
            print(f"{name}: {value}")
    return 0


def _print_letters(letters: list[dict[str, Any]]) -> None:
    if not letters:
        print("No dead letters.")
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("id", "kind", "from", "about", "why"):
        table.add_column(name, overflow="fold")
    for one in letters:
        shown = (one.get(name, "") for name in ("id", "kind", "from", "lane", "error"))
        table.add_row(*(Text(str(value)) for value in shown))
    console().print(table)


def _wipe(args: argparse.Namespace) -> int:
    settings = config.load(args.config, os.environ).cluster
    if not (settings.redis_url or settings.redis_urls):
        raise LinguadError(
            "the configuration names no Redis: give it with --config or LINGUAD_CLUSTER__REDIS_URL"
        )
    if args.prefix != settings.key_prefix:
        raise LinguadError(
            f"the configuration says cluster.key_prefix = {settings.key_prefix!r}, not {args.prefix!r}; "
            "nothing was deleted"
        )
    if not args.yes:
        raise LinguadError(f"this deletes all that {args.prefix!r} has in Redis; say --yes to do it")
    from linguad.cluster.wiping import wiped

    deleted = trio.run(wiped, settings, args.force)
    print(f"{deleted} keys deleted; leases and the like that remain end by themselves.")
    return 0
