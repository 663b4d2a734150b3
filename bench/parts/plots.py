"""The plots of bench/README.md, as small SVG files in bench/plots/."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

from bench import report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLACE = Path(__file__).parents[1] / "plots"
FILL = 0.5  # of the fleets in the plot


def renew(name: str, rows: Sequence[report.Row]) -> None:
    """Draw the plot of a bench, if it has one."""
    if name not in PLOTS:
        return
    # Only this needs matplotlib: the benches and their tables go without the extra `bench`.
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    PLOTS[name](axes, rows)
    axes.grid(visible=True, which="major", linewidth=0.4)
    axes.legend()
    PLACE.mkdir(exist_ok=True)
    figure.savefig(PLACE / f"{name}.svg", metadata={"Date": None})
    pyplot.close(figure)


def _select(axes: Axes, rows: Sequence[report.Row]) -> None:
    for impl, style in (("scan", ":"), ("python", "--"), ("cython", "-")):
        for fleet, colour in (("same", "tab:blue"), ("mixed", "tab:orange")):
            points = [row for row in rows if (row["impl"], row["fleet"], row["fill"]) == (impl, fleet, FILL)]
            axes.plot(
                _numbers(points, "nodes"),
                _numbers(points, "ns"),
                style,
                color=colour,
                marker=".",
                label=f"{impl}, {fleet}",
            )
    axes.axhline(1000, color="grey", linewidth=0.8, label="budget")
    axes.set(xscale="log", yscale="log", xlabel="nodes", ylabel="select and release, ns")


def _dispatch(axes: Axes, rows: Sequence[report.Row]) -> None:
    points = [row for row in rows if row["kind"] == "utterance"]
    for time, colour in (("closed", "tab:blue"), ("frame", "tab:orange")):
        for percentile, style in (("p50", "-"), ("p99", "--")):
            column = f"{time}_{percentile}_ms"
            axes.plot(
                _numbers(points, "asked_per_s"),
                _numbers(points, column),
                style,
                color=colour,
                marker=".",
                label=f"{time} {percentile}",
            )
    axes.axhline(1, color="grey", linewidth=0.8, label="budget of closed p99, to 500 jobs/s")
    axes.set(yscale="log", xlabel="jobs/s", ylabel="until the node's socket has the job, ms")


def _numbers(rows: Sequence[report.Row], name: str) -> list[float]:
    """A column; what was not measured is a gap."""
    return [nan if (value := report.number(row, name)) is None else value for row in rows]


PLOTS: dict[str, Callable[[Axes, Sequence[report.Row]], None]] = {
    "select": _select,
    "dispatch": _dispatch,
}
