"""Query parameters of the public APIs, and pages of lists; errors name the parameter."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from quart import request

from linguad.web.body import refuse_unknown
from linguad.web.problems import Problem

MAX_CURSOR_CHARS = 200


def query(known: Sequence[str]) -> dict[str, str]:
    """The query parameters. Raises Problem 422 for those that are not known."""
    asked = request.args.to_dict()
    refuse_unknown(asked, known)
    return asked


def limit_of(asked: dict[str, str], most: int = 200, usual: int = 50) -> int:
    """How many items a page is to have. Raises Problem 422."""
    text = asked.get("limit", str(usual))
    if text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= most:
        return int(text)
    raise Problem.wrong_field("limit", f"allowed is a whole number from 1 to {most}")


def cursor_of(asked: dict[str, str]) -> str:
    """What the cursor of the page before stands for, "" for the first page. Raises Problem 422."""
    text = asked.get("cursor", "")
    try:
        if len(text) <= MAX_CURSOR_CHARS:
            return base64.b64decode(text.encode("ascii"), b"-_", validate=True).decode()
    except (UnicodeError, binascii.Error):
        pass
    raise Problem.wrong_field("cursor", "take next_cursor of the page before as it is")


def cursor(position: str) -> str:
    """A cursor for the page after this position."""
    return base64.urlsafe_b64encode(position.encode()).decode()
