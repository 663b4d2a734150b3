"""`/sdk`: lingua.js, its types, and a page that shows how it is used (promises, "JavaScript SDK")."""

from __future__ import annotations

from importlib.resources import files

from quart import Response
from quart_trio import QuartTrio

from linguad.web.assets import asset_answer, asset_of

KINDS = {
    "lingua.js": "text/javascript; charset=utf-8",
    "lingua.d.ts": "text/plain; charset=utf-8",
    "example.html": "text/html; charset=utf-8",
}
"""The files, and what they are."""

FRESH_S = 3600
"""How long browsers may use a file without asking."""

POLICY = (
    "default-src 'self'; img-src data:; style-src 'unsafe-inline'; script-src 'self' 'unsafe-inline' blob:"
)
"""What the example may load: nothing from elsewhere; the worklet of the microphone is a blob."""

HEADERS = {
    "Cache-Control": f"public, max-age={FRESH_S}",
    "Access-Control-Allow-Origin": "*",
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
}


def add_sdk_routes(app: QuartTrio) -> None:
    """Serve the files to everybody, and the module to pages from everywhere."""
    place = files(__package__)
    assets = {name: asset_of(place.joinpath(name).read_bytes(), kind) for name, kind in KINDS.items()}

    @app.get("/sdk/<any('lingua.js', 'lingua.d.ts', 'example.html'):name>")
    async def sdk(name: str) -> Response:
        return asset_answer(assets[name], HEADERS)
