"""Who may do what only operators may: who has the admin token, or is on this machine (resolution 4)."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec

from quart import Response, request

from linguad.errors import LinguadError
from linguad.net.peer import is_operator_here
from linguad.web.address import client_of
from linguad.web.app import error_body

TOKEN_BYTES = 32
"""Random bytes of a generated token."""

VIEWER_COOKIE = "linguad_viewer"
"""Cookie of a browser whose user has given the admin token; good for looking only."""

ASK_FOR_TOKEN = {"WWW-Authenticate": 'Bearer realm="linguad"'}
"""Header of a 401: what a request would have to bring."""

P = ParamSpec("P")
View = Callable[P, Awaitable[Response]]


def admin_token(configured: str, state_dir: Path) -> str:
    """The token in force: the configured one, else that of `state_dir/admin_token`, made there on first use.

    Raises LinguadError when the directory or the file cannot be used.
    """
    if configured:
        return configured
    path = state_dir / "admin_token"
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists():
            return path.read_text().strip()
        token = secrets.token_urlsafe(TOKEN_BYTES)
        with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(token + "\n")
    except OSError as error:
        raise LinguadError(
            f"The admin token cannot be kept in {path}: {error.strerror}; "
            "set server.state_dir to a directory linguad may write to."
        ) from error
    return token


def viewer_cookie(token: str) -> str:
    """The value of the cookie: it follows from the token, which does not follow from it."""
    return hmac.new(token.encode(), b"linguad viewer", hashlib.sha256).hexdigest()


def is_admin(token: str) -> bool:
    """Whether the request at hand has `Authorization: Bearer TOKEN`, is local, or only looks, with a cookie.

    Pages from elsewhere in a browser on this machine do not act in its user's name.
    """
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode()):
        return True
    if given:
        return False
    if request.method == "GET":
        cookie = request.cookies.get(VIEWER_COOKIE, "")
        if cookie and hmac.compare_digest(cookie.encode(), viewer_cookie(token).encode()):
            return True
    headers = request.headers
    return is_operator_here(client_of(request), headers.get("Host", ""), headers.get("Origin"))


def admin_only(token: str) -> Callable[[View[P]], View[P]]:
    """Decorator of a view: 401 unless `is_admin` says yes."""

    def decorate(view: View[P]) -> View[P]:
        @wraps(view)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> Response:
            if is_admin(token):
                return await view(*args, **kwargs)
            return unauthorized("Send Authorization: Bearer with the admin token.")

        return guarded

    return decorate


def unauthorized(cure: str) -> Response:
    """The answer to who lacks the token: 401 with what is to be done."""
    answer = error_body("unauthorized", cure, 401)
    answer.headers.update(ASK_FOR_TOKEN)
    return answer
