"""Serves the pages from memory: `/NAME` is a page, what it loads lies below `/pages/` as in this package.

Nothing is loaded from elsewhere and no script stands in a page, so the policy is strict. Browsers ask each
time whether what they have still holds: after an upgrade no page runs with scripts of the version before.
Pages of operators are one file, which shows what its address says; who may not look gets another one instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Protocol

from quart import Response, abort
from quart_trio import QuartTrio

from linguad.web.admin import ASK_FOR_TOKEN
from linguad.web.assets import Asset, asset_answer, asset_of

PAGES = {"/app": "app.html"}
"""Pages for everybody, and the files they are."""

OPERATORS_PAGES = ("/dashboard", "/cluster", "/compute-power", "/models", "/languages")
OPERATORS_PAGE = "operate.html"
GATE = "gate.html"
GATES = {"loopback": "closed.html", "token": "token.html"}
"""What others get instead: this page, with one of these pieces in it by `server.pages`."""

GATE_PLACE = b"<!-- closed.html or token.html -->"
"""Where the piece goes."""

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is served, by the end of its name."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "X-Content-Type-Options": "nosniff",
    # The address of a room is its key.
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Viewers(Protocol):
    """Who may see the pages of operators."""

    @property
    def pages(self) -> str:
        """`server.pages`."""
        ...

    def may_look(self) -> bool:
        """Whether who sent the request at hand may."""
        ...


def add_pages(app: QuartTrio, viewers: Viewers) -> None:
    """Serve all pages and what they load on an app."""
    assets = dict(_assets(files(__package__)))
    gates = {
        pages: assets[GATE].content.replace(GATE_PLACE, assets[name].content) for pages, name in GATES.items()
    }

    async def answer(name: str) -> Response:
        return asset_answer(assets.get(name) or abort(404), HEADERS)

    async def operate() -> Response:
        if viewers.may_look():
            return await answer(OPERATORS_PAGE)
        response = Response(gates[viewers.pages], 401, content_type=KINDS[".html"])
        response.headers.update(HEADERS | ASK_FOR_TOKEN | {"Cache-Control": "no-store"})
        return response

    app.add_url_rule("/pages/<path:name>", "pages", answer)
    for path, name in PAGES.items():
        app.add_url_rule(path, name, partial(answer, name))
    for path in OPERATORS_PAGES:
        app.add_url_rule(path, path, operate)


def _assets(directory: Traversable, prefix: str = "") -> Iterator[tuple[str, Asset]]:
    for entry in directory.iterdir():
        name = prefix + entry.name
        if entry.is_dir():
            yield from _assets(entry, f"{name}/")
        elif kind := KINDS.get(entry.name[entry.name.rfind(".") :]):
            yield name, asset_of(entry.read_bytes(), kind)
