"""`/sdk`: lingua.js, its types, and a page that shows how it is used (promises, "JavaScript SDK")."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from quart import Response, request
from quart_trio import QuartTrio

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


def add_sdk_routes(app: QuartTrio) -> None:
    """Serve the files to everybody, and the module to pages from everywhere."""
    contents = {name: files(__package__).joinpath(name).read_bytes() for name in KINDS}
    tags = {name: f'"{hashlib.sha256(data).hexdigest()[:16]}"' for name, data in contents.items()}

    @app.get("/sdk/<any('lingua.js', 'lingua.d.ts', 'example.html'):name>")
    async def sdk(name: str) -> Response:
        known = request.headers.get("If-None-Match") == tags[name]
        response = Response(b"" if known else contents[name], 304 if known else 200)
        response.headers.update(
            {
                "Content-Type": KINDS[name],
                "ETag": tags[name],
                "Cache-Control": f"public, max-age={FRESH_S}",
                "Access-Control-Allow-Origin": "*",
                "Content-Security-Policy": POLICY,
                "X-Content-Type-Options": "nosniff",
            }
        )
        return response
