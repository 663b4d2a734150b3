"""Stands before several instances, as a load balancer: each connection goes to one that is ready."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
from processes import DaemonProcess


class Balancer:
    """Gives connections to instances in turn; to one that is not ready, or away, none."""

    def __init__(self, *instances: DaemonProcess) -> None:
        self.instances = list(instances)
        self._turn = 0
        self._first: DaemonProcess | None = None
        self._chose = trio.Event()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """The address of the session socket behind it."""
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, self._serve, 0, host="127.0.0.1"))
            yield f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/ws/session"
            nursery.cancel_scope.cancel()

    async def chosen(self) -> DaemonProcess:
        """The instance that got the first connection, as soon as there is one."""
        await self._chose.wait()
        assert self._first is not None
        return self._first

    async def _serve(self, client: trio.SocketStream) -> None:
        server = await self._choose()
        if server is None:
            return
        async with server, trio.open_nursery() as nursery:
            nursery.start_soon(_pump, client, server, nursery.cancel_scope)
            nursery.start_soon(_pump, server, client, nursery.cancel_scope)

    async def _choose(self) -> trio.SocketStream | None:
        for _ in self.instances:
            self._turn += 1
            instance = self.instances[self._turn % len(self.instances)]
            if not instance.running:
                continue
            try:
                status, _ = await instance.get("/ready")
                if status == 200:
                    self._first = self._first or instance
                    self._chose.set()
                    return await trio.open_tcp_stream("127.0.0.1", await instance.port())
            except (OSError, trio.BrokenResourceError, trio.TooSlowError):
                continue
        return None


async def _pump(source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
    try:
        async for data in source:
            await sink.send_all(data)
        # the other direction may still say goodbye
        await sink.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        both.cancel()
