"""The `linguad` command: argv to one function per command, and nothing else.

Exit codes: 0 done, 1 failed, 2 used or configured wrongly.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from linguad import __version__
from linguad.errors import ConfigError, LinguadError

COMMANDS = {
    "serve": "run the daemon",
    "config": "check, show or convert the configuration",
    "doctor": "see whether this machine and the settings will do, and say what to do",
    "node": "run the reference node: speech recognition, translation and speech on this machine's CPU",
    "translate": "send a sound file through a session and get its translation",
    "load": "have many people talk at a server, and tell how long they waited and what they got",
    "explain": "tell why an utterance was translated where it was, or not at all",
    "trace": "tell what became of the utterances of a conversation, one row each",
    "logs": "print the lines of a log that are about one trace, session, job or node",
    "top": "show live how the server is doing",
    "pools": "list who is in which pool, and how many nodes serve which languages",
    "simulate": "tell which node a job would go to now, and why; nothing is sent",
    "languages": "list the pairs of languages that can be had now",
    "plan": "tell how long people will wait with a fleet of nodes, or how many nodes it takes",
    "replay": "play the load of a log again on its nodes, under each policy of choosing them",
    "models": "fetch, change and remove the models of this machine, from a model hub",
    "cluster": "show the instances of an installation, its dead letters and keys in Redis",
    "drain": "have an instance end: clients go elsewhere, open jobs are finished",
    "pair": "make a code with which a session is served by one node alone",
    "tenant": "make, list and change the customers of the public API",
    "key": "make, list, rotate and revoke keys of the public API",
    "hub": "publish, list, take back and verify models of the hub",
}
"""Every command with its help; the module of the same name in `linguad.commands` does the work."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    args = parser_of(words).parse_args(words)
    run: Callable[[argparse.Namespace], int] = import_module(f"linguad.commands.{args.command}").run
    try:
        return run(args)
    except ConfigError as error:
        print("linguad: the configuration cannot be used.", file=sys.stderr)
        for path, problem in error.problems:
            print(f"  {path}: {problem}", file=sys.stderr)
        return 2
    except LinguadError as error:
        print(f"linguad: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parser_of(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of a command line; only its command is imported, so that all of them start fast."""
    parser = argparse.ArgumentParser(
        prog="linguad", description="The central server of the Lingua real-time speech-translation network."
    )
    parser.add_argument("--version", action="version", version=f"linguad {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_text in COMMANDS.items():
        command = commands.add_parser(
            name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}."
        )
        if name in words[:1]:
            import_module(f"linguad.commands.{name}").add_arguments(command)
    return parser
