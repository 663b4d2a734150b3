"""The JSON body of a request, read into a Struct; what is wrong with it is told by the field."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec
from quart import request

from linguad.web.problems import Problem

T = TypeVar("T", bound=msgspec.Struct)

_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$")
MAX_NAME_CHARS = 64
"""Of the caller's own names that are quoted in the answer."""


async def json_body(kind: type[T]) -> T:
    """The body of the request being answered; an empty one is `{}`.

    Raises Problem 400 `invalid_json` for what is no JSON object, 422 `invalid_field` for a member that is not
    as `kind` has it.
    """
    data = await request.get_data(cache=False, as_text=False)
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise _problem(str(error)) from error
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Problem(400, "invalid_json", "The body is no JSON.") from error


def _problem(text: str) -> Problem:
    found = _PATH.search(text)
    path = found["path"] if found else ""
    reason = text[: found.start()] if found else text
    if unknown := _UNKNOWN.search(reason):
        path, reason = f"{path}.{unknown['name']}".strip("."), "there is no such field"
    if not path and reason.startswith("Expected `object`"):
        return Problem(400, "invalid_json", "The body is no JSON object.")
    return Problem.wrong_field(path[:MAX_NAME_CHARS] or "body", reason)
