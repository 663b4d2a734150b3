"""`linguad replay`: the load of a log again, on the same nodes, under each way of choosing them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace
from rich import box
from rich.console import Console
from rich.table import Table

from linguad import config
from linguad.commands.amounts import amount, amount_or_none, count
from linguad.commands.config import add_config_argument
from linguad.commands.plan import add_keeping_arguments, progress
from linguad.commands.plan_view import duration, many, part
from linguad.errors import LinguadError
from linguad.planning.figures import Figures, figures
from linguad.planning.history import History, Reader
from linguad.planning.model import Rules, simulate
from linguad.planning.plan import rules_of
from linguad.pools import POLICIES

SHOWN_BUSY = 1.05
"""Logged utilisation from which nodes must have worked on several jobs at once."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad replay`."""
    add = parser.add_argument
    add("logs", nargs="+", metavar="LOG", help="log of `linguad serve`, JSON lines; - is standard input")
    add("--load", type=amount, default=1.0, metavar="X", help="times the load of the log (1)")
    add("--parallel", type=count, default=1, metavar="N", help="jobs a node works on at once (1)")
    add("--any-pair", action="store_true", help="every node serves every pair of languages in the log")
    add("--round-trip-ms", type=amount_or_none, metavar="MS", help="linguad to node, back (from the log)")
    add_config_argument(parser)
    add_keeping_arguments(parser)
    add("--seed", type=int, default=1, metavar="N", help="of all chance (1)")
    add("--json", action="store_true", help="print one JSON object instead of a table")


def run(args: argparse.Namespace) -> int:
    """Replay. Raises LinguadError if there is nothing to replay."""
    settings = config.load(args.config, os.environ)
    slots = settings.nodes.max_concurrent_jobs
    history = _read(args.logs).history(slots=max(slots, args.parallel), any_pair=args.any_pair)
    given_s = None if args.round_trip_ms is None else args.round_trip_ms / 1000
    rules = rules_of(
        settings,
        keep_ratio=args.keep_ratio,
        keep_margin_s=args.keep_margin_s,
        parallel=args.parallel,
        round_trip_s=history.round_trip_s if given_s is None else given_s,
    )
    found = _replayed(history, rules, args.load, args.seed)
    if args.json:
        print(json.dumps(_told(history, rules, found, args.load, args.seed), indent=2))
    else:
        _show(history, rules, found, args.load, args.seed)
    return 0


def _read(names: list[str]) -> Reader:
    reader = Reader()
    for name in names:
        try:
            with nullcontext(sys.stdin.buffer) if name == "-" else Path(name).open("rb") as lines:
                reader.read(lines)
        except OSError as error:
            raise LinguadError(f"{name} cannot be read: {error.strerror}") from error
    return reader


def _replayed(history: History, rules: Rules, load: float, seed: int) -> dict[str, Figures]:
    arrivals, end_s = history.faster(load), history.end_s / load
    found: dict[str, Figures] = {}
    whole = len(arrivals) * len(POLICIES)
    with progress("Replaying") as watch:
        for number, policy in enumerate(POLICIES):
            before = number * len(arrivals)
            run = simulate(
                history.nodes,
                arrivals,
                replace(rules, policy=policy),
                start_s=0.0,
                end_s=end_s,
                seed=seed,
                watch=lambda arrived, before=before: watch((before + arrived) / whole),  # type: ignore[misc]
            )
            found[policy] = figures(run, history.nodes, rules)
    return found


def _told(
    history: History, rules: Rules, found: dict[str, Figures], load: float, seed: int
) -> dict[str, Any]:
    return {
        "nodes": len(history.nodes),
        "jobs": len(history.arrivals),
        "sessions": len({one.session for one in history.arrivals}),
        "pairs": [f"{src}>{tgt}" for src, tgt in history.pairs],
        "seconds": history.end_s,
        "load_factor": load,
        "seed": seed,
        "rules": msgspec.to_builtins(rules),
        "left_out": {"jobs": history.left_out, "nodes": history.idle, "lines": history.strange},
        "logged": msgspec.to_builtins(history.logged),
        "policies": msgspec.to_builtins(found),
    }


def _show(history: History, rules: Rules, found: dict[str, Figures], load: float, seed: int) -> None:
    console = Console(highlight=False, soft_wrap=True)
    sessions = len({one.session for one in history.arrivals})
    console.print(
        f"{many(len(history.arrivals), 'job')} of {many(sessions, 'session')} in {history.end_s:,.0f} s, "
        f"{many(len(history.pairs), 'language pair')}, {many(len(history.nodes), 'node')}"
        + (f"; replayed {load:g} times as dense." if load != 1 else ".")
    )
    console.print(_table(history, found, load))
    for note in _notes(history, rules, seed):
        console.print(note)


def _table(history: History, found: dict[str, Figures], load: float) -> Table:
    """A column for each policy, and one for what really was where the load is the same."""
    logged, all_ = history.logged, found.values()
    rows = [
        ("wait, p50", "", [duration(one.wait_p50_ms) for one in all_]),
        ("wait, p99", "", [duration(one.wait_p99_ms) for one in all_]),
        (
            "to result, p50",
            duration(logged.total_p50_ms),
            [duration(one.total_p50_ms) for one in all_],
        ),
        (
            "to result, p99",
            duration(logged.total_p99_ms),
            [duration(one.total_p99_ms) for one in all_],
        ),
        ("moved", part(logged.moved), [part(one.moved) for one in all_]),
        ("nodes at work", part(logged.utilisation), [part(one.utilisation) for one in all_]),
        (
            "busiest 1 % of nodes",
            f"× {logged.imbalance:.2f}",
            [f"× {one.imbalance:.2f}" for one in all_],
        ),
        ("no free slot", "", [part(one.queued) for one in all_]),
        ("given up", "", [part(one.given_up) for one in all_]),
    ]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("", *(["in the log"] if load == 1 else []), *found):
        table.add_column(name, justify="right" if name else "left")
    for name, real, simulated in rows:
        table.add_row(name, *([real] if load == 1 else []), *simulated)
    return table


def _notes(history: History, rules: Rules, seed: int) -> list[str]:
    stay = f"sessions that stay for {rules.keep_ratio:g} × the best or {rules.keep_margin_s:g} s more"
    notes = [
        f"Simulated with {rules.round_trip_s * 1000:.0f} ms to a node and back, nodes that do "
        f"{many(rules.parallel, 'job')} at once, {stay if rules.keeps else 'sessions that keep no node'}, "
        f"seed {seed}."
    ]
    if history.logged.utilisation > SHOWN_BUSY * rules.parallel:
        at_once = round(history.logged.utilisation + 0.5)
        notes.append(f"The nodes worked on several jobs at once; try --parallel {at_once}.")
    if history.left_out:
        notes.append(f"Left out: {many(history.left_out, 'job')}, cancelled, merged, or without sound.")
    if history.idle:
        notes.append(
            f"Left out: {many(history.idle, 'node')} without work, for what they serve is not in the log."
        )
    if history.strange:
        notes.append(f"Left out: {many(history.strange, 'line')} that linguad did not write.")
    return [*notes, "What is assumed: docs/planning.md"]
