"""JSON bodies and query parameters of the public APIs, read with errors that name the field."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from typing import Any

import msgspec
from quart import request

from linguad.web.problems import Problem

MAX_CURSOR_CHARS = 200


async def json_object(known: Collection[str] = ()) -> dict[str, Any]:
    """The object in the request's body; an empty body is an empty object.

    Raises Problem: 400 if it is no JSON object, 422 for members that are not `known` (empty: any).
    """
    data = await request.get_data()
    try:
        body = msgspec.json.decode(data or b"{}")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise Problem(400, "malformed_json", "The body is not JSON; send one object.") from None
    if not isinstance(body, dict):
        raise Problem(400, "malformed_json", "The body is not an object; send {…}.")
    if known:
        refuse_unknown(body, known)
    return body


def query(known: Collection[str]) -> dict[str, str]:
    """The query parameters. Raises Problem 422 for those that are not known."""
    asked = request.args.to_dict()
    refuse_unknown(asked, known)
    return asked


def refuse_unknown(given: Collection[str], known: Collection[str]) -> None:
    """Raises Problem 422 for members that nobody reads, for they are mistakes."""
    unknown = [name[:64] for name in given if name not in known]
    if unknown:
        reason = f"is not known; there are {', '.join(known)}" if known else "is not known; there are none"
        raise Problem(
            422,
            "invalid_field",
            f"{unknown[0]} {reason}.",
            details=[{"field": name, "reason": reason} for name in unknown],
        )


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
