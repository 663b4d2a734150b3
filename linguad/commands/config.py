"""`linguad config`: look at the configuration without starting anything."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from linguad import config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad config`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="check|show")
    check = actions.add_parser(
        "check", help="tell whether the settings can be used, and every problem if not"
    )
    show = actions.add_parser("show", help="print the effective settings; secrets are hidden")
    for action in (check, show):
        add_config_argument(action)


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """The `--config FILE` that several commands share."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file (default: built-in settings)")


def run(args: argparse.Namespace) -> int:
    """Check or show. Problems are raised as ConfigError."""
    settings = config.load(args.config, os.environ)
    if args.action == "show":
        print(config.render(settings), end="")
    else:
        print("The configuration is fine.")
    return 0
