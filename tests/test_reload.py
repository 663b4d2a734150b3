"""A reload: what changes at once does so everywhere, what waits is named, and nothing changes by halves.

Rules: the live settings are those that are marked so in the configuration. Each of them is changed in a
daemon and looked for where it is decided; some are watched at work. tests/e2e/test_hangup.py sends signals.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
import pytest
import trio
from harness import World, daemon_in_memory, plan_a, session_init
from trio.testing import MockClock, wait_all_tasks_blocked

from linguad import log
from linguad.config import Config, load
from linguad.config.changes import taken_over
from linguad.config.gateway import Gateway
from linguad.config.reading import SETTINGS
from linguad.daemon import Daemon
from linguad.errors import ConfigError
from linguad.gateway.access.admission import Admission
from linguad.net.peer import Peer
from linguad.web.problems import Problem
from linguad.wire.node import NodeRegister

LIVE = {one.path: one for settings in SETTINGS.values() for one in settings.values() if one.live}
WAITING = {one.path: one for settings in SETTINGS.values() for one in settings.values() if not one.live}

ANOTHER: dict[str, dict[str, Any]] = {
    "nodes.overrides": {"overrides": {"n-1": {"cap": 2}}},
    "nodes.failure_count": {"failure_count": 2},
    "nodes.heartbeat_timeout_seconds": {"heartbeat_timeout_seconds": 60},
    "pools.capability": {"capability": {"gold": {"id": 3, "required_services": ["tone"]}}},
    "pools.tenants": {"capability": {"gold": {"id": 3}}, "tenants": {"acme": {"pool": "gold"}}},
    "log.levels": {"levels": {"core": "debug"}},
    "log.file": {"file": "linguad.log"},
    "sessions.resume_results": {"resume_results": 64},
    "sessions.resume_bytes": {"resume_bytes": 1024},
    "jobs.spread_tenants": {"spread_tenants": ["acme"]},
    "jobs.require_features_tenants": {"require_features_tenants": ["acme"]},
    "jobs.timeout_min_seconds": {"timeout_min_seconds": 20},
    "jobs.timeout_max_seconds": {"timeout_max_seconds": 100},
    "jobs.pending_timeout_seconds": {"pending_timeout_seconds": 20},
    "jobs.job_max_age_seconds": {"job_max_age_seconds": 200},
}
"""Other values where none can be made up that goes with the rest."""


def another(path: str) -> dict[str, dict[str, Any]]:
    """Tables in which this setting, and only what has to go with it, is not the default."""
    setting = LIVE.get(path) or WAITING[path]
    if path in ANOTHER:
        return {setting.table: ANOTHER[path]}
    if setting.base is bool:
        value: Any = not setting.default
    elif setting.base in (int, float):
        value = setting.high if setting.default != setting.high else setting.low
    elif setting.base is str:
        value = "other"
    elif get_origin(setting.base) is tuple:
        value = ["10.0.0.0/8"]
    else:
        value = next(choice for choice in get_args(setting.base) if choice != setting.default)
    return {setting.table: {setting.name: value}}


def decided_by(daemon: Daemon) -> list[Any]:
    """What a reload is to reach, where the decisions are made."""
    limit, placement, node = daemon._session_limit, daemon.dispatch.placement, daemon.fleet.nodes["n-1"]
    return [
        daemon.fleet.rules,
        (node.rules, node.override, node.pool, node.cap, node.health._rules, node.health._outcomes.maxlen),
        placement.rules,
        (placement._hedging._percent, placement._hedging._part),
        daemon.sessions._rules,
        daemon.sessions.rooms.rules,
        (limit._most, limit._most_per_address),
    ]


def daemon_with_a_node(config: Config, reread: Config | None = None) -> Daemon:
    """A daemon that knows a node; a reload reads `reread`."""
    daemon = Daemon(config, reread=lambda: reread or config)
    daemon.fleet.register(msgspec.convert({"node_id": "n-1"}, NodeRegister), 1, trio.current_time())
    return daemon


@pytest.fixture(autouse=True)
def own_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The log of these tests goes to their own directory, and is as before afterwards."""
    monkeypatch.chdir(tmp_path)
    yield
    log.reset()


@pytest.mark.parametrize("path", [path for path in LIVE if not path.startswith(("gateway.", "log."))])
async def test_every_live_setting_reaches_who_decides(path: str) -> None:
    wanted = msgspec.convert(another(path), Config)
    daemon, fresh = daemon_with_a_node(Config(), wanted), daemon_with_a_node(wanted)
    assert decided_by(daemon) != decided_by(fresh), "the other value makes no difference"
    daemon.reload()
    assert decided_by(daemon) == decided_by(fresh), "not as if it had been started with it"
    assert daemon.config == wanted


@pytest.mark.parametrize("path", [path for path in LIVE if path.startswith("log.")])
async def test_every_setting_of_the_log_is_live(path: str) -> None:
    """That they take effect is shown in tests/test_log.py, which configures a log more than once."""
    wanted = msgspec.convert(another(path), Config)
    daemon = Daemon(Config(), reread=lambda: wanted)
    seen = []
    configure = log.configure
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "configure", lambda settings: seen.append(settings) or configure(settings))
        daemon.reload()
    assert seen == [wanted.log]


@pytest.mark.parametrize("path", WAITING)
def test_other_settings_wait_for_a_restart_and_are_named(path: str) -> None:
    read = msgspec.convert(another(path), Config)
    changes = taken_over(Config(), read)
    assert (changes.config, changes.taken, changes.waiting) == (Config(), [], [path])


def test_a_live_setting_that_does_not_go_with_one_that_waits_is_refused() -> None:
    before = Config()
    read = load(
        None,
        {"LINGUAD_NODES__HEARTBEAT_TIMEOUT_SECONDS": "2", "LINGUAD_NODES__STATUS_SCAN_INTERVAL_SECONDS": "1"},
    )
    with pytest.raises(ConfigError, match=r"status_scan_interval_seconds: 5 is more than .* until a restart"):
        taken_over(before, read)


async def test_what_is_refused_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    wanted = msgspec.convert(
        {"sessions": {"max_sessions": 1}, "log": {"file": str(tmp_path / "file" / "log")}}, Config
    )
    daemon, untouched = daemon_with_a_node(Config(), wanted), daemon_with_a_node(Config())
    with pytest.raises(ConfigError, match=r"log\.file"):
        daemon.reload()
    assert decided_by(daemon) == decided_by(untouched)
    assert daemon.config == Config()


def reload(world: World, **tables: dict[str, Any]) -> None:
    """Let the daemon read these settings."""
    daemon = world.daemon
    daemon._reread = lambda: msgspec.convert(tables, Config)
    daemon.reload()


async def test_a_limit_on_sessions_holds_for_the_next(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.client()
        reload(world, sessions={"max_sessions": 1})
        stranger = await world.stranger()
        await stranger.say(session_init())
        assert (await stranger.closed())[0] == 1013
        reload(world)
        await world.client()


async def test_sessions_that_begin_later_are_cut_otherwise(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(sessions={"pause_ms": 60_000}) as world:
        node, before = await world.node(), await world.client()
        reload(world, sessions={"pause_ms": 500})
        after = await world.client()
        await before.chunk(plan_a())
        await after.chunk(plan_a())
        assert (await node.job())["session_id"] == after.session_id
        await trio.sleep(5)
        assert await node.heard("job_assign") == []


async def test_waiting_jobs_go_to_room_that_a_reload_makes(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(nodes={"max_concurrent_jobs": 1}) as world:
        node, client = await world.node(), await world.client()
        await client.speak()
        await client.speak()
        await node.job()
        await wait_all_tasks_blocked()
        assert await node.heard("job_assign") == []
        reload(world, nodes={"max_concurrent_jobs": 2})
        assert (await node.job())["utterance_index"] == 1


async def test_a_node_is_drained_by_a_reload(autojump_clock: MockClock) -> None:
    async with daemon_in_memory() as world:
        await world.node("n-1")
        other = await world.node("n-2")
        client = await world.client()
        reload(world, nodes={"overrides": {"n-1": {"drain": True}}})
        for _ in range(4):
            await client.speak()
            await other.job()
        assert world.daemon.fleet.nodes["n-1"].status.value == "draining"


async def test_a_tenant_is_pinned_by_a_reload(autojump_clock: MockClock) -> None:
    async with daemon_in_memory(sessions={"trusted_sources": ["192.0.2.1"]}) as world:
        await world.node("plain")
        client = await world.client(tenant_id="acme")
        reload(
            world,
            sessions={"trusted_sources": ["192.0.2.1"]},
            pools={
                "capability": {"gold": {"id": 1, "required_services": ["tone"]}, "all": {"id": 2}},
                "tenants": {"acme": {"pool": "gold", "strict": True}},
            },
        )
        await client.speak()
        missing = await client.until("missing_result")
        assert missing["reason"] == "no_available_node"


def test_limits_of_the_public_api_change_at_once() -> None:
    class NoKeys:
        def lookup(self, text: str) -> None:
            return None

        def tenants(self) -> list[Any]:
            return []

    admission = Admission(NoKeys(), Gateway(), now=lambda: 0.0)  # type: ignore[arg-type]
    plain = Peer("198.51.100.7", 4000, "http")
    admission.check_transport(plain)
    admission.change(Gateway(require_https=True, failed_auth_limit=1, failed_auth_seconds=77))
    with pytest.raises(Problem, match="https"):
        admission.check_transport(plain)
    with pytest.raises(Problem):
        admission.identify("lk_test_nothing", plain)
    with pytest.raises(Problem) as refused:
        admission.check_address(plain)
    assert dict(refused.value.headers)["Retry-After"] == "77"
    admission.change(Gateway(global_requests_per_second=5))
    admission.check_address(plain)
    standings = [admission._rates.take("acme", 100, 100.0, 0.0) for _ in range(50)]
    assert any(standing.wait_s for standing in standings)
