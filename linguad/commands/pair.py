"""`linguad pair`: a code with which a person has a session served by one node alone."""

from __future__ import annotations

import argparse
import time

from linguad.commands.asking import add_server_arguments, ask, print_json, quote


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad pair`."""
    parser.add_argument("node", metavar="NODE", help="id of a connected node, as GET /api/v1/nodes lists it")
    add_server_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Ask the server for a code and show it. Raises LinguadError with the cure when there is none."""
    answer = ask(args, "POST", f"nodes/{quote(args.node)}/pairing-code")
    if print_json(args, answer):
        return 0
    until = time.strftime("%H:%M:%S", time.localtime(answer["expires_at_ms"] / 1000))
    print(f"Pairing code: {answer['code']}")
    print(f"The session that gives it first, until {until}, is served by {answer['node_id']} alone.")
    return 0
