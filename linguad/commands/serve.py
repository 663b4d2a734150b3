"""`linguad serve`: the daemon."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import get_args

import trio

from linguad import config, log
from linguad.commands.config import add_config_argument
from linguad.daemon import Daemon
from linguad.errors import LinguadError

PARTS = get_args(config.Part)
"""What `--only` may name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad serve`."""
    add_config_argument(parser)
    parser.add_argument(
        "--only", choices=PARTS, help="run just this part (default: every part that is enabled)"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Returns 0, or 1 with one sentence when it cannot start."""
    read = partial(config.load, args.config, dict(os.environ), args.only)
    settings = read()
    log.configure(settings.log, settings.notices)
    code = 0
    try:
        trio.run(_serve, settings, args.only, read, restrict_keyboard_interrupt_to_checkpoints=True)
    except* LinguadError as group:
        for error in _leaves(group):
            print(f"linguad: {error}", file=sys.stderr)
        code = 1
    return code


def _leaves(group: BaseExceptionGroup[LinguadError]) -> Iterator[LinguadError]:
    """The errors of a group, which may lie in groups of their own."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _serve(
    settings: config.Config, only: config.Part | None, reread: Callable[[], config.Config]
) -> None:
    await Daemon(settings, only=only, reread=reread).run()
