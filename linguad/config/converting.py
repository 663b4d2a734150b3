"""`linguad config convert`: the files of the earlier server, read once, as one file of ours.

Every key is either carried over or listed as a comment with the reason; what the result cannot hold (a value
out of our range, two that contradict each other) is listed as well, so that it always can be used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from linguad.config import oldkeys
from linguad.config.old import log_settings
from linguad.config.pools import SERVICES
from linguad.config.reading import SETTINGS, made_of
from linguad.config.writing import HIDDEN, quoted, toml
from linguad.errors import ConfigError

API_KEY = "LINGUA_API_KEY"

HEAD = """\
# Made by linguad config convert from the files of the earlier server.
# Settings that are not named here have their defaults: see etc/linguad.toml.
"""

LOST = "# What was not carried over, and why:"


class Dropped(NamedTuple):
    """A key that was not carried over."""

    source: str
    """Of the scheduler, of the gateway or of the environment."""
    key: str
    value: object
    why: str


class Conversion:
    """Mutable: the settings so far, and what was not carried over."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, object]] = {}
        self.dropped: list[Dropped] = []
        self._from: dict[str, tuple[str, str, object]] = {}
        """Where each setting comes from."""

    def scheduler(self, content: Mapping[str, Any]) -> None:
        """Take over the scheduler's file."""
        keys = dict(_leaves(content))
        names = oldkeys.NAMES
        without = _switched_off(keys)
        for key, value in keys.items():
            known = _latest(key)
            if reason := next((why for table, why in without if known.startswith(table)), ""):
                self._drop("scheduler", key, value, reason)
            else:
                self._take("scheduler", key, known, value, names, oldkeys.DROPPED, content)

    def gateway(self, content: Mapping[str, Any]) -> None:
        """Take over the gateway's file."""
        for key, value in _leaves(content):
            names, dropped = oldkeys.GATEWAY_NAMES, oldkeys.GATEWAY_DROPPED
            self._take("gateway", key, key, value, names, dropped, content)

    def environment(self, env: Mapping[str, str]) -> None:
        """Take over what the environment of the earlier programs says."""
        for variable, path in oldkeys.ENVIRONMENT.items():
            if value := env.get(variable):
                self._set("environment", variable, value, path, value)
        for found in log_settings(env, ()):
            for name, setting in found.settings.items():
                self._set("environment", found.source, env[found.source], f"log.{name}", setting)
            if found.problem:
                self._drop("environment", found.source, env[found.source], found.problem)
        if env.get(API_KEY):
            self._drop("environment", API_KEY, "<hidden>", "it is still read from the environment")

    def text(self) -> str:
        """The file: what was carried over, then what was not."""
        self._settle()
        parts = [HEAD]
        for table in SETTINGS:
            if settings := self.tables.get(table):
                lines = [f"{name} = {toml(value)}" for name, value in settings.items()]
                parts.append("\n".join(["", f"[{table}]", *lines, ""]))
        if self.dropped:
            lines = [
                f"# {one.source} {_printable(one.key)} = {_shown(one.value)}: {one.why}"
                for one in self.dropped
            ]
            parts.append("\n".join(["", LOST, *lines, ""]))
        return "".join(parts)

    def _take(
        self,
        source: str,
        key: str,
        known: str,
        value: object,
        names: Mapping[str, str],
        dropped: Mapping[str, str],
        content: Mapping[str, Any],
    ) -> None:
        if path := names.get(known):
            change = _CHANGED.get(path if source == "scheduler" else "", _same)
            try:
                self._set(source, key, value, path, change(value, content))
            except _Refused as refusal:
                self._drop(source, key, value, str(refusal))
            except (TypeError, AttributeError):
                self._drop(source, key, value, "it has another form than it should")
        elif why := _reason(known, dropped):
            self._drop(source, key, value, why)
        else:
            self._drop(source, key, value, "no generation of the earlier server knows it")

    def _set(self, source: str, key: str, value: object, path: str, setting: object) -> None:
        table, _, name = path.partition(".")
        if path in ("server.host", "gateway.host") and setting == "0.0.0.0":
            self.tables.setdefault(table, {})[name] = ""
        else:
            self.tables.setdefault(table, {})[name] = setting
        self._from[path] = source, key, value

    def _drop(self, source: str, key: str, value: object, why: str) -> None:
        self.dropped.append(Dropped(source, key, value, why))

    def _settle(self) -> None:
        """Take settings out, until all that is left can be used."""
        while problems := _problems(self.tables):
            own = {".".join(path.split(".")[:2]): text for path, text in problems}
            everything = [f"{table}.{name}" for table, settings in self.tables.items() for name in settings]
            helps = (path for path in (*own, *everything) if len(self._without(path)) < len(problems))
            if (path := next(helps, None)) is None:
                raise ConfigError(problems)
            table, _, name = path.partition(".")
            del self.tables[table][name]
            first, text = problems[0]
            self._drop(*self._from[path], own.get(path) or f"{first} {text}")

    def _without(self, path: str) -> Sequence[tuple[str, str]]:
        """The problems that are left without a setting."""
        table, _, name = path.partition(".")
        rest = {key: value for key, value in self.tables.get(table, {}).items() if key != name}
        return _problems(self.tables | {table: rest})


def _problems(tables: Mapping[str, Mapping[str, object]]) -> Sequence[tuple[str, str]]:
    try:
        made_of(tables)
    except ConfigError as error:
        return error.problems
    return ()


class _Refused(Exception):
    """A value that has no counterpart; the text says why."""


def _shown(value: object) -> str:
    """A value on one line; an address may hold a password."""
    text = toml(value)
    return HIDDEN if "@" in text else text


def _printable(key: str) -> str:
    return quoted(key)[1:-1]


def _leaves(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, object]]:
    """Every key of a file by its whole name; lists of tables are values."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _latest(key: str) -> str:
    """A key under the names of the latest generation that we list."""
    for alias, table in oldkeys.ALIASES:
        if key.startswith(alias):
            return table + key.removeprefix(alias)
    return key


def _switched_off(keys: Mapping[str, object]) -> list[tuple[str, str]]:
    """Tables of features that the file switches off, with the reason to leave out what is in them."""
    found = []
    for key, value in keys.items():
        table, _, name = _latest(key).rpartition(".")
        if name == "enabled" and value is False and table in ("scheduler.phase2", "scheduler.phase3"):
            found.append((f"{table}.", f"{table}.enabled was false"))
    return found


def _reason(key: str, dropped: Mapping[str, str]) -> str:
    """Why a key has no meaning any more: its own reason, or that of the nearest table around it."""
    while key:
        if why := dropped.get(key):
            return why
        key = key.rpartition(".")[0]
    return ""


def _same(value: object, _content: object) -> object:
    return value


def _pools(value: object, _content: object) -> object:
    """`[[phase3.pools]]` as tables by name."""
    found: dict[str, object] = {}
    for pool in _tables(value):
        services = pool.get("required_services", [])
        if unknown := [kind for kind in services if kind not in SERVICES]:
            # without it the pool would take every node
            raise _Refused(f"there is no service {unknown[0]} in pool {_pool_name(pool)}")
        if "language_requirements" in pool:
            raise _Refused(f"pool {_pool_name(pool)} asks for languages, which nodes tell by themselves now")
        found[_pool_name(pool)] = {"id": pool.get("pool_id"), "required_services": services}
    return found


def _tenants(value: object, content: Mapping[str, Any]) -> object:
    """`[[phase3.tenant_overrides]]` as tables by tenant; pools are meant by their name."""
    scheduler = content["scheduler"]
    pools = (scheduler.get("phase3") or scheduler.get("pools") or {}).get("pools", ())
    names = {pool.get("pool_id"): _pool_name(pool) for pool in pools}
    found: dict[str, object] = {}
    for tenant in _tables(value):
        name = names.get(tenant.get("pool_id"))
        if name is None:
            raise _Refused(f"there is no pool {tenant.get('pool_id')} among the pools of the file")
        found[str(tenant.get("tenant_id"))] = {"pool": name}
    return found


def _tables(value: object) -> list[Mapping[str, Any]]:
    if not isinstance(value, list):
        raise _Refused("it is no list of tables")
    return value


def _pool_name(pool: Mapping[str, Any]) -> str:
    return str(pool.get("name") or f"pool-{pool.get('pool_id')}")


def _instance(value: object, _content: object) -> object:
    if value in ("${INSTANCE_ID}", "$INSTANCE_ID"):
        raise _Refused('the earlier server never expanded it; "auto" is the default')
    return value


def _urls(value: object, _content: object) -> object:
    if not value:
        raise _Refused("it is empty: one server, not a cluster")
    return value


def _redis_url(value: object, content: Mapping[str, Any]) -> object:
    scheduler = content["scheduler"]
    redis = (scheduler.get("redis_runtime") or scheduler.get("phase2") or {}).get("redis", {})
    if redis.get("mode") == "cluster" and redis.get("cluster_urls"):
        raise _Refused("the cluster is reached by its list of addresses")
    return value


_CHANGED: dict[str, Callable[[Any, Mapping[str, Any]], object]] = {
    "jobs.affinity": lambda spread, _content: "spread" if spread else "session",
    "nodes.require_gpu": lambda needed, _content: "always" if needed else "never",
    "sessions.detach_grace_seconds": lambda milliseconds, _content: milliseconds / 1000,
    "pools.capability": _pools,
    "pools.tenants": _tenants,
    "cluster.redis_url": _redis_url,
    "cluster.redis_urls": _urls,
    "cluster.instance_id": _instance,
}
"""Settings whose value is another than that of the earlier key."""


def convert(
    scheduler: Mapping[str, Any] | None, gateway: Mapping[str, Any] | None, env: Mapping[str, str] | None
) -> str:
    """The file of ours that means what these files and this environment of the earlier server meant."""
    made = Conversion()
    if scheduler is not None:
        made.scheduler(scheduler)
    if gateway is not None:
        made.gateway(gateway)
    if env is not None:
        made.environment(env)
    return made.text()
