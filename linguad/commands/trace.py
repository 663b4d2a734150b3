"""`linguad trace`: what became of the utterances of a conversation, one row each."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from linguad.commands.asking import add_server_arguments, ask, console, print_json, quote

CUTS = {
    "manual": "final",
    "timeout": "pause",
    "max_duration": "too long",
    "max_length": "too big",
    "close": "end",
}
"""What ended an utterance, in words that fit a column."""

STAGES = ("cut", "queue", "send", "node", "reorder")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad trace`."""
    parser.add_argument("id", metavar="ID", help="a session id, a trace id, a job id, or SESSION:INDEX")
    add_server_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Ask the server and show its answer. Raises LinguadError with the cure when there is none."""
    answer = ask(args, "GET", f"utterances/{quote(args.id)}")
    if print_json(args, answer):
        return 0
    rows = answer["utterances"]
    screen = console()
    for session in dict.fromkeys(row["session_id"] for row in rows):
        own = [row for row in rows if row["session_id"] == session]
        screen.print(Text(f"Session {session}, trace {own[0]['trace_id']}", "bold"), soft_wrap=True)
        screen.print(_table(own))
        for remark in remarks(own):
            screen.print(Text(f"  {remark}"), soft_wrap=True)
    if len(rows) == answer["most"]:
        screen.print(f"Only the last {answer['most']} are shown.")
    return 0


def remarks(rows: list[dict[str, Any]]) -> list[str]:
    """What is worth a look, in sentences."""
    found = []
    for row in rows:
        place = f"#{row['index']} ({row['tgt']})"
        if row["missing_before"]:
            gone = ", ".join(f"#{index}" for index in row["missing_before"])
            found.append(f"{place}: {gone} before it led to no job: silence, refused, or forgotten.")
        if row["early_final"]:
            found.append(f"{place}: an early final; its user went on speaking at once.")
        if row["held_ms"]:
            found.append(
                f"{place}: {row['held_ms']} ms of it were held first, for they were too short to go."
            )
        if row["late"]:
            found.append(f"{place}: its text came after the client had been told that there is none.")
        found += [
            f"{place}: attempt {attempt['number']} on {attempt['node_id']} ended {attempt['end']} "
            f"after {attempt['ended_ms'] - attempt['sent_ms']:.0f} ms."
            for attempt in row["attempts"]
            if attempt["end"] not in (None, "ok", "empty", "merged")
        ]
    return found


def _table(rows: list[dict[str, Any]]) -> Table:
    title = f"ms; total = {' + '.join(STAGES)}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for name in ("#", "into", "ended by", "long", "bytes", "gap", "node", "tries", "total"):
        table.add_column(name, justify="left" if name in ("into", "ended by", "node") else "right")
    for name in ("stages", "outcome", "delivered"):
        table.add_column(name)
    for row in rows:
        table.add_row(
            f"{row['index']}{'!' if row['missing_before'] or row['early_final'] else ''}",
            Text(row["tgt"]),
            CUTS.get(row["cut_reason"], row["cut_reason"]),
            str(row["duration_ms"]),
            str(row["bytes"]),
            _number(row["since_previous_ms"]),
            Text(row["node_id"] or ""),
            str(len(row["attempts"])),
            _number(row["stages"]["total_ms"]),
            "+".join(_number(row["stages"][f"{stage}_ms"]) or "?" for stage in STAGES),
            Text(row["outcome"] + (f" ({row['error']})" if row["error"] else "")),
            _clock(row["delivered_at_ms"]),
        )
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}" if abs(value) >= 10 else f"{value:.1f}"


def _clock(at_ms: int | None) -> str:
    if at_ms is None:
        return ""
    return datetime.fromtimestamp(at_ms / 1000).astimezone().strftime("%H:%M:%S.%f")[:-3]
