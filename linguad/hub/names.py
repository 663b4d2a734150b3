"""Which ids, versions and paths may exist: what is checked before any file is looked at (model-hub 8.3)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cmp_to_key

from linguad.errors import LinguadError

TASKS = ("asr", "nmt", "tts", "vad", "emotion", "persona", "speaker_embedding")
"""What models do; each is also the name of an old directory of models."""

PLATFORMS = ("windows-x64", "linux-x64", "darwin-x64", "darwin-arm64")

MAX_SEGMENTS = 16
MAX_SEGMENT_BYTES = 255

_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9_-])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}")
_CHANNEL = re.compile(r"[a-z][a-z0-9-]{0,31}")
_BAD_CHARACTER = re.compile(r"[\x00-\x1f\x7f\\:]")
_DEVICE = re.compile(
    r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(?:[ .].*)?", re.IGNORECASE
)
_UNFINISHED = (".part", ".tmp", ".lock")
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?",
    re.ASCII,
)
_DIGITS = re.compile(r"([0-9]+)")


class BadName(LinguadError):
    """An id, version or path that can never exist; the text says what is wrong with it."""


def is_id(text: str) -> bool:
    """Whether it can be the id of a model or service."""
    return _ID.fullmatch(text) is not None and not _DEVICE.fullmatch(text)


def is_version(text: str) -> bool:
    """Whether it can be the name of a version."""
    return _VERSION.fullmatch(text) is not None and not _DEVICE.fullmatch(text)


def is_channel(text: str) -> bool:
    """Whether it can be the name of a channel; words that already mean a version cannot."""
    return _CHANNEL.fullmatch(text) is not None and text not in ("default", "latest")


def is_hidden(name: str) -> bool:
    """Whether a file or directory of this name is never listed nor served."""
    return name.startswith((".", "_")) or name.endswith(_UNFINISHED)


def check_path(path: str) -> str:
    """The path of a file below its version, once it is known to be harmless; decoded once, as it came.

    Raises BadName.
    """
    segments = path.split("/")
    if len(segments) > MAX_SEGMENTS:
        raise BadName(f"more than {MAX_SEGMENTS} segments")
    for segment in segments:
        if segment in ("", ".", ".."):
            raise BadName("a segment is empty, . or ..")
        try:
            size = len(segment.encode())
        except UnicodeEncodeError:
            raise BadName("it is no UTF-8") from None
        if size > MAX_SEGMENT_BYTES:
            raise BadName(f"a segment is longer than {MAX_SEGMENT_BYTES} bytes")
        if _BAD_CHARACTER.search(segment):
            raise BadName("a segment has a control character, a backslash or a colon")
        if _DEVICE.fullmatch(segment):
            raise BadName("a segment is the name of a device on Windows")
    return path


def is_semver(version: str) -> bool:
    """Whether a version follows semver.org 2.0."""
    return _SEMVER.fullmatch(version) is not None


def is_release(version: str) -> bool:
    """Whether it is a SemVer version without pre-release."""
    match = _SEMVER.fullmatch(version)
    return match is not None and match[4] is None


def newest_first(versions: Mapping[str, object] | list[str]) -> list[str]:
    """Sorted: SemVer by precedence, then all others by natural order (model-hub 11.5)."""
    return sorted(versions, key=cmp_to_key(_compare), reverse=True)


def newest(versions: Mapping[str, object] | list[str]) -> str | None:
    """What is offered when nothing was chosen: the greatest release, else the greatest of all."""
    ordered = newest_first(versions)
    return next((one for one in ordered if is_release(one)), ordered[0] if ordered else None)


def _compare(left: str, right: str) -> int:
    one, other = _rank(left), _rank(right)
    return (one > other) - (one < other)


def _rank(version: str) -> tuple[object, ...]:
    match = _SEMVER.fullmatch(version)
    if match is None:
        return (0, _natural(version), version)
    numbers = tuple(int(part) for part in match.group(1, 2, 3))
    before = match[4]
    # a pre-release comes before its release; numbers come before words (semver.org 11)
    parts = (1,) if before is None else (0, tuple(_identifiers(before)))
    return (1, numbers, parts, version)


def _identifiers(text: str) -> Iterator[tuple[int, int, str]]:
    for part in text.split("."):
        yield (0, int(part), "") if part.isdecimal() else (1, 0, part)


def _natural(text: str) -> tuple[tuple[int, int, str], ...]:
    parts = [part for part in _DIGITS.split(text) if part]
    return tuple((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts)


def title(name: str) -> str:
    """A name for people, made of an id."""
    return name.replace("-", " ").replace("_", " ").title()
