"""`linguad pools`: who is in which capability pool, and how many nodes serve which languages."""

from __future__ import annotations

import argparse
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from linguad.commands.asking import add_server_arguments, ask, console, print_json, query


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad pools`."""
    parser.add_argument("--src", metavar="CODE", help="only pairs from this language, such as en")
    parser.add_argument("--tgt", metavar="CODE", help="only pairs into this language, such as es")
    parser.add_argument("--limit", metavar="N", help="how many pairs are listed (default: 100)")
    add_server_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Ask the server and show its answer. Raises LinguadError with the cure when there is none."""
    answer = ask(args, "GET", "pools" + query(src=args.src, tgt=args.tgt, limit=args.limit))
    if print_json(args, answer):
        return 0
    screen = console()
    screen.print(_capability(answer["pools"], parted=bool(answer["config"]["capability"])))
    if answer["lang_pools"]:
        screen.print(_languages(answer["lang_pools"]))
    else:
        print("No node serves these languages; see /api/v1/nodes for who is there.")
    if answer["more_lang_pools"]:
        print(f"{answer['more_lang_pools']} more pairs; narrow them down with --src or --tgt, or --limit.")
    if answer["nodes_not_counted"]:
        print(f"The languages of {answer['nodes_not_counted']} nodes were not counted; give --src and --tgt.")
    return 0


def _capability(pools: list[dict[str, Any]], *, parted: bool) -> Table:
    title = "Capability pools" if parted else "The fleet, which no capability pools part"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for name in ("id", "name", "has", "nodes", "online", "ready", "some of them"):
        table.add_column(name, justify="right" if name in ("id", "nodes", "online", "ready") else "left")
    for one in pools:
        table.add_row(
            str(one["pool_id"]),
            Text(one.get("pool_name", "")),
            " + ".join(one.get("pool_required_services", [])) or "anything",
            *(str(one[name]) for name in ("total_nodes", "online_nodes", "ready_nodes")),
            Text(", ".join(one["sample_node_ids"])),
        )
    return table


def _languages(pairs: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Languages, speech into speech", title_justify="left")
    for name in ("from", "into", "online", "ready", "in parts of", "some of them"):
        table.add_column(name, justify="right" if name in ("online", "ready") else "left")
    for one in pairs:
        table.add_row(
            Text("any" if one["src"] == "*" else one["src"]),
            Text(one["tgt"]),
            str(one["online_nodes"]),
            str(one["ready_nodes"]),
            _sizes([shard["size"] for shard in one["shards"]]),
            Text(", ".join(one["sample_node_ids"])),
        )
    return table


def _sizes(sizes: list[int]) -> str:
    shown = ", ".join(map(str, sorted(sizes, reverse=True)[:5]))
    return f"{shown}, …" if len(sizes) > 5 else shown
