"""The pages of defects name every defect and promise, and only files and tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = {
    "docs/defects.md": {"D": range(1, 37)},
    "docs/defects-sessions.md": {"D": range(43)},
    "docs/defects-gateway.md": {"D": range(1, 17), "A": range(1, 18)},
    "docs/defects-hub.md": {"D": range(1, 19), "A": range(1, 21)},
    "docs/defects-cluster.md": {"C": range(1, 17), "F": range(1, 6)},
    "docs/defects-operating.md": {
        "D": (2, 5, 10, 13, 30, 31, 32, 36, 38, 39, 40, 42, 43, 49, 50, 53, 57),
        "H": range(1, 14),
        "O": range(1, 16),
    },
    "docs/defects-models.md": {
        "D": range(1, 19),
        "S": range(1, 9),
        "T": range(1, 7),
        "P": range(1, 7),
        "N": range(1, 13),
        "I": range(1, 10),
    },
}
"""Pages, and the numbers of their rows by their letter."""

Row = tuple[str, str, str, str]


def rows(page: str) -> list[Row]:
    """Letter and number, what went wrong or has to hold, what makes it so, and the tests."""
    text = (ROOT / page).read_text()
    return re.findall(r"^\| ([A-Z]\d+) \| (.+) \| (.+) \| (.+) \|$", text, flags=re.MULTILINE)


@cache
def names_in(path: Path) -> frozenset[str]:
    """Names of the tests in a file, those of classes as `Class::test`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        owner = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        for part in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and part.name.startswith("test_"):
                found.add(owner + part.name)
    return frozenset(found)


@pytest.mark.parametrize("page", PAGES)
def test_every_defect_has_its_row(page: str) -> None:
    wanted = [f"{letter}{number}" for letter, numbers in PAGES[page].items() for number in numbers]
    assert [name for name, *_ in rows(page)] == wanted


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=f"{Path(page).stem}-{row[0]}") for page in PAGES for row in rows(page)],
)
def test_what_a_row_names_exists(row: Row) -> None:
    _, _, mechanism, proof = row
    files = [name for name in re.findall(r"`([^`]+)`", mechanism) if "/" in name]
    assert files
    assert [name for name in files if not (ROOT / name).is_file()] == []
    tests = [name.split("::", 1) for name in re.findall(r"`([^`]+)`", proof)]
    assert tests
    assert [name for file, name in tests if name not in names_in(ROOT / file)] == []
