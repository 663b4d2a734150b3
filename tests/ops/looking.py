"""The operators' routes of a daemon without sockets, and who asks."""

from __future__ import annotations

from typing import Any

from quart_trio import QuartTrio

from linguad.daemon import Daemon
from linguad.daemon.operating import add_operating_routes
from linguad.net.http import PEER
from linguad.net.peer import Peer
from linguad.web.app import create_app

HERE = {PEER: Peer("127.0.0.1", 4, "http")}
AWAY = {PEER: Peer("198.51.100.7", 4, "https")}

TOKEN = "the admin token"


def app_of(daemon: Daemon) -> QuartTrio:
    """An app with the routes of `daemon/operating.py` alone."""
    app = create_app("test")
    add_operating_routes(app, daemon, daemon.watch, TOKEN)
    return app


async def get(app: QuartTrio, path: str, status: int = 200) -> Any:
    """The JSON of an answer to somebody on this machine."""
    answer = await app.test_client().get(path, scope_base=HERE)
    body = await answer.get_json()
    assert answer.status_code == status, body
    return body
