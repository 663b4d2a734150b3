"""`linguad config`: look at the configuration, or make one, without starting anything."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from linguad import config
from linguad.config.converting import convert
from linguad.config.reading import parsed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad config`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="check|show|convert")
    check = actions.add_parser(
        "check", help="tell whether the settings can be used, and every problem if not"
    )
    show = actions.add_parser("show", help="print the effective settings; secrets are hidden")
    for action in (check, show):
        add_config_argument(action)
    convert = actions.add_parser("convert", help="print a file made from those of the earlier server")
    convert.add_argument("--scheduler", type=Path, metavar="FILE", help="config.toml of the scheduler")
    convert.add_argument("--gateway", type=Path, metavar="FILE", help="config.toml of the API gateway")
    convert.add_argument(
        "--env",
        action="store_true",
        help="MODELS_DIR, MODEL_HUB_URL, RUST_LOG and LOG_FORMAT as they are set now",
    )


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """The `--config FILE` that several commands share."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file (default: built-in settings)")


def run(args: argparse.Namespace) -> int:
    """Check, show or convert. Problems are raised as ConfigError."""
    if args.action == "convert":
        return _convert(args)
    settings = config.load(args.config, os.environ)
    if args.action == "show":
        print(config.render(settings), end="")
    else:
        print("The configuration is fine.")
    return 0


def _convert(args: argparse.Namespace) -> int:
    if args.scheduler is None and args.gateway is None and not args.env:
        print("linguad config convert: name --scheduler FILE, --gateway FILE or --env", file=sys.stderr)
        return 2
    scheduler, gateway = (path and parsed(path) for path in (args.scheduler, args.gateway))
    print(convert(scheduler, gateway, os.environ if args.env else None), end="")
    return 0
