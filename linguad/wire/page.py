"""docs/protocol.md, printed from the message types: `python -m linguad.wire.page`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, get_args

import msgspec
from msgspec import inspect as types

from linguad.wire import common, node, public, room, session

_HEAD = """\
# Protocol

Printed from the message types by `python -m linguad.wire.page`; a test compares.

Every message is one JSON object in one WebSocket text frame; `type` selects it. Unknown members are ignored,
`null` means absent, absent members are not written. A malformed optional member is dropped and counted; a
message is refused only when a member it cannot do without is missing or of the wrong type. Integers may be
written as `5.0`. Times are milliseconds, absolute ones since the Unix epoch; audio is base64. A `string` has
at most 256 characters, a `text` any number; no number is beyond ±(2^53 - 1), infinite or NaN. A malformed
message is repaired only if it has at most 256 KiB, not counting its audio.

Audio formats: `opus` is Plan A, a run of records of a 2-byte little-endian length and one Opus packet of
20 ms at 16 kHz mono; `pcm16` is raw little-endian signed 16-bit mono.

Section numbers (session-protocol 2.2.1) are those of the Lingua specifications the server is built from.
"""

_PARTS: tuple[tuple[str, Any], ...] = (
    ("Client to server (`/ws/session`)", session.ClientMessage),
    ("Server to client (`/ws/session`)", session.ServerMessage),
    ("Node to server (`/ws/node`)", node.NodeMessage),
    ("Server to node (`/ws/node`)", node.SchedulerMessage),
    ("App to gateway (`/v1/stream`)", public.StreamMessage),
    ("Gateway to app (`/v1/stream`)", public.StreamAnswer),
)

_NAMES = {
    types.StrType: "string",
    types.IntType: "integer",
    types.FloatType: "number",
    types.BoolType: "boolean",
    types.RawType: "any, relayed as it is",
    types.AnyType: "any",
}


def page() -> str:
    """The whole page as Markdown."""
    lines = [_HEAD]
    for title, union in _PARTS:
        lines.append(f"## {title}\n")
        for kind in get_args(union):
            lines += _section(kind, f"`{kind.__struct_config__.tag}`")
    lines.append("## Objects inside messages\n")
    for kind in _objects():
        lines += _section(kind, kind.__name__)
    return "\n".join(lines)


def _objects() -> Iterable[type[msgspec.Struct]]:
    for module in (common, session, room, node, public):
        for value in vars(module).values():
            if not (inspect.isclass(value) and issubclass(value, msgspec.Struct)):
                continue
            if value.__module__ == module.__name__ and value.__struct_fields__ and not _tag(value):
                yield value


def _tag(kind: type[msgspec.Struct]) -> object:
    return kind.__struct_config__.tag


def _section(kind: type[msgspec.Struct], title: str) -> list[str]:
    lines = [f"### {title}\n", f"{inspect.getdoc(kind)}\n"]
    info = types.type_info(kind)
    assert isinstance(info, types.StructType)
    if info.fields:
        lines += ["| Member | JSON type | Required |", "| --- | --- | --- |"]
        for member in info.fields:
            required = "yes" if member.required else ""
            lines.append(f"| `{member.encode_name}` | {_describe(member.type)} | {required} |")
        lines.append("")
    return lines


def _describe(kind: types.Type) -> str:
    match kind:
        case types.UnionType():
            return ", ".join(_describe(t) for t in kind.types if not isinstance(t, types.NoneType))
        case types.ListType():
            return f"array of {_describe(kind.item_type)}, at most {kind.max_length}"
        case types.DictType():
            return f"object of {_describe(kind.value_type)}, at most {kind.max_length}"
        case types.StrType() if kind.max_length is None:
            return "text"
        case types.StrType() if kind.max_length != common.SHORT_CHARS:
            return f"string of at most {kind.max_length}"
        case types.StructType():
            return kind.cls.__name__
        case types.IntType() | types.FloatType() if kind.le == common.LARGEST:
            return f"{_NAMES[type(kind)]} from 0" if kind.ge == 0 else _NAMES[type(kind)]
        case types.IntType() | types.FloatType() if kind.ge is not None and kind.le is not None:
            return f"{_NAMES[type(kind)]} {kind.ge:g} to {kind.le:g}"
        case _:
            return _NAMES[type(kind)]


if __name__ == "__main__":
    print(page(), end="")
