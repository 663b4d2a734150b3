"""The form of an upload: a few short fields and the audio, as multipart or as JSON (gateway 5.1, 5.2).

A form is read while it comes, so it is refused as soon as it is too large, and nothing is kept of it but the
audio and the fields that somebody wants.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Collection
from functools import lru_cache
from typing import Any

import msgspec
import trio
from msgspec import Raw, Struct
from multipart import (  # type: ignore[import-untyped]
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)

from linguad.config.gateway import Gateway
from linguad.core.tenant import Tenant
from linguad.web.problems import Problem

AUDIO = "audio"
"""Name of the part, or member, that holds the audio."""

MAX_FIELD_BYTES = 4096
"""Longest value of a field: features and language lists are far shorter (gateway 5.2)."""

MAX_PARTS = 32
"""Parts of one form; there are half as many fields (gateway 5.2)."""

MAX_BOUNDARY = 70
"""Longest boundary, in characters (RFC 2046 5.1.1)."""


BLOCK_BYTES = 64 * 1024
"""Of a body, parsed at once; as much as the socket is read for."""


SMALL_BYTES = 256 * 1024
"""A form up to this is taken apart at once, which takes less than the way to a thread and back."""


class Form(Struct, frozen=True):
    """A form that was read: texts by name, and the audio, empty if there is none."""

    fields: dict[str, str]
    audio: bytes


class UploadLimits(Struct, frozen=True, kw_only=True):
    """How much one upload may be."""

    max_bytes: int
    """Of the whole body."""
    seconds: float
    """Until the body has come."""
    max_audio_seconds: float
    """Duration of the audio."""


def upload_limits(settings: Gateway, tenant: Tenant) -> UploadLimits:
    """The limits of a translation for a tenant, whose own size counts where it has one."""
    own = tenant.max_upload_bytes
    return UploadLimits(
        max_bytes=settings.max_upload_bytes if own is None else own,
        seconds=settings.body_seconds,
        max_audio_seconds=settings.max_audio_seconds,
    )


async def read_form(
    body: AsyncIterable[bytes],
    content_type: str | None,
    content_length: int | None,
    *,
    names: Collection[str],
    max_bytes: int,
    seconds: float,
) -> Form:
    """Read a form to its end: its audio, and those of its fields that are among `names`.

    Of repeated fields the last counts, their order does not; the type and name that a client gives to a part
    are ignored. Raises Problem: 400 `malformed_multipart`, `invalid_json` or `invalid_field`, 408
    `request_timeout` after `seconds`, 413 `payload_too_large` as soon as it is known to have more than
    `max_bytes`, 415 `unsupported_media_type`; and what `body` raises.
    """
    media_type, options = parse_options_header(content_type or "")
    if content_length is not None and content_length > max_bytes:
        raise _too_large(max_bytes)
    reader: MultipartReader | _JsonReader
    if media_type == "multipart/form-data":
        reader = MultipartReader(options.get("boundary", ""), names)
    elif media_type == "application/json":
        reader = _JsonReader(names)
    else:
        message = "Send the form as multipart/form-data, or as application/json with the audio in base64."
        raise Problem(415, "unsupported_media_type", message)
    size = 0
    with trio.move_on_after(seconds) as limit:
        async for piece in body:
            size += len(piece)
            if size > max_bytes:
                raise _too_large(max_bytes)
            reader.feed(piece)
    if limit.cancelled_caught:
        message = f"The body did not come within {seconds:g} s; send less, or over a faster line."
        raise Problem(408, "request_timeout", message)
    if size <= SMALL_BYTES:
        return reader.finish()
    # Base64 of megabytes takes milliseconds, in which nobody else would be served.
    return await trio.to_thread.run_sync(reader.finish)


class MultipartReader:
    """A multipart form that comes in pieces; however they are cut, the same form comes out.

    The parser gets blocks of one size: with a broken form, what it says depends on where its input is cut.
    Raises Problem 400 `malformed_multipart` or `invalid_field`. Mutable: what has come of the current part.
    """

    def __init__(self, boundary: str, names: Collection[str]) -> None:
        if not (0 < len(boundary) <= MAX_BOUNDARY and boundary.isascii() and boundary.isprintable()):
            raise _malformed(f"the Content-Type names no boundary of 1 to {MAX_BOUNDARY} characters")
        self._names = names
        self._parser = PushMultipartParser(boundary, max_segment_count=MAX_PARTS)
        self._block = bytearray()
        self._name = ""
        self._value: list[bytes] = []
        self._size = 0
        self._audio: list[bytes] = []
        self._fields: dict[str, bytes] = {}

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""
        self._block += piece
        while len(self._block) >= BLOCK_BYTES:
            block = bytes(self._block[:BLOCK_BYTES])
            del self._block[:BLOCK_BYTES]
            self._parse(block)

    def finish(self) -> Form:
        """The form, when everything has come."""
        if self._block:
            self._parse(bytes(self._block))
        try:
            self._parser.close()
        except MultipartError:
            raise _malformed("its last boundary is missing") from None
        audio, self._audio = b"".join(self._audio), []
        return Form({name: _text(name, value) for name, value in self._fields.items()}, audio)

    def _parse(self, block: bytes) -> None:
        try:
            for event in self._parser.parse(block):
                self._take(event)
        except MultipartError as error:
            raise _malformed(_reason(error)) from None

    def _take(self, event: MultipartSegment | bytes | None) -> None:
        if isinstance(event, MultipartSegment):
            self._name, self._value, self._size = event.name or "", [], 0
        elif event is None:
            self._end()
        elif self._name == AUDIO:
            self._value.append(event)
        elif self._name in self._names:
            self._size += len(event)
            if self._size > MAX_FIELD_BYTES:
                raise _too_long(self._name)
            self._value.append(event)

    def _end(self) -> None:
        value, self._value = self._value, []
        if self._name == AUDIO:
            self._audio = value
        elif self._name in self._names:
            self._fields[self._name] = b"".join(value)


class _JsonReader:
    """A form in JSON: the same names, the audio in base64, other values as JSON has them."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)
        self._pieces: list[bytes] = []

    def feed(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def finish(self) -> Form:
        body, self._pieces = b"".join(self._pieces), []
        try:
            # A dictionary would take many times the memory of a body full of names nobody wants.
            members: Any = _json_decoder(self._names).decode(body)
        except (msgspec.DecodeError, RecursionError):
            raise Problem(400, "invalid_json", "The body is not a JSON object.") from None
        fields = {
            name: _json_text(name, value)
            for name in self._names
            if (value := bytes(getattr(members, name))) != _NULL
        }
        return Form(fields, _json_audio(members.audio))


_NULL = b"null"


@lru_cache(maxsize=8)
def _json_decoder(names: frozenset[str]) -> msgspec.json.Decoder[Any]:
    members = [(name, Raw, Raw(_NULL)) for name in sorted(names | {AUDIO})]
    return msgspec.json.Decoder(msgspec.defstruct("JsonForm", members))


def _json_text(name: str, value: bytes) -> str:
    if len(value) > MAX_FIELD_BYTES:
        raise _too_long(name)
    if not value.startswith(b'"'):
        return _text(name, value)
    try:
        return msgspec.json.decode(value, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _wrong(name, "is not UTF-8") from None


def _json_audio(value: Raw) -> bytes:
    if memoryview(value) == _NULL:
        return b""
    try:
        return msgspec.json.decode(value, type=bytes)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _wrong(AUDIO, "is not base64; use the standard alphabet with padding") from None


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise _wrong(name, "is not UTF-8") from None


def _reason(error: MultipartError) -> str:
    reason = str(error.args[0]) if error.args else "it cannot be read"
    return {"Maximum segment count exceeded": f"it has more than {MAX_PARTS} parts"}.get(reason, reason)


def _malformed(reason: str) -> Problem:
    return Problem(400, "malformed_multipart", f"The form cannot be read: {reason}.")


def _wrong(name: str, reason: str) -> Problem:
    return Problem.wrong_field(name, reason, status=400)


def _too_long(name: str) -> Problem:
    return _wrong(name, f"may have {MAX_FIELD_BYTES} bytes at most")


def _too_large(max_bytes: int) -> Problem:
    message = f"The body may have {max_bytes} bytes at most; send less audio at once, or as Opus."
    return Problem(413, "payload_too_large", message)
