"""The bench of talking sessions runs, and its sessions are understood."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from processes import clean_environment

ROOT = Path(__file__).parents[2]


def test_sessions_talk_and_lose_sentences() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.sessions", "--quick", "--json", "--only", "ladder", "lost"],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = {row["kind"]: row for row in json.loads(done.stdout)["rows"]}
    assert list(rows) == ["ladder", "knee", "lost"]
    talk, lost = rows["ladder"], rows["lost"]
    assert talk["sentences_per_s"] > 0
    assert talk["problems"] == ""
    assert 0 < talk["way_p50_ms"] <= talk["way_p99_ms"]
    assert lost["unanswered"] > 0
    assert lost["reorder_p50_ms"] >= lost["gap_s"] * 1000
