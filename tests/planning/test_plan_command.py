"""`linguad plan` and `linguad replay` as typed: what they say, files they write, and what they cannot do."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from linguad import cli
from linguad.planning import history

Capture = pytest.CaptureFixture[str]
SMALL = ("--sessions", "60", "--sample", "20", "--jobs", "8000")


def run(capsys: Capture, *words: str | Path) -> tuple[int, str, str]:
    """Exit code, output and complaints."""
    try:
        code = cli.main([str(word) for word in words])
    except SystemExit as end:
        code = int(end.code or 0)
    return code, *capsys.readouterr()


def test_a_plan_for_people(capsys: Capture) -> None:
    code, output, errors = run(capsys, "plan", "--nodes", "10", *SMALL)
    assert (code, errors) == (0, "")
    for word in (
        "10 nodes",
        "60 sessions",
        "45%",
        "wait until a node begins",
        "instances",
        "docs/planning.md",
    ):
        assert word in output
    assert "sample of" not in output


def test_a_sample_is_said_to_be_one(capsys: Capture) -> None:
    code, output, _ = run(
        capsys, "plan", "--nodes", "1000", "--sessions", "6000", "--sample", "60", "--jobs", "8000"
    )
    assert code == 0
    assert "60 nodes and 360 sessions, a sample of 1 in 16.7" in output


def test_a_plan_for_programs_is_the_same_each_time(capsys: Capture) -> None:
    words = ("plan", "--nodes", "10", *SMALL, "--json")
    code, output, errors = run(capsys, *words)
    assert (code, errors) == (0, "")
    told = json.loads(output)
    assert told["fleet"]["nodes"] == 10
    assert told["offered_load"] == pytest.approx(0.45)
    assert told["figures"]["utilisation"] == pytest.approx(0.42, abs=0.1)
    assert 0 <= told["figures"]["wait_p50_ms"] <= told["figures"]["wait_p99_ms"]
    assert told["instances"]["count"] == 1
    assert run(capsys, *words) == (0, output, "")
    assert run(capsys, *words, "--seed", "2")[1] != output


def test_too_few_nodes_are_said_to_be(capsys: Capture) -> None:
    code, output, _ = run(capsys, "plan", "--nodes", "4", *SMALL)
    assert code == 0
    assert "That is too much" in output
    assert "needs 5 nodes" in output


def test_how_many_nodes(capsys: Capture) -> None:
    words = ("plan", "--target-wait-ms", "900", *SMALL)
    code, output, errors = run(capsys, *words, "--json")
    assert (code, errors) == (0, "")
    told = json.loads(output)
    assert told["figures"]["wait_p99_ms"] <= 900
    assert told["fleet"]["nodes"] >= 5
    assert told["tried"]
    code, output, _ = run(capsys, *words)
    assert code == 0
    assert f"{told['fleet']['nodes']} nodes will do" in output
    assert "--keep-margin-s 0" in output


def test_a_plot(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "plan.png"
    code, output, errors = run(capsys, "plan", "--nodes", "10", *SMALL, "--plot", path)
    assert (code, errors) == (0, "")
    assert f"The plot is in {path}." in output
    assert path.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_there_is_a_sentence(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, output, errors = run(capsys, "plan", "--nodes", "10", *SMALL, "--plot", tmp_path / "plan.png")
    assert (code, output) == (1, "")
    assert errors == "linguad: plots need matplotlib; install it with: pip install 'linguad[plot]'\n"


def test_settings_are_those_of_the_daemon(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "linguad.toml"
    path.write_text(
        '[pools]\npolicy = "random"\nkeep_margin_seconds = 0.25\n[jobs]\naffinity = "turn"\n'
        "[nodes]\nmax_concurrent_jobs = 7\n"
    )
    code, output, _ = run(capsys, "plan", "--nodes", "10", *SMALL, "--json", "--config", path)
    assert code == 0
    told = json.loads(output)
    assert told["fleet"]["slots"] == 7
    rules = told["rules"]
    assert (rules["policy"], rules["keep_margin_s"], rules["keeps"]) == ("random", 0.25, False)


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        ((), 2, "--sessions"),
        (("--sessions", "5"), 2, "--target-wait-ms"),
        (("--sessions", "5", "--nodes", "3", "--target-wait-ms", "5"), 2, "not allowed with"),
        (("--sessions", "0", "--nodes", "3"), 2, "'0' is not a whole number"),
        (("--sessions", "many", "--nodes", "3"), 2, "'many' is not a whole number"),
        (("--sessions", "5", "--nodes", "1e3"), 2, "'1e3' is not a whole number"),
        (("--sessions", "5", "--nodes", "3", "--speed", "0"), 2, "'0' is not a number above 0"),
        (("--sessions", "5", "--nodes", "3", "--speed", "nan"), 2, "'nan' is not a number above 0"),
        (("--sessions", "5", "--nodes", "3", "--talking", "120"), 2, "'120' is not a percentage"),
        (("--sessions", "5", "--nodes", "3", "--speed-spread", "-1"), 2, "'-1' is not a percentage"),
        (("--sessions", "5", "--nodes", "3", "--keep-ratio", "0.5"), 2, "'0.5' is not a number of 1"),
        (("--sessions", "5", "--nodes", "3", "--round-trip-ms", "-5"), 2, "'-5' is not a number of 0"),
        (("--sessions", "5", "--nodes", "3", "--policy", "best"), 2, "'best'"),
        (("--sessions", "5", "--nodes", "3", "--parallel", "5"), 1, "--slots must be"),
        (("--sessions", "5", "--nodes", "3", "--slots", "20000"), 1, "--slots must be"),
        (("--sessions", "5", "--nodes", "3", "--failing", "100"), 1, "--failing must be below"),
        (("--sessions", "5", "--nodes", "3", "--pairs", "9", "--pairs-per-node", "2"), 1, "cannot serve 9"),
        (("--sessions", "5", "--nodes", "3", "--pairs", "9000"), 1, "--pairs may be"),
        (("--sessions", "5", "--nodes", "3", "--plot", "plan.jpg"), 1, "must end in .png"),
        (("--sessions", "5", "--nodes", "3", "--plot", "nowhere/plan.png"), 1, "no directory nowhere"),
    ],
)
def test_a_question_that_cannot_be_answered(
    words: tuple[str, ...], code: int, named: str, capsys: Capture
) -> None:
    ended, output, errors = run(capsys, "plan", *words)
    assert (ended, output) == (code, "")
    assert named in errors.splitlines()[-1]


def log(path: Path, jobs: int) -> Path:
    """A log of two nodes, of which the second is half as fast."""
    lines: list[dict[str, object]] = [
        {"event": "node_registered", "node": name, "cap": 2} for name in ("fast", "slow", "idle")
    ]
    for number in range(jobs):
        node = ("fast", "slow")[number % 2]
        lines.append(
            {
                "timestamp": f"2026-01-02T03:{number // 60:02}:{number % 60:02}.000Z",
                "event": "job_finished",
                "session": f"s-{number % 10}",
                "src": "en",
                "tgt": "es",
                "audio_seconds": 3.0,
                "outcome": "completed",
                "node": node,
                "node_seconds": 1.0 if node == "fast" else 2.0,
                "seconds": 2.1,
            }
        )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_replay_for_people(capsys: Capture, tmp_path: Path) -> None:
    code, output, errors = run(capsys, "replay", log(tmp_path / "linguad.log", 200))
    assert (code, errors) == (0, "")
    assert output.startswith("200 jobs of 10 sessions in 201 s, 1 language pair, 2 nodes.\n")
    head = next(line for line in output.splitlines() if "random" in line)
    assert head.split() == ["in", "the", "log", "expected_finish", "least_connections", "random"]
    assert "Left out: 1 node without work" in output


def test_a_replay_for_programs(capsys: Capture, tmp_path: Path) -> None:
    path = log(tmp_path / "linguad.log", 600)
    code, output, errors = run(capsys, "replay", path, "--json", "--round-trip-ms", "0")
    assert (code, errors) == (0, "")
    told = json.loads(output)
    assert (told["nodes"], told["jobs"], told["sessions"], told["pairs"]) == (2, 600, 10, ["en>es"])
    assert told["left_out"] == {"jobs": 0, "nodes": 1, "lines": 0}
    assert told["logged"]["utilisation"] == pytest.approx(0.75, rel=0.01)
    policies = told["policies"]
    assert list(policies) == ["expected_finish", "least_connections", "random"]
    # one job a second, and the fast node is fast enough for nearly all of them
    assert policies["expected_finish"]["utilisation"] < policies["random"]["utilisation"] < 0.76
    assert run(capsys, "replay", path, "--json", "--round-trip-ms", "0")[1] == output


def test_more_load_makes_longer_waits(capsys: Capture, tmp_path: Path) -> None:
    path = log(tmp_path / "linguad.log", 600)
    waits = [
        json.loads(run(capsys, "replay", path, "--json", "--load", load)[1])["policies"]["random"][
            "wait_p99_ms"
        ]
        for load in ("0.5", "1", "1.3")
    ]
    assert waits == sorted(waits)
    assert waits[0] < waits[2]
    shown = run(capsys, "replay", path, "--load", "2")[1]
    assert "replayed 2 times as dense" in shown
    assert "in the log  " not in shown


def test_rotated_logs_are_one(capsys: Capture, tmp_path: Path) -> None:
    first, second = log(tmp_path / "linguad.log", 40), tmp_path / "linguad.log.1"
    lines = first.read_text().splitlines(keepends=True)
    whole = run(capsys, "replay", first, "--json")
    first.write_text("".join(lines[20:]))
    second.write_text("".join(lines[:20]))
    assert run(capsys, "replay", first, second, "--json") == whole


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        ((), 2, "LOG"),
        (("missing.log",), 1, "linguad: missing.log cannot be read: No such file or directory"),
        (("linguad.log", "--load", "0"), 2, "'0' is not a number above 0"),
        (("empty.log",), 1, "linguad: there is no job_finished in this log; linguad writes it at level info"),
    ],
)
def test_a_log_that_is_no_use(
    words: tuple[str, ...],
    code: int,
    named: str,
    capsys: Capture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.log").write_text("")
    ended, output, errors = run(capsys, "replay", *words)
    assert (ended, output) == (code, "")
    assert named in errors.splitlines()[-1]


def test_docs_name_every_field_that_is_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "logging.md").read_text()
    rows = "".join(
        line for line in page.splitlines() if line.startswith(("| `job_finished`", "| `node_registered`"))
    )
    read = set(history._Line.__struct_fields__) - {"event", "timestamp"}
    assert {name for name in read if f"`{name}`" not in rows} == set()
