"""Who may look at the pages and their numbers (`server.pages`).

Programs send the admin token. A browser on another machine gives it once, in a form, and gets a cookie that
is good for looking only: nothing that changes state takes it.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import wraps
from typing import Literal

import msgspec
from quart import Response, jsonify, request
from quart_trio import QuartTrio

from linguad.ops.query import Wrong
from linguad.web.address import client_of
from linguad.web.admin import VIEWER_COOKIE, P, View, is_admin, unauthorized, viewer_cookie
from linguad.web.app import error_body

Pages = Literal["loopback", "token", "public"]

COOKIE_SECONDS = 30 * 24 * 3600


class Viewers:
    """Decides for one setting of `server.pages` and one admin token."""

    def __init__(self, pages: Pages, token: str) -> None:
        self.pages = pages
        self.token = token

    def may_look(self) -> bool:
        """Whether who sent the request at hand may see pages and numbers."""
        return self.pages == "public" or is_admin(self.token)

    def only(self, view: View[P]) -> View[P]:
        """Decorator of a view for these alone: 401 for others, with what is to be done."""

        @wraps(view)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> Response:
            return await view(*args, **kwargs) if self.may_look() else unauthorized(self.cure)

        return guarded

    @property
    def cure(self) -> str:
        """What somebody does who may not look."""
        if self.pages == "token":
            return "Give the admin token, in the form of the pages or as Authorization: Bearer."
        return (
            'Pages are shown on the server itself only; set server.pages = "token" (or "public") to see them '
            "from elsewhere, or send Authorization: Bearer with the admin token."
        )


def add_viewer_routes(app: QuartTrio, viewers: Viewers) -> None:
    """Serve the exchange of the token for the cookie on an app."""

    @app.post("/api/v1/viewer")
    async def enter() -> Response:
        if viewers.pages == "loopback":
            return error_body("not_allowed", viewers.cure, 403)
        try:
            given = msgspec.json.decode(await request.data, type=dict[str, str]).get("token", "")
        except (msgspec.MsgspecError, UnicodeError):
            raise Wrong('The body: send {"token": "..."} with the admin token.') from None
        if not hmac.compare_digest(_digest(given.strip()), _digest(viewers.token)):
            return error_body("unauthorized", "This is not the admin token.", 401)
        answer = jsonify({"ok": True})
        answer.set_cookie(
            VIEWER_COOKIE,
            viewer_cookie(viewers.token),
            max_age=COOKIE_SECONDS,
            httponly=True,
            samesite="Strict",
            secure=client_of(request).scheme == "https",
        )
        return answer

    @app.delete("/api/v1/viewer")
    async def leave() -> Response:
        answer = jsonify({"ok": True})
        answer.delete_cookie(VIEWER_COOKIE, httponly=True, samesite="Strict")
        return answer


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
