"""A connection between a peer and linguad, as the network sees it: frames in order, or the end of it all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from .world import World

WINDOW_BYTES = 4 * 1024
"""What the buffers below a socket take for a peer that does not read."""

LAG_S = 0.02
"""Longest way of a frame through a good network."""


class Peer(Protocol):
    """A simulated node or client, as its connection sees it."""

    def receive(self, cable: Cable, text: str) -> None:
        """A frame arrived."""
        ...

    def closed(self, cable: Cable) -> None:
        """linguad ended the connection."""
        ...


class Served(Protocol):
    """linguad's end of the connection."""

    def arrived(self, text: str) -> None:
        """A frame came in."""
        ...

    def gone(self) -> None:
        """The peer ended the connection; all it sent before has arrived."""
        ...

    def writable(self) -> None:
        """There is room for more again."""
        ...


class Wire:
    """One direction: everything arrives in order, each after a delay of its own."""

    def __init__(self, world: World, lag_s: float) -> None:
        self._world = world
        self._lag_s = lag_s
        self._last = 0.0

    def carry(self, deliver: Callable[..., None], *args: Any) -> None:
        """Let the other end have something."""
        world = self._world
        self._last = max(self._last, world.now + world.between(0.0005, self._lag_s))
        world.after(self._last - world.now, deliver, *args)


class Cable:
    """Two wires; what is on its way to the peer arrives if linguad ends the connection, else it is lost."""

    server: Served

    def __init__(self, world: World, peer: Peer, lag_s: float = LAG_S) -> None:
        self.up = True
        """Whether the peer's end is open."""
        self.left = False
        """Whether the peer ended it, or stopped hearing, before linguad's end came."""
        self._world = world
        self._peer = peer
        self._to_peer, self._to_server = Wire(world, lag_s), Wire(world, lag_s)
        self._torn = False
        self._reading = True
        self._unread: deque[str | None] = deque()
        self._held = 0

    @classmethod
    def refused(cls, world: World, peer: Peer) -> Cable:
        """Nobody takes it at the other end."""
        cable = cls(world, peer)
        cable.up = False
        return cable

    # The peer's end

    def send(self, text: str) -> None:
        """A frame for linguad."""
        if self.up and not self._torn:
            self._to_server.carry(self._arrive, text)

    def hang_up(self) -> None:
        """The peer ends the connection, or its process died."""
        if self.up:
            self.up, self.left = False, True
            if not self._torn:
                self._to_server.carry(self.server.gone)

    def tear(self) -> None:
        """From now on nothing gets through, and neither side is told."""
        self._torn = True
        self.left |= self.up

    @property
    def works(self) -> bool:
        """Whether anything gets through."""
        return not self._torn

    def stop_reading(self, seconds: float) -> None:
        """The peer reads nothing for so long, and answers no pings."""
        if self._reading:
            self._reading = False
            self._world.after(seconds, self._read_on)

    def _read_on(self) -> None:
        self._reading = True
        unread, self._unread = self._unread, deque()
        for text in unread:
            self._read(text)

    def _deliver(self, text: str | None) -> None:
        """A frame, or the end (None)."""
        if self._torn:
            return
        if self._reading:
            self._read(text)
        else:
            self._unread.append(text)

    def _read(self, text: str | None) -> None:
        if text is None:
            if self.up:
                self.up = False
                self._peer.closed(self)
            return
        was_full = not self.has_room
        self._held -= len(text)
        if was_full and self.has_room:
            self.server.writable()
        if self.up:
            self._peer.receive(self, text)

    # linguad's end

    @property
    def has_room(self) -> bool:
        """Whether a frame can be written without waiting."""
        return self._held < WINDOW_BYTES

    @property
    def answers(self) -> bool:
        """Whether the peer answers a ping."""
        return self.up and self._reading and not self._torn

    def write(self, text: str) -> None:
        """A frame for the peer."""
        self._held += len(text)
        self._to_peer.carry(self._deliver, text)

    def shut(self) -> None:
        """linguad closes the connection; the peer learns of it after all that was written."""
        self._to_peer.carry(self._deliver, None)

    def _arrive(self, text: str) -> None:
        if not self._torn:
            self.server.arrived(text)
