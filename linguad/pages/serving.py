"""Serves the pages from memory: `/NAME` is a page, what it loads lies below `/pages/` as in this package.

Nothing is loaded from elsewhere and no script stands in a page, so the policy is strict. Browsers ask each
time whether what they have still holds: after an upgrade no page runs with scripts of the version before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

from quart import Response, abort, request
from quart_trio import QuartTrio

PAGES = {"/app": "app.html"}
"""The pages, and the files they are."""

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


class Asset(NamedTuple):
    """A file in memory."""

    content: bytes
    kind: str
    tag: str


def add_pages(app: QuartTrio) -> None:
    """Serve all pages and what they load on an app."""
    assets = dict(_assets(files(__package__)))

    async def answer(name: str) -> Response:
        asset = assets.get(name) or abort(404)
        response = Response(asset.content, content_type=asset.kind)
        if request.if_none_match.contains_weak(asset.tag):
            response = Response(b"", 304)
        response.set_etag(asset.tag)
        response.headers.update(HEADERS)
        return response

    app.add_url_rule("/pages/<path:name>", "pages", answer)
    for path, name in PAGES.items():
        app.add_url_rule(path, name, partial(answer, name))


def _assets(directory: Traversable, prefix: str = "") -> Iterator[tuple[str, Asset]]:
    for entry in directory.iterdir():
        name = prefix + entry.name
        if entry.is_dir():
            yield from _assets(entry, f"{name}/")
        elif kind := KINDS.get(entry.name[entry.name.rfind(".") :]):
            content = entry.read_bytes()
            yield name, Asset(content, kind, hashlib.sha256(content).hexdigest()[:16])
