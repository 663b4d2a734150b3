"""`linguad drain`: an instance takes no new work, lets what it has come to its end, and ends itself."""

from __future__ import annotations

import argparse

from linguad.commands.asking import add_server_arguments, ask, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad drain`."""
    add_server_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Ask the server, and say what it has left. Raises LinguadError with the cure when it cannot be asked."""
    answer = ask(args, "POST", "drain")
    if print_json(args, answer):
        return 0
    print("It drains from now on." if answer["began"] else "It drains already.")
    print(
        f"{answer['sessions']} sessions and {answer['open_jobs']} open jobs have {answer['seconds']:g} s; "
        "then the process ends."
    )
    return 0
