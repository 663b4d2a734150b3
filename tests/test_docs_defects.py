"""docs/defects.md names every defect, and only files and tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = re.findall(
    r"^\| D(\d+) \| (.+) \| (.+) \| (.+) \|$", (ROOT / "docs/defects.md").read_text(), flags=re.MULTILINE
)


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


def test_every_defect_has_its_row() -> None:
    assert [int(number) for number, *_ in ROWS] == list(range(1, 37))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"D{row[0]}")
def test_what_a_row_names_exists(row: tuple[str, str, str, str]) -> None:
    _, _, mechanism, proof = row
    files = [name for name in re.findall(r"`([^`]+)`", mechanism) if "/" in name]
    assert files
    assert [name for name in files if not (ROOT / name).is_file()] == []
    tests = [name.split("::", 1) for name in re.findall(r"`([^`]+)`", proof)]
    assert tests
    assert [name for file, name in tests if name not in names_in(ROOT / file)] == []
