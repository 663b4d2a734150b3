"""`linguad serve`: the daemon."""

from __future__ import annotations

import argparse
import os
import sys

import trio
from msgspec.structs import replace

from linguad import config, log
from linguad.commands.config import add_config_argument
from linguad.daemon import Daemon
from linguad.errors import LinguadError

PARTS = ("scheduler",)
"""What `--only` may name: neither the gateway nor the hub can do without the scheduler beside it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad serve`."""
    add_config_argument(parser)
    parser.add_argument(
        "--only", choices=PARTS, help="run just this part (default: every part that is enabled)"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Returns 0, or 1 with one sentence when it cannot start."""
    settings = config.load(args.config, os.environ)
    if args.only:
        settings = replace(
            settings,
            gateway=replace(settings.gateway, enabled=False),
            hub=replace(settings.hub, enabled=False),
        )
    log.configure(settings.log, settings.notices)
    code = 0
    try:
        trio.run(_serve, settings, restrict_keyboard_interrupt_to_checkpoints=True)
    except* LinguadError as group:
        for error in group.exceptions:
            print(f"linguad: {error}", file=sys.stderr)
        code = 1
    return code


async def _serve(settings: config.Config) -> None:
    await Daemon(settings).run()
