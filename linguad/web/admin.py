"""Who may do what only operators may: who has the admin token, or is on this machine (resolution 4)."""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec

from quart import Response, request

from linguad.errors import LinguadError
from linguad.web.address import client_of
from linguad.web.app import error_body

TOKEN_BYTES = 32
"""Random bytes of a generated token."""

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


def admin_only(token: str) -> Callable[[View[P]], View[P]]:
    """Decorator of a view: 401 unless the request has `Authorization: Bearer TOKEN` or is local.

    A local browser sends `Origin` for pages from elsewhere, which must not act in its user's name.
    """

    def decorate(view: View[P]) -> View[P]:
        @wraps(view)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> Response:
            scheme, _, given = request.headers.get("Authorization", "").partition(" ")
            right = scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
            if right or (not given and client_of(request).local and "Origin" not in request.headers):
                return await view(*args, **kwargs)
            answer = error_body("unauthorized", "Send Authorization: Bearer with the admin token.", 401)
            answer.headers["WWW-Authenticate"] = 'Bearer realm="linguad"'
            return answer

        return guarded

    return decorate
