"""What all tables of settings share, and what can be read from the declaration of a setting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

UNITS = {"ms": "ms", "seconds": "s", "minutes": "min", "bytes": "bytes", "messages": "messages"}
"""Ends of names that state a unit, and its short form."""

Secret = Annotated[str, Meta(extra={"secret": True})]
"""Text that is never shown: not by `linguad config show`, not in error messages, not in logs."""


LIVE = Meta(extra={"live": True})
"""Marks a setting that a reload takes over; all others wait for a restart."""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """One table of the file; its fields are the settings."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about one setting from its declaration."""

    table: str
    name: str
    type: Any
    """The annotated type, as msgspec converts to it."""
    default: object
    description: str
    low: float | None
    high: float | None
    secret: bool
    live: bool
    """Whether a reload takes it over."""
    unit: str
    """Short name of the unit, "" for texts and plain numbers."""

    @property
    def path(self) -> str:
        """Name of the setting in messages: `table.name`."""
        return f"{self.table}.{self.name}"

    @property
    def base(self) -> Any:
        """The type without its annotations."""
        return get_args(self.type)[0]

    @property
    def allowed(self) -> str:
        """What may be given, in words that follow "allowed is"."""
        base = self.base
        if base is bool:
            return "true or false"
        if base in (int, float):
            kind = "a whole number" if base is int else "a number"
            return f"{kind} from {self._bound(self.low)} to {self._bound(self.high)}"
        if get_origin(base) is Literal:
            return one_of(get_args(base))
        if get_origin(base) is tuple:
            return "a list of texts"
        if get_origin(base) is dict:
            held = get_args(base)[1]
            if isinstance(held, type) and issubclass(held, msgspec.Struct):
                return f"tables by name, each with {', '.join(held.__struct_fields__)}"
            return f"a table of names, each with {one_of(get_args(held))}"
        return "text"

    def _bound(self, value: float | None) -> str:
        number = plain_number(value or 0)
        if self.unit == "bytes" and value and value % KIB == 0:
            return f"{number} ({size(int(value))})"
        return number


def settings_of(table: str, kind: type[Table]) -> dict[str, Setting]:
    """The settings of a table by name, in the order of their declaration."""
    hints = get_type_hints(kind, include_extras=True)
    return {f.name: _setting(table, f, hints[f.name]) for f in msgspec.structs.fields(kind)}


def _setting(table: str, declared: msgspec.structs.FieldInfo, hint: Any) -> Setting:
    metas = [meta for meta in hint.__metadata__ if isinstance(meta, Meta)]
    extra = {key: value for meta in metas for key, value in (meta.extra or {}).items()}
    make: Any = declared.default_factory
    return Setting(
        table=table,
        name=declared.name,
        type=hint,
        default=declared.default if declared.default is not msgspec.NODEFAULT else make(),
        description=next((meta.description for meta in metas if meta.description), ""),
        low=next((meta.ge for meta in metas if meta.ge is not None), None),
        high=next((meta.le for meta in metas if meta.le is not None), None),
        secret=bool(extra.get("secret")),
        live=bool(extra.get("live")),
        unit=str(extra.get("unit") or UNITS.get(declared.name.rpartition("_")[2], "")),
    )


def one_of(values: Sequence[str]) -> str:
    """`"a", "b" or "c"`."""
    quoted = [f'"{value}"' for value in values]
    return f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def plain_number(value: float) -> str:
    """A number as a person writes it: 25 rather than 25.0."""
    return str(int(value)) if float(value).is_integer() else repr(value)


def size(count: int) -> str:
    """A number of bytes in the largest unit that divides it: 16 MiB."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count >= unit and count % unit == 0:
            return f"{count // unit} {name}"
    return f"{count} bytes"
