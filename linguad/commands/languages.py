"""`linguad languages`: which pairs of languages can be had now."""

from __future__ import annotations

import argparse
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from linguad.commands.asking import add_server_arguments, ask, console, print_json, query


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad languages`."""
    parser.add_argument("--src", metavar="CODE", help="only pairs from this language, such as en")
    parser.add_argument("--tgt", metavar="CODE", help="only pairs into this language, such as es")
    add_server_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Ask the server and show its answer. Raises LinguadError with the cure when there is none."""
    answer = ask(args, "GET", "languages" + query(src=args.src, tgt=args.tgt))
    if print_json(args, answer):
        return 0
    if answer["pairs"]:
        console().print(_table(answer["pairs"]))
    elif args.src or args.tgt:
        print("No ready node does that; linguad languages without --src and --tgt lists what can be had.")
    else:
        print("No ready node translates speech; start one with linguad node, or see /api/v1/nodes for why.")
    return 0


def _table(pairs: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("from", "into", "ready nodes", "free slots"):
        table.add_column(name, justify="right" if " " in name else "left")
    for one in pairs:
        table.add_row(Text(one["src"]), Text(one["tgt"]), str(one["ready_nodes"]), str(one["free_slots"]))
    return table
