"""linguad's end of a simulated connection, with the face of `net.websocket.Link`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from msgspec import Struct

from linguad.errors import CloseReason
from linguad.net.outbox import Budget, Outbox
from linguad.net.peer import Peer

from .cable import Cable
from .process import Process

SOON_S = 0.001
"""When a task runs that was told to end."""


class LinkLimits(Struct, frozen=True):
    """Part of `net.websocket.LinkSettings`."""

    outbox_messages: int = 256
    outbox_bytes: int = 32 * 1024 * 1024
    write_s: float = 10.0
    ping_s: float = 20.0
    idle_s: float = 60.0


class Pong:
    """What a handler waits for: `await` gives whether the peer answered in time."""

    def __init__(self, link: SimLink, seconds: float) -> None:
        self.link = link
        self.seconds = seconds

    def __await__(self) -> Generator[Pong, bool, bool]:
        return (yield self)


class SimLink:
    """Reads frame by frame, writes what the outbox holds, and ends once, with a reason."""

    def __init__(
        self, process: Process, cable: Cable, name: str, address: str, limits: LinkLimits, budget: Budget
    ) -> None:
        self.id = name
        self.peer = Peer(address, 4000)
        self.opened_at = process.now()
        self.may_ping = True
        self.closing: CloseReason | None = None
        self._process = process
        self.cable = cable
        self._limits = limits
        self._outbox = Outbox(limits.outbox_messages, limits.outbox_bytes, budget)
        self._take: Callable[[str], Coroutine[Any, bool, None] | None]
        self._lost: Callable[[], None]
        self._frames: deque[str] = deque()
        self._waiting: Coroutine[Any, bool, None] | None = None
        self._peer_gone = False
        self._ended = False
        self._blocked_at: float | None = None
        self._heard_at = process.now()
        cable.server = self

    def serve(self, take: Callable[[str], Any], lost: Callable[[], None]) -> None:
        """Say who takes the frames, and who is told of the end."""
        self._take, self._lost = take, lost
        self._process.after(self._limits.ping_s, self._look_after_peer)

    # What handlers see

    @property
    def outcome(self) -> str:
        """Why the link is ending; "open" while it is not."""
        if self.closing is not None:
            return self.closing.label
        return "peer_lost" if self._peer_gone else "open"

    def send(self, data: str, optional: bool = False) -> bool:
        """Queue a message; False if it will not be sent."""
        if self.closing is not None or self._ended:
            return False
        if self._outbox.put(data, optional):
            self._write()
            return True
        self.close(CloseReason.QUEUE_FULL)
        return False

    def close(self, reason: CloseReason, text: str | None = None) -> None:
        """End the link: what is queued is still sent, then the peer is told."""
        if self.closing is None:
            self.closing = reason
            self._process.say(f"closes {self.id}: {reason.label}")
            self._process.after(SOON_S, self._end)

    def read_ahead(self) -> None:
        """What the handler waits for keeps nothing from being read here."""

    async def answers_ping(self, seconds: float) -> bool:
        """Whether the peer answers a ping within so long."""
        if self.closing is not None or self._ended:
            return False
        return await Pong(self, seconds)

    # What inspectors see

    @property
    def queued_bytes(self) -> int:
        """What the outbox counts against the budget."""
        return self._outbox._size

    @property
    def reaches_peer(self) -> bool:
        """Whether what is sent now will be read."""
        return self.closing is None and not self._ended and self._blocked_at is None and self.cable.answers

    @property
    def ended(self) -> bool:
        """Whether nobody reads here any more."""
        return self._ended

    # What the network does

    def arrived(self, text: str) -> None:
        """A frame came in."""
        self._process.reach(self._arrived, text)

    def gone(self) -> None:
        """The peer ended the connection."""
        self._process.reach(self._gone)

    def writable(self) -> None:
        """There is room for more again."""
        self._process.reach(self._write_on)

    def _arrived(self, text: str) -> None:
        self._heard_at = self._process.now()
        self._frames.append(text)
        self._read()

    def _gone(self) -> None:
        self._peer_gone = True
        self._read()

    # The reader

    def _read(self) -> None:
        """Take frames until one has to wait; the end comes after the last."""
        while self._frames and self._waiting is None and self.closing is None:
            taking = self._take(self._frames.popleft())
            if taking is not None:
                self._go_on(taking, None)
        if self._peer_gone and not self._frames and self._waiting is None:
            self._end()

    def _go_on(self, taking: Coroutine[Any, bool, None], answer: bool | None) -> None:
        try:
            pong = taking.send(answer)
        except StopIteration:
            self._waiting = None
            return
        self._waiting = taking
        answers = pong.link.cable.answers
        self._process.after(SOON_S if answers else pong.seconds, self._ponged, taking, answers)

    def _ponged(self, taking: Coroutine[Any, bool, None], answer: bool) -> None:
        if self._waiting is taking:
            self._go_on(taking, answer)
            self._read()

    def _end(self) -> None:
        """The handler is over; what is queued is still sent."""
        if self._ended:
            return
        self._ended = True
        if self._waiting is not None:
            self._waiting.close()
            self._waiting = None
        self._lost()
        if self._peer_gone or self._blocked_at is None:
            self._shut()
        else:
            self._process.after(self._limits.write_s, self._shut)

    def _shut(self) -> None:
        self.cable.shut()
        self._outbox.clear()

    # The writer

    def _write(self) -> None:
        if self._blocked_at is not None:
            return
        while self.cable.has_room:
            text = self._outbox.take()
            if text is None:
                return
            self.cable.write(text)
        self._blocked_at = now = self._process.now()
        self._process.after(self._limits.write_s, self._give_up_writing, now)

    def _write_on(self) -> None:
        self._blocked_at = None
        self._write()
        if self._ended and self._blocked_at is None:
            self._shut()

    def _give_up_writing(self, blocked_at: float) -> None:
        if self._blocked_at == blocked_at and not self._peer_gone:
            self.close(CloseReason.WRITE_TIMEOUT)
            self._peer_gone = True

    def _look_after_peer(self) -> None:
        if self._ended:
            return
        now = self._process.now()
        if self.cable.answers:
            self._heard_at = now
        elif self.may_ping and now - self._heard_at >= self._limits.idle_s:
            self.close(CloseReason.SILENT_PEER)
        self._process.after(self._limits.ping_s, self._look_after_peer)
