"""The `linguad` command: what it says, and its exit codes 0 done, 1 failed, 2 used or configured wrongly."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from linguad import __version__, cli


class Said(NamedTuple):
    """How a command ended and what it said."""

    code: int
    output: str
    errors: str


Run = Callable[..., Said]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `linguad` in this process, in an empty directory; to its parser's exits as well."""
    monkeypatch.chdir(tmp_path)

    def linguad(*words: str | Path) -> Said:
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as end:
            code = int(end.code or 0)
        return Said(code, *capsys.readouterr())

    return linguad


def test_help_names_every_command(run: Run) -> None:
    said = run("--help")
    assert (said.code, said.errors) == (0, "")
    assert said.output.startswith("usage: linguad [-h] [--version] COMMAND ...\n")
    assert all(f"\n    {command}" in said.output for command in cli.COMMANDS)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_its_help(command: str, run: Run) -> None:
    said = run(command, "--help")
    assert (said.code, said.errors) == (0, "")
    assert said.output.startswith(f"usage: linguad {command} ")
    sentence = cli.COMMANDS[command]
    assert f"{sentence[0].upper()}{sentence[1:]}." in " ".join(said.output.split())


@pytest.mark.parametrize("words", [("config", "check"), ("config", "show")])
def test_actions_have_their_help(words: tuple[str, ...], run: Run) -> None:
    said = run(*words, "--help")
    assert said.code == 0
    assert "--config FILE" in said.output


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"linguad {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((), "COMMAND"),
        (("dance",), "dance"),
        (("--loud",), "COMMAND"),
        (("serve", "--loud"), "--loud"),
        (("serve", "--config"), "--config"),
        (("serve", "--only", "kitchen"), "kitchen"),
        (("config",), "check|show"),
        (("config", "invent"), "invent"),
        (("translate",), "FILE"),
        (("translate", "x.wav", "--from", "en"), "--to"),
        (("node",), "--server"),
        (("node", "--server", "http://x"), "http://x"),
        (("node", "--server", "ws://127.0.0.1:1/ws/node", "--engines", "magic"), "magic"),
    ],
)
def test_wrong_use_is_code_2_and_says_what(words: tuple[str, ...], named: str, run: Run) -> None:
    said = run(*words)
    assert (said.code, said.output) == (2, "")
    assert named in said.errors.splitlines()[-1]


def test_only_the_command_asked_for_is_imported() -> None:
    """Looking at the configuration must not wait for codecs and web frameworks."""
    program = "import sys; from linguad import cli; cli.main(['config', 'check']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"av", "numpy", "quart", "hypercorn", "linguad.worker"} & set(done.stdout.split())


@pytest.mark.parametrize("command", [("serve",), ("config", "check"), ("config", "show")])
def test_configuration_file_that_is_missing(command: tuple[str, ...], run: Run, tmp_path: Path) -> None:
    path = tmp_path / "nowhere.toml"
    assert run(*command, "--config", path) == (
        2,
        "",
        f"linguad: the configuration cannot be used.\n  {path}: cannot be read: No such file or directory\n",
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[server\nport = 5010\n", "linguad.toml"),
        ("\x00\x01", "linguad.toml"),
        ("[servers]\nport = 5010\n", "servers"),
        ("[server]\nprot = 5010\n", "server.prot"),
        ("[server]\nport = 'high'\n", "server.port"),
        ("[server]\nport = 65536\n", "server.port"),
        ("[server]\ndrain_seconds = 60\n", "server.drain_seconds"),
        ("[nodes]\nrequire_gpu = 'maybe'\n", "nodes.require_gpu"),
        ("server = 5\n", "server"),
    ],
)
def test_configuration_file_that_is_wrong(text: str, named: str, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "linguad.toml"
    path.write_text(text)
    for command in (("serve",), ("config", "check"), ("config", "show")):
        said = run(*command, "--config", path)
        assert (said.code, said.output) == (2, "")
        first, problem = said.errors.splitlines()
        assert first == "linguad: the configuration cannot be used."
        assert named in problem.partition(": ")[0]


def test_every_problem_is_told_at_once(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGUAD_SERVER__DRAIN_SECONDS", "soon")
    path = tmp_path / "linguad.toml"
    path.write_text("[server]\nport = -1\ncolour = 'blue'\n[jobs]\naffinity = 'x'\n")
    said = run("serve", "--config", path)
    assert said.code == 2
    named = [line.partition(": ")[0].strip() for line in said.errors.splitlines()[1:]]
    assert sorted(named) == ["jobs.affinity", "server.colour", "server.drain_seconds", "server.port"]


def test_config_check(run: Run, tmp_path: Path) -> None:
    assert run("config", "check") == (0, "The configuration is fine.\n", "")
    path = tmp_path / "linguad.toml"
    path.write_text("[server]\nport = 6000\n")
    assert run("config", "check", "--config", path) == (0, "The configuration is fine.\n", "")


def test_config_show_hides_secrets(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGUAD_SERVER__DRAIN_SECONDS", "7.5")
    path = tmp_path / "linguad.toml"
    path.write_text(f"[server]\nport = 6000\nadmin_token = '{'open sesame ' * 4}'\n")
    said = run("config", "show", "--config", path)
    assert (said.code, said.errors) == (0, "")
    lines = said.output.splitlines()
    assert {"port = 6000", "drain_seconds = 7.5", 'admin_token = "<hidden>"'} <= set(lines)
    assert "sesame" not in said.output
    path.write_text(said.output)
    assert run("config", "check", "--config", path).code == 0


def test_config_show_prints_defaults_without_a_file(run: Run) -> None:
    said = run("config", "show")
    assert {"[server]", "port = 5010", 'admin_token = ""'} <= set(said.output.splitlines())


def test_file_that_cannot_be_translated_is_code_1(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
    path.write_bytes(b"RIFF but no sound")
    said = run("translate", path, "--from", "en", "--to", "es", "--server", "ws://127.0.0.1:9/ws/session")
    assert (said.code, said.output) == (1, "")
    assert path.name in said.errors
    assert len(said.errors.splitlines()) == 1
