"""Configuration: what is read, what is refused and how, and that the printed references are up to date."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linguad import config, log
from linguad.config import Config, load, old, oldkeys, reading
from linguad.errors import ConfigError

ROOT = Path(__file__).parent.parent
ALL_SETTINGS = [setting for table in reading.SETTINGS.values() for setting in table.values()]


@pytest.fixture(autouse=True)
def _empty_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `observability.json` of this machine may be found."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def write(directory: Path, text: str | bytes) -> Path:
    path = directory / "linguad.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems(path: Path | None, env: Mapping[str, str] | None = None) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load(path, env or {})
    assert len(dict(caught.value.problems)) == len(caught.value.problems), "a setting is named twice"
    return dict(caught.value.problems)


def test_without_file_and_environment_everything_has_its_default() -> None:
    assert load(None, {}) == Config()
    assert load(None, {"PATH": "/bin", "LINGUAD_NO_EXTENSIONS": "1"}) == Config()


def test_file_gives_values(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        [server]
        port = 0
        drain_seconds = 1.5
        trusted_proxies = ["10.0.0.0/8", "::1", "192.168.7.1"]
        [nodes]
        require_gpu = "always"
        [log]
        levels = {core = "debug", hypercorn = "info", "linguad.net.outbox" = "error"}
        """,
    )
    read = load(path, {})
    assert (read.server.port, read.server.drain_seconds) == (0, 1.5)
    assert read.server.trusted_proxies == ("10.0.0.0/8", "::1", "192.168.7.1")
    assert read.nodes.require_gpu == "always"
    assert read.log.levels == {"core": "debug", "hypercorn": "info", "linguad.net.outbox": "error"}
    assert read.sessions == config.Sessions()


def test_whole_numbers_are_taken_for_seconds() -> None:
    read = load(None, {"LINGUAD_SERVER__DRAIN_SECONDS": "3"}).server.drain_seconds
    assert read == 3.0
    assert isinstance(read, float)


def test_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    assert load(write(tmp_path, b"\xef\xbb\xbf[server]\nport = 1\n"), {}).server.port == 1


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, '[server]\nport = "wrong, but overruled"\nhost = "a"\n')
    read = load(path, {"LINGUAD_SERVER__PORT": "7"})
    assert (read.server.port, read.server.host) == (7, "a")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("10", "10"),
        ("true", "true"),
        ('"x"', "x"),
        ("", ""),
    ],
)
def test_texts_in_the_environment_need_no_quotes(text: str, value: str) -> None:
    assert load(None, {"LINGUAD_SERVER__HOST": text}).server.host == value


def test_other_types_in_the_environment_are_toml() -> None:
    env = {
        "LINGUAD_JOBS__SEND_CANCEL": "false",
        "LINGUAD_JOBS__AFFINITY": "turn",
        "LINGUAD_LOG__LEVELS": '{core = "debug"}',
        "LINGUAD_SERVER__TRUSTED_PROXIES": '["fd00::/8"]',
    }
    read = load(None, env)
    assert (read.jobs.send_cancel, read.jobs.affinity) == (False, "turn")
    assert read.log.levels == {"core": "debug"}
    assert read.server.trusted_proxies == ("fd00::/8",)


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("[servr]\nport = 1", "servr", ["no such table", "did you mean server?", "jobs"]),
        ("[gatewaay]", "gatewaay", ["no such table", "there are server, sessions"]),
        ("[server]\nprot = 1", "server.prot", ["no such setting", "did you mean port?", "host, port"]),
        ("[server]\npause_ms = 1", "server.pause_ms", ["belongs under [sessions]"]),
        ("port = 1", "port", ["not a table", "belongs under [server]"]),
        ("server = 1", "server", ["write [server]"]),
        ("[[server]]\nport = 1", "server", ["write [server]"]),
        ("[server]\nport = 70000", "server.port", ["70000", "a whole number from 0 to 65535"]),
        ("[server]\nport = -1", "server.port", ["-1", "from 0"]),
        ('[server]\nport = "5010"', "server.port", ['"5010"', "whole number"]),
        ("[server]\nport = 5010.0", "server.port", ["whole number"]),
        ("[server]\nport = true", "server.port", ["true cannot", "whole number"]),
        ("[server]\nport = 1e400", "server.port", ["inf", "whole number"]),
        ("[server]\nport = 99999999999999999999999999", "server.port", ["whole number"]),
        ("[server]\ndrain_seconds = nan", "server.drain_seconds", ["nan", "a number from 0 to 3600"]),
        ("[server]\ndrain_seconds = inf", "server.drain_seconds", ["inf", "a number from 0 to 3600"]),
        ("[server]\nhost = 2024-01-01", "server.host", ["2024-01-01", "text"]),
        ('[server]\nhost = "a\\u0000b"', "server.host", ["\\u0000", "printed"]),
        ("[jobs]\nsend_cancel = 1", "jobs.send_cancel", ["true or false"]),
        ('[jobs]\naffinity = "Turn"', "jobs.affinity", ['"Turn"', '"session", "turn" or "spread"']),
        ("[log]\nlevels = 1", "log.levels", ["table of names"]),
        ('[log]\nlevels = {core = "trace"}', "log.levels", ["trace", '"debug"']),
        ('[log]\nlevels = {coer = "info"}', "log.levels", ["no package", "coer", "core"]),
        ('[log]\nlevels = {"../x" = "info"}', "log.levels", ["no package"]),
        ("[server]\ntrusted_proxies = [1]", "server.trusted_proxies", ["list of texts"]),
        ('[server]\ntrusted_proxies = ["10.0.0.1/8"]', "server.trusted_proxies", ["10.0.0.1/8", "host bits"]),
        ('[server]\ntrusted_proxies = ["proxy"]', "server.trusted_proxies", ["proxy", "10.0.0.0/8"]),
        ("[sessions]\nmax_message_bytes = 1", "sessions.max_message_bytes", ["(64 KiB)", "(64 MiB)"]),
    ],
)
def test_wrong_settings_are_named_with_what_is_allowed(
    tmp_path: Path, text: str, path: str, says: list[str]
) -> None:
    found = problems(write(tmp_path, text))
    assert list(found) == [path]
    for part in says:
        assert part in found[path]


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("LINGUAD_SERVR__PORT", "did you mean server?"),
        ("LINGUAD_SERVER__PROT", "did you mean port?"),
        ("LINGUAD_SERVER__LOG__LEVEL", "no such setting"),
        ("LINGUAD_SERVER_PORT", "LINGUAD_SERVER__PORT"),
    ],
)
def test_wrong_variables_are_named(variable: str, says: str) -> None:
    found = problems(None, {variable: "1"})
    assert list(found) == [variable]
    assert says in found[variable]


def test_a_wrong_value_from_the_environment_names_its_variable() -> None:
    found = problems(None, {"LINGUAD_SERVER__PORT": "many"})
    assert '"many"' in found["server.port"]
    assert "LINGUAD_SERVER__PORT" in found["server.port"]


def test_everything_wrong_is_reported_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, '[servr]\n[server]\nport = -1\nprot = 1\n[jobs]\nmax_waiting = "many"\n')
    found = problems(path, {"LINGUAD_POOLS__CHOICES": "0", "LINGUAD_POOLS__CHOICE": "3"})
    assert set(found) == {
        "servr",
        "server.port",
        "server.prot",
        "jobs.max_waiting",
        "pools.choices",
        "LINGUAD_POOLS__CHOICE",
    }


@pytest.mark.parametrize(("lower", "upper"), reading.ORDERED)
def test_settings_that_contradict_each_other_are_refused(tmp_path: Path, lower: str, upper: str) -> None:
    (low_table, low), (high_table, high) = lower.split("."), upper.split(".")
    smallest = reading.SETTINGS[high_table][high].low
    given = [f"{high_table}.{high} = {smallest}", f"{low_table}.{low} = {smallest + 1 if smallest else 1}"]
    assert upper in problems(write(tmp_path, "\n".join(given)))[lower]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[server]\nport =\n", "line 2"),
        (b"[server]\n[server]\n", "line 2"),
        (b"\x00\x01", "not TOML"),
        (b"[server]\nhost = '\xff'\n", "not UTF-8"),
        (b"a = " + b"[" * 100_000, "nested"),
        (b"[scheduler]\nport = 1\n[servr]\n", "linguad config convert --scheduler "),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, content: bytes, says: str) -> None:
    path = write(tmp_path, content)
    found = problems(path)
    assert list(found) == [str(path)]
    assert says in found[str(path)]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "directory" in problems(tmp_path)[str(tmp_path)]
    missing = tmp_path / "missing.toml"
    assert "No such file" in problems(missing)[str(missing)]


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    read = load(None, {"LINGUAD_SERVER__ADMIN_TOKEN": "12345678901234567890"})
    assert read.server.admin_token == "12345678901234567890"
    assert "1234567" not in config.render(read)
    assert 'admin_token = "<hidden>"' in config.render(read)
    assert 'admin_token = "12345678901234567890"' in config.render(read, reveal=True)
    for wrong in ("[server]\nadmin_token = 1234567", '[server]\nadmin_token = "1234567\\u0000"'):
        found = problems(write(tmp_path, wrong))
        assert "1234567" not in str(found)
        assert "<hidden>" in found["server.admin_token"]


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])), st.floats(0.05, 300))
def test_what_is_rendered_reads_back_the_same(host: str, seconds: float) -> None:
    first = Config(
        server=config.Server(host=host, peek_seconds=seconds, trusted_proxies=("10.0.0.0/8",)),
        log=config.Log(levels={"core": "debug", "trio-websocket": "info"}),
    )
    text = config.render(first, reveal=True)
    parsed = tomllib.loads(text)
    assert parsed["server"]["host"] == host
    assert parsed["server"]["peek_seconds"] == seconds
    assert parsed["log"]["levels"] == first.log.levels
    assert list(parsed) == list(config.TABLES)


def test_rendered_defaults_load_as_defaults(tmp_path: Path) -> None:
    assert load(write(tmp_path, config.render(Config())), {}) == Config()


def test_the_shipped_file_is_the_reference() -> None:
    shipped = (ROOT / "etc/linguad.toml").read_text()
    assert shipped == config.reference(), "run: python -m linguad.config > etc/linguad.toml"


def test_the_page_of_settings_is_up_to_date() -> None:
    page = (ROOT / "docs/settings.md").read_text()
    assert page == config.settings_page(), "run: python -m linguad.config --page > docs/settings.md"


def test_the_page_of_old_settings_is_up_to_date() -> None:
    page = (ROOT / "docs/old-settings.md").read_text()
    assert page == config.old_page(), "run: python -m linguad.config --old > docs/old-settings.md"


def test_the_shipped_file_holds_every_default(tmp_path: Path) -> None:
    shipped = (ROOT / "etc/linguad.toml").read_text()
    assert load(write(tmp_path, shipped), {}) == Config()
    uncommented, count = re.subn(r"^#(\w+ = )", r"\1", shipped, flags=re.MULTILINE)
    assert count == len(ALL_SETTINGS)
    assert load(write(tmp_path, uncommented), {}) == Config()
    assert max(len(line) for line in shipped.splitlines()) <= 100


@pytest.mark.parametrize("setting", ALL_SETTINGS, ids=lambda setting: setting.path)
def test_every_setting_is_declared_in_full(setting: config.base.Setting) -> None:
    assert setting.description.endswith("."), "a description is one or more sentences"
    assert len(setting.description) > 60, "say what it is and why the default is what it is"
    if setting.base in (int, float):
        assert setting.low is not None
        assert setting.high is not None
        assert isinstance(setting.default, int | float)
        assert setting.low <= setting.default <= setting.high


def test_every_setting_is_used() -> None:
    """A setting counts as used where it is read as `server.port`, `settings.port` or `config.port`."""
    used = set()
    for path in (ROOT / "linguad").rglob("*.py"):
        if path.parent.name != "config" or path.parent.parent.name != "linguad":
            for node in ast.walk(ast.parse(path.read_text(), path)):
                if isinstance(node, ast.Attribute):
                    used.add((ast.unparse(node.value).rpartition(".")[2].lstrip("_"), node.attr))
    unused = [
        setting.path
        for setting in ALL_SETTINGS
        if not any((owner, setting.name) in used for owner in (setting.table, "settings", "config"))
    ]
    assert unused == []


def test_configuration_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Config().server.port = 1  # type: ignore[misc]


class TestStateDirectory:
    def test_the_setting_comes_first(self) -> None:
        set_to = Config(server=config.Server(state_dir="/srv/l"))
        assert set_to.state_dir({"STATE_DIRECTORY": "/var/x"}) == Path("/srv/l")

    def test_then_the_first_of_systemd(self) -> None:
        assert Config().state_dir({"STATE_DIRECTORY": "/var/x:/var/y"}) == Path("/var/x")

    def test_then_by_user(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.geteuid", lambda: 0)
        assert Config().state_dir({}) == Path("/var/lib/linguad")
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        monkeypatch.setenv("HOME", "/home/somebody")
        assert Config().state_dir({}) == Path("/home/somebody/.local/state/linguad")
        assert Config(server=config.Server(state_dir="~/l")).state_dir({}) == Path("/home/somebody/l")

    def test_a_user_without_home_gets_a_clear_error(self) -> None:
        nobody = Config(server=config.Server(state_dir="~no-such-user/l"))
        with pytest.raises(ConfigError, match=r"server\.state_dir: .*home"):
            nobody.state_dir({})


class TestEarlierServer:
    """RUST_LOG, LOG_FORMAT and observability.json are still read, with a notice."""

    def test_environment(self) -> None:
        env = {"RUST_LOG": "warn,lingua_scheduler::dispatcher=trace,hyper=off", "LOG_FORMAT": "JSON"}
        read = load(None, env)
        assert read.log == config.Log(format="json", level="warning", levels={"dispatch": "debug"})
        assert read.notices == (log.Notice(source="LOG_FORMAT"), log.Notice(source="RUST_LOG"))

    def test_a_bare_crate_is_the_level_of_all(self) -> None:
        assert load(None, {"RUST_LOG": "lingua_scheduler=debug"}).log.level == "debug"

    def test_a_setting_of_ours_wins(self) -> None:
        read = load(None, {"RUST_LOG": "debug", "LINGUAD_LOG__LEVEL": "error"})
        assert read.log.level == "error"
        assert read.notices == (log.Notice(source="RUST_LOG", problem="log.level is set"),)

    @pytest.mark.parametrize(
        ("name", "value"), [("LOG_FORMAT", "xml"), ("RUST_LOG", "hyper=debug"), ("RUST_LOG", "?")]
    )
    def test_what_is_not_understood_changes_nothing(self, name: str, value: str) -> None:
        read = load(None, {name: value})
        assert read.log == config.Log()
        (notice,) = read.notices
        assert notice.source == name
        assert notice.problem

    @pytest.mark.parametrize("place", [".", "config", "..", "../etc"])
    def test_file_in_its_places(self, tmp_path: Path, place: str) -> None:
        for directory in ("config", "../etc"):
            Path(directory).mkdir()
        modules = {"lingua_scheduler::node_registry": "debug", "lingua_node_inference::asr": "warn"}
        Path(place, "observability.json").write_text(
            json.dumps({"default_level": "error", "modules": modules})
        )
        path = write(tmp_path / "etc", "")
        read = load(path, {})
        assert read.log == config.Log(level="error", levels={"nodes": "debug", "worker": "warning"})
        assert read.notices == (log.Notice(source="observability.json"),)

    def test_rust_log_wins_over_the_file(self) -> None:
        Path("observability.json").write_text('{"default_level": "error"}')
        read = load(None, {"RUST_LOG": "debug"})
        assert read.log.level == "debug"
        assert [notice.source for notice in read.notices] == ["RUST_LOG"]

    @pytest.mark.parametrize("content", ["", "[1]", '{"modules": 3}', '{"default_level": 3}', "[" * 100_000])
    def test_a_broken_file_changes_nothing(self, content: str) -> None:
        Path("observability.json").write_text(content)
        read = load(None, {})
        assert read.log == config.Log()
        assert read.notices[0].problem

    def test_new_names_exist(self) -> None:
        paths = {setting.path for setting in ALL_SETTINGS}
        assert {*oldkeys.NAMES.values(), *oldkeys.GATEWAY_NAMES.values()} <= paths
        packages = {package for group in old.PACKAGES.values() for package in group} | {"worker"}
        assert packages <= set(log.packages())


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (
            '[pools.capability.a]\nid = 1\nrequired_services = ["asr", "whisper"]',
            "pools.capability",
            'a: there is no service "whisper"; allowed is "asr"',
        ),
        (
            "[pools.capability.a]\nid = 1\n[pools.capability.b]\nid = 1",
            "pools.capability",
            "b: has the id 1, as a",
        ),
        ('[pools.tenants.t]\npool = "gold"', "pools.tenants.t.pool", "there are none"),
        (
            '[pools.capability.a]\nid = 1\n[pools.tenants.t]\npool = "gold"',
            "pools.tenants.t.pool",
            'no capability pool is named "gold"; there are a',
        ),
        ("[pools.capability.a]\nid = 65536", "pools.capability", "cannot be used"),
        ("[pools.capability.a]\nid = 1\nservices = []", "pools.capability", "cannot be used"),
    ],
)
def test_capability_pools_that_cannot_be(tmp_path: Path, text: str, path: str, words: str) -> None:
    assert words in problems(write(tmp_path, text))[path]


def test_shown_pools_can_be_read_again(tmp_path: Path) -> None:
    text = '[pools.capability.a]\nid = 1\nrequired_services = ["asr"]\n[pools.tenants."t.1"]\npool = "a"'
    made = load(write(tmp_path, text), {})
    assert load(write(tmp_path, config.render(made)), {}) == made
