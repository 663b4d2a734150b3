"""`linguad explain`: why an utterance was translated where it was, or not at all."""

from __future__ import annotations

import argparse
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from linguad.commands.asking import add_server_arguments, ask, console, print_json, quote
from linguad.commands.candidates import nodes

CHOSEN = {
    "turn": "has its turn",
    "session": "the session's",
    "best": "the best",
    "paired": "paired",
    "again": "nobody else",
    "hedge": "a second try",
}
"""Why an attempt went to its node, in words that fit a column."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad explain`."""
    parser.add_argument("id", metavar="ID", help="a job id, a trace id, or SESSION:INDEX")
    add_server_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Ask the server and show its answer. Raises LinguadError with the cure when there is none."""
    answer = ask(args, "GET", f"explain/{quote(args.id)}")
    if print_json(args, answer):
        return 0
    screen = console()
    for job in answer["jobs"]:
        _show(screen, job)
    return 0


def _show(console: Console, job: dict[str, Any]) -> None:
    console.print(Text(f"Utterance {job['utterance_index']} of session {job['session_id']}", "bold"))
    asked = job["asked_of_nodes"]
    facts = {
        "job": f"{job['job_id']}, trace {job['trace_id']}",
        "asked for": f"{job['src']} → {job['tgt']}, {' + '.join(asked['services'] + asked['features'])}",
        "status": _status(job),
    }
    if asked["pools"] is not None:
        facts["pools"] = (
            ", ".join(
                f"{name or pool} ({pool})"
                for name, pool in zip(asked["pool_names"], asked["pools"], strict=True)
            )
            or "none is eligible"
        )
    if asked["node"]:
        facts["paired"] = f"only node {asked['node']} may do it"
    if (waiting := job["waiting"]) is not None:
        facts["waiting"] = (
            f"{waiting['earlier_of_session']} earlier of this session, "
            f"{waiting['all_alike']} of all sessions with the same needs"
        )
    for name, value in facts.items():
        console.print(Text.assemble((name.rjust(10), "dim"), "  ", value), soft_wrap=True)
    if job["attempts"]:
        console.print(_attempts(job["attempts"]))
    else:
        console.print(" " * 12 + "not sent to any node")
    if (now := job["now"]) is not None:
        console.print(nodes(now))
    console.print()


def _status(job: dict[str, Any]) -> str:
    ended = "" if job["took_s"] is None else f" after {job['took_s']:g} s"
    parts = [f"{job['status']}{ended}, made {job['age_s']:.0f} s ago"]
    if job["error"] or job["reason"]:
        details = job["details"] or {}
        parts.append(f"{job['error'] or 'no text'}: {details.get('reason') or job['reason']}")
        missing = details.get("missing_types") or {}
        parts += [f"nodes lack {kind} ({why})" for kind, why in missing.items()]
    return "; ".join(parts)


def _attempts(attempts: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Attempts", title_justify="left")
    for name in ("#", "node", "chosen as", "sent after", "ended after", "how", "the node's name for it"):
        table.add_column(name, justify="right" if name.endswith("after") else "left")
    for one in attempts:
        table.add_row(
            str(one["number"]),
            Text(one["node_id"]),
            CHOSEN.get(one["chosen"], one["chosen"]) + _where(one),
            f"{one['sent_s']:g} s",
            "" if one["ended_s"] is None else f"{one['ended_s']:g} s",
            one["end"] or one["state"],
            Text(one["wire_job_id"]),
        )
    return table


def _where(attempt: dict[str, Any]) -> str:
    if attempt["pool"] is None:
        return ""
    return f", pool {attempt['pool']}" + (", not the preferred one" if attempt["fallback"] else "")
