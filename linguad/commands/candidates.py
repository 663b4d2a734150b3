"""The nodes that a job could go to, as a table: for `linguad explain` and `linguad simulate`."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from linguad.core.survey import Veto

LACKING = (Veto.MODEL_NOT_AVAILABLE, Veto.GPU_UNAVAILABLE)
"""Reasons of which the types of service that a node lacks are a part; without a connection it lacks all."""

SHOWN_NODES = 30
"""Nodes in the table of one job; `--json` has all of them."""


def nodes(now: dict[str, Any]) -> Table:
    """The nodes of a survey, the best first, and why the others do not get the job."""
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
    shown = now["candidates"][:SHOWN_NODES]
    parted = any(one["pool"] is not None for one in shown)
    for name in ("node", "status", *(["pool"] if parted else []), "jobs", "done in", "why not"):
        table.add_column(name, justify="right" if name in ("pool", "jobs", "done in") else "left")
    for one in shown:
        table.add_row(
            Text(one["node_id"]),
            one["status"],
            *([_number(one["pool"])] if parted else []),
            f"{one['slots_used']}/{one['slots']}",
            "" if one["finish_s"] is None else f"{one['finish_s']:.1f} s",
            Text(_why_not(one)),
        )
    return table


def _number(pool: int | None) -> str:
    return "" if pool is None else str(pool)


def _why_not(one: dict[str, Any]) -> str:
    lacks = one["missing_types"].items() if one["veto"] in LACKING else ()
    missing = "".join(f", {kind}: {why}" for kind, why in lacks)
    if one["excluded"]:
        return "failed this job before" if one["failed_before"] else "left out"
    if one["veto"]:
        return f"{one['veto']}{missing}"
    return "would be chosen" if one["selected"] else ""
