"""`linguad logs` finds the lines about one thing, in files and in a stream."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from linguad import cli

EVENTS = [
    {"event": "session_opened", "session": "s-1", "trace": "t-1"},
    {"event": "job_dispatched", "session": "s-1", "job": "job-1", "node": "node-A"},
    {"event": "job_finished", "session": "s-1", "trace": "t-1", "utterance_trace": "u-1", "job": "job-1"},
    {"event": "job_finished", "session": "s-10", "trace": "t-10", "job": "job-10", "node": "node-A"},
    {"event": "api_request", "trace": None, "route": "t-1 s-1 job-1 node-A"},
]
LINES = [json.dumps(event) + "\n" for event in EVENTS]
NOISE = ["Traceback of s-1, job-1, t-1\n", '"t-1"\n', "\n"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--trace", "t-1"], [0, 2]),
        (["--trace", "u-1"], [2]),
        (["--session", "s-1"], [0, 1, 2]),
        (["--job", "job-1"], [1, 2]),
        (["--node", "node-A"], [1, 3]),
        (["--node", "node-A", "--session", "s-1"], [1]),
        (["--node", "node-B"], []),
    ],
)
def test_lines_are_found(
    words: list[str],
    found: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = "".join(LINES[number] for number in found)
    older, newer = tmp_path / "linguad.log.1", tmp_path / "linguad.log"
    older.write_text("".join(NOISE + LINES[:2]))
    newer.write_text("".join(LINES[2:]))
    assert cli.main(["logs", *words, str(older), str(newer)]) == (not found)
    assert capsys.readouterr() == (expected, "")
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(NOISE + LINES)))
    assert cli.main(["logs", *words]) == (not found)
    assert capsys.readouterr() == (expected, "")


def test_what_cannot_be_done_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["logs", str(tmp_path / "x")]) == 2
    assert "--trace, --session, --job, --node" in capsys.readouterr().err
    assert cli.main(["logs", "--job", "1", str(tmp_path / "x")]) == 1
    assert capsys.readouterr().err == f"linguad: {tmp_path / 'x'} cannot be read: No such file or directory\n"
