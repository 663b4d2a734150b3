"""The measured part of bench/README.md: between the markers of a bench stand its tables and verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import report

README = Path(__file__).parents[1] / "README.md"


def renew(name: str, rows: Sequence[report.Row], verdicts: Sequence[str]) -> None:
    """Put new tables in the place of the old ones; the text around them stays."""
    README.write_text(renewed(README.read_text(), name, rows, verdicts))


def renewed(text: str, name: str, rows: Sequence[report.Row], verdicts: Sequence[str]) -> str:
    """The text with new tables between the markers of a bench; ValueError if it has no such markers."""
    begin, end = f"<!-- measured: {name} -->\n", f"<!-- end: {name} -->\n"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{README.name} has no place for what {name} measured")
    before, _, rest = text.partition(begin)
    return (
        before + begin + "\n" + "\n".join(_lines(name, rows, verdicts)) + "\n" + end + rest.partition(end)[2]
    )


def _lines(name: str, rows: Sequence[report.Row], verdicts: Sequence[str]) -> Iterator[str]:
    machine = report.machine()
    yield f"Measured on {machine['cores']} cores, {machine['cpu']}, Python {machine['python']}."
    yield ""
    for line in verdicts:
        yield f"- {line}"
    if verdicts:
        yield ""
    for title, of_kind in report.by_kind(name, rows):
        cells, same = report.condensed(of_kind)
        yield f"**{title}**{same and f': {same}'}"
        yield ""
        yield f"| {' | '.join(column.replace('_', ' ') for column in cells[0])} |"
        yield f"| {' | '.join('---' if _is_text(of_kind, column) else '--:' for column in cells[0])} |"
        for row in cells:
            yield f"| {' | '.join(row.values())} |"
        yield ""


def _is_text(rows: Sequence[report.Row], column: str) -> bool:
    return any(isinstance(row.get(column), str) for row in rows)
