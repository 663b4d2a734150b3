"""The release gate: its points name tests that exist, and it ends well only if all of them ran and passed."""

from __future__ import annotations

import ast
from pathlib import Path

import gate
import pytest
from gate import POINTS, ROOT, Case, Point, of_all, run, verdict

SUITE = """
import pytest

def test_good(): pass

@pytest.mark.parametrize("n", [1, 2])
def test_each(n): assert n < {limit}

def test_skipped(): {skip}
"""


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_what_proves_a_point_exists(point: Point) -> None:
    for selection in point.tests:
        place, _, test = selection.partition("::")
        assert (ROOT / place).exists(), selection
        if test:
            tree = ast.parse((ROOT / place).read_text())
            names = [
                node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
            assert test in names, selection


def test_a_selection_means_no_more_than_it_says() -> None:
    case = Case("tests/a/test_b.py", "test_c[1-x]", True)
    assert all(
        case.is_of(selection) for selection in ("tests/a", "tests/a/test_b.py", "tests/a/test_b.py::test_c")
    )
    assert not any(
        case.is_of(selection)
        for selection in (
            "tests/a/test",
            "tests/a/test_b.py::test",
            "tests/a/test_b.py::test_c[1-x]",
            "tests/b",
        )
    )


def suite(directory: Path, limit: int, skip: str) -> tuple[list[Case], int]:
    """A suite of four tests, run."""
    (directory / "tests").mkdir()
    (directory / "pytest.ini").write_text("[pytest]\n")
    (directory / "tests/test_small.py").write_text(SUITE.format(limit=limit, skip=skip))
    return run(["-p", "no:cacheprovider"], directory)


GOOD = Point("good", ("tests/test_small.py::test_good",))
EACH = Point("each", ("tests/test_small.py::test_each",))
SKIPPED = Point("skipped", ("tests/test_small.py::test_skipped",))
NONE = Point("none", ("tests/test_small.py::test_good", "tests/test_gone.py"))


def test_all_is_well(tmp_path: Path) -> None:
    cases, code = suite(tmp_path, 3, "pass")
    assert code == 0
    assert [
        (one.kept, one.ran) for one in (of_all(cases, code), verdict(GOOD, cases), verdict(EACH, cases))
    ] == [
        (True, 4),
        (True, 1),
        (True, 2),
    ]
    assert verdict(NONE, cases).failed == ["tests/test_gone.py: no test ran"]
    assert of_all(cases, 3).failed == ["pytest ended with 3"]


def test_what_fails_or_is_skipped_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases, code = suite(tmp_path, 2, "pytest.skip('not here')")
    assert code == 1
    assert verdict(GOOD, cases).kept
    assert verdict(EACH, cases).failed == ["tests/test_small.py::test_each[2]"]
    assert verdict(SKIPPED, cases).failed == ["tests/test_small.py::test_skipped"]
    assert len(of_all(cases, code).failed) == 2
    gate.show([verdict(point, cases) for point in (GOOD, EACH)])
    said = capsys.readouterr().out
    assert "1 of 2 acceptance points are kept" in said
    assert "FAIL  each: tests/test_small.py::test_each[2]" in said


def test_the_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tests = [Case(*_test(selection), True) for point in POINTS for selection in point.tests]
    monkeypatch.setattr(gate, "run", lambda words: (tests, 0))
    assert gate.main([]) == 0
    monkeypatch.setattr(gate, "run", lambda words: (tests[1:], 0))
    assert gate.main([]) == 1
    assert "FAIL" in capsys.readouterr().out
    monkeypatch.setattr(gate, "run", lambda words: (tests, 1))
    assert gate.main([]) == 1


def _test(selection: str) -> tuple[str, str]:
    place, _, test = selection.partition("::")
    return (place, test or "test_any") if place.endswith(".py") else (f"{place}/test_x.py", "test_any")
