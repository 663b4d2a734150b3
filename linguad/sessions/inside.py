"""Sessions that another part of the daemon speaks for, by calls instead of a socket (design 10).

The public API is a client like any other: same messages, same rules, but nothing is encoded on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from linguad.errors import CloseReason
from linguad.sessions.connection import Connection
from linguad.sessions.serve import Sessions
from linguad.wire.session import ClientMessage, ServerMessage, SessionClose, SessionInit

Deliver = Callable[[ServerMessage, bool], object]
"""Takes a message and whether it may be dropped; never waits, and calls nothing of the session back."""

_numbers = count(1)


class InnerConnection(Connection):
    """The daemon's own end of a session."""

    __slots__ = ("_closed", "_deliver", "_over", "answer_by", "key_id", "tenant")

    told_all = True

    def __init__(
        self,
        address: str,
        tenant: str,
        key_id: str,
        answer_by: float | None,
        deliver: Deliver,
        closed: Callable[[CloseReason], object],
        now: Callable[[], float],
    ) -> None:
        super().__init__(f"call-{next(_numbers)}", address, now(), 0.0, now)
        self.tenant = tenant
        self.key_id = key_id
        self.answer_by = answer_by
        self._deliver = deliver
        self._closed = closed
        self._over = False

    def send(self, message: ServerMessage, optional: bool = False) -> None:
        """Hand a message over."""
        if not self._over:
            self._deliver(message, optional)

    def close(self, reason: CloseReason) -> None:
        """Say that nothing more will come."""
        if not self._over:
            self._over = True
            self._closed(reason)


class Call:
    """One session, from its opening to `hang_up`; the first message delivered is its acknowledgement."""

    def __init__(self, sessions: Sessions, connection: InnerConnection) -> None:
        self._sessions = sessions
        self._connection = connection
        self._seq = count()

    @property
    def session_id(self) -> str:
        """Its session, "" if there is none any more."""
        session = self._connection.session
        return session.id if session else ""

    @property
    def is_busy(self) -> bool:
        """Whether something that was said is still to be answered."""
        session = self._connection.session
        return session is not None and session.is_busy

    def say(self, message: ClientMessage) -> None:
        """One message of a client; what it leads to at once is delivered before this returns."""
        self._sessions.hear(self._connection, message)

    def audio(self, data: bytes, *, final: bool = False) -> None:
        """Some streamed audio, Plan A or PCM16 at 16 kHz; with `final` it ends its utterance."""
        if self._connection.session is not None:
            self._sessions.hear_audio(self._connection, data, next(self._seq), final=final)

    def finish(self) -> None:
        """Cut what was streamed; nothing more will come."""
        self._sessions.finish_speech(self._connection)

    def hang_up(self) -> None:
        """End the session; what has no result is dropped. May be called again."""
        session_id = self.session_id
        if session_id:
            self.say(SessionClose(session_id=session_id, reason="client_end"))
        if self._connection.session is not None:
            self._sessions.lost(self._connection)


class Inside:
    """Where other parts of the daemon open sessions."""

    def __init__(self, sessions: Sessions, now: Callable[[], float]) -> None:
        """`now` is the clock, monotonic s."""
        self._sessions = sessions
        self._now = now

    def dial(
        self,
        init: SessionInit,
        deliver: Deliver,
        closed: Callable[[CloseReason], object],
        *,
        address: str,
        tenant: str,
        key_id: str = "",
        answer_by: float | None = None,
    ) -> Call:
        """Open a session for a tenant; `address` is where its user is.

        `answer_by` is when answers are waited for no longer, monotonic s. There may be no session
        afterwards: then `closed` was called with the reason.
        """
        connection = InnerConnection(address, tenant, key_id, answer_by, deliver, closed, self._now)
        call = Call(self._sessions, connection)
        call.say(init)
        return call
