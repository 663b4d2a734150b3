"""A proxy that tears the connection after so many bytes in one direction, or holds them back, or is slow."""

from __future__ import annotations

import socket
from pathlib import Path

import trio

FOREVER = 2**62


class Cutter:
    """Passes bytes between a Unix socket of its own and that of a server."""

    def __init__(self, path: Path, server: Path) -> None:
        self.path = path
        self._server = server
        self.up = FOREVER
        """Bytes to the server that are still let through."""
        self.down = FOREVER
        """Bytes from the server that are still let through."""
        self.lag_s = 0.0
        """How much later everything arrives."""
        self.cuts = 0
        self.hold: trio.Event | None = None
        """If there is one, nothing passes before it is set."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take connections until cancelled."""
        self.path.unlink(missing_ok=True)
        sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        await sock.bind(str(self.path))
        sock.listen()
        await trio.serve_listeners(self._serve, [trio.SocketListener(sock)], task_status=task_status)

    async def _serve(self, client: trio.SocketStream) -> None:
        try:
            server = await trio.open_unix_socket(str(self._server))
        except OSError:
            await client.aclose()
            return
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass, client, server, "up", nursery.cancel_scope)
            nursery.start_soon(self._pass, server, client, "down", nursery.cancel_scope)

    async def _pass(
        self, source: trio.SocketStream, target: trio.SocketStream, way: str, end: trio.CancelScope
    ) -> None:
        try:
            while data := await source.receive_some(64 * 1024):
                if self.hold is not None:
                    await self.hold.wait()
                await trio.sleep(self.lag_s)
                left = getattr(self, way)
                setattr(self, way, left - len(data))
                await target.send_all(data[:left])
                if len(data) >= left:
                    # what is torn once is whole again for the next connection
                    self.up = self.down = FOREVER
                    self.cuts += 1
                    break
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        end.cancel()
