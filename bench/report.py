"""What every bench shares: its arguments, medians with their spread, tables or JSON, verdicts on budgets."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

Cell = str | int | float | bool | None
Row = Mapping[str, Cell]
"""One measurement, flat; names end in their unit (`p50_ms`, `ns`), `impl` is the twin that was measured."""


def parser(doc: str | None, *, smallest: bool = False) -> argparse.ArgumentParser:
    """An argument parser with the arguments of all benches, described by the bench's docstring.

    With `smallest` there is a setting for tests, too.
    """
    shared = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    shared.add_argument("--quick", action="store_true", help="fewer and shorter measurements, to try it out")
    if smallest:
        shared.add_argument("--smallest", action="store_true", help="the least that shows that it works")
    return shared


def machine() -> dict[str, str | int]:
    """What the numbers were measured on."""
    return {"cpu": _cpu_model(), "cores": os.cpu_count() or 1, "python": platform.python_version()}


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Of sorted numbers; -1 when there are none."""
    return round(ordered[min(len(ordered) * percent // 100, len(ordered) - 1)], 3) if ordered else -1.0


def percentiles(name: str, values: Iterable[float], *, most: bool = False) -> dict[str, float]:
    """Median and 99th percentile of times in ms, with `most` the longest too; nothing when there are none."""
    ordered = sorted(values)
    if not ordered:
        return {}
    numbers = {f"{name}_p{percent}_ms": percentile(ordered, percent) for percent in (50, 99)}
    return numbers | ({f"{name}_max_ms": percentile(ordered, 100)} if most else {})


def middle(name: str, unit: str, rounds: Sequence[float], digits: int = 3) -> dict[str, float]:
    """The median of all rounds, with the lowest and the highest of them; nothing when there are none."""
    if not rounds:
        return {}
    of_all = {"": median(rounds), "_low": min(rounds), "_high": max(rounds)}
    return {f"{name}{which}_{unit}".lstrip("_"): round(value, digits) for which, value in of_all.items()}


def verdict(
    what: str, limit: float, unit: str, measured: float | None, where: str = "", *, least: bool = False
) -> str:
    """One line that says whether a budget is kept: at most `limit`, or at least."""
    line = f"{what}, at {'least' if least else 'most'} {limit:,g} {unit}:"
    if measured is None:
        return f"{line} not measured"
    kept = measured >= limit if least else measured <= limit
    return f"{line} {'kept' if kept else 'NOT KEPT'}, {short(measured)} {unit}{where and f' ({where})'}"


def short(value: float) -> str:
    """A number for a sentence."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def number(row: Row, name: str) -> float | None:
    """A number of a row, if it has it."""
    value = row.get(name)
    return float(value) if isinstance(value, int | float) else None


def pick(rows: Iterable[Row], **wanted: str | float) -> Row | None:
    """The first row with these values."""
    return next((row for row in rows if all(row.get(name) == value for name, value in wanted.items())), None)


FACTS = frozenset(
    ("impl", "nodes", "pairs_per_node", "slots_per_node", "audio_bytes", "message_bytes", "load")
)
"""Columns that say what was measured; in a table of one row they stand below it."""

_SPREAD = re.compile("(^|_)(low|high)_[^_]+$")

PIPE_COLUMNS = 160
"""Width of tables that are not printed on a terminal."""


def show(bench: str, rows: Sequence[Row], *, as_json: bool, verdicts: Iterable[str] = ()) -> None:
    """Print the rows as `{"bench", "machine", "rows"}` in one line, or as a table for each `kind` of rows.

    In a table there is a column per name; names have spaces, at which long ones are folded. Below the tables
    stand the verdicts on the budgets.
    """
    if as_json:
        print(json.dumps({"bench": bench, "machine": machine(), "rows": [dict(row) for row in rows]}))
        return
    for title, of_kind in by_kind(bench, rows):
        _print_table(title, of_kind)
    print(*verdicts, sep="\n")


def by_kind(bench: str, rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The tables of a bench with their titles: one for each run of rows of the same `kind`, without that."""
    for kind, of_kind in groupby(rows, lambda row: row.get("kind")):
        bare: list[Row] = [{name: value for name, value in row.items() if name != "kind"} for row in of_kind]
        yield (f"{bench}: {kind}" if kind else bench), bare


def condensed(rows: Sequence[Row]) -> tuple[list[dict[str, str]], str]:
    """Rows for people, and what is the same in all of them, as words.

    A number with its lowest and highest is one cell; columns without any value are left out.
    """
    names = [
        name for name in dict.fromkeys(chain.from_iterable(rows)) if any(row.get(name) != "" for row in rows)
    ]
    same = [
        name
        for name in names
        if (len(rows) > 1 or name in FACTS) and len({row.get(name) for row in rows}) == 1
    ]
    shown = [name for name in names if name not in same and not _SPREAD.search(name)]
    cells = [{name: _with_spread(row, name) for name in shown} for row in rows]
    words = ", ".join(f"{name.replace('_', ' ')} {cell(rows[0].get(name))}" for name in same)
    return cells, words


def _with_spread(row: Row, name: str) -> str:
    stem, _, unit = name.rpartition("_")
    low, high = (row.get(f"{stem}_{end}_{unit}".lstrip("_")) for end in ("low", "high"))
    spread = "" if low is None or low == high else f" ({cell(low)} to {cell(high)})"
    return cell(row.get(name)) + spread


def _print_table(title: str, rows: Sequence[Row]) -> None:
    cells, same = condensed(rows)
    about = ", ".join(f"{name} {value}" for name, value in machine().items())
    table = Table(title=title, caption=f"{same and f'all: {same}; '}{about}")
    for name in cells[0]:
        numeric = not any(isinstance(row.get(name), str) for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if numeric else "left")
    for row in cells:
        table.add_row(*row.values())
    # A pipe has no width; cut columns would be no use there.
    Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(table)


def cell(value: Cell) -> str:
    """A value for people."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
