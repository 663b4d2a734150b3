"""The configuration as text: what is in force, and the reference of all settings."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import msgspec
from msgspec.structs import asdict

from linguad.config import oldkeys
from linguad.config.base import Setting, plain_number, settings_of, size
from linguad.config.whole import TABLES, Config

HIDDEN = "<hidden>"
"""Stands for a secret that is set."""

WIDTH = 100
"""Columns of the reference: fits beside another window."""

_FILE_HEAD = """\
Settings of linguad: every one, with its default. Take the "#" off a line and change it; what is not set \
keeps its default, also when a later version has a better one.

The environment wins over this file: LINGUAD_SERVER__PORT=5010 is "port" of [server], and so on. \
"linguad config check" says what is wrong with a file, "linguad config show" what is in force.

Printed by "python -m linguad.config"; change the declarations there, not this text."""

_PAGE_HEAD = """\
# Settings

linguad reads one TOML file (`linguad serve --config FILE`) and the environment, and works without either.
Each setting below is a line of the file under its table, or `LINGUAD_<TABLE>__<KEY>` in the environment,
which wins: `LINGUAD_SERVER__PORT=5010`. Texts in the environment need no quotes; lists and tables are
written as in TOML: `LINGUAD_SERVER__TRUSTED_PROXIES='["10.0.0.0/8"]'`.

A table or key that is not listed here is an error, as is a value out of its range. All of them are reported
at once, and the daemon ends with exit code 2. `linguad config check` does only that; `linguad config show`
prints what is in force, secrets hidden. `etc/linguad.toml` holds every setting with its reason.

"Holds after" says what it takes for a changed setting of a running daemon: a reload (`systemctl reload
linguad`, SIGHUP), which cuts no connection, or a restart. See [operations.md](operations.md#change-settings).

<!-- Printed by `python -m linguad.config --page`; change linguad/config/, not this page. -->
"""

_PAGE_COLUMNS = """\
| Setting | Default | Unit | Allowed | Holds after | What and why |
| --- | --- | --- | --- | --- | --- |
"""

_OLD_PAGE = """\
# Names of the earlier server

What became of each key of the earlier server's files. `linguad config convert` carries them over, see
[migration.md](migration.md).

<!-- Printed by `python -m linguad.config --old`; change linguad/config/oldkeys.py, not this page. -->
"""

_NEW_NAMES = """\
| Earlier key | Setting |
| --- | --- |
"""

_NO_NAMES = """\
| Earlier key or table | Why it has no meaning any more |
| --- | --- |
"""

_SETTINGS_TAIL = """
## Earlier log settings

`RUST_LOG`, `LOG_FORMAT` and an `observability.json` (in the working directory, its `config` directory, its
parent, or beside the configuration file) are still read, each with the event `setting_deprecated`. They give
`log.level`, `log.levels` and `log.format` where these are not set; `RUST_LOG` wins over the file. What became
of the keys of the earlier `config.toml` is in [old-settings.md](old-settings.md).
"""


def render(config: Config, reveal: bool = False) -> str:
    """What is in force, as TOML; secrets that are set appear as `<hidden>` unless `reveal`."""
    parts = []
    for name, kind in TABLES.items():
        table = getattr(config, name)
        lines = [f"[{name}]"]
        for setting in settings_of(name, kind).values():
            value = getattr(table, setting.name)
            shown = HIDDEN if setting.secret and value and not reveal else value
            lines.append(f"{setting.name} = {toml(shown)}")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def reference() -> str:
    """etc/linguad.toml: every setting as a comment, with what it means and its default."""
    parts = [_comment(_FILE_HEAD)]
    for name, kind in TABLES.items():
        parts.append(f"\n\n{_comment(kind.__doc__ or '')}[{name}]\n")
        for setting in settings_of(name, kind).values():
            facts = f"Default {_default(setting)}; allowed is {setting.allowed}."
            facts += " A reload takes it over." if setting.live else ""
            parts.append(f"\n{_comment(setting.description)}{_comment(facts)}")
            parts.append(f"#{setting.name} = {toml(setting.default)}\n")
    return "".join(parts)


def settings_page() -> str:
    """docs/settings.md: a table of settings per table of the file, and the earlier names."""
    parts = [_PAGE_HEAD]
    for name, kind in TABLES.items():
        parts.append(f"\n## [{name}]\n\n{kind.__doc__}\n\n")
        parts.append(_PAGE_COLUMNS)
        for setting in settings_of(name, kind).values():
            cells = (
                f"`{setting.name}`",
                f"`{toml(setting.default)}`",
                setting.unit,
                setting.allowed,
                "reload" if setting.live else "restart",
                setting.description,
            )
            parts.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |\n")
    parts.append(_SETTINGS_TAIL)
    return "".join(parts)


def old_page() -> str:
    """docs/old-settings.md: every key of the earlier server, with the setting or the reason."""
    parts = [_OLD_PAGE]
    for title, names, dropped in (
        ("Scheduler", oldkeys.NAMES, oldkeys.DROPPED),
        ("Gateway", oldkeys.GATEWAY_NAMES, oldkeys.GATEWAY_DROPPED),
    ):
        parts.append(f"\n## {title}\n\n{_NEW_NAMES}")
        parts += [f"| `{key}` | `{path}` |\n" for key, path in names.items()]
        parts.append(f"\n{_NO_NAMES}")
        parts += [f"| `{key}` | {why} |\n" for key, why in dropped.items()]
    return "".join(parts)


def toml(value: object) -> str:
    """One value as TOML on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return plain_number(value)
        case list() | tuple():
            return f"[{', '.join(toml(item) for item in value)}]"
        case msgspec.Struct():
            given = {name: member for name, member in asdict(value).items() if member is not None}
            return toml(given)
        case Mapping():
            return f"{{{', '.join(f'{quoted(str(key))} = {toml(item)}' for key, item in value.items())}}}"
        case _:
            return quoted(str(value))


def quoted(text: str) -> str:
    """A TOML string; what cannot be printed is escaped."""
    return f'"{"".join(_escaped(c) for c in text)}"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char.isprintable():
        return char
    return f"\\u{ord(char):04X}" if ord(char) < 0x10000 else f"\\U{ord(char):08X}"


def _default(setting: Setting) -> str:
    default = setting.default
    if setting.unit == "bytes" and isinstance(default, int) and default:
        return f"{default} ({size(default)})" if default % 1024 == 0 else f"{default} bytes"
    return f"{toml(default)} {setting.unit}".rstrip()


def _comment(text: str) -> str:
    lines = [line for paragraph in text.split("\n") for line in _wrapped(paragraph) or [""]]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _wrapped(paragraph: str) -> list[str]:
    return textwrap.wrap(paragraph, WIDTH - 2, break_on_hyphens=False)
