"""Settings of a cluster: the name of an instance, and what cannot be together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from linguad import config
from linguad.cluster.place import instance_name
from linguad.errors import ConfigError


def load(**env: str) -> config.Config:
    return config.load(None, {f"LINGUAD_{name}": value for name, value in env.items()})


def problems(**env: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(**env)
    return [f"{path}: {text}" for path, text in caught.value.problems]


def test_one_file_is_not_for_several_instances() -> None:
    (problem,) = problems(CLUSTER__REDIS_URL="redis://a")
    assert problem.startswith("store.url: is a file of SQLite")
    assert load(CLUSTER__REDIS_URL="redis://a", STORE__SHARED="true").cluster.redis_url == "redis://a"
    load(CLUSTER__REDIS_URL="redis://a", GATEWAY__ENABLED="false")
    load(CLUSTER__REDIS_URLS='["redis://a"]', STORE__URL="postgresql://u@h/n")


def test_a_scheduler_alone_shares_no_file() -> None:
    env = {"LINGUAD_CLUSTER__REDIS_URL": "redis://a"}
    settings = config.load(None, env, "scheduler")
    assert (settings.gateway.enabled, settings.hub.enabled) == (False, False)
    settings = config.load(None, env | {"LINGUAD_HUB__ENABLED": "false"}, "hub")
    assert (settings.gateway.enabled, settings.hub.enabled) == (False, True)
    with pytest.raises(ConfigError) as caught:
        config.load(None, env | {"LINGUAD_GATEWAY__ENABLED": "false"}, "gateway")
    assert [path for path, _ in caught.value.problems] == ["store.url"]


def test_one_kind_of_redis() -> None:
    (problem,) = problems(
        CLUSTER__REDIS_URL="redis://a", CLUSTER__REDIS_URLS='["redis://b"]', GATEWAY__ENABLED="false"
    )
    assert problem.startswith("cluster.redis_urls: is for a Redis Cluster")


def test_addresses_are_never_shown() -> None:
    shown = config.render(
        load(
            CLUSTER__REDIS_URL="redis://:passw0rd@a",
            CLUSTER__SENTINEL_PASSWORD="passw0rd",
            STORE__SHARED="true",
        )
    )
    shown += config.render(load(CLUSTER__REDIS_URLS='["redis://:passw0rd@a"]', STORE__SHARED="true"))
    assert "passw0rd" not in shown


def test_names_of_instances() -> None:
    assert instance_name("pod-1", {}) == "pod-1"
    assert instance_name("a-${POD}-${N}", {"POD": "x", "N": "2"}) == "a-x-2"
    first, second = instance_name("auto", {}), instance_name("", {})
    assert first != second
    assert instance_name("AUTO", {}) != "AUTO"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("${POD}", "${POD} is not set"),
        ("a b", "cannot be used"),
        ("-a", "cannot be used"),
        ("a{b}", "cannot be used"),
        ("x" * 129, "cannot be used"),
    ],
)
def test_names_that_cannot_be(name: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        instance_name(name, {})
    assert says in caught.value.problems[0][1]


def test_an_instance_alone_has_nothing_of_redis_in_memory(tmp_path: Path) -> None:
    program = (
        "import sys, trio\n"
        "from linguad.config import load\n"
        "from linguad.daemon import Daemon\n"
        "async def main():\n"
        "    Daemon(load(None, {'LINGUAD_SERVER__STATE_DIR': sys.argv[1]}))\n"
        "trio.run(main)\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('redis', 'hiredis')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
