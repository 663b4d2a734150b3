"""A line between a browser and a daemon that can be cut and mended."""

from __future__ import annotations

from contextlib import suppress

import trio


class Line:
    """Passes bytes between a port of its own and that of a daemon; mutable: whether it is whole."""

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self._is_whole = True
        self._scopes: set[trio.CancelScope] = set()

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Take connections until cancelled; starts with its port."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._serve, listeners)
            task_status.started(listeners[0].socket.getsockname()[1])

    def cut(self) -> None:
        """End all connections, and let no new ones through."""
        self._is_whole = False
        for scope in self._scopes:
            scope.cancel()

    def mend(self) -> None:
        """Let connections through again."""
        self._is_whole = True

    async def _serve(self, client: trio.SocketStream) -> None:
        if not self._is_whole:
            return
        with suppress(OSError), trio.CancelScope() as scope:
            self._scopes.add(scope)
            server = await trio.open_tcp_stream("127.0.0.1", self.server_port)
            async with client, server, trio.open_nursery() as nursery:
                nursery.start_soon(self._pass, client, server, scope)
                nursery.start_soon(self._pass, server, client, scope)
        self._scopes.discard(scope)

    async def _pass(
        self, source: trio.SocketStream, target: trio.SocketStream, end: trio.CancelScope
    ) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(64 * 1024):
                await target.send_all(data)
        end.cancel()
