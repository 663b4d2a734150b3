"""`linguad explain`: why an utterance was translated where it was, or not at all."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from linguad.commands.asking import add_server_arguments, ask, quote

CHOSEN = {
    "turn": "has its turn",
    "session": "the session's",
    "best": "the best",
    "paired": "paired",
    "again": "nobody else",
    "hedge": "a second try",
}
"""Why an attempt went to its node, in words that fit a column."""

SHOWN_NODES = 30
"""Nodes in the table of one job; `--json` has all of them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad explain`."""
    parser.add_argument("id", metavar="ID", help="a job id, a trace id, or SESSION:INDEX")
    add_server_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print what the server says, unchanged")


def run(args: argparse.Namespace) -> int:
    """Ask the server and show its answer. Raises LinguadError with the cure when there is none."""
    answer = ask(args, "GET", f"explain/{quote(args.id)}")
    if args.json:
        print(json.dumps(answer, indent=2, ensure_ascii=False))
        return 0
    console = Console(highlight=False)
    for job in answer["jobs"]:
        _show(console, job)
    return 0


def _show(console: Console, job: dict[str, Any]) -> None:
    console.print(Text(f"Utterance {job['utterance_index']} of session {job['session_id']}", "bold"))
    asked = job["asked_of_nodes"]
    facts = {
        "job": f"{job['job_id']}, trace {job['trace_id']}",
        "asked for": f"{job['src']} → {job['tgt']}, {' + '.join(asked['services'] + asked['features'])}",
        "status": _status(job),
    }
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
        console.print(_nodes(now))
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
            CHOSEN.get(one["chosen"], one["chosen"]),
            f"{one['sent_s']:g} s",
            "" if one["ended_s"] is None else f"{one['ended_s']:g} s",
            one["end"] or one["state"],
            Text(one["wire_job_id"]),
        )
    return table


def _nodes(now: dict[str, Any]) -> Table:
    in_short = f", mostly {now['reason']}" if now["breakdown"] else ""
    counts = ", ".join(f"{name} {count}" for name, count in now["breakdown"].items())
    hidden = len(now["candidates"]) + now["more_candidates"] - SHOWN_NODES
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"Nodes now: {now['total_nodes']}{in_short}",
        title_justify="left",
        caption=(counts or "no node is ruled out") + (f"; {hidden} more nodes" if hidden > 0 else ""),
        caption_justify="left",
    )
    for name in ("node", "status", "jobs", "done in", "why not"):
        table.add_column(name, justify="right" if name in ("jobs", "done in") else "left")
    for one in now["candidates"][:SHOWN_NODES]:
        table.add_row(
            Text(one["node_id"]),
            one["status"],
            f"{one['slots_used']}/{one['slots']}",
            "" if one["finish_s"] is None else f"{one['finish_s']:.1f} s",
            Text(_why_not(one)),
        )
    return table


def _why_not(one: dict[str, Any]) -> str:
    missing = "".join(f", {kind}: {why}" for kind, why in one["missing_types"].items())
    if one["excluded"]:
        return "failed this job before"
    if one["veto"]:
        return f"{one['veto']}{missing}"
    return "would be chosen" if one["selected"] else ""
