"""One WebSocket connection: handshake, one writer, pings, and an end that says why.

Rules (session-protocol 1.2, 1.5; node-protocol 1; traps T1 to T5):

- The handler reads and decides; it never writes to the socket: `Link.send` fills the outbox and returns.
  While it waits for something else nobody does, and the peer's pings and close wait too: see `read_ahead`.
- Whoever ends a link says why, once: the first `Link.close` counts. It cancels the handler at its next
  checkpoint, lets the outbox be sent, and closes with the code of the reason.
- A bug in the handler closes with 1011, its normal return with 1000. A write that timed out ends the
  connection without a close frame, because half of another frame is already out.
- If the peer goes away the handler still gets the messages that came before, then LinkClosed.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection
from wsproto.utilities import LocalProtocolError

from linguad import log
from linguad.errors import CloseReason, LinguadError
from linguad.metrics import LINK_CLOSES, LINKS_OPEN, OUTBOX_DROPPED, OUTBOX_LATE
from linguad.net.frames import framed
from linguad.net.lane import Lane
from linguad.net.outbox import Budget, Data, Later, Outbox, OutboxStatistics
from linguad.net.peer import Peer
from linguad.net.stream import TimedStream
from linguad.net.supervise import guarded
from linguad.net.upgrade import RECEIVE_BUFFER_BYTES, REFUSED, Doorman, shake_hands

LINGER_SECONDS = 2.0
"""How long the rest of a message that is too big is read and thrown away, so that the peer sees 1009."""

TOGETHER_BYTES = 64 * 1024
"""Messages of so many bytes in all are written at once."""

NUDGE_SECONDS = 0.5
"""How often a peer that is not read is tried, so that one that is gone is noticed within a second."""

PING_SPREAD = 0.25
"""Part of the ping interval that is random, so that links opened together do not ping together for ever."""

Slow = Later | memoryview | trio.BrokenResourceError | trio.ClosedResourceError
"""What cannot be sent at once: a promise, the rest of some frames; or why nothing can be sent any more."""

_numbers = itertools.count(1)
logger = log.get(__name__)


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Limits of one kind of link; sizes in bytes, times in seconds."""

    max_message_bytes: int = 16 * 1024 * 1024
    outbox_messages: int = 256
    outbox_bytes: int = 32 * 1024 * 1024
    handshake_seconds: float = 10.0
    write_seconds: float = 10.0
    later_seconds: float = 3.0
    """How long a message may still be in the making when its turn has come; then its fallback goes."""
    ping_seconds: float = 20.0
    idle_seconds: float = 60.0
    close_seconds: float = 5.0
    """How long the peer may take to answer our close frame."""
    may_ping: bool = True
    """Whether a new link pings at once; gateways break on pings, so sessions wait for their first message."""
    full: CloseReason = CloseReason.QUEUE_FULL
    """Why a peer that does not read is closed."""


class LinkClosed(LinguadError):
    """The connection is at its end; nothing more will be received."""


class Link:
    """One open WebSocket connection, of a session or a node."""

    __slots__ = (
        *("id", "kind", "peer", "opened_at", "may_ping", "closing", "round_trip", "visitor"),
        *("_settings", "_stream", "_lane", "_connection", "_outbox", "_text"),
        *("_handling", "_handled", "_written", "_asked_at", "_nudging", "_nursery", "_resting", "_slow"),
    )

    def __init__(
        self,
        kind: str,
        peer: Peer,
        settings: LinkSettings,
        stream: TimedStream,
        lane: Lane,
        connection: WebSocketConnection,
        budget: Budget | None,
        visitor: object = None,
    ) -> None:
        self.id = f"{kind}-{next(_numbers)}"
        """Name for logs, unique in this process."""
        self.kind = kind
        self.peer = peer
        self.opened_at = trio.current_time()
        """Seconds on the trio clock."""
        self.may_ping = settings.may_ping
        """Whether pings may be sent now; without them a silent peer is never closed."""
        self.closing: CloseReason | None = None
        """Why we closed, once we have."""
        self.round_trip: float | None = None
        """Seconds from the last ping to its pong."""
        self.visitor = visitor
        """What the doorman found out about the client."""
        self._settings = settings
        self._stream = stream
        self._lane = lane
        self._connection = connection
        dropped = OUTBOX_DROPPED.labels(kind)
        self._outbox = Outbox(settings.outbox_messages, settings.outbox_bytes, budget, dropped.inc)
        self._text = ""
        self._handling = trio.CancelScope()
        self._handled = False
        self._written = trio.Event()
        self._asked_at = -inf
        self._nursery: trio.Nursery | None = None
        self._nudging = False
        self._resting = False
        """The writer has sent all it knew of, and waits."""
        self._slow: Slow | None = None
        """What the writer is to do first."""
        stream.when_closed(self._on_stream_closed)

    @property
    def last_received(self) -> float:
        """When the last byte came, seconds on the trio clock."""
        return self._stream.last_received

    @property
    def outcome(self) -> str:
        """Why the link is ending, for logs and metrics; "open" while it is not."""
        closed = self._connection.closed
        if self.closing is not None:
            return self.closing.label
        if closed is None:
            return "open"
        if closed.code == CloseReason.MESSAGE_TOO_BIG.code:
            return CloseReason.MESSAGE_TOO_BIG.label
        return "peer_lost" if closed.code == 1006 else "peer_closed"

    async def receive(self) -> str | bytes:
        """The next message. Raises LinkClosed at the end."""
        end_step()
        message = await self._lane.message()
        if message is not None:
            return message
        try:
            return await self._connection.get_message()
        except ConnectionClosed as error:
            raise LinkClosed(f"link {self.id} is closed") from error

    def __aiter__(self) -> Link:
        """All messages until the peer closes."""
        return self

    async def __anext__(self) -> str | bytes:
        """The next message."""
        end_step()
        message = await self._lane.message()
        if message is not None:
            return message
        try:
            return await self._connection.get_message()
        except ConnectionClosed:
            raise StopAsyncIteration from None

    def read_ahead(self) -> None:
        """Answer pings and notice a close from now on while the handler waits for something else, too.

        Each message costs more from then on.
        """
        self._lane.leave()

    async def hung_up(self) -> None:
        """Wait until the peer has gone, also while what it sent before is not read; known only of sockets.

        Where its farewell cannot come through because of that, a frame that it may ignore brings it out.
        """
        while self._connection.closed is None and self._nursery is not None:
            with trio.move_on_after(NUDGE_SECONDS):
                await self._stream.hung_up()
                return
            if not self._nudging:
                self._nudging = True
                # a task of the link: a frame that is cut off in its middle would spoil what follows
                self._nursery.start_soon(self._nudge)

    def limit_messages(self, size: int) -> None:
        """From now on close with 1009 for messages of more than `size` bytes.

        What is read already stays; the settings have the most that is possible.
        """
        self._lane.longest = size
        # the library counts the parts of a message against it as they come, and has no other way to set it
        self._connection._max_message_size = size

    def send(self, data: Data | Later, optional: bool = False) -> bool:
        """Queue a message: str goes as text, bytes as binary frame; False if it will not be sent.

        Optional messages are dropped for a slow peer; one with too much of the rest is closed.
        What is sent after a message that is still being made waits for it, but not for ever.
        """
        if self.closing is not None or self._handled:
            return False
        if self._outbox.put(data, optional):
            _filled.append(self)
            return True
        self.close(self._settings.full)
        return False

    def close(self, reason: CloseReason, text: str | None = None) -> None:
        """End the link: what is queued is still sent, then the peer is told the reason (`text` for its text).

        Only the first call counts.
        """
        if self.closing is None:
            self.closing = reason
            self._text = reason.text if text is None else text
            self._handling.cancel()
            self._outbox.wake()

    def statistics(self) -> OutboxStatistics:
        """How much waits to be sent."""
        return self._outbox.statistics()

    async def answers_ping(self, seconds: float) -> bool:
        """Whether the peer answers a ping within so long; False at once when the link is ending."""
        if self.closing is not None or self._handled or self._nursery is None:
            return False
        answered = False
        done = trio.Event()

        async def ask() -> None:
            nonlocal answered
            try:
                answered = await self._ping()
            finally:
                done.set()

        # a task of the link: a ping that is cut off in the middle of its frame would spoil what follows
        self._nursery.start_soon(ask)
        with trio.move_on_after(seconds):
            await done.wait()
        return answered

    async def run(self, nursery: trio.Nursery, handler: Callable[[Link], Awaitable[object]]) -> None:
        """Serve the link to its end, with helper tasks in `nursery`; for `serve_link`."""
        self._nursery = nursery
        nursery.start_soon(self._write, nursery)
        sound = True
        with self._handling:
            sound = await guarded(self.kind, _until_closed, handler, self)
        self._handled = True
        self._lane.leave()
        if not sound:
            self.close(CloseReason.INTERNAL_ERROR)
        elif self._connection.closed is None:
            self.close(CloseReason.NORMAL)
        self._outbox.wake()
        with trio.move_on_after(self._settings.write_seconds) as flushing:
            await self._written.wait()
        if self.closing is not None and not flushing.cancelled_caught:
            with trio.move_on_after(self._settings.close_seconds):
                await self._connection.aclose(self.closing.code, self._text)

    def end(self) -> None:
        """Count the link as closed and forget what is still queued; for `serve_link`."""
        self._handled = True
        self._outbox.clear()
        self._stream.when_closed(None)
        outcome = "cut" if self.outcome == "open" else self.outcome
        LINKS_OPEN.labels(self.kind).dec()
        LINK_CLOSES.labels(self.kind, outcome).inc()
        logger.debug(
            "link_closed",
            link=self.id,
            address=self.peer.address,
            reason=outcome,
            seconds=round(trio.current_time() - self.opened_at, 3),
        )

    async def _write(self, nursery: trio.Nursery) -> None:
        """The one writer; its errors mean that the connection is gone."""
        try:
            await self._send_and_ping(nursery)
        except (ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
            # The handler may still take what the peer sent before it went.
            self._handling.deadline = trio.current_time() + self._settings.close_seconds
            with suppress(ConnectionClosed):
                await self._connection.pong()  # so that the library finds the connection gone
        self._written.set()

    async def _send_and_ping(self, nursery: trio.Nursery) -> None:
        """Send until the link is to be closed and the outbox is empty."""
        look_at = trio.current_time() + self._ping_pause()
        while True:
            with trio.CancelScope(deadline=look_at) as nap:
                slow = await self._send_at_once()
            if nap.cancelled_caught:
                # After a standstill of the process, what has come meanwhile is to be read first.
                await trio.lowlevel.checkpoint()
                look_at = self._look_after_peer(nursery)
            elif slow is None:
                return
            elif isinstance(slow, Exception):
                raise slow
            elif isinstance(slow, Later):
                await self._stream.send_all(self._frames(await self._made(slow)))
            else:
                await self._stream.send_all(slow)

    async def _send_at_once(self) -> Slow | None:
        """Send what goes without waiting; returns what does not, None when the link is at its end.

        It may be cancelled: it waits for messages only, never in the middle of one.
        """
        while True:
            slow, self._slow = self._slow or self._send_ready(), None
            if slow is not None or self.closing is not None or self._handled:
                return slow
            self._resting = True
            try:
                await self._outbox.wait()
            finally:
                self._resting = False

    def _send_ready(self) -> Slow | None:
        """Send what is there until something has to wait, which is returned."""
        while (data := self._outbox.take()) is not None:
            if isinstance(data, Later):
                return data
            if rest := self._stream.send_now(self._frames(data)):
                return rest
        return None

    def _send_early(self) -> None:
        """Send what the writer would send when its turn comes; it gets what has to wait, and errors."""
        if self._resting and self._slow is None and self._connection.closed is None:
            try:
                self._slow = self._send_ready()
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self._slow = error

    def _frames(self, data: Data) -> bytes:
        """A message and the short ones behind it, to go in one write, for a write costs more than they do.

        The frames do not come from the library, which makes four copies of each; after its close frame
        there must be none.
        """
        if self._connection.closed is not None:
            raise ConnectionClosed(self._connection.closed)
        frames = framed(data)
        room = TOGETHER_BYTES - len(data)
        while (following := self._outbox.take_along(room)) is not None:
            frames += framed(following)
            room -= len(following)
        return frames

    async def _made(self, later: Later) -> Data:
        """A message once it is made, or what goes in its place if that takes too long."""
        with trio.move_on_after(self._settings.later_seconds):
            return await later.wait()
        OUTBOX_LATE.labels(self.kind).inc()
        return later.fallback

    def _look_after_peer(self, nursery: trio.Nursery) -> float:
        """Ping the peer or give it up; answers when to look again (trio clock)."""
        now = trio.current_time()
        if not self.may_ping:
            return now + self._ping_pause()
        heard_at = self._stream.heard_at
        if heard_at >= self._asked_at:
            self._asked_at = now
        gone_at = max(heard_at + self._settings.idle_seconds, self._asked_at + self._settings.ping_seconds)
        if now >= gone_at:
            self.close(CloseReason.SILENT_PEER)
            return inf
        nursery.start_soon(self._ping)
        return min(now + self._ping_pause(), gone_at)

    async def _ping(self) -> bool:
        """Send a ping and wait for its pong, for ever if need be; False when the connection is closed."""
        sent_at = trio.current_time()
        try:
            await self._connection.ping()
        except ConnectionClosed:
            return False
        self.round_trip = trio.current_time() - sent_at
        return True

    async def _nudge(self) -> None:
        with suppress(ConnectionClosed):
            await self._connection.pong()
        self._nudging = False

    def _ping_pause(self) -> float:
        return self._settings.ping_seconds * (1 - PING_SPREAD * random.random())

    def _on_stream_closed(self) -> None:
        if self._stream.stalled:
            self.close(CloseReason.WRITE_TIMEOUT)


_filled: list[Link] = []
"""Links that were told something since the last `end_step`."""


def end_step() -> None:
    """Somebody has done with what came in: send what it led to before others have their turn.

    The writers would do it some tasks later, and the peers could begin so much later.
    """
    for link in _filled:
        link._send_early()
    _filled.clear()


Handler = Callable[[Link], Awaitable[object]]
"""What a session or a node does with its link; it ends by returning, by LinkClosed, or by cancellation."""


async def serve_link(
    kind: str,
    stream: trio.abc.HalfCloseableStream,
    peer: Peer,
    settings: LinkSettings,
    handler: Handler,
    *,
    budget: Budget | None = None,
    doorman: Doorman | None = None,
) -> None:
    """Make a `Link` of the untouched upgrade request on `stream`, run `handler` on it, and close it.

    What its outbox holds counts against `budget`. Without a `doorman` everybody is let in.
    """
    timed = TimedStream(stream, settings.write_seconds)
    lane = Lane(timed, settings.max_message_bytes, RECEIVE_BUFFER_BYTES)
    link: Link | None = None
    try:
        async with trio.open_nursery() as nursery:
            entered = await shake_hands(
                nursery, timed, lane, peer, doorman, settings.max_message_bytes, settings.handshake_seconds
            )
            if isinstance(entered, str):
                LINK_CLOSES.labels(kind, entered).inc()
            else:
                link = Link(kind, peer, settings, timed, lane, entered[0], budget, entered[1])
                LINKS_OPEN.labels(kind).inc()
                await link.run(nursery, handler)
            nursery.cancel_scope.cancel()
        if entered == REFUSED or (link and link.outcome == CloseReason.MESSAGE_TOO_BIG.label):
            await timed.drain(LINGER_SECONDS)
    except* LocalProtocolError as group:
        # trio-websocket answers a ping although our close frame is already out.
        logger.debug("link_protocol_race", kind=kind, exc_info=group)
    finally:
        if link is not None:
            link.end()
        await trio.aclose_forcefully(timed)


async def _until_closed(handler: Handler, link: Link) -> None:
    try:
        await handler(link)
    except* LinkClosed:
        pass
