"""What a reload takes over of a configuration that was read anew, and what has to wait for a restart."""

from __future__ import annotations

from typing import Any, NamedTuple

from msgspec.structs import replace

from linguad.config.reading import SETTINGS, contradictions
from linguad.config.whole import Config
from linguad.errors import ConfigError


class Changes(NamedTuple):
    """A configuration as it is after a reload."""

    config: Config
    taken: list[str]
    """Paths of the settings that changed."""
    waiting: list[str]
    """Paths of those that are as before until a restart."""


def taken_over(before: Config, read: Config) -> Changes:
    """`before` with the live settings of `read`.

    Raises ConfigError if the two do not go together, though each does by itself.
    """
    tables: dict[str, Any] = {}
    taken: list[str] = []
    waiting: list[str] = []
    for name, settings in SETTINGS.items():
        old, new = getattr(before, name), getattr(read, name)
        changed = [one for one in settings.values() if getattr(old, one.name) != getattr(new, one.name)]
        live = {one.name: getattr(new, one.name) for one in changed if one.live}
        tables[name] = replace(old, **live)
        for one in changed:
            (taken if one.live else waiting).append(one.path)
    config = replace(before, **tables)
    if problems := contradictions(config):
        raise ConfigError([(path, f"{problem} until a restart") for path, problem in problems])
    return Changes(config, taken, waiting)
