"""`linguad logs`: the lines of a log that are about one trace, session, job or node."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec

from linguad.errors import LinguadError

FIELDS = {
    "trace": ("trace", "utterance_trace"),
    "session": ("session",),
    "job": ("job",),
    "node": ("node",),
}
"""What may be asked for, and the fields of a line that can hold it (docs/logging.md)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad logs`."""
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        type=Path,
        help="JSON logs, in this order (default: standard input)",
    )
    for name, fields in FIELDS.items():
        parser.add_argument(f"--{name}", metavar="ID", help=f"only lines whose {' or '.join(fields)} is this")


def run(args: argparse.Namespace) -> int:
    """Print the lines unchanged, each as it comes. Returns 0, 1 if there are none; raises LinguadError."""
    wanted = {name: value for name in FIELDS if (value := getattr(args, name)) is not None}
    if not wanted:
        names = ", ".join(f"--{name}" for name in FIELDS)
        print(f"linguad: say what the lines are to be about, with {names}", file=sys.stderr)
        return 2
    code = 1
    for line in matching(_lines(args.files), wanted):
        code = 0
        print(line, end="", flush=True)
    return code


def matching(lines: Iterable[str], wanted: dict[str, str]) -> Iterator[str]:
    """The lines that are about all that is wanted; what is no JSON object is about nothing."""
    for line in lines:
        if not all(value in line for value in wanted.values()):
            # Most lines are not wanted, and need not be read.
            continue
        try:
            event = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue
        if isinstance(event, dict) and all(
            value in (event.get(field) for field in FIELDS[name]) for name, value in wanted.items()
        ):
            yield line


def _lines(files: list[Path]) -> Iterator[str]:
    if not files:
        yield from sys.stdin
        return
    with ExitStack() as stack:
        try:
            opened = [stack.enter_context(path.open(encoding="utf-8", errors="replace")) for path in files]
        except OSError as error:
            raise LinguadError(f"{error.filename} cannot be read: {error.strerror}") from error
        for file in opened:
            yield from file
