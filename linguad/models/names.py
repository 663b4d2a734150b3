"""Names that become parts of paths: what is allowed, and how they are written on disk (model-manager 1).

Everything a hub says is checked here before it reaches the file system.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple
from urllib.parse import quote

from linguad.models.errors import InvalidIdentifierError

MAX_SEGMENTS, MAX_SEGMENT_BYTES = 16, 255
"""Depth of a path inside a model and length of each name in it (model-hub 8.3)."""

MAX_STEM_BYTES = 180
"""Longest name on disk before its suffixes; a longer one is cut and told apart by a digest."""

CHECKSUMS = "checksum.sha256"
"""The file of every version that names the others with their sha256."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}")
_RESERVED = re.compile(r"temp|in-use|in-progress-downloads|(registry|active|sync)\..*", re.IGNORECASE)
"""Names beside those of the models, in the same directory."""

_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\:]")
_SEMVER = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")


class Key(NamedTuple):
    """One version of one model."""

    model_id: str
    version: str

    def __str__(self) -> str:
        return f"{self.model_id}@{self.version}"


def key(model_id: str, version: str) -> Key:
    """A checked pair. Raises InvalidIdentifierError."""
    return Key(check_id(model_id), check_version(version))


def check_id(text: str) -> str:
    """The id of a model or service, if it is one. Raises InvalidIdentifierError."""
    taken = _DEVICE.fullmatch(text) or _RESERVED.fullmatch(text)
    if not _ID.fullmatch(text) or text.endswith(".") or taken:
        raise InvalidIdentifierError(
            f"model id {_shown(text)} is reserved or not made of 1 to 128 letters, digits, '.', '_' and '-'"
        )
    return text


def check_version(text: str) -> str:
    """A version, if it is one. Raises InvalidIdentifierError."""
    if not _VERSION.fullmatch(text) or text.endswith(".") or _DEVICE.fullmatch(text):
        raise InvalidIdentifierError(
            f"version {_shown(text)} is not made of 1 to 64 letters, digits, '.', '+', '_' and '-'"
        )
    return text


def check_path(text: str) -> str:
    """A relative POSIX path inside a version, if it stays there. Raises InvalidIdentifierError."""
    segments = text.split("/")
    if len(segments) > MAX_SEGMENTS or not all(map(_is_segment, segments)):
        raise InvalidIdentifierError(f"path {_shown(text)} is not a plain relative path inside a model")
    return text


def _is_segment(name: str) -> bool:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return (
        0 < size <= MAX_SEGMENT_BYTES
        and name not in (".", "..")
        and not _UNSAFE.search(name)
        and not _DEVICE.fullmatch(name)
        and name == name.strip()
        and not name.endswith(".")
    )


def _shown(text: str) -> str:
    return repr(text[:80])


def stem(one: Key, *, apart: bool = False) -> str:
    """The name on disk of a version's lock and parts; `apart` tells it from another pair of the same name."""
    plain = _encoded(f"{one.model_id}_{one.version}")
    return f"{plain}~{digest8(one)}" if apart else plain


def digest8(one: Key) -> str:
    """Eight hexadecimal digits that tell pairs of the same name apart."""
    return hashlib.sha256(f"{one.model_id}\0{one.version}".encode()).hexdigest()[:8]


def part_name(of: str, path: str) -> str:
    """The name of a file's part below `temp`; `of` is the stem of its version."""
    name = f"{of}.{_encoded(path)}"
    if len(name) > MAX_STEM_BYTES:
        name = f"{name[:MAX_STEM_BYTES]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return f"{name}.part"


def _encoded(text: str) -> str:
    return quote(text, safe="").replace("~", "%7E")


def url_path(*segments: str) -> str:
    """Segments of a URL's path, each percent-encoded; a path with '/' inside keeps them."""
    return "/".join(quote(segment, safe="/") for segment in segments)


def by_age(
    version: str,
) -> tuple[int, tuple[tuple[int, int, str], ...], int, tuple[tuple[int, int, str], ...]]:
    """A sort key, oldest first: SemVer by its own order, all else below it and naturally (model-hub 11.5)."""
    if (found := _SEMVER.fullmatch(version)) is None:
        return 0, _natural(re.split(r"(\d+)", version)), 0, ()
    numbers = tuple((0, int(number), "") for number in found.group(1, 2, 3))
    before = found[4]
    return 1, numbers, before is None, _natural(before.split(".")) if before else ()


def _natural(words: list[str]) -> tuple[tuple[int, int, str], ...]:
    return tuple(
        (0, int(word), "") if word.isdecimal() and word.isascii() else (1, 0, word) for word in words
    )


def is_prerelease(version: str) -> bool:
    """Whether SemVer calls it a version before its release; what is no SemVer counts as one too."""
    found = _SEMVER.fullmatch(version)
    return found is None or found[4] is not None
