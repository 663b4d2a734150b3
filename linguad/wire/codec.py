"""JSON text to message and back, lenient where real peers are sloppy (resolution 6).

The normal path is one pass in C. When a message does not fit its Struct, the member that msgspec names is
deleted and the rest is tried again, so that one odd service type does not lose a registration; only members
that the message cannot do without make it fail. What that costs the event loop is limited by the size of what
is repaired.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Generic, TypeVar, get_args

import msgspec
from msgspec import Raw

from linguad import metrics
from linguad.errors import ErrorCode, WireError
from linguad.wire import node, public, session

T = TypeVar("T")

MAX_REPAIRS = 16
"""Rounds of repair before a message counts as garbage."""

MAX_REPAIR_BYTES = 256 * 1024
"""Largest message that is repaired, not counting its audio: at worst 40 ms of the event loop."""

MAX_DIGITS = 300
"""Longest integer that is read when a message needs repair: not even a float would hold more."""

MAX_QUOTE_CHARS = 200
"""Longest part of msgspec's sentence that is quoted: it may hold a value of the peer's."""

_PATH = re.compile(r" - at (?:`key` in )?`\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<index>\d+)\]|\[\.\.\.\]")
_MISSING = re.compile(r"missing required field `(?P<name>[^`]+)`")

_encoder = msgspec.json.Encoder()


class _Audio(msgspec.Struct):
    """The members that make an honest message large; the others are skipped."""

    audio: Raw = Raw()
    payload: Raw = Raw()
    tts_audio: Raw = Raw()


class _Named(msgspec.Struct):
    """The session that a message names; the other members are skipped."""

    session_id: Any = ""


_audio_decoder = msgspec.json.Decoder(_Audio)
_named_decoder = msgspec.json.Decoder(_Named)


def encode(message: msgspec.Struct) -> str:
    """The JSON text of a message, ready for a text frame."""
    return _encoder.encode(message).decode()


def session_named(text: str) -> str:
    """The session id in a frame that is of no use otherwise; "" if there is none."""
    try:
        named = _named_decoder.decode(text).session_id
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""
    return named if isinstance(named, str) else ""


class Codec(Generic[T]):
    """Decoder of one direction of one wire; `link` names it in metrics."""

    def __init__(self, messages: Any, link: str) -> None:
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(messages, strict=False)
        self._kinds: dict[str, type[T]] = {kind.__struct_config__.tag: kind for kind in get_args(messages)}
        self._link = link

    def decode(self, text: str | bytes) -> T:
        """The message in a frame.

        Raises WireError, with a sentence naming the member, when the frame is not JSON, its type is unknown,
        or a member it cannot do without is missing or of the wrong type.
        """
        try:
            try:
                return self._decoder.decode(text)
            except msgspec.DecodeError as error:
                return self._repair(text.encode() if isinstance(text, str) else text, error)
        except WireError:
            metrics.REJECTED.labels(self._link, ErrorCode.INVALID_MESSAGE).inc()
            raise
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            metrics.REJECTED.labels(self._link, ErrorCode.INVALID_MESSAGE).inc()
            raise _refusal(f"not valid JSON: {error}") from error

    def _repair(self, text: bytes, problem: msgspec.DecodeError) -> T:
        if not isinstance(problem, msgspec.ValidationError):
            return self._repair_numbers(text, problem)
        if _repair_bytes(text) > MAX_REPAIR_BYTES:
            detail = str(problem)[:MAX_QUOTE_CHARS]
            field = str(next(iter(_path_of(str(problem))), ""))
            raise _refusal(f"{detail}; a message above {MAX_REPAIR_BYTES // 1024} KiB is not repaired", field)
        try:
            message = msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            return self._repair_numbers(text, error)
        return self._fit(message)

    def _repair_numbers(self, text: bytes, problem: msgspec.DecodeError) -> T:
        """The message without numbers such as `NaN` and `1e400`; raises `problem` if that is not enough."""
        if len(text) > MAX_REPAIR_BYTES:
            raise problem
        try:
            message, removed = _without_odd_numbers(text)
            fitting = self._fit(message)
        except (WireError, ValueError):
            raise problem from None
        metrics.REPAIRED.labels(self._link).inc(removed)
        return fitting

    def _fit(self, message: Any) -> T:
        if not isinstance(message, dict):
            raise _refusal("a message is one JSON object")
        tag = message.get("type")
        if not isinstance(tag, str):
            raise _refusal("member type is missing or not a string", "type")
        kind = self._kinds.get(tag)
        if kind is None:
            raise _refusal(f"unknown message type {tag[:64]!r}", "type")
        message = _without_nulls(_with_raw(message, kind))
        removed: dict[str, str] = {}
        for _ in range(MAX_REPAIRS + 1):
            # the first round, too: of a member that came twice, msgspec named the first, and this is the last
            try:
                return msgspec.convert(message, kind, strict=False)
            except msgspec.ValidationError as error:
                detail = str(error)
            path = _path_of(detail)
            if not path:
                missing = _MISSING.search(detail)
                if missing is None:
                    raise _refusal(detail[:MAX_QUOTE_CHARS])
                name = missing["name"]
                raise _refusal(removed.get(name, f"member {name} is missing"), name)
            if len(path) == 1:
                removed[str(path[0])] = f"member {path[0]}: {_PATH.sub('', detail)}"
            _delete(message, path)
            metrics.REPAIRED.labels(self._link).inc()
        raise _refusal(f"more than {MAX_REPAIRS} members of {tag} are malformed")


class StrictCodec(Generic[T]):
    """Decoder for the public API: callers are told of a mistake, where devices in use have it repaired."""

    def __init__(self, messages: Any, link: str) -> None:
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(messages, strict=False)
        self._link = link

    def decode(self, text: str | bytes) -> T:
        """The message in a frame.

        Raises WireError: with field "" it is no JSON object, with `type` its type is unknown, else this
        member is wrong. The sentence quotes nothing that was sent.
        """
        try:
            return self._decoder.decode(text)
        except msgspec.ValidationError as error:
            refusal = _told(str(error))
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            refusal = _refusal("the message is not valid JSON")
        metrics.REJECTED.labels(self._link, ErrorCode.INVALID_MESSAGE).inc()
        raise refusal


def _told(detail: str) -> WireError:
    """The refusal that says what msgspec found, without the value."""
    path = _path_of(detail)
    if path:
        field = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)[1:]
        if field == "type":
            return _refusal("the type of the message is unknown", "type")
        problem = _PATH.sub("", detail)
        if not problem.startswith("Expected"):
            problem = "has a value that is not allowed"
        return _refusal(f"{field}: {problem[:1].lower()}{problem[1:MAX_QUOTE_CHARS]}", field)
    missing = _MISSING.search(detail)
    if missing is None:
        return _refusal("a message is one JSON object")
    name = missing["name"]
    if name == "type":
        return _refusal("the message has no type", name)
    return _refusal(f"{name}: is missing", name)


def _refusal(sentence: str, field: str = "") -> WireError:
    return WireError(ErrorCode.INVALID_MESSAGE, sentence, field)


def _repair_bytes(text: bytes) -> int:
    """Size of what a repair has to walk through: audio is one string, which costs next to nothing."""
    if len(text) <= MAX_REPAIR_BYTES:
        return len(text)
    found = _audio_decoder.decode(text)
    audio = (memoryview(raw) for raw in (found.audio, found.payload, found.tts_audio))
    return len(text) - sum(len(raw) for raw in audio if bytes(raw[:1]) == b'"')


def _without_odd_numbers(text: bytes) -> tuple[Any, int]:
    """The value with `null` for every number that is infinite, NaN or of too many digits, and how many.

    Raises ValueError if the text has another fault.
    """
    removed = 0

    def whole(digits: str) -> int | None:
        return int(digits) if len(digits) <= MAX_DIGITS else remove(digits)

    def number(digits: str) -> float | None:
        value = float(digits)
        return value if math.isfinite(value) else remove(digits)

    def remove(_digits: str) -> int | None:
        nonlocal removed
        removed += 1
        return None

    value = json.loads(text.decode(), parse_constant=remove, parse_int=whole, parse_float=number)
    # json.loads lets lone surrogates pass, which no encoder writes
    return msgspec.json.decode(msgspec.json.encode(value)), removed


def _with_raw(message: dict[str, Any], kind: type[Any]) -> dict[str, Any]:
    """The message with text again for the members that are relayed as they are."""
    relayed = {
        field.encode_name: Raw(msgspec.json.encode(message[field.encode_name]))
        for field in msgspec.structs.fields(kind)
        if field.type is Raw and message.get(field.encode_name) is not None
    }
    return message | relayed


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
stream_messages: StrictCodec[public.StreamMessage] = StrictCodec(public.StreamMessage, "stream")
stream_answers: StrictCodec[public.StreamAnswer] = StrictCodec(public.StreamAnswer, "app")
