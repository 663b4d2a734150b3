"""The ports of the daemon: each has a front door, and something behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import trio

from linguad import log
from linguad.config import Server
from linguad.net.front import Front
from linguad.net.listen import listen, port_of

logger = log.get(__name__)


class Service(Protocol):
    """What answers the requests of a port: an HTTP app, or more."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled; say when requests may come."""
        ...

    async def drain(self) -> None:
        """Close idle connections now, and the others as soon as their answer is out."""
        ...


class Door:
    """One port; mutable: its listening sockets."""

    def __init__(self, name: str, host: str, port: int, front: Front, service: Service, setting: str) -> None:
        """`setting` is that of the port, for people who have to change it."""
        self.name = name
        self._host = host
        self._port = port
        self._front = front
        self._service = service
        self._setting = setting
        self._listeners: list[trio.SocketListener] = []

    @property
    def port(self) -> int:
        """The port it listens on."""
        return port_of(self._listeners)

    async def open(
        self, services: trio.Nursery, server: Server, handed: Mapping[str, list[trio.SocketListener]]
    ) -> None:
        """Start what answers among the services, and listen: on the sockets `handed` over for it, if any.

        Raises LinguadError if the port is taken.
        """
        self._listeners = handed.get(self.name, [])
        await services.start(self._service.run)
        if not self._listeners:
            self._listeners = await listen(
                self._host, self._port, server.backlog, self._setting, reuse_port=server.reuse_port
            )

    async def serve(self, accept: trio.Nursery, connections: trio.Nursery) -> None:
        """Accept in one nursery, and serve what comes in another."""
        await accept.start(self._front.serve, self._listeners, connections)
        logger.info("listening", door=self.name, host=self._host or "*", port=self.port)

    async def drain(self) -> None:
        """Let requests end and idle connections close."""
        await self._service.drain()

    def close(self) -> None:
        """Give the port back, if nobody served it."""
        for listener in self._listeners:
            listener.socket.close()
