"""All open links of one kind: what the front door hands sockets to and what a shutdown closes."""

from __future__ import annotations

from collections.abc import Iterator

import trio

from linguad.errors import CloseReason
from linguad.net.outbox import Budget
from linguad.net.peer import Peer
from linguad.net.upgrade import Doorman
from linguad.net.websocket import Handler, Link, LinkSettings, serve_link


class Links:
    """The links of one path, each served by the same handler."""

    def __init__(
        self,
        kind: str,
        settings: LinkSettings,
        handler: Handler,
        budget: Budget | None = None,
        doorman: Doorman | None = None,
    ) -> None:
        """`doorman` decides who is let in; without one everybody is."""
        self._kind = kind
        self._settings = settings
        self._handler = handler
        self._budget = budget
        self._doorman = doorman
        self._open: set[Link] = set()
        self._ending: CloseReason | None = None

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Link]:
        return iter(tuple(self._open))

    async def serve(self, stream: trio.SocketStream, peer: Peer) -> None:
        """Serve one connection to its end; a `SocketHandler` of the front door."""
        await serve_link(
            self._kind, stream, peer, self._settings, self._serve, budget=self._budget, doorman=self._doorman
        )

    def close_all(self, reason: CloseReason) -> None:
        """Close every open link, and every one that is still in its handshake as soon as it opens."""
        self._ending = reason
        for link in self:
            link.close(reason)

    async def _serve(self, link: Link) -> None:
        self._open.add(link)
        try:
            if self._ending is not None:
                link.close(self._ending)
            await self._handler(link)
        finally:
            self._open.discard(link)
