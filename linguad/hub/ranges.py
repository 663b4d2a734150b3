"""What a conditional or ranged request gets: RFC 9110 13 and 14 as one pure function (model-hub 8.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime

from msgspec import Struct

MAX_DIGITS = 19
"""Numbers with more digits are no offsets of any file."""

_RANGE = re.compile(r"(\d*)-(\d*)")
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


class Facts(Struct, frozen=True):
    """What is known of a file without reading it."""

    size: int
    etag: str
    """Strong, with its quotes."""
    modified: int
    """Unix seconds."""


class Outcome(Struct, frozen=True):
    """The status of the answer, and which bytes of the file are its body."""

    status: int
    """200, 206, 304, 412 or 416."""
    start: int = 0
    length: int = 0
    content_range: str = ""
    """Value of Content-Range; "" for none."""


def decide(headers: Mapping[str, str], facts: Facts) -> Outcome:
    """The outcome of a GET or HEAD with these headers (names in lower case; several lines joined by `,`).

    A well-formed single range always ends in 206 or 416, unless If-Range names another file: clients append
    whatever body comes with a 2xx to what they have.
    """
    refused = _precondition(headers, facts)
    if refused:
        return Outcome(refused)
    wanted = headers.get("range")
    if wanted is not None and _applies(headers.get("if-range"), facts):
        ranged = _ranged(wanted, facts.size)
        if ranged is not None:
            return ranged
    return Outcome(200, 0, facts.size)


def http_date(seconds: int) -> str:
    """A time as it stands in headers."""
    return formatdate(seconds, usegmt=True)


def _precondition(headers: Mapping[str, str], facts: Facts) -> int:
    """412 or 304, or 0 to go on."""
    match = headers.get("if-match")
    if match is not None:
        if match.strip() != "*" and facts.etag not in _ETAG.findall(match):
            return 412
    elif (since := _seconds(headers.get("if-unmodified-since"))) is not None and facts.modified > since:
        return 412
    none_match = headers.get("if-none-match")
    if none_match is not None:
        held = (tag.removeprefix("W/") for tag in _ETAG.findall(none_match))
        return 304 if none_match.strip() == "*" or facts.etag in held else 0
    since = _seconds(headers.get("if-modified-since"))
    return 304 if since is not None and facts.modified <= since else 0


def _applies(condition: str | None, facts: Facts) -> bool:
    """Whether the Range of a request with this If-Range holds for the file as it is now."""
    if condition is None:
        return True
    condition = condition.strip()
    if condition.startswith(('"', "W/")):
        return condition == facts.etag
    return _seconds(condition) == facts.modified


def _ranged(text: str, size: int) -> Outcome | None:
    """206 or 416; None if the header is to be ignored."""
    unit, equals, rest = text.partition("=")
    match = _RANGE.fullmatch(rest.strip(" \t"))
    if unit.strip(" \t").lower() != "bytes" or not equals or match is None:
        return None
    first, last = match.groups()
    if not (first or last) or max(len(first), len(last)) > MAX_DIGITS or not rest.isascii():
        return None
    if first:
        start = int(first)
        end = min(int(last), size - 1) if last else size - 1
    else:
        start, end = max(0, size - int(last)), size - 1
    if start >= size or end < start:
        return Outcome(416, content_range=f"bytes */{size}")
    return Outcome(206, start, end - start + 1, f"bytes {start}-{end}/{size}")


def _seconds(text: str | None) -> int | None:
    """Unix seconds of a date; None if there is none or it is unreadable, which is as good as none."""
    if not text:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    try:
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None
