"""Reads the configuration from a TOML file and the environment; finds everything wrong with it."""

from __future__ import annotations

import difflib
import ipaddress
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_origin
from urllib.parse import urlsplit

import msgspec

from linguad import log
from linguad.config import cluster, old, pools
from linguad.config.base import Setting, settings_of
from linguad.config.whole import TABLES, Config, Part
from linguad.config.writing import HIDDEN, quoted, toml
from linguad.errors import ConfigError

PREFIX = "LINGUAD_"
"""Every environment variable that is a setting begins so."""

MAX_SHOWN_CHARS = 80
"""Longest piece of a wrong value that is quoted in a message."""

EARLIER_PLACES = (Path(), Path("config"), Path(".."))
"""Where the earlier server looked for `observability.json`, seen from the working directory."""

SETTINGS: dict[str, dict[str, Setting]] = {name: settings_of(name, kind) for name, kind in TABLES.items()}
"""All settings by table and name."""

ORDERED = (
    ("server.drain_seconds", "server.hard_stop_seconds"),
    ("server.ping_interval_seconds", "server.idle_timeout_seconds"),
    ("jobs.timeout_min_seconds", "jobs.timeout_max_seconds"),
    ("jobs.timeout_max_seconds", "jobs.job_max_age_seconds"),
    ("jobs.pending_timeout_seconds", "jobs.job_max_age_seconds"),
    ("nodes.failure_count", "nodes.failure_window"),
    ("nodes.status_scan_interval_seconds", "nodes.heartbeat_timeout_seconds"),
)
"""Pairs of settings of which the first must not exceed the second, or the second would never take effect."""


def load(path: Path | None, env: Mapping[str, str], only: Part | None = None) -> Config:
    """The configuration from the file at `path` (none: defaults) and the environment, which wins.

    With `only`, that of an instance which is this part alone. Raises ConfigError with everything that is
    wrong, not only the first thing.
    """
    return _Reader(env).read(path, only)


def contradictions(config: Config, wrong: Collection[str] = ()) -> list[tuple[str, str]]:
    """Settings that do not go together, each with the problem; those that are `wrong` anyway are left out."""
    problems: list[tuple[str, str]] = []
    if not {"pools.capability", "pools.tenants"} & set(wrong):
        problems += pools.strangers(config.pools)
    problems += cluster.clashes(config.cluster, config.store, gateway=config.gateway.enabled)
    for lower, upper in ORDERED:
        if lower in wrong or upper in wrong:
            continue
        low, high = (getattr(getattr(config, table), key) for table, key in map(_split, (lower, upper)))
        if low > high:
            problems.append((lower, f"{toml(low)} is more than {upper}, which is {toml(high)}"))
    return problems


def _split(path: str) -> tuple[str, str]:
    table, _, key = path.partition(".")
    return table, key


def made_of(tables: Mapping[str, Mapping[str, object]]) -> Config:
    """The configuration of these settings alone. Raises ConfigError with everything that is wrong."""
    reader = _Reader({})
    for table, settings in tables.items():
        reader.given[table].update(settings)
    return reader.made()


class _Reader:
    """One reading: the values given so far, by table and name, and the problems found."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env
        self.given: dict[str, dict[str, object]] = {name: {} for name in TABLES}
        self.variables: dict[str, str] = {}
        self.problems: list[tuple[str, str]] = []

    def read(self, path: Path | None, only: Part | None) -> Config:
        if path is not None:
            self._take(parsed(path), path)
        for variable, text in sorted(self.env.items()):
            if variable.startswith(PREFIX):
                self._take_variable(variable, text)
        if only is not None:
            for table in ("gateway", "hub"):
                self.given[table]["enabled"] = only == table
        notices = self._take_earlier(path)
        return self.made(notices)

    def made(self, notices: Sequence[log.Notice] = ()) -> Config:
        """The configuration of all that was given."""
        tables: dict[str, Any] = {name: kind(**self._converted(name)) for name, kind in TABLES.items()}
        config = Config(**tables, notices=tuple(notices))
        self.problems += contradictions(config, {path for path, _ in self.problems})
        if self.problems:
            raise ConfigError(self.problems)
        return config

    def _problem(self, path: str, text: str) -> None:
        self.problems.append((path, text))

    def _take(self, content: Mapping[str, Any], path: Path) -> None:
        if "scheduler" in content:
            raise ConfigError([(str(path), old.file_hint(path))])
        for table, values in content.items():
            if table not in SETTINGS:
                self._problem(table, _unknown_table(table))
            elif not isinstance(values, dict):
                self._problem(table, f"is a table: write [{table}] and its settings below")
            else:
                for key, value in values.items():
                    if key in SETTINGS[table]:
                        self.given[table][key] = value
                    else:
                        self._problem(f"{table}.{key}", _unknown_key(table, key))

    def _take_variable(self, variable: str, text: str) -> None:
        table, two, key = variable.removeprefix(PREFIX).lower().partition("__")
        if not two:
            # Other variables may begin like ours, but this one is a setting with an underscore too few.
            table, _, key = table.partition("_")
            if key in SETTINGS.get(table, {}):
                self._problem(variable, f"has two underscores after the table: {_variable(table, key)}")
        elif table not in SETTINGS:
            self._problem(variable, _unknown_table(table))
        elif key not in SETTINGS[table]:
            self._problem(variable, _unknown_key(table, key))
        else:
            self.given[table][key] = _from_text(SETTINGS[table][key], text)
            self.variables[f"{table}.{key}"] = variable

    def _take_earlier(self, path: Path | None) -> list[log.Notice]:
        """Let the earlier server's log settings fill in what `[log]` does not say."""
        beside = [path.parent] if path is not None else []
        given = self.given["log"]
        set_already = frozenset(given)
        notices = []
        for found in old.log_settings(self.env, [*EARLIER_PLACES, *beside]):
            problem = found.problem
            if clash := next((key for key in found.settings if key in set_already), None):
                problem = f"log.{clash} is set"
            if not problem:
                given.update(found.settings)
            notices.append(log.Notice(source=found.source, problem=problem))
        return notices

    def _converted(self, table: str) -> dict[str, object]:
        """The good values of a table; the others become problems."""
        good = {}
        for key, value in self.given[table].items():
            setting = SETTINGS[table][key]
            try:
                converted = msgspec.convert(value, setting.type)
                wrong = list(_objections(setting, converted))
            except msgspec.ValidationError:
                wrong = [f"{_shown(setting, value)} cannot be used; allowed is {setting.allowed}"]
            if not wrong:
                good[key] = converted
            variable = self.variables.get(setting.path)
            source = f" (given by {variable})" if variable else ""
            self.problems += [(setting.path, text + source) for text in wrong]
        return good


def parsed(path: Path) -> dict[str, Any]:
    """The content of a TOML file. Raises ConfigError with the reason if it cannot be read."""
    try:
        # Some editors begin a file with a byte order mark.
        return tomllib.loads(path.read_text("utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        problem = f"is not TOML: {error}"
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 text: byte {error.start + 1} is wrong"
    except RecursionError:
        problem = "is nested too deeply"
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
    raise ConfigError([(str(path), problem)])


def _from_text(setting: Setting, text: str) -> object:
    """The value an environment variable means: TOML where it can be read so, else the text itself."""
    try:
        document = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    value = document["value"] if len(document) == 1 else text
    takes_text = setting.base is str or get_origin(setting.base) is Literal
    # A token or a host name may look like a number.
    return text if takes_text and not isinstance(value, str) else value


def _unknown_table(name: str) -> str:
    homes = [table for table, settings in SETTINGS.items() if name in settings]
    if homes:
        return f"is not a table but a setting; it belongs under [{homes[0]}]"
    return f"there is no such table{_meant(name, TABLES)}; there are {_listed(TABLES)}"


def _unknown_key(table: str, key: str) -> str:
    homes = [other for other, settings in SETTINGS.items() if key in settings]
    if homes:
        return f"there is no such setting in [{table}]; it belongs under [{homes[0]}]"
    known = SETTINGS[table]
    return f"there is no such setting{_meant(key, known)}; [{table}] has {_listed(known)}"


def _meant(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f", did you mean {near[0]}?" if near else ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _variable(table: str, key: str) -> str:
    return f"{PREFIX}{table.upper()}__{key.upper()}"


def _shown(setting: Setting, value: object) -> str:
    if setting.secret:
        return HIDDEN
    text = toml(value)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"


def _objections(setting: Setting, value: object) -> Iterator[str]:
    """What the type of a setting cannot say."""
    if isinstance(value, str) and not value.isprintable():
        yield f"{_shown(setting, value)} holds characters that cannot be printed"
    if setting.path in ("server.trusted_proxies", "sessions.trusted_sources") and isinstance(value, tuple):
        for item in value:
            try:
                ipaddress.ip_network(item)
            except ValueError as error:
                yield f'{quoted(item)} is not a network like "10.0.0.0/8": {error}'
    if setting.path == "tracing.endpoint" and not _is_http(str(value)):
        yield f"{_shown(setting, value)} is not an address like http://127.0.0.1:4318/v1/traces"
    if setting.path == "pools.capability" and isinstance(value, dict):
        yield from pools.objections(value)
    if setting.path == "log.levels" and isinstance(value, dict):
        for name in value:
            if not log.is_package(name):
                yield f"linguad has no package {quoted(name)}; it has {_listed(log.packages())}"


def _is_http(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
