"""`linguad plan`: how long people will wait with a fleet, or how many nodes it takes (docs/planning.md)."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from linguad import config
from linguad.commands.amounts import amount, amount_or_none, count, percent, ratio, spread
from linguad.commands.config import add_config_argument
from linguad.commands.plan_view import show, told
from linguad.errors import LinguadError
from linguad.planning import plot
from linguad.planning.cost import CHUNK_MS, JOB_MS, Cost, instances
from linguad.planning.fleet import Fleet, Load
from linguad.planning.plan import Answer, Effort, Scenario, answer, nodes_for, rules_of, sweep
from linguad.pools import MAX_CAP, POLICIES

MOST_PAIRS = 5_000
"""Pairs of languages: seventy languages into each other."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad plan`."""
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--nodes", type=count, metavar="N", help="nodes of the fleet")
    asked.add_argument(
        "--target-wait-ms",
        type=amount,
        metavar="MS",
        help="instead of --nodes: find the fewest nodes with which 99 of 100 jobs wait no longer",
    )
    parser.add_argument("--sessions", type=count, required=True, metavar="N", help="connected sessions")
    add_config_argument(parser)
    _add_nodes(parser.add_argument_group("nodes"))
    _add_people(parser.add_argument_group("people"))
    _add_choice(parser.add_argument_group("choice of nodes, by default as in the settings"))
    _add_instances(parser.add_argument_group("linguad itself"))
    _add_output(parser.add_argument_group("simulation and output"))


def _add_nodes(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--slots", type=count, metavar="N", help="jobs a node holds (nodes.max_concurrent_jobs)")
    add("--parallel", type=count, default=1, metavar="N", help="... of which it works on so many (1)")
    add("--speed", type=amount, default=4.0, metavar="X", help="audio seconds a node does per second (4)")
    add("--speed-spread", type=spread, default=0.3, metavar="%", help="standard deviation of that (30)")
    add("--pairs", type=count, default=1, metavar="N", help="pairs of languages that are asked for (1)")
    add("--pairs-per-node", type=count, metavar="N", help="... of which a node serves so many (all)")
    add(
        "--popularity", type=amount_or_none, default=1.0, metavar="X", help="the n-th pair is wanted n^-X (1)"
    )
    add("--failing", type=spread, default=0.0, metavar="%", help="attempts that come to nothing (0)")
    add("--round-trip-ms", type=amount_or_none, default=50.0, metavar="MS", help="linguad to node, back (50)")


def _add_people(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--talking", type=percent, default=0.3, metavar="%", help="part of the time a session speaks (30)")
    add("--utterance-s", type=amount, default=4.0, metavar="S", help="length of an utterance (4)")
    add("--utterance-spread", type=spread, default=0.5, metavar="%", help="standard deviation of that (50)")
    add("--work-spread", type=spread, default=0.3, metavar="%", help="... of the work on one length (30)")
    add("--targets", type=count, default=1, metavar="N", help="languages for each utterance (1)")


def _add_choice(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--policy", choices=POLICIES, help="what makes a node the best (pools.policy)")
    add_keeping_arguments(group)


def add_keeping_arguments(group: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    """How much longer a session may take to stay on its node."""
    add = group.add_argument
    add("--keep-ratio", type=ratio, metavar="X", help="a session stays up to X × the best (pools.keep_ratio)")
    add(
        "--keep-margin-s", type=amount_or_none, metavar="S", help="... or S later (pools.keep_margin_seconds)"
    )


def _add_instances(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--cpu-ms-per-job",
        type=amount,
        metavar="MS",
        help=f"CPU time of linguad for a job (measured: {JOB_MS:g} and {CHUNK_MS:g} for each 256 ms)",
    )
    add("--core-use", type=percent, default=0.5, metavar="%", help="of a core that an instance may use (50)")


def _add_output(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--seed", type=int, default=1, metavar="N", help="of all chance: the same gives the same answer (1)")
    add(
        "--sample",
        type=count,
        default=Effort().nodes,
        metavar="N",
        help="nodes simulated at most, with their part of the sessions (%(default)s)",
    )
    add(
        "--jobs",
        type=count,
        default=Effort().most_jobs,
        metavar="N",
        help="jobs simulated at most: more take longer and are more exact (%(default)s)",
    )
    add("--plot", type=Path, metavar="FILE", help="draw waits against sessions and their distribution: a PNG")
    add("--json", action="store_true", help="print one JSON object instead of tables")


def run(args: argparse.Namespace) -> int:
    """Answer. Raises LinguadError when the question cannot be answered."""
    if args.plot:
        plot.check(args.plot)
    settings = config.load(args.config, os.environ)
    scenario = _scenario(args, settings)
    effort, seed = Effort(nodes=args.sample, most_jobs=args.jobs), args.seed
    tried: list[Answer] = []
    more: list[Answer] = []
    if args.target_wait_ms is not None:
        with progress("Looking for the fewest nodes") as watch:
            found, tried = nodes_for(scenario, args.target_wait_ms, seed, effort, watch)
    else:
        with progress("Simulating") as watch:
            found = answer(scenario, seed, effort, watch)
    if args.plot:
        with progress("Simulating other loads") as watch:
            more = sweep(found.scenario, seed, effort, watch=watch)
        plot.plan(args.plot, found, more, args.target_wait_ms)
    cost = Cost(
        job_ms=args.cpu_ms_per_job or JOB_MS,
        chunk_ms=0.0 if args.cpu_ms_per_job else CHUNK_MS,
        core_use=args.core_use,
        max_sessions=settings.sessions.max_sessions,
    )
    needed = instances(found.scenario.fleet, found.scenario.load, cost)
    if args.json:
        print(json.dumps(told(found, needed, tried, more, seed), indent=2))
        return 0
    show(found, needed, args.target_wait_ms, seed)
    if args.plot:
        print(f"The plot is in {args.plot}.")
    return 0


@contextmanager
def progress(what: str) -> Iterator[Callable[[float], object]]:
    """A bar on a terminal's standard error, fed with the part that is done, 0 to 1."""
    console = Console(file=sys.stderr)
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda part: bar.update(task, completed=part)


def _scenario(args: argparse.Namespace, settings: config.Config) -> Scenario:
    slots = args.slots or settings.nodes.max_concurrent_jobs
    if not args.parallel <= slots <= MAX_CAP:
        raise LinguadError(f"--slots must be at least --parallel, {args.parallel}, and at most {MAX_CAP}")
    if args.pairs > MOST_PAIRS:
        raise LinguadError(f"--pairs may be {MOST_PAIRS} at most")
    if args.failing >= 1:
        raise LinguadError("--failing must be below 100: otherwise no job is ever done")
    per_node = min(args.pairs_per_node or args.pairs, args.pairs)
    if args.nodes is not None and args.nodes * per_node < args.pairs:
        raise LinguadError(
            f"{args.nodes} nodes with {per_node} pairs each cannot serve {args.pairs} pairs; "
            "ask for fewer --pairs, or more --pairs-per-node"
        )
    rules = rules_of(
        settings,
        policy=args.policy,
        keep_ratio=args.keep_ratio,
        keep_margin_s=args.keep_margin_s,
        parallel=args.parallel,
        round_trip_s=args.round_trip_ms / 1000,
        failing=args.failing,
    )
    fleet = Fleet(
        nodes=args.nodes or 1,
        slots=slots,
        speed=args.speed,
        speed_spread=args.speed_spread,
        pairs=args.pairs,
        pairs_per_node=per_node,
        popularity=args.popularity,
    )
    load = Load(
        sessions=args.sessions,
        talking=args.talking,
        utterance_s=args.utterance_s,
        utterance_spread=args.utterance_spread,
        effort_spread=args.work_spread,
        targets=args.targets,
        pairs=args.pairs,
        popularity=args.popularity,
    )
    return Scenario(fleet=fleet, load=load, rules=rules)
