"""A daemon runs with what `linguad config convert` made of the earlier server's files."""

from __future__ import annotations

from pathlib import Path

from processes import Process, clean_environment, command, linguad

OLD = Path(__file__).parent.parent / "old_files"


async def test_the_daemon_starts_with_the_result(tmp_path: Path) -> None:
    (tmp_path / "pepper").write_text("x" * 32)
    gateway = (OLD / "gateway.toml").read_text()
    gateway = gateway.replace("/etc/linguad/pepper", str(tmp_path / "pepper"))
    gateway = gateway.replace("/var/lib/linguad/gateway.db", str(tmp_path / "gateway.db"))
    (tmp_path / "gateway.toml").write_text(gateway)
    old = OLD / "scheduler.toml"
    done = linguad("config", "convert", "--scheduler", old, "--gateway", tmp_path / "gateway.toml")
    assert (done.returncode, done.stderr) == (0, "")
    file = tmp_path / "linguad.toml"
    file.write_text(done.stdout)
    free = {f"LINGUAD_{table}__PORT": "0" for table in ("SERVER", "GATEWAY", "HUB")}
    env = clean_environment(LINGUAD_SERVER__STATE_DIR=str(tmp_path / "state"), **free)
    daemon = Process(command("serve", "--config", file), env, tmp_path)
    try:
        await daemon.event("started")
        daemon.signal(15)
        assert await daemon.ended() == 0
    finally:
        daemon.clear_away()


def test_serve_names_the_command_for_an_old_file() -> None:
    done = linguad("serve", "--config", OLD / "scheduler.toml")
    assert done.returncode == 2
    _, _, advice = done.stderr.partition("make one of linguad with: linguad ")
    words = advice.strip().removesuffix("> linguad.toml").split()
    assert linguad(*words).returncode == 0
