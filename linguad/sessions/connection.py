"""Who speaks for a session: a client's socket, or another part of the daemon. What it is told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from linguad import log, metrics
from linguad.core.session import Session
from linguad.core.throttle import ErrorThrottle
from linguad.errors import CloseReason, ErrorCode
from linguad.net.websocket import Link
from linguad.wire import codec
from linguad.wire.session import Backpressure, ErrorMessage, ServerMessage

PAUSE_SECONDS = 2.0
"""How long clients are told to hold their audio, and how often at most (session-protocol 2.4.12)."""

logger = log.get(__name__)


class Connection(ABC):
    """Mutable: the session it speaks for, if it has one, and what it was told lately."""

    __slots__ = ("_now", "_paused_until", "_throttle", "address", "former", "id", "opened_at", "session")

    tenant: str | None = None
    """Whose sessions it opens, where that is known; else they say it themselves, if they may."""
    key_id = ""
    """The API key it was opened with."""
    answer_by: float | None = None
    """When it stops waiting for answers, monotonic s."""
    told_all = False
    """Whether it wants to know of the end of every utterance, even one that was skipped."""

    def __init__(
        self, name: str, address: str, opened_at: float, error_throttle_s: float, now: Callable[[], float]
    ) -> None:
        """`name` is for logs; `now` is the clock, monotonic s."""
        self._now = now
        self.id = name
        self.address = address
        self.opened_at = opened_at
        self.session: Session | None = None
        self.former = ""
        """The session it spoke for before it ended."""
        self._throttle = ErrorThrottle(error_throttle_s)
        self._paused_until = 0.0

    @abstractmethod
    def send(self, message: ServerMessage, optional: bool = False) -> None:
        """Send a message; an optional one may be dropped if the client reads slowly."""

    @abstractmethod
    def close(self, reason: CloseReason) -> None:
        """End it; only the first reason counts."""

    def allow_pings(self, allowed: bool) -> None:  # noqa: B027 - only sockets have pings
        """Whether the peer may be pinged from now on."""

    def refuse(self, code: ErrorCode, sentence: str, field: str = "") -> None:
        """Say what was wrong with what it sent."""
        trace_id = self.session.trace_id if self.session else None
        self.complain(ErrorMessage(code=code, message=sentence, trace_id=trace_id), field)

    def complain(self, error: ErrorMessage, field: str = "") -> None:
        """Send an error, unless one about the same was sent just before (session-protocol 2.1)."""
        if not self._throttle.allows(error.code, field or error.message, self._now()):
            metrics.ERRORS_SWALLOWED.labels(error.code).inc()
            return
        logger.info("client_error", link=self.id, code=error.code, reason=error.message)
        self.send(error)

    def pause(self) -> None:
        """Ask for less, because memory is short; not more often than a client goes on by itself."""
        now = self._now()
        if now >= self._paused_until:
            self._paused_until = now + PAUSE_SECONDS
            message = Backpressure(
                action="PAUSE",
                resume_after_ms=int(PAUSE_SECONDS * 1000),
                message="the server is short of memory",
            )
            self.send(message, optional=True)


class SocketConnection(Connection):
    """A client's socket."""

    __slots__ = ("link",)

    def __init__(self, link: Link, error_throttle_s: float, now: Callable[[], float]) -> None:
        super().__init__(link.id, link.peer.address, link.opened_at, error_throttle_s, now)
        self.link = link

    def send(self, message: ServerMessage, optional: bool = False) -> None:
        """Queue a message on the link."""
        self.link.send(codec.encode(message), optional)

    def close(self, reason: CloseReason) -> None:
        """Close the link."""
        self.link.close(reason)

    def allow_pings(self, allowed: bool) -> None:
        """Gateways break on pings."""
        self.link.may_ping = allowed
