"""Query parameters of the public APIs, and pages of lists; errors name the parameter."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from quart import request

from linguad.web.body import refuse_unknown
from linguad.web.problems import Problem

MAX_CURSOR_CHARS = 200

MAX_MOMENT_S = 2**37
"""Latest moment that may be named, Unix s: some thousand years from now."""

_OFFSET = re.compile(r"(?<=:\d\d) (?=\d\d:?\d\d$)|(?<=\.\d{3}) (?=\d\d:?\d\d$)")


def query(known: Sequence[str]) -> dict[str, str]:
    """The query parameters. Raises Problem 422 for those that are not known."""
    asked = request.args.to_dict()
    refuse_unknown(asked, known)
    return asked


def limit_of(asked: Mapping[str, str], most: int = 200, usual: int = 50) -> int:
    """How many items a page is to have. Raises Problem 422."""
    text = asked.get("limit", str(usual))
    if text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= most:
        return int(text)
    raise Problem.wrong_field("limit", f"allowed is a whole number from 1 to {most}")


def cursor_of(asked: Mapping[str, str]) -> str:
    """What the cursor of the page before stands for, "" for the first page. Raises Problem 422."""
    text = asked.get("cursor", "")
    try:
        if len(text) <= MAX_CURSOR_CHARS:
            return base64.b64decode(text.encode("ascii"), b"-_", validate=True).decode()
    except (UnicodeError, binascii.Error):
        pass
    raise _wrong_cursor()


def number_of(asked: Mapping[str, str]) -> int | None:
    """As `cursor_of`, of lists whose positions are numbers; None for the first page. Raises Problem 422."""
    text = cursor_of(asked)
    if text and not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise _wrong_cursor()
    return int(text) if text else None


def cursor(position: str | int) -> str:
    """A cursor for the page after this position."""
    return base64.urlsafe_b64encode(str(position).encode()).decode()


def moment_of(field: str, value: object) -> float:
    """Unix seconds of RFC 3339 text, or of a date. Raises Problem 422."""
    try:
        # the + of an offset is a space in a query that was not encoded
        moment = datetime.fromisoformat(_OFFSET.sub("+", str(value)))
        at = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        at = -1.0
    if not 0 <= at < MAX_MOMENT_S:
        raise Problem.wrong_field(field, "give a date like 2026-01-31, or a time like 2026-01-31T12:00:00Z")
    return at


def _wrong_cursor() -> Problem:
    return Problem.wrong_field("cursor", "take next_cursor of the page before as it is")
