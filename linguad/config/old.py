"""What is left of the earlier server's configuration: log settings are still read, its file is known."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec


def file_hint(path: Path) -> str:
    """Answer to a `config.toml` of the earlier server, known by its `[scheduler]` table."""
    return (
        "this is a file of the earlier server; make one of linguad with: "
        f"linguad config convert --scheduler {path} > linguad.toml"
    )


_LEVELS = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "warn": "warning",
    "error": "error",
    "off": "critical",
}
PACKAGES: dict[str, tuple[str, ...]] = {
    "websocket": ("net", "sessions", "nodes"),
    "dispatcher": ("dispatch",),
    "node_registry": ("nodes",),
    "session": ("sessions",),
    "result_queue": ("sessions",),
}
"""Modules of the earlier server and the packages that do their work now."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Log settings from an earlier source, or why it cannot be used."""

    source: str
    settings: dict[str, object]
    problem: str = ""


def log_settings(env: Mapping[str, str], directories: Iterable[Path]) -> list[Found]:
    """What LOG_FORMAT, RUST_LOG and the first `observability.json` in `directories` say about logging."""
    found = []
    if form := env.get("LOG_FORMAT"):
        known = form.lower() in ("json", "pretty")
        found.append(
            Found(
                source="LOG_FORMAT",
                settings={"format": form.lower()} if known else {},
                problem="" if known else "it is neither json nor pretty",
            )
        )
    if filters := env.get("RUST_LOG"):
        found.append(_from_filters(filters))
        return found
    files = (directory / "observability.json" for directory in directories)
    if path := next((file for file in files if file.is_file()), None):
        found.append(_from_file(path))
    return found


def _from_filters(filters: str) -> Found:
    """Read `info,lingua_scheduler::session=debug`."""
    default, modules = None, {}
    for part in filters.split(","):
        target, equals, level = part.strip().partition("=")
        if equals:
            modules[target] = level
        elif target.lower() in _LEVELS:
            default = target
    return _found("RUST_LOG", default, modules)


def _from_file(path: Path) -> Found:
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return Found(source=path.name, settings={}, problem="it cannot be read as JSON")
    if not isinstance(content, dict) or not isinstance(content.get("modules", {}), dict):
        return Found(source=path.name, settings={}, problem="it has another form")
    return _found(path.name, content.get("default_level"), content.get("modules", {}))


def _found(source: str, default: object, modules: Mapping[str, object]) -> Found:
    settings: dict[str, object] = {}
    levels: dict[str, str] = {}
    if level := _LEVELS.get(str(default).lower()):
        settings["level"] = level
    for target, given in modules.items():
        level = _LEVELS.get(str(given).lower())
        crate, _, module = target.partition("::")
        if level is None:
            continue
        if crate.startswith("lingua_node"):
            levels["worker"] = level
        elif target == "lingua_scheduler":
            settings["level"] = level
        elif crate == "lingua_scheduler":
            levels |= dict.fromkeys(PACKAGES.get(module.partition("::")[0], ()), level)
    if levels:
        settings["levels"] = levels
    return Found(source=source, settings=settings, problem="" if settings else "it names no level we know")
