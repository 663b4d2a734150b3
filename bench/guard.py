"""Whether something became much slower than it was, by ratios within one run, which any machine can measure.

Runs the quick benches and compares two of their numbers at a time with the bounds in the table below, which
are about twice what is usual. A ratio beyond its bound is measured once more; if it is so again, the guard
names it and ends with 1. `make guard`, about two minutes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench import report
from bench.__main__ import run

Wanted = Mapping[str, str | float]
"""Columns and values by which a row is found."""


@dataclass(frozen=True)
class Bound:
    """A ratio of one column in two rows of a bench, and the most it may be."""

    what: str
    bench: str
    column: str
    most: float
    over: Wanted
    under: Wanted

    def ratio(self, rows: Sequence[report.Row]) -> float:
        """As measured; SystemExit if a row is missing."""
        over, under = (
            report.number(report.pick(rows, **wanted) or {}, self.column)
            for wanted in (self.over, self.under)
        )
        if over is None or not under:
            raise SystemExit(f"bench.{self.bench} did not measure {self.what}")
        return over / under


def _table(impl: str, fleet: str, nodes: int, fill: float) -> Wanted:
    return {"impl": impl, "fleet": fleet, "nodes": nodes, "fill": fill}


def _hash(impl: str) -> Wanted:
    return {"impl": impl, "function": "pool_id_for_key"}


def _trip(impl: str, kind: str, audio_bytes: int, sessions: int) -> Wanted:
    return {"impl": impl, "kind": kind, "audio_bytes": audio_bytes, "sessions": sessions}


def _rate(asked_per_s: int) -> Wanted:
    return {"kind": "utterance", "asked_per_s": asked_per_s}


def _session(impl: str) -> Wanted:
    return {"impl": impl, "kind": "session", "state": "silent"}


def _asked(impl: str, kind: str) -> Wanted:
    return {"impl": impl, "kind": kind, "clients": 8}


def _beat(state: str) -> Wanted:
    return {"kind": "one", "state": state}


BOUNDS = (
    Bound("a pool id, compiled against plain", "hash", "ns", 0.05, _hash("cython"), _hash("python")),
    *(
        Bound(what, "select", "ns", most, _table(*over), _table(*under))
        for what, most, over, under in (
            (
                "selection, compiled against plain",
                0.08,
                ("cython", "same", 100, 0.5),
                ("python", "same", 100, 0.5),
            ),
            (
                "selection, compiled against the scan",
                0.2,
                ("cython", "same", 100, 0.5),
                ("scan", "same", 100, 0.5),
            ),
            (
                "selection, 100,000 equal nodes against 100",
                6.0,
                ("cython", "same", 100_000, 0.5),
                ("cython", "same", 100, 0.5),
            ),
            (
                "selection, 100,000 mixed nodes against 100",
                6.0,
                ("cython", "mixed", 100_000, 0.5),
                ("cython", "mixed", 100, 0.5),
            ),
            (
                "selection, full against idle",
                2.5,
                ("cython", "mixed", 100, 1.0),
                ("cython", "mixed", 100, 0.0),
            ),
        )
    ),
    *(
        Bound(f"{what} of {kind}, linguad against relay", "roundtrip", column, most, over, under)
        for kind, size, most in (("utterance", 20_000, 5.0), ("chunks", 9_672, 3.0))
        for what, column, over, under in (
            ("latency", "p50_ms", _trip("linguad", kind, size, 1), _trip("relay", kind, size, 1)),
            ("CPU", "cpu_us_per_job", _trip("linguad", kind, size, 8), _trip("relay", kind, size, 8)),
        )
    ),
    Bound("CPU of a job, 100 jobs/s against 50", "dispatch", "cpu_us_per_job", 1.6, _rate(100), _rate(50)),
    Bound("dispatch time, 100 jobs/s against 50", "dispatch", "closed_p50_ms", 4.0, _rate(100), _rate(50)),
    Bound(
        "a session against a bare connection",
        "memory",
        "each_kib",
        2.5,
        _session("linguad"),
        _session("relay"),
    ),
    *(
        Bound(f"CPU of {what}", "gateway", "cpu_us", most, over, under)
        for what, most, over, under in (
            (
                "a translation over HTTP, against a session",
                8.0,
                _asked("gateway", "translate"),
                _asked("native", "translate"),
            ),
            (
                "an utterance on a stream, against a session",
                3.0,
                _asked("gateway", "stream utterance"),
                _asked("native", "stream utterance"),
            ),
            (
                "a request with a key, against one without",
                4.0,
                _asked("/v1/me", "door"),
                _asked("/health", "door"),
            ),
        )
    ),
    Bound(
        "p99 of a tenant beside a flood",
        "fairness",
        "inside_p99_ms",
        3.0,
        {"kind": "flood, no limits"},
        {"kind": "calm"},
    ),
    Bound("a heartbeat with a change", "heartbeat", "cpu_us", 3.0, _beat("languages"), _beat("unchanged")),
)


def broken(bounds: Sequence[Bound], measure: Callable[[str], Sequence[report.Row]]) -> list[str]:
    """A sentence for each ratio that is beyond its bound twice; `measure` runs a bench."""
    sentences = []
    for bench in dict.fromkeys(bound.bench for bound in bounds):
        suspects = [bound for bound in bounds if bound.bench == bench]
        for _ in range(2):
            rows = measure(bench)
            ratios = [(bound, bound.ratio(rows)) for bound in suspects]
            for bound, ratio in ratios:
                print(f"{bound.what}: {ratio:.3g}, at most {bound.most:g}", flush=True)
            beyond = [(bound, ratio) for bound, ratio in ratios if ratio > bound.most]
            suspects = [bound for bound, _ in beyond]
            if not suspects:
                break
        sentences += [
            f"{bound.what} is {ratio:.3g}, more than {bound.most:g} (bench.{bench})"
            for bound, ratio in beyond
        ]
    return sentences


def main() -> None:
    """Measure and compare."""
    formatter = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(description=__doc__, formatter_class=formatter).parse_args()
    sentences = broken(BOUNDS, lambda bench: run(bench, "--quick"))
    for sentence in sentences:
        print(f"NOT KEPT: {sentence}", file=sys.stderr)
    sys.exit(bool(sentences))


if __name__ == "__main__":
    main()
