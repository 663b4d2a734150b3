"""Plots of plans, as PNG files. The only place that needs matplotlib, which is an extra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from linguad.errors import LinguadError
from linguad.planning.plan import Answer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WAIT, TOTAL, WORK = "#0072b2", "#d55e00", "#777777"
"""Colours that people tell apart who do not see all colours."""


def check(path: Path) -> None:
    """Raises LinguadError if no plot can be drawn there: better before the simulation than after it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise LinguadError("plots need matplotlib; install it with: pip install 'linguad[plot]'") from error
    if path.suffix.lower() != ".png":
        raise LinguadError(f"{path}: a plot is a PNG file, so its name must end in .png")
    if not path.parent.is_dir():
        raise LinguadError(f"{path}: there is no directory {path.parent}")


def plan(path: Path, found: Answer, more: Sequence[Answer], target_wait_ms: float | None) -> None:
    """Waits and utilisation against the number of sessions, and the distribution of waits at the plan's.

    Raises LinguadError if the file cannot be written.
    """
    from matplotlib.figure import Figure

    # without pyplot, which looks for a screen and keeps every figure
    figure = Figure(figsize=(12, 5), layout="constrained", dpi=120)
    against, spread = figure.subplots(1, 2)
    fleet, load = found.scenario.fleet, found.scenario.load
    figure.suptitle(
        f"{counted(fleet.nodes)} nodes of {fleet.speed:g} audio s/s, {counted(load.sessions)} sessions, "
        f"{found.scenario.rules.policy}"
    )
    _against_sessions(against, found, sorted([*more, found], key=lambda one: one.scenario.load.sessions))
    _distribution(spread, found)
    for axes in (against, spread):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    if target_wait_ms is not None:
        against.axhline(target_wait_ms / 1000, color=WAIT, linestyle=":", linewidth=1)
        against.annotate(
            "target", (1, target_wait_ms / 1000), xycoords=("axes fraction", "data"), ha="right", va="bottom"
        )
    try:
        figure.savefig(path)
    except OSError as error:
        raise LinguadError(f"{path} cannot be written: {error.strerror}") from error


def _against_sessions(axes: Axes, found: Answer, answers: Sequence[Answer]) -> None:
    sessions = [one.scenario.load.sessions for one in answers]
    for name, style in (("wait_p99_ms", "-"), ("wait_p50_ms", "--")):
        waits = [getattr(one.figures, name) / 1000 for one in answers]
        axes.plot(sessions, waits, style, color=WAIT, marker=".", label=f"wait {name[5:8]}")
    given_up = [one.figures.given_up * 100 for one in answers]
    axes.axvline(found.scenario.load.sessions, color="black", linewidth=0.8)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(lambda value, _: counted(round(value)))
    axes.tick_params(axis="x", rotation=20)
    axes.set_xlabel("sessions (upright line: this plan)")
    axes.set_ylabel("wait, s")
    parts = axes.twinx()
    utilisation = [one.figures.utilisation * 100 for one in answers]
    parts.plot(sessions, utilisation, color=WORK, marker=".", label="nodes at work")
    parts.plot(sessions, given_up, color=TOTAL, marker=".", label="jobs given up")
    parts.set_ylim(0, 105)
    parts.set_ylabel("%")
    parts.spines["top"].set_visible(False)
    lines = [*axes.get_lines()[:2], *parts.get_lines()]
    axes.legend(handles=lines, loc="upper left", frameon=False)
    axes.set_title("More or fewer sessions on these nodes")


def _distribution(axes: Axes, found: Answer) -> None:
    for values, colour, label in (
        (found.run.waits, WAIT, "wait"),
        (found.run.totals, TOTAL, "end of speech to result"),
    ):
        ordered = sorted(values)
        if ordered:
            step = max(1, len(ordered) // 2000)
            shown = ordered[::step]
            axes.plot(
                shown, [100 * i * step / len(ordered) for i in range(len(shown))], color=colour, label=label
            )
    furthest = max(found.figures.total_p99_ms, found.figures.wait_p99_ms) / 1000
    axes.set_xlim(0, furthest * 1.15 or 1)
    axes.set_ylim(0, 100)
    axes.set_xlabel("s")
    axes.set_ylabel("% of the jobs are that fast")
    axes.legend(loc="lower right", frameon=False)
    axes.set_title("This plan")


def counted(number: int) -> str:
    """A count with commas between its thousands."""
    return f"{number:,}"
