"""What all benches share: rows for people, verdicts, the renewed part of the README, the guard."""

from __future__ import annotations

from importlib import import_module

import pytest

from bench import guard, report
from bench.__main__ import BENCHES
from bench.guard import Bound
from bench.parts import readme


def test_a_verdict_names_the_number() -> None:
    assert report.verdict("a hash", 100, "ns", 99.4) == "a hash, at most 100 ns: kept, 99.4 ns"
    assert (
        report.verdict("a hash", 100, "ns", 101.0, "cold")
        == "a hash, at most 100 ns: NOT KEPT, 101 ns (cold)"
    )
    assert report.verdict("rate", 0.8, "times", 0.7, least=True).startswith(
        "rate, at least 0.8 times: NOT KEPT"
    )
    assert report.verdict("rate", 0.8, "times", None) == "rate, at most 0.8 times: not measured"


def test_rows_for_people_are_shorter() -> None:
    rows = [
        {"impl": "cython", "nodes": n, "note": "", **report.middle("p50", "ms", [n, n + 2, n + 1])}
        for n in (1, 5)
    ]
    cells, same = report.condensed(rows)
    assert same == "impl cython"
    assert cells == [{"nodes": "1", "p50_ms": "2 (1 to 3)"}, {"nodes": "5", "p50_ms": "6 (5 to 7)"}]


def test_the_readme_has_a_place_for_every_bench() -> None:
    text = readme.README.read_text()
    for name in BENCHES:
        renewed = readme.renewed(
            text, name, [{"impl": "cython", "ns": 7}, {"impl": "python", "ns": 8}], ["kept"]
        )
        again = readme.renewed(
            renewed, name, [{"impl": "cython", "ns": 7}, {"impl": "python", "ns": 8}], ["kept"]
        )
        assert renewed == again
        assert "\n- kept\n" in renewed
        assert "| cython | 7 |\n| python | 8 |" in renewed
        assert renewed.partition(f"<!-- measured: {name}")[0] == text.partition(f"<!-- measured: {name}")[0]
        assert renewed.partition(f"<!-- end: {name}")[2] == text.partition(f"<!-- end: {name}")[2]
    with pytest.raises(ValueError, match="no place for what other measured"):
        readme.renewed(text, "other", [], [])


def test_the_guard_measures_a_suspect_twice() -> None:
    bound = Bound("a fast hash", "hash", "ns", 2.0, {"impl": "fast"}, {"impl": "slow"})
    runs = []

    def measure(*times: float) -> list[str]:
        left = iter(times)

        def rows(bench: str) -> list[report.Row]:
            runs.append(bench)
            return [{"impl": "fast", "ns": next(left)}, {"impl": "slow", "ns": 10}]

        return guard.broken([bound], rows)

    assert measure(20) == []
    assert measure(30, 19) == []
    assert measure(30, 40) == ["a fast hash is 4, more than 2 (bench.hash)"]
    assert runs == ["hash"] * 5
    with pytest.raises(SystemExit, match=r"bench.hash did not measure a fast hash"):
        guard.broken([bound], lambda _: [])


def test_the_guard_asks_only_benches_that_there_are() -> None:
    assert {bound.bench for bound in guard.BOUNDS} < set(BENCHES)
    assert all(import_module(f"bench.{name}").main for name in BENCHES)
