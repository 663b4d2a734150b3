"""`linguad doctor`: see whether this machine and these settings will do, and say what to do."""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Iterator

import msgspec
import trio
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from linguad import config
from linguad.commands.checks import (
    Finding,
    bad,
    check_clock,
    check_disk,
    check_extension,
    check_files,
    check_ports,
    check_redis,
    check_store,
    good,
    warning,
)
from linguad.commands.config import add_config_argument
from linguad.commands.deployment import check_deployment
from linguad.errors import ConfigError, EngineError
from linguad.worker.engines import ENGINES
from linguad.worker.process import probe

MARKS = {"good": "[green]good[/]", "warning": "[yellow]look[/]", "bad": "[red]BAD[/]"}
"""How a finding begins at a terminal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad doctor`."""
    add_config_argument(parser)
    parser.add_argument(
        "--deployment",
        action="store_true",
        help="go through the check list of a deployment as well; the daemon should run",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Look and tell. Returns 1 if something is bad, else 0."""
    # what the parts log while they are looked at is told as findings
    logging.getLogger("linguad").addHandler(logging.NullHandler())
    findings = trio.run(_examined, args)
    if args.json:
        print(json.dumps(msgspec.to_builtins(findings), indent=2, ensure_ascii=False))
    else:
        _show(findings)
    return int(any(finding.state == "bad" for finding in findings))


async def _examined(args: argparse.Namespace) -> list[Finding]:
    findings = list(check_extension())
    try:
        settings = config.load(args.config, os.environ)
        findings.append(good("config", "The settings can be used."))
        settings.state_dir()
        settings.models_dir()
    except ConfigError as error:
        return [*_wrong_settings(error), *findings]
    findings += await check_ports(settings)
    findings += await check_redis(settings.cluster)
    findings += await check_store(settings)
    findings += await _check_engines()
    findings += await check_files(settings, strict=args.deployment)
    findings += check_clock()
    findings += check_disk(settings)
    if args.deployment:
        findings += await check_deployment(settings)
    return findings


def _wrong_settings(error: ConfigError) -> Iterator[Finding]:
    for path, problem in error.problems:
        yield bad("config", f"{path}: {problem}.", "Change it; linguad config check looks at this alone.")


async def _check_engines() -> list[Finding]:
    """Whether a reference node could work on this machine; a server needs none."""
    working, problems = [], []
    for name in ENGINES:
        try:
            hello = await probe(name)
        except EngineError as error:
            problems.append(f"{name}: {error}")
        else:
            if hello.problem is None:
                working.append(name)
            else:
                problems.append(f"{name}: {hello.problem}")
    if not problems:
        return [good("engines", f"Those of linguad node work here: {', '.join(working)}.")]
    return [
        warning(
            "engines",
            f"linguad node cannot use all of its engines here ({'; '.join(problems)}).",
            "Nothing, if no node is to run on this machine; else see linguad node --list-engines.",
        )
    ]


def _show(findings: list[Finding]) -> None:
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        told = escape(finding.said) + (f" [bold]{escape(finding.cure)}[/]" if finding.cure else "")
        table.add_row(MARKS[finding.state], finding.check, told)
    Console().print(table)
