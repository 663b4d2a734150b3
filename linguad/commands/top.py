"""`linguad top`: how the server is doing, live at the terminal."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from rich import box
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from linguad.commands.asking import add_server_arguments, events, print_json
from linguad.errors import LinguadError

ROWS = 10
"""Queues, pairs and nodes that are shown."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad top`."""
    parser.add_argument("--once", action="store_true", help="show it once and end")
    add_server_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Follow the server until ^C. Raises LinguadError with the cure when it cannot be reached any more."""
    overviews = _overviews(args)
    if args.once or args.json:
        overview = next(overviews)
        if not print_json(args, overview):
            Console(highlight=False).print(view(overview))
        return 0
    _follow(overviews)
    return 0


def _overviews(args: argparse.Namespace) -> Iterator[Any]:
    """One a second, without end: the server ends a stream after ten minutes, and is asked for another."""
    while True:
        data = None
        for data in events(args, "live"):
            yield json.loads(data)
        if data is None:
            raise LinguadError(f"{args.server} tells nothing; is this the address of linguad?")


def _follow(overviews: Iterator[Any]) -> None:
    with Live(console=Console(highlight=False), screen=True, auto_refresh=False) as live:
        for overview in overviews:
            live.update(view(overview), refresh=True)


def view(overview: dict[str, Any]) -> RenderableType:
    """All of it, for a terminal."""
    tables: list[RenderableType] = [_stages(overview), _pairs(overview)]
    if overview["waiting"]:
        tables.append(_waiting(overview))
    if overview["failing"]:
        tables.append(_failing(overview))
    return Group(_head(overview), Columns(tables, padding=(0, 4)))


def _head(overview: dict[str, Any]) -> RenderableType:
    state, gauges, facts = overview["state"], overview["gauges"], overview["facts"]
    word, style = ("ready", "bold green") if state["ready"] else (", ".join(state["reasons"]), "bold red")
    if state["degraded"]:
        word, style = f"{word}, without {', '.join(state['degraded'])}", "bold yellow"
    up_s = int(facts["uptime_seconds"])
    up = f"up {up_s // 3600}:{up_s // 60 % 60:02}:{up_s % 60:02}"
    line = Text.assemble("linguad ", facts["version"], "  ", (word, style), f"  {up}")
    free = gauges["slots"] - gauges["slots_used"]
    numbers = [
        ("sessions", f"{gauges['sessions']:.0f}", ""),
        (
            "nodes ready",
            f"{gauges['nodes_ready']:.0f} of {gauges['nodes_online']:.0f}",
            _bad(not gauges["nodes_ready"]),
        ),
        ("slots free", f"{max(0, free):.0f} of {gauges['slots']:.0f}", _bad(free <= 0)),
        ("jobs", f"{gauges['jobs_open']:.0f}", ""),
        ("waiting", f"{gauges['jobs_waiting']:.0f}", _bad(gauges["jobs_waiting"] > 0)),
        ("texts/min", f"{gauges['results_per_minute']:.0f}", ""),
        ("failed/min", f"{gauges['failures_per_minute']:.0f}", _bad(gauges["failures_per_minute"] > 0)),
        ("loop lag", f"{gauges['loop_lag_ms']:.0f} ms", _bad(gauges["loop_lag_ms"] > 100)),
        ("buffers", f"{gauges['buffered_bytes'] / 2**20:.1f} MiB", ""),
    ]
    facts_line = Text("   ").join(
        Text.assemble((name, "dim"), " ", (number, style)) for name, number, style in numbers
    )
    return Group(line, facts_line)


def _bad(wrong: bool) -> str:
    return "bold yellow" if wrong else ""


def _stages(overview: dict[str, Any]) -> Table:
    table = _titled("Time of utterances, last minute", "stage", "p50 ms", "p95 ms")
    for stage, times in overview["stages"].items():
        table.add_row(stage, f"{times['p50_ms']:.1f}", f"{times['p95_ms']:.1f}")
    return table


def _pairs(overview: dict[str, Any]) -> Table:
    table = _titled("Languages with the most nodes", "from", "into", "ready", "free")
    largest = sorted(overview["pairs"], key=lambda pair: -pair["ready_nodes"])[:ROWS]
    for pair in largest:
        free = Text(str(pair["free_slots"]), _bad(not pair["free_slots"]))
        table.add_row(Text(pair["src"]), Text(pair["tgt"]), str(pair["ready_nodes"]), free)
    if not largest:
        table.add_row("none", "", "", "")
    return table


def _waiting(overview: dict[str, Any]) -> Table:
    table = _titled("Waiting", "from", "into", "jobs", "oldest", "for")
    for queue in overview["waiting"][:ROWS]:
        reason = "a free slot" if queue["ready_nodes"] else "a node that can"
        oldest = f"{queue['oldest_s']:.1f} s"
        table.add_row(Text(queue["src"]), Text(queue["tgt"]), str(queue["jobs"]), oldest, reason)
    return table


def _failing(overview: dict[str, Any]) -> Table:
    title = f"Nodes without work: {overview['failing_count']}"
    table = _titled(title, "node", "status", "why", "last heard of")
    for node in overview["failing"][:ROWS]:
        age = f"{node['heartbeat_age_s']:.0f} s ago"
        table.add_row(Text(node["node_id"]), node["status"], node["reason"], age)
    return table


def _titled(title: str, *names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for name in names:
        right = name in ("p50 ms", "p95 ms", "ready", "free", "jobs", "oldest", "last heard of")
        table.add_column(name, justify="right" if right else "left")
    return table
