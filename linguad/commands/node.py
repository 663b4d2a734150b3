"""`linguad node`: the reference node, on the engines of this machine."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from linguad import config, log
from linguad.commands import simulated_nodes
from linguad.commands.supply import Considerate, Supply
from linguad.errors import EngineError
from linguad.models import hub
from linguad.models.layout import data_dir
from linguad.models.manager import ModelManager, Settings
from linguad.models.signing import Trust
from linguad.net import dial
from linguad.net.supervise import watch_signals
from linguad.wire.language import normalize
from linguad.worker import machine
from linguad.worker.agent import Agent, AgentSettings, scheduler_at, unless
from linguad.worker.engines import ENGINES, NEEDS, OPTIONAL, echo
from linguad.worker.engines.base import Hello, Kind
from linguad.worker.pipeline import Pipeline
from linguad.worker.process import EngineProcess, probe
from linguad.worker.runner import Runner, pairs_served

HARD_STOP_SECONDS = 10.0
"""A node that has not ended this long after a signal is cut; its end takes one close frame and some kills."""

SHOWN_LANGUAGES = 8
"""Languages of an engine that the table names one by one."""

MOST_SIMULATED = 20_000
"""Simulated nodes in one process; an address has about so many ports."""

EXAMPLE = "ws://127.0.0.1:5010/ws/node"

N = TypeVar("N", int, float)
logger = log.get(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad node`."""
    add = parser.add_argument
    add("--server", metavar="URL", help=f"address of the scheduler, such as {EXAMPLE}")
    add("--list-engines", action="store_true", help="show every engine and whether it works here, then end")
    add(
        "--engines",
        metavar="A,B",
        type=_engines,
        default=list(ENGINES),
        help=f"engines to use (default: those of {', '.join(ENGINES)} that work here); {echo.NAME} alone "
        "answers each job with its own audio",
    )
    add(
        "--languages",
        metavar="A,B",
        type=_languages,
        default=["en", "es"],
        help=f"languages of {echo.NAME} (default: en,es)",
    )
    add(
        "--hub",
        metavar="URL",
        help=f"model hub that the models of {', '.join(NEEDS)} come from (default: ${hub.VARIABLE}, else the "
        "model that pocketsphinx brings along)",
    )
    add("--hub-token", metavar="TOKEN", help="token of a hub that asks for one (default: $LINGUAD_HUB_TOKEN)")
    add(
        "--data-dir",
        metavar="DIR",
        type=Path,
        help="where models of the hub are kept (default: $USER_DATA, else the user's data directory)",
    )
    add("--node-id", metavar="ID", help="id to ask for (default: the scheduler gives one)")
    add("--name", default=socket.gethostname(), help="name of this node in its log (default: host name)")
    add(
        "--max-jobs",
        metavar="N",
        type=_number(int, 1, 64),
        default=4,
        help="jobs worked on at once, 1 to 64 (default: 4)",
    )
    add(
        "--speech-format",
        choices=["opus", "pcm16"],
        default="opus",
        help="form in which speech is returned (default: opus)",
    )
    add(
        "--engine-seconds",
        metavar="S",
        type=_number(float, 1, 600),
        default=60.0,
        help="longest time for one request to an engine, after which it is started anew (default: 60)",
    )
    add(
        "--reconnect-seconds",
        metavar="S",
        type=_number(float, 0.01, 60),
        default=5.0,
        help="pause before connecting again, doubled up to 60 s (default: 5)",
    )
    add(
        "--simulate",
        metavar="N",
        type=_number(int, 1, MOST_SIMULATED),
        help="be N nodes that only take their time, for rehearsals; their ids begin with --node-id, or sim",
    )
    add(
        "--profile",
        metavar="FILE",
        type=Path,
        help="languages, GPUs, speed and failures of the simulated nodes (docs/testing.md)",
    )
    add(
        "--log-level",
        choices=["debug", "info", "warning", "error"],
        help="least level that is logged (default: info; of simulated nodes: warning)",
    )


def run(args: argparse.Namespace) -> int:
    """Be a node until SIGTERM or SIGINT. Returns 0, 1 if it cannot work, 2 if the arguments make no sense."""
    if args.list_engines:
        return _list_engines()
    if args.server is None:
        return _complain(f"--server is missing, for example --server {EXAMPLE}", 2)
    try:
        dial.parse(args.server)
    except dial.AddressError:
        return _complain(f"{args.server!r} is not an address like {EXAMPLE}", 2)
    log.configure(config.Log(level=args.log_level or ("warning" if args.simulate else "info")))
    if args.simulate:
        return simulated_nodes.run(args, HARD_STOP_SECONDS)
    if args.profile:
        return _complain("--profile is for --simulate N", 2)
    return trio.run(_serve, args, restrict_keyboard_interrupt_to_checkpoints=True)


async def _serve(args: argparse.Namespace) -> int:
    settings = AgentSettings(
        name=args.name,
        node_id=args.node_id,
        max_jobs=args.max_jobs,
        reconnect_seconds=args.reconnect_seconds,
    )
    stop = trio.Event()
    problems: list[str] = []
    code = 0
    async with _manager(args) as manager, trio.open_nursery() as nursery:
        await nursery.start(watch_signals, stop, HARD_STOP_SECONDS)
        supply = Supply(manager, args.engine_seconds, problems) if manager else None
        runner = await unless(stop, partial(_start, args, nursery, problems, supply))
        pairs = pairs_served(runner.offer()) if runner else []
        if runner is not None and not pairs and not (supply and supply.lacks()):
            code = _complain(f"no language pair can be served: {_missing(runner, problems)}", 1)
        elif runner is not None:
            logger.info("node_started", name=args.name, pairs=pairs)
            hardware = await trio.to_thread.run_sync(machine.hardware)
            if manager and supply:
                runner = Considerate(runner, manager, supply, args.max_jobs)
            agent = Agent(runner, scheduler_at(args.server), settings, hardware)
            if supply:
                supply.changed = agent.hurry
                nursery.start_soon(supply.watch)
            await agent.run(stop)
            logger.info("node_stopped", name=args.name)
        elif not stop.is_set():
            names = ", ".join(args.engines)
            code = _complain(f"no engine works here ({names}); linguad node --list-engines tells why", 1)
        nursery.cancel_scope.cancel()
    return code


@asynccontextmanager
async def _manager(args: argparse.Namespace) -> AsyncIterator[ModelManager | None]:
    """The models of this machine, if there is a hub that they come from."""
    if args.engines == [echo.NAME] or not (args.hub or os.environ.get(hub.VARIABLE)):
        yield None
        return
    settings = Settings(
        data=data_dir(args.data_dir),
        hub=hub.hub_url(args.hub),
        token=args.hub_token or os.environ.get("LINGUAD_HUB_TOKEN"),
        node_id=args.node_id,
        trust=Trust.from_environment(),
    )
    async with ModelManager.open(settings) as manager:
        yield manager


async def _start(
    args: argparse.Namespace, nursery: trio.Nursery, problems: list[str], supply: Supply | None
) -> Runner | None:
    """Whoever is to do the work, engines loaded; None if no engine works; `problems` says why.

    An engine whose model is still to be fetched is not waited for.
    """
    if args.engines == [echo.NAME]:
        return echo.Echo(args.languages)
    supplied = [name for name in args.engines if supply and name in NEEDS]
    engines = [
        EngineProcess(name, request_seconds=args.engine_seconds)
        for name in args.engines
        if name not in supplied
    ]
    working: list[EngineProcess] = []

    async def start(engine: EngineProcess) -> None:
        try:
            await nursery.start(engine.serve)
            working.append(engine)
        except EngineError as error:
            logger.warning("engine_unusable", engine=engine.name, reason=str(error))
            problems.append(str(error))

    async with trio.open_nursery() as starting:
        for engine in engines:
            starting.start_soon(start, engine)
        for name in supplied:
            assert supply is not None, "engines are supplied by it"
            settled = trio.Event()
            nursery.start_soon(supply.bring, name, settled)
            if supply.is_here(name):
                starting.start_soon(settled.wait)
    in_order = [engine for engine in engines if engine in working]
    if supply is None:
        return Pipeline(in_order, args.speech_format) if in_order else None
    return supply.pipeline(in_order, args.speech_format)


def _missing(runner: Runner, problems: list[str]) -> str:
    """What keeps a node without a language pair from having one, and the cure."""
    if problems:
        return ", and ".join(sorted(problems))
    ready = {capability.type for capability in runner.offer().capabilities if capability.ready}
    if stages := [kind for kind in Kind if kind not in ready]:
        return f"no engine for {', '.join(stages)} is in use; linguad node --list-engines shows all"
    return "the engines have no languages in common; linguad node --list-engines shows them"


def _list_engines() -> int:
    found = trio.run(_probe_all)
    table = Table(
        "Engine", "Stage", "Languages", Column("Works here", overflow="fold"), title="Engines of linguad node"
    )
    for name, hello in found.items():
        if isinstance(hello, Hello):
            works = (
                "yes" + ", if named" * (name in OPTIONAL) if hello.problem is None else f"no: {hello.problem}"
            )
            table.add_row(name, hello.kind, _languages_of(hello), escape(works))
        else:
            table.add_row(name, "", "", escape(f"no: {hello}"))
    table.add_row(echo.NAME, "asr nmt tts", "those of --languages", "yes, but not with others")
    Console().print(table)
    return 0 if any(isinstance(hello, Hello) and hello.problem is None for hello in found.values()) else 1


async def _probe_all() -> dict[str, Hello | EngineError]:
    """What every engine says about itself, or why it says nothing."""
    found: dict[str, Hello | EngineError] = dict.fromkeys((*ENGINES, *OPTIONAL), EngineError("not asked"))

    async def ask(name: str) -> None:
        try:
            found[name] = await probe(name)
        except EngineError as error:
            found[name] = error

    async with trio.open_nursery() as nursery:
        for name in found:
            nursery.start_soon(ask, name)
    return found


def _languages_of(hello: Hello) -> str:
    named = [f"{source}>{target}" for source, target in hello.pairs] or hello.languages
    more = f" and {len(named) - SHOWN_LANGUAGES} more" if len(named) > SHOWN_LANGUAGES else ""
    return " ".join(named[:SHOWN_LANGUAGES]) + more


def _engines(text: str) -> list[str]:
    names = _items(text)
    if names == [echo.NAME]:
        return names
    unknown = [name for name in names if name not in (*ENGINES, *OPTIONAL)]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"there is no engine {unknown[0]!r} to combine; there are {', '.join((*ENGINES, *OPTIONAL))}"
        )
    return names


def _languages(text: str) -> list[str]:
    return [normalize(code) for code in _items(text)]


def _items(text: str) -> list[str]:
    items = [item.strip() for item in text.split(",") if item.strip()]
    if not items:
        raise argparse.ArgumentTypeError("names are expected, with commas between them")
    return items


def _number(kind: type[N], least: N, most: N) -> Callable[[str], N]:
    def parse(text: str) -> N:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} to {most}")
        return value

    return parse


def _complain(sentence: str, code: int) -> int:
    print(f"linguad: {sentence}", file=sys.stderr)
    return code
