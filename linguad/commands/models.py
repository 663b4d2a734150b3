"""`linguad models`: the models of this machine: fetch them from a hub, change over, go back, remove."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio
from rich import box
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from linguad import config, log
from linguad.commands.asking import on_this_machine
from linguad.models import sync as syncing
from linguad.models.errors import ModelError, NetworkError
from linguad.models.hub import VARIABLE, hub_url
from linguad.models.layout import data_dir
from linguad.models.manager import ModelManager, Settings
from linguad.models.names import Key, by_age
from linguad.models.progress import Progress, State
from linguad.models.signing import Trust
from linguad.net.dial import ungrouped

USAGE_SECONDS = 1.0
"""So long the end of a command waits for the hub to take note of it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad models`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, help_text in (
        ("list", "what the hub has and what is here"),
        ("pull", "fetch models and use them"),
        ("sync", "keep models as the hub has them, and remove old versions"),
        ("verify", "read all files and tell which are damaged"),
        ("rollback", "use the version again that was used before"),
        ("remove", "remove a model or one version of it"),
        ("ranking", "the most used models of the hub"),
    ):
        action = actions.add_parser(
            name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}."
        )
        _add_common(action)
        if name in ("pull", "sync"):
            action.add_argument(
                "model", nargs="+", help="id, or id@version; a channel or `latest` will do for the version"
            )
            action.add_argument("--require-signature", action="store_true", help="take only signed versions")
        if name in ("pull", "rollback", "remove"):
            action.add_argument(
                "--service", action="store_true", help="what is named is a service package, not a model"
            )
        if name == "pull":
            action.add_argument(
                "--allow-unsigned", action="store_true", help="take service packages that nobody signed"
            )
            action.add_argument(
                "--force", action="store_true", help="fetch damaged files and withdrawn versions"
            )
        if name == "sync":
            action.add_argument("--max-bytes", type=int, metavar="N", help="all models may take so much disk")
            action.add_argument(
                "--keep",
                type=int,
                default=2,
                metavar="N",
                help="versions that stay of each model (default: 2)",
            )
        if name == "verify":
            action.add_argument("model", nargs="?", help="only this model (default: all)")
        if name in ("rollback", "remove"):
            action.add_argument("model", help="id of a model" + (" or id@version" * (name == "remove")))
        if name == "remove":
            action.add_argument("--force", action="store_true", help="wait for those who use it, up to 30 s")
        if name == "ranking":
            action.add_argument(
                "--window", choices=["1d", "7d", "30d", "all"], help="of which time (default: 30d)"
            )
            action.add_argument("--limit", type=int, metavar="N", help="how many (default: 50)")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--hub",
        metavar="URL",
        help=f"address of the hub (default: ${VARIABLE}, else http://{on_this_machine('hub')})",
    )
    parser.add_argument("--token", help="token of a hub that asks for one")
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="where models are kept (default: $USER_DATA, else the user's data directory)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Do what was asked. Returns 1 if something is damaged or could not be had. Raises LinguadError."""
    # What goes wrong is told by the command itself; its standard output may be JSON.
    log.configure(config.Log(level="critical"))
    return trio.run(_run, args, restrict_keyboard_interrupt_to_checkpoints=True)


async def _run(args: argparse.Namespace) -> int:
    settings = Settings(
        data=data_dir(args.data_dir),
        hub=hub_url(args.hub or os.environ.get(VARIABLE) or f"http://{on_this_machine('hub')}"),
        token=args.token,
        trust=Trust.from_environment(),
        require_signature=getattr(args, "require_signature", False),
    )
    async with ModelManager.open(settings) as manager:
        if getattr(args, "service", False):
            return await _services(args, manager)
        match args.action:
            case "list":
                return await _list(args, manager)
            case "pull":
                return await _pull(args, manager)
            case "sync":
                return await _sync(args, manager)
            case "verify":
                return await _verify(args, manager)
            case "rollback":
                version = await manager.keeper.rollback(args.model)
                return _done(args, f"{args.model} is at {version} again.", model=args.model, version=version)
            case "remove":
                one, _, version = args.model.partition("@")
                await manager.keeper.uninstall(one, version or None, force=args.force)
                return _done(args, f"{args.model} is removed.", removed=args.model)
            case _:
                return await _ranking(args, manager)


async def _list(args: argparse.Namespace, manager: ModelManager) -> int:
    away = None
    try:
        await manager.hub.models()
    except NetworkError as error:
        away = str(error)
    rows = _rows(manager)
    if args.json:
        print(json.dumps({"hub": manager.hub.url, "problem": away, "models": rows}, indent=2))
        return 0
    table = Table(box=box.SIMPLE_HEAD, title=f"Models in {manager.layout.models}", title_justify="left")
    for name in ("model", "task", "languages", "version", "MiB", "here", "at the hub"):
        table.add_column(name, justify="right" if name == "MiB" else "left")
    for row in rows:
        at_hub = f"{row['status']}{', default' * row['default']}" if row["status"] else ""
        here = f"{row['state']}{', in use' * row['active']}" if row["state"] != "not_installed" else ""
        size = f"{row['size_bytes'] / 2**20:.1f}"
        words = (row["model_id"], row["task"], " ".join(row["languages"]), row["version"], size, here, at_hub)
        table.add_row(*map(Text, words))
    Console(highlight=False).print(table)
    if away:
        print(f"linguad: {away}", file=sys.stderr)
    return 0


def _rows(manager: ModelManager) -> list[dict[str, Any]]:
    """A row for each version, here or at the hub."""
    rows: dict[Key, dict[str, Any]] = {}
    for model in manager.hub.known:
        for listed in model.versions:
            rows[Key(model.id, listed.version)] = {
                "task": model.task,
                "languages": model.languages,
                "size_bytes": listed.size_bytes,
                "status": listed.status,
                "default": listed.version == model.default_version,
            }
    for model_id, versions in manager.installed().items():
        for version, record in versions.items():
            here = {
                "task": record.extra.task or "",
                "languages": record.extra.languages,
                "size_bytes": record.size_bytes,
                "status": "",
                "default": False,
            }
            rows.setdefault(Key(model_id, version), here)
    active = {Key(model_id, pointer.version) for model_id, pointer in manager.active().items()}
    return [
        {"model_id": one.model_id, "version": one.version}
        | rows[one]
        | {"state": manager.status(one), "active": one in active}
        for one in sorted(rows, key=lambda one: (one.model_id, by_age(one.version)))
    ]


async def _pull(args: argparse.Namespace, manager: ModelManager) -> int:
    results: dict[str, dict[str, str]] = {}

    async def pull(asked: str) -> None:
        model_id, _, version = asked.partition("@")
        try:
            one = await manager.resolve(model_id, version or None)
            path = await manager.download(*one, force=args.force, wait=True)
            await manager.keeper.activate(*one, reason="pull")
            results[asked] = {"model": str(one), "path": str(path)}
        except ModelError as error:
            results[asked] = {"problem": str(error), "code": error.code}

    async with _bars(args, manager), trio.open_nursery() as nursery:
        for asked in dict.fromkeys(args.model):
            nursery.start_soon(pull, asked)
    if args.json:
        print(json.dumps(results, indent=2))
    for asked, result in results.items():
        if "problem" in result:
            print(f"linguad: {asked}: {result['problem']}", file=sys.stderr)
        elif not args.json:
            print(f"{result['model']} is in {result['path']}")
    return 1 if any("problem" in result for result in results.values()) else 0


async def _services(args: argparse.Namespace, manager: ModelManager) -> int:
    """Do with service packages what was asked."""
    packages = await manager.packages(allow_unsigned=getattr(args, "allow_unsigned", False))
    if args.action == "rollback":
        version = await packages.rollback(args.model)
        return _done(args, f"{args.model} is at {version} again.", service=args.model, version=version)
    if args.action == "remove":
        await packages.uninstall(args.model)
        return _done(args, f"{args.model} is removed.", removed=args.model)
    for asked in dict.fromkeys(args.model):
        service_id, _, version = asked.partition("@")
        version = await packages.install(service_id, version or None)
        _done(args, f"{service_id} {version} is in use.", service=service_id, version=version)
    return 0


async def _sync(args: argparse.Namespace, manager: ModelManager) -> int:
    asked = [name.partition("@") for name in args.model]
    policy = syncing.Policy(
        required=[name for name, _, _ in asked],
        channels={name: version for name, _, version in asked if version},
        max_bytes=args.max_bytes,
        keep=args.keep,
    )
    async with _bars(args, manager):
        report = await syncing.sync(manager, policy)
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        for what in ("installed", "updated", "removed"):
            for one in getattr(report, what):
                print(f"{what} {one}")
        if not (report.installed or report.updated or report.removed or report.failed):
            print("All is as the hub has it.")
    for model_id, problem in report.failed.items():
        print(f"linguad: {model_id}: {problem}", file=sys.stderr)
    return 1 if report.failed else 0


async def _verify(args: argparse.Namespace, manager: ModelManager) -> int:
    found = await manager.keeper.verify(args.model)
    if args.json:
        print(json.dumps([{"model": str(one), "damaged": bad} for one, bad in found.items()], indent=2))
    elif not found:
        print("No model is here.")
    else:
        for one, bad in found.items():
            cure = f"linguad models pull --force {one}"
            print(f"{one}: {f'{bad} is damaged; {cure}' if bad else 'all files are as they came'}")
    return 1 if any(found.values()) else 0


async def _ranking(args: argparse.Namespace, manager: ModelManager) -> int:
    ranks = await manager.hub.ranking(window=args.window, limit=args.limit)
    if args.json:
        print(json.dumps(msgspec.to_builtins(ranks), indent=2))
    elif not ranks:
        print("The hub has counted no use of any model yet.")
    else:
        table = Table(box=box.SIMPLE_HEAD)
        for name in ("rank", "model", "requests"):
            table.add_column(name, justify="left" if name == "model" else "right")
        for one in ranks:
            table.add_row(str(one.rank), Text(one.model_id), str(one.request_count))
        Console(highlight=False).print(table)
    return 0


def _done(args: argparse.Namespace, sentence: str, **result: str) -> int:
    print(json.dumps(result) if args.json else sentence)
    return 0


@asynccontextmanager
async def _bars(args: argparse.Namespace, manager: ModelManager) -> AsyncIterator[None]:
    """A bar for each download, on a terminal, until the end of the block; then the hub hears of them."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with (
        Bars(*columns, console=console, disable=args.json or not console.is_terminal) as bars,
        manager.events.listen(Progress) as events,
        ungrouped(),
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_show, bars, events)
            yield
            nursery.cancel_scope.cancel()
    # What the hub does not hear of now, it hears of from the next command.
    with trio.move_on_after(USAGE_SECONDS):
        await manager.usage.send()


async def _show(bars: Bars, events: AsyncIterator[Any]) -> None:
    tasks: dict[Key, Any] = {}
    async for event in events:
        assert isinstance(event, Progress)
        one = Key(event.model_id, event.version)
        if one not in tasks:
            tasks[one] = bars.add_task(str(one), total=None)
        ended = event.state is State.READY
        bars.update(
            tasks[one],
            description=f"{one} {event.state}",
            total=event.total_bytes or None,
            completed=event.total_bytes if ended else event.downloaded_bytes,
        )
