"""`linguad doctor`: each check against the real thing, well and ill.

Rules: a finding is one sentence, and whatever is not well says what to do.
"""

from __future__ import annotations

import json
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import Start
from processes import linguad, write_config
from redis_server import RedisServer
from sqlalchemy import create_engine, text

from linguad.commands import checks
from linguad.commands.checks import Finding
from linguad.commands.deployment import check_deployment
from linguad.config import Config
from linguad.config.cluster import Cluster
from linguad.store.database import Database


def settings(tmp_path: Path, **tables: Any) -> Config:
    """A configuration whose state is in the directory of the test, on this machine only."""
    own = {"host": "127.0.0.1", "state_dir": str(tmp_path / "state")}
    tables["server"] = own | tables.get("server", {})
    return msgspec.convert(tables, Config)


def one(findings: Iterator[Finding] | list[Finding], check: str) -> Finding:
    """The finding of a check; whatever was found is a sentence, with a cure unless all is well."""
    found = list(findings)
    for finding in found:
        assert finding.said.endswith((".", "}"))
        assert bool(finding.cure) == (finding.state != "good"), finding
    (that,) = [finding for finding in found if finding.check == check]
    return that


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis that throws keys away, and listens on a port."""
    server = RedisServer("maxmemory 100mb", "maxmemory-policy allkeys-lru", port=True).start()
    yield server
    server.clear_away()


async def test_ports(tmp_path: Path, start: Start) -> None:
    daemon = start()
    running = await daemon.port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        foreign = taken.getsockname()[1]
        config = settings(
            tmp_path,
            server={"port": running},
            gateway={"host": "127.0.0.1", "port": foreign},
            hub={"host": "127.0.0.1", "port": 0},
        )
        # a socket that never answers
        found = await checks.check_ports(config)
    assert "serves there already" in one(found, f"port {running}").said
    assert one(found, f"port {running}").state == "good"
    assert one(found, f"port {foreign}").state == "bad"
    assert "gateway.port" in one(found, f"port {foreign}").cure
    assert one(found, "port 0").state == "good"


async def test_redis(redis: RedisServer) -> None:
    found = await checks.check_redis(Cluster(redis_url=redis.tcp_url))
    assert [finding.state for finding in found] == ["good", "warning"]
    assert "allkeys-lru" in found[1].said
    assert one(await checks.check_redis(Cluster()), "redis").state == "good"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nobody = silent.getsockname()[1]
    for url in (f"redis://127.0.0.1:{nobody}", "http://127.0.0.1", "redis+sentinel://127.0.0.1:1/main"):
        assert one(await checks.check_redis(Cluster(redis_url=url)), "redis").state == "bad"


async def test_redis_with_a_wrong_password() -> None:
    guarded = RedisServer("requirepass another", port=True).start()
    try:
        url = guarded.tcp_url.replace("://", "://:sesame-open@")
        finding = one(await checks.check_redis(Cluster(redis_url=url)), "redis")
    finally:
        guarded.clear_away()
    assert finding.state == "bad"
    assert "sesame" not in finding.said + finding.cure


async def test_store(tmp_path: Path) -> None:
    config = settings(tmp_path)
    assert "will be made" in one(await checks.check_store(config), "store").said
    assert os.listdir(tmp_path) == [], "looking makes nothing"
    file = tmp_path / "state" / "linguad.db"
    database = Database(f"sqlite:///{file}")
    await database.open()
    await database.close()
    assert "of this version" in one(await checks.check_store(config), "store").said
    for revision, state, word in (("0001", "good", "will be brought"), ("9999", "bad", "newer")):
        engine = create_engine(f"sqlite:///{file}")
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :number"), {"number": revision})
        engine.dispose()
        finding = one(await checks.check_store(config), "store")
        assert (finding.state, word in finding.said) == (state, True)
    file.write_bytes(b"no database at all" * 100)
    assert one(await checks.check_store(config), "store").state == "bad"
    away = settings(tmp_path, store={"url": "postgresql://nobody:secret@127.0.0.1:1/none"})
    finding = one(await checks.check_store(away), "store")
    assert (finding.state, "secret" in finding.said) == ("bad", False)


async def test_files(tmp_path: Path, start: Start) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = {"sessions": {"max_sessions": 10_000_000}}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = {"server": {"port": taken.getsockname()[1]}}
    for strict in (False, True):
        finding = one(await checks.check_files(settings(tmp_path, **many, **nobody), strict=strict), "files")
        assert finding.state == "warning"
        assert f"A linguad started from here may open only {soft} " in finding.said
    daemon = start()
    here = {"server": {"port": await daemon.port()}}
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    try:
        for strict, state in ((False, "warning"), (True, "bad")):
            finding = one(
                await checks.check_files(settings(tmp_path, **many, **here), strict=strict), "files"
            )
            assert finding.state == state
            assert f"The linguad that runs here may open only {soft} " in finding.said
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    few = settings(tmp_path, sessions={"max_sessions": 1}, hub={"enabled": False}, **here)
    assert one(await checks.check_files(few, strict=True), "files").state == (
        "good" if soft > 1001 else "bad"
    )
    daemon.stop()


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(tmp_path)
    found = list(checks.check_disk(config))
    assert {finding.check for finding in found} == {"state directory", "models directory"}
    assert one(found, "state directory").state in ("good", "warning")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "state").write_text("a file")
    assert one(checks.check_disk(config), "state directory").state == "bad"
    for free, state in ((1024, "bad"), (200 * 1024 * 1024, "warning"), (2**40, "good")):
        monkeypatch.setattr(checks, "free_bytes", lambda _path, free=free: free)
        assert one(checks.check_disk(settings(tmp_path / "other")), "state directory").state == state


def test_clock_and_extension() -> None:
    assert one(checks.check_clock(), "clock").state in ("good", "warning")
    assert one(checks.check_extension(), "extension").state == "good"


async def test_the_check_list_of_a_deployment(tmp_path: Path, start: Start) -> None:
    daemon = start()
    port = await daemon.port()
    careless = settings(tmp_path, server={"port": port, "admin_token": "short"}, log={"level": "debug"})
    found = await check_deployment(careless)
    states = {finding.check: finding.state for finding in found}
    assert states == {
        "health": "good",
        "ready": "good",
        "metrics": "good",
        "admin token": "bad",
        "production": "bad",
        "https": "warning",
        "gpu": "warning",
        "log": "warning",
    }
    for check in states:
        one(found, check)
    careful = settings(
        tmp_path,
        server={"port": port, "trusted_proxies": ["10.0.0.0/8"]},
        gateway={"production": True, "require_https": True},
        nodes={"require_gpu": "always"},
    )
    assert {finding.state for finding in await check_deployment(careful)} == {"good"}
    daemon.stop()
    assert one(await check_deployment(careful), "health").state == "bad"


def test_the_command(tmp_path: Path) -> None:
    config = write_config(
        tmp_path / "linguad.toml",
        server={"host": "127.0.0.1", "port": 0, "state_dir": str(tmp_path / "state")},
        gateway={"host": "127.0.0.1", "port": 0},
        hub={"host": "127.0.0.1", "port": 0},
    )
    done = linguad("doctor", "--config", config, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert {finding["check"] for finding in found} >= {
        "extension",
        "config",
        "port 0",
        "redis",
        "store",
        "engines",
        "files",
        "clock",
        "state directory",
        "models directory",
    }
    config.write_text("[server]\nport = -1\n[colour]\n")
    done = linguad("doctor", "--config", config)
    assert done.returncode == 1
    assert "server.port" in done.stdout
    assert "colour" in done.stdout
