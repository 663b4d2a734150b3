"""What the query of a request asks for, and the answer to one that is not understood."""

from __future__ import annotations

from collections.abc import Mapping

from quart import Response
from quart_trio import QuartTrio

from linguad.web.app import error_body
from linguad.wire.language import AUTO, normalize

MAX_VALUE_CHARS = 128


class Wrong(Exception):
    """Something in the request is not allowed; the text names it and what is."""


def answer_wrong(app: QuartTrio) -> None:
    """Have an app answer 400 with the text of `Wrong`."""

    @app.errorhandler(Wrong)
    async def on_wrong(wrong: Wrong) -> Response:
        return error_body("invalid_value", str(wrong), 400)


def check(asked: Mapping[str, str], filters: Mapping[str, str]) -> None:
    """Raise `Wrong` for what is none of these filters, each with what it may be, or is empty or too long."""
    for name, value in asked.items():
        if name not in filters:
            raise Wrong(f"{name[:64]}: there is no such filter; there are {', '.join(filters)}.")
        if not value or len(value) > MAX_VALUE_CHARS:
            raise Wrong(f"{name}: allowed is {filters[name]}; leave it out to ask for any.")


def number(name: str, asked: Mapping[str, str], filters: Mapping[str, str], usual: int, most: int) -> int:
    """The whole number from 1 to `most` that a filter names, or `usual`. Raises `Wrong` if it is none."""
    text = asked.get(name, str(usual))
    if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most:
        return int(text)
    raise Wrong(f"{name}: allowed is {filters[name]}.")


def language(name: str, asked: Mapping[str, str], filters: Mapping[str, str]) -> str | None:
    """The language that a filter names, normalised; None is any. Raises `Wrong` if it is none."""
    if name not in asked:
        return None
    code = normalize(asked[name])
    if code == AUTO or not code.replace("-", "").replace("_", "").isalnum():
        raise Wrong(f"{name}: allowed is {filters[name]}; leave it out to ask for any.")
    return code
