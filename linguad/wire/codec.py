"""JSON text to message and back, lenient where real peers are sloppy (resolution 6).

The normal path is one pass in C. When a message does not fit its Struct, the member that msgspec names is
deleted and the rest is tried again, so that one odd service type does not lose a registration; only members
that the message cannot do without make it fail.
"""

from __future__ import annotations

import re
from typing import Any, Generic, TypeVar, get_args

import msgspec

from linguad import metrics
from linguad.errors import ErrorCode, WireError
from linguad.wire import node, session

T = TypeVar("T")

MAX_REPAIRS = 16
"""Rounds of repair before a message counts as garbage."""

_PATH = re.compile(r" - at (?:`key` in )?`\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<index>\d+)\]|\[\.\.\.\]")
_MISSING = re.compile(r"missing required field `(?P<name>[^`]+)`")

_encoder = msgspec.json.Encoder()


def encode(message: msgspec.Struct) -> str:
    """The JSON text of a message, ready for a text frame."""
    return _encoder.encode(message).decode()


class Codec(Generic[T]):
    """Decoder of one direction of one wire; `link` names it in metrics."""

    def __init__(self, messages: Any, link: str) -> None:
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(messages, strict=False)
        self._kinds = {message.__struct_config__.tag for message in get_args(messages)}
        self._link = link

    def decode(self, text: str | bytes) -> T:
        """The message in a frame.

        Raises WireError, with a sentence naming the member, when the frame is not JSON, its type is unknown,
        or a member it cannot do without is missing or of the wrong type.
        """
        try:
            try:
                return self._decoder.decode(text)
            except msgspec.ValidationError:
                return self._repair(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise self._reject(f"not valid JSON: {error}") from error

    def _repair(self, text: str | bytes) -> T:
        message = msgspec.json.decode(text)
        if not isinstance(message, dict):
            raise self._reject("a message is one JSON object")
        kind = message.get("type")
        if not isinstance(kind, str):
            raise self._reject("member type is missing or not a string", "type")
        if kind not in self._kinds:
            raise self._reject(f"unknown message type {kind[:64]!r}", "type")
        message = _without_nulls(message)
        removed: dict[str, str] = {}
        for _ in range(MAX_REPAIRS + 1):
            # the first round, too: of a member that came twice, msgspec named the first, and this is the last
            try:
                return self._decoder.decode(msgspec.json.encode(message))
            except msgspec.ValidationError as error:
                detail = str(error)
            path = _path_of(detail)
            if not path:
                missing = _MISSING.search(detail)
                if missing is None:
                    raise self._reject(detail)
                name = missing["name"]
                raise self._reject(removed.get(name, f"member {name} is missing"), name)
            if len(path) == 1:
                removed[str(path[0])] = f"member {path[0]}: {_PATH.sub('', detail)}"
            _delete(message, path)
            metrics.REPAIRED.labels(self._link).inc()
        raise self._reject(f"more than {MAX_REPAIRS} members of {kind} are malformed")

    def _reject(self, sentence: str, field: str = "") -> WireError:
        metrics.REJECTED.labels(self._link, ErrorCode.INVALID_MESSAGE).inc()
        return WireError(ErrorCode.INVALID_MESSAGE, sentence, field)


def _path_of(detail: str) -> list[str | int]:
    """The steps msgspec names; a map (`[...]`) cannot be entered, so the path ends at the whole map."""
    found = _PATH.search(detail)
    steps: list[str | int] = []
    if found is None:
        return steps
    for step in _STEP.finditer(found["path"]):
        if step["name"] is not None:
            steps.append(step["name"])
        elif step["index"] is not None:
            steps.append(int(step["index"]))
        else:
            break
    return steps


def _without_nulls(value: Any) -> Any:
    """The value without the members that are null, which means the same."""
    if isinstance(value, dict):
        return {name: _without_nulls(member) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [_without_nulls(element) for element in value]
    return value


def _delete(message: Any, path: list[str | int]) -> None:
    for step in path[:-1]:
        message = message[step]
    del message[path[-1]]


client_messages: Codec[session.ClientMessage] = Codec(session.ClientMessage, "session")
server_messages: Codec[session.ServerMessage] = Codec(session.ServerMessage, "client")
node_messages: Codec[node.NodeMessage] = Codec(node.NodeMessage, "node")
scheduler_messages: Codec[node.SchedulerMessage] = Codec(node.SchedulerMessage, "worker")
