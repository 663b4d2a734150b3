"""Every bench with a smallest setting runs, and its JSON has the shape that other people's scripts read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import clean_environment

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 600

SHAPES: dict[str, dict[str | None, set[str]]] = {
    "hash": {None: {"impl", "function", "key_bytes", "ns", "low_ns", "high_ns"}},
    "select": {None: {"impl", "fleet", "nodes", "pairs_per_node", "fill", "ns", "worst_ns"}},
    "dispatch": {
        "utterance": {
            "asked_per_s",
            "nodes",
            "pairs_per_node",
            "fill",
            "message_bytes",
            "load",
            "closed_p99_ms",
        },
        "knee": {"asked_per_s", "next_asked_per_s"},
        "chunks": {"asked_per_s", "nodes", "pairs_per_node", "fill", "message_bytes", "load", "frame_p50_ms"},
        "fleet": {"asked_per_s", "sessions", "nodes", "closed_p99_ms", "lost_beats"},
    },
    "memory": {
        "session": {"impl", "state", "count", "each_kib", "each_low_kib"},
        "node": {"each_kib"},
        "waiting job": {"each_kib"},
        "table": {"count", "each_bytes"},
    },
    "heartbeat": {
        "fleet": {"nodes", "cpu_percent", "resident_mib", "lost_beats"},
        "one": {"state", "cpu_us"},
    },
    "gateway": {
        **{kind: {"impl", "clients"} for kind in ("translate", "stream utterance", "stream pieces", "door")},
        "admission": {"impl", "step", "tenants", "us"},
        "idle": {"impl", "count", "each_kib", "cpu_percent"},
    },
    "cluster": {
        "latency": {"impl", "sessions", "p50_ms", "p99_ms"},
        "commands": {"impl", "sessions", "jobs", "calls_per_job", "calls"},
        "rate": {"instances", "sessions", "jobs_per_s", "cpu_us_per_job"},
        "failover": {"heartbeat_s", "kills", "median_ms", "longest_ms"},
        "directory": {"nodes", "case", "all_know_s"},
        "idle": {"nodes", "calls_per_s", "owner_cpu_percent", "other_cpu_percent"},
    },
    "fairness": {
        kind: {"slots", "work_ms", "modest_per_s", "answered", "failed", "p99_ms", "ratio", "cpu_wait_cores"}
        for kind in ("calm", "flood, default limits", "flood, no limits")
    },
}
"""By bench and kind, names that each row has."""


def _rows(bench: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{bench}", "--smallest", "--json"],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert set(result) == {"bench", "machine", "rows"}
    assert result["bench"] == bench
    assert set(result["machine"]) == {"cpu", "cores", "python"}
    rows: list[dict[str, Any]] = result["rows"]
    return rows


@pytest.mark.parametrize("bench", SHAPES)
def test_a_bench_measures_what_it_says(bench: str) -> None:
    rows = _rows(bench)
    assert {row.get("kind") for row in rows} == set(SHAPES[bench])
    for row in rows:
        assert SHAPES[bench][row.get("kind")] <= set(row)
        assert all(value is None or isinstance(value, str | int | float) for value in row.values()), "flat"
    if bench == "select":
        assert {row["impl"] for row in rows} == {"cython", "python", "scan"}
    if bench == "gateway":
        measured = [row for row in rows if "clients" in row]
        names = {"p50_ms", "p99_ms", "per_s", "cpu_us"}
        assert all(
            ({"cpu_ratio"} if row["impl"].startswith("ratio") else names) <= set(row) for row in measured
        )
        assert {row["step"] for row in rows if row["kind"] == "admission"} >= {"lookup", "admit"}
    if bench == "fairness":
        assert all(row["answered"] and not row["failed"] for row in rows)
    if bench == "dispatch":
        measured = [row for row in rows if row["kind"] != "knee"]
        assert all(0 < row["closed_p50_ms"] < row["frame_p50_ms"] for row in measured), (
            "closed is a part of frame"
        )
        assert all(row["problems"] == "" for row in measured)
    assert all(row.get("lost_beats", 0) == 0 for row in rows)
