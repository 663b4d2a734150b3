"""`linguad config convert`: no key of the earlier server's files is lost without a word.

`tests/old_files` hold every key of the configuration tables of the specs (pools-and-cluster 9,
node-protocol 9, session-protocol 9, gateway 12).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linguad.cli import main
from linguad.config import load
from linguad.config.converting import LOST, convert
from linguad.config.oldkeys import DROPPED, GATEWAY_DROPPED, GATEWAY_NAMES, NAMES
from linguad.config.reading import SETTINGS, parsed

FILES = Path(__file__).parent / "old_files"
SCHEDULER, GATEWAY = parsed(FILES / "scheduler.toml"), parsed(FILES / "gateway.toml")


def leaves(table: Any, before: str = "") -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{before}{name}.")
        else:
            yield f"{before}{name}"


def lost(text: str) -> dict[str, str]:
    """Each key that was not carried over, with the reason."""
    _, _, listed = text.partition(LOST)
    lines = [line.removeprefix("# ") for line in listed.strip().splitlines()]
    return {line.partition(" = ")[0]: line.rpartition(": ")[2] for line in lines}


def read(tmp_path: Path, text: str) -> Any:
    """The configuration that a text is."""
    (tmp_path / "linguad.toml").write_text(text)
    return load(tmp_path / "linguad.toml", {})


def test_every_key_is_carried_over_or_listed_with_its_reason(tmp_path: Path) -> None:
    text = convert(SCHEDULER, GATEWAY, None)
    told = lost(text)
    unknown = [key for key, why in told.items() if "no generation" in why]
    assert unknown == []
    carried = tomllib.loads(text)
    for source, content, names in (
        ("scheduler", SCHEDULER, NAMES),
        ("gateway", GATEWAY, GATEWAY_NAMES),
    ):
        for key in leaves(content):
            table, _, name = names.get(key, "").partition(".")
            assert (name in carried.get(table, {})) != (f"{source} {key}" in told), key
    read(tmp_path, text)


def test_the_files_hold_every_key_that_is_known() -> None:
    for content, names, dropped in (
        (SCHEDULER, NAMES, DROPPED),
        (GATEWAY, GATEWAY_NAMES, GATEWAY_DROPPED),
    ):
        there = set(leaves(content))
        assert set(names) <= there
        for key in dropped:
            assert key in there or any(one.startswith(f"{key}.") for one in there), key


def test_what_is_carried_over_means_the_same(tmp_path: Path) -> None:
    made = read(tmp_path, convert(SCHEDULER, GATEWAY, None))
    assert (made.server.host, made.server.port, made.gateway.port) == ("", 5010, 8081)
    assert made.server.drain_seconds == 20
    assert made.sessions.detach_grace_seconds == 30
    assert made.jobs.affinity == "spread"
    assert made.nodes.require_gpu == "always"
    assert made.pools.capability["rich"].id == 2
    assert made.pools.tenants["acme"].pool == "rich"
    assert made.pools.policy == "least_connections"
    assert made.gateway.cors_allowed_origins == ("https://app.example.com",)
    assert made.store.url == "sqlite:////var/lib/linguad/gateway.db"


def test_redis_needs_a_store_that_can_be_shared(tmp_path: Path) -> None:
    assert "SQLite" in convert(SCHEDULER, GATEWAY, None)
    shared = {**GATEWAY, "store": {"url": "postgresql://linguad@db/linguad"}}
    made = read(tmp_path, convert(SCHEDULER, shared, None))
    assert (made.cluster.redis_url, made.cluster.key_prefix) == ("redis://:sesame@127.0.0.1:6379", "lingua")
    assert made.cluster.instance_id == "auto"
    cluster = {"mode": "cluster", "url": "redis://a", "cluster_urls": ["redis://b", "redis://c"]}
    several = {"scheduler": {"phase2": {"redis": cluster}}}
    made = read(tmp_path, convert(several, shared, None))
    assert (made.cluster.redis_url, made.cluster.redis_urls) == ("", ("redis://b", "redis://c"))


def test_older_names_of_tables_are_known() -> None:
    renamed = {"scheduler": {"redis_runtime": SCHEDULER["scheduler"]["phase2"]}}
    assert [key for key, why in lost(convert(renamed, None, None)).items() if "no generation" in why] == []
    renamed = {"scheduler": {"pools": SCHEDULER["scheduler"]["phase3"]}}
    text = convert(renamed, None, None)
    assert tomllib.loads(text)["pools"]["tenants"] == {"acme": {"pool": "rich"}}


def test_what_was_switched_off_stays_so() -> None:
    content = {"scheduler": {"phase3": {**SCHEDULER["scheduler"]["phase3"], "enabled": False}}}
    text = convert(content, None, None)
    assert "pools" not in tomllib.loads(text)
    assert lost(text)["scheduler scheduler.phase3.pool_count"] == "scheduler.phase3.enabled was false"


@pytest.mark.parametrize(
    ("content", "key", "why"),
    [
        ({"server": {"port": 70000}}, "server.port", "65535"),
        ({"server": {"prot": 1}}, "server.prot", "no generation"),
        (
            {"scheduler": {"load_balancer": {"strategy": "round"}}},
            "scheduler.load_balancer.strategy",
            "random",
        ),
        ({"scheduler": {"detach_grace_ms": "long"}}, "scheduler.detach_grace_ms", "another form"),
        ({"scheduler": {"job_timeout": {"max_seconds": 1}}}, "scheduler.job_timeout.max_seconds", "timeout"),
        (
            {"scheduler": {"job_timeout": {"min_seconds": 200}}},
            "scheduler.job_timeout.min_seconds",
            "timeout",
        ),
        (
            {"scheduler": {"phase3": {"tenant_overrides": [{"tenant_id": "a", "pool_id": 9}]}}},
            "scheduler.phase3.tenant_overrides",
            "no pool 9",
        ),
        (
            {"scheduler": {"phase3": {"pools": [{"pool_id": 1, "required_services": ["whisper"]}]}}},
            "scheduler.phase3.pools",
            "no service whisper",
        ),
        (
            {"scheduler": {"phase3": {"pools": [{"pool_id": 1, "name": "a", "language_requirements": {}}]}}},
            "scheduler.phase3.pools",
            "asks for languages",
        ),
    ],
)
def test_what_cannot_be_used_is_listed(tmp_path: Path, content: Any, key: str, why: str) -> None:
    text = convert(content, None, None)
    assert why in lost(text)[f"scheduler {key}"] or why in text
    read(tmp_path, text)


def test_the_environment(tmp_path: Path) -> None:
    env = {
        "MODELS_DIR": "/srv/models",
        "MODEL_HUB_URL": "http://hub:5000",
        "RUST_LOG": "warn,lingua_scheduler::dispatcher=debug",
        "LOG_FORMAT": "xml",
        "LINGUA_API_KEY": "sesame-sesame-sesame-sesame-sesame",
        "HOME": "/root",
    }
    text = convert(None, None, env)
    made = read(tmp_path, text)
    assert (made.hub.models_dir, made.hub.url) == ("/srv/models", "http://hub:5000")
    assert (made.log.level, made.log.levels) == ("warning", {"dispatch": "debug"})
    assert set(lost(text)) == {"environment LOG_FORMAT", "environment LINGUA_API_KEY"}
    assert "sesame" not in text


def test_passwords_are_not_told_beside_what_was_lost() -> None:
    content = {"scheduler": {"testing": {"redis_url": "redis://:sesame@host"}}}
    assert "sesame" not in convert(content, None, None)


VALUES = st.recursive(
    st.none().map(lambda _: 0) | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = sorted({*leaves(SCHEDULER), "scheduler.phase3.pools", "scheduler.phase3.tenant_overrides"})


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8), st.booleans())
def test_whatever_the_file_holds_the_result_can_be_used(given_keys: dict[str, Any], gateway: bool) -> None:
    content: dict[str, Any] = {}
    for key, value in given_keys.items():
        table = content
        *tables, name = key.split(".")
        for one in tables:
            inner = table.setdefault(one, {})
            table = inner if isinstance(inner, dict) else {}
        table[name] = value
    text = convert(None if gateway else content, content if gateway else None, None)
    tables = tomllib.loads(text)
    assert set(tables) <= set(SETTINGS)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["config", "convert", "--scheduler", str(FILES / "scheduler.toml")]
    assert main([*words, "--gateway", str(FILES / "gateway.toml")]) == 0
    assert capsys.readouterr().out == convert(SCHEDULER, GATEWAY, None)
    assert main(["config", "convert"]) == 2
    assert "--scheduler FILE" in capsys.readouterr().err
    assert main([*words[:3], str(tmp_path / "none.toml")]) == 2
