"""What every bench shares: its arguments, and its rows as a table or as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

Row = Mapping[str, str | int | float | bool | None]
"""One measurement, flat; names end in their unit (`p50_ms`, `ns`), `impl` is the twin that was measured."""


def parser(doc: str | None) -> argparse.ArgumentParser:
    """An argument parser with the arguments of all benches, described by the bench's docstring."""
    shared = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    shared.add_argument("--quick", action="store_true", help="fewer and shorter measurements, to try it out")
    return shared


def machine() -> dict[str, str | int]:
    """What the numbers were measured on."""
    return {"cpu": _cpu_model(), "cores": os.cpu_count() or 1, "python": platform.python_version()}


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Of sorted numbers; -1 when there are none."""
    return round(ordered[min(len(ordered) * percent // 100, len(ordered) - 1)], 3) if ordered else -1.0


PIPE_COLUMNS = 160
"""Width of tables that are not printed on a terminal."""


def show(bench: str, rows: Sequence[Row], *, as_json: bool) -> None:
    """Print the rows as `{"bench", "machine", "rows"}` in one line, or as a table with a column per name.

    In the table names have spaces, at which long ones are folded.
    """
    if as_json:
        print(json.dumps({"bench": bench, "machine": machine(), "rows": [dict(row) for row in rows]}))
        return
    table = Table(title=bench, caption=", ".join(f"{name} {value}" for name, value in machine().items()))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    for name in columns:
        numbers = all(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in columns))
    # A pipe has no width; cut columns would be no use there.
    Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(table)


def _cell(value: str | int | float | bool | None) -> str:
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
