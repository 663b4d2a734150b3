"""`linguad simulate`: which node a job would go to now, and why; nothing is sent and nothing changes."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console
from rich.text import Text

from linguad.commands.asking import add_server_arguments, ask, console, print_json, query
from linguad.commands.candidates import nodes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad simulate`."""
    parser.add_argument("--src", metavar="CODE", required=True, help="language that is spoken, or auto")
    parser.add_argument("--tgt", metavar="CODE", required=True, help="language that is wanted")
    parser.add_argument("--tenant", metavar="ID", help="whose job it is; it may have a pool of its own")
    parser.add_argument("--session", metavar="ID", help="session, whose id chooses among pools")
    parser.add_argument("--key", metavar="TEXT", help="routing key, in place of the two")
    parser.add_argument(
        "--require",
        metavar="TYPE",
        action="append",
        help="a type of service the job needs: asr, nmt, tts, tone, semantic; may be given several times "
        "(default: asr, nmt and tts)",
    )
    parser.add_argument("--exclude", metavar="NODE", help="a node that it must not go to")
    parser.add_argument("--private", action="store_true", help="nodes that take no public jobs may do it")
    add_server_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Ask the server and show its answer. Raises LinguadError with the cure when there is none."""
    asked = query(
        src_lang=args.src,
        tgt_lang=args.tgt,
        tenant_id=args.tenant,
        session_id=args.session,
        routing_key=args.key,
        required=args.require,
        exclude_node_id=args.exclude,
        accept_public="false" if args.private else None,
    )
    answer = ask(args, "GET", f"pools/simulate{asked}")
    if print_json(args, answer):
        return 0
    _show(console(), answer)
    if args.exclude and not answer["excluded_node_id"]:
        print(
            f"No node {args.exclude} is known, so none was left out; linguad simulate lists those there are."
        )
    return 0


def _show(console: Console, answer: dict[str, Any]) -> None:
    chosen, asked = answer["selected_node_id"], answer["asked_of_nodes"]
    title = f"It would go to {chosen}" if chosen else "It would wait: no node could take it now"
    console.print(Text(title, "bold"))
    facts = {
        "asked for": f"{asked['src']} → {asked['tgt']}, {' + '.join(asked['services'])}",
        "routing key": answer["routing_key"],
    }
    if asked["pools"] is not None:
        facts["pools"] = _way(answer["debug"], asked)
    if answer["excluded_node_id"]:
        facts["without"] = answer["excluded_node_id"]
    for name, value in facts.items():
        console.print(Text.assemble((name.rjust(12), "dim"), "  ", value), soft_wrap=True)
    console.print(nodes(answer["now"]))


def _way(debug: dict[str, Any], asked: dict[str, Any]) -> str:
    """The pools in the order in which they are asked, and what each answers."""
    names = dict(zip(asked["pools"], asked["pool_names"], strict=True))
    way = [f"{names.get(pool) or pool} ({pool}): {why}" for pool, why, _ in debug["attempts"]]
    return ", then ".join(way) or "none is eligible"
