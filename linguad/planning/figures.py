"""What a run comes to, in the numbers that an operator asks for."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from msgspec import Struct

from linguad.planning.model import Node, Rules, Run


class Figures(Struct, frozen=True, kw_only=True):
    """Parts are of 1; to percentiles of waits a job that was given up has waited the whole timeout."""

    jobs: int
    """That were looked at, after the warm-up."""
    wait_p50_ms: float
    wait_p90_ms: float
    wait_p99_ms: float
    total_p50_ms: float
    """From the end of an utterance until its result is back, of jobs that were done."""
    total_p90_ms: float
    total_p99_ms: float
    load: float
    """Work that came, as a part of what the nodes together can do."""
    utilisation: float
    """Part of the time that nodes were at work, on average."""
    imbalance: float
    """Utilisation of the busiest hundredth of the nodes, at least one, as a multiple of the average."""
    queued: float
    """Part of the jobs that found no free slot."""
    given_up: float
    """Part of the jobs for which no node was free in time."""
    failed: float
    """Part of the jobs whose attempts all came to nothing."""
    moved: float
    """Part of the attempts that left the node of their session."""


def figures(run: Run, nodes: Sequence[Node], rules: Rules) -> Figures:
    """The numbers of a run of these nodes; zeros where no job was counted."""
    waits, totals = sorted(run.waits), sorted(run.totals)
    able_s = (run.end_s - run.start_s) * rules.parallel
    busy = sorted((seconds / able_s for seconds in run.busy_s), reverse=True)
    utilisation = sum(busy) / len(busy)
    busiest = busy[: ceil(len(busy) / 100)]
    return Figures(
        jobs=run.arrived,
        wait_p50_ms=percentile(waits, 0.5) * 1000,
        wait_p90_ms=percentile(waits, 0.9) * 1000,
        wait_p99_ms=percentile(waits, 0.99) * 1000,
        total_p50_ms=percentile(totals, 0.5) * 1000,
        total_p90_ms=percentile(totals, 0.9) * 1000,
        total_p99_ms=percentile(totals, 0.99) * 1000,
        load=run.work_s / (able_s * len(nodes)),
        utilisation=utilisation,
        imbalance=_part(sum(busiest) / len(busiest), utilisation),
        queued=_part(run.queued, run.arrived),
        given_up=_part(run.given_up, run.arrived),
        failed=_part(run.failed, run.arrived),
        moved=_part(run.moved, run.followed),
    )


def percentile(ordered: Sequence[float], part: float) -> float:
    """Of sorted numbers; 0 when there are none."""
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def _part(of: float, whole: float) -> float:
    return of / whole if whole else 0.0
