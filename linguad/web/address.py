"""Who sent an HTTP request."""

from __future__ import annotations

from quart.wrappers import Request

from linguad.net.http import PEER
from linguad.net.peer import Peer, TrustedProxies


def client_of(request: Request) -> Peer:
    """The client behind a request, as the front door and the trusted proxies know it."""
    peer = request.scope.get(PEER)
    if isinstance(peer, Peer):
        return peer
    address, port = request.scope.get("client") or ("", 0)
    return TrustedProxies().peer(address, port)
