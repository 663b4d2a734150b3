"""What the public API asks of the core: sessions, spoken in process. `sessions.inside` has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from linguad.errors import CloseReason
from linguad.wire.session import ClientMessage, ServerMessage, SessionInit


class Call(Protocol):
    """One session."""

    @property
    def session_id(self) -> str:
        """Its session, "" if there is none any more."""
        ...

    @property
    def is_busy(self) -> bool:
        """Whether something that was said is still to be answered."""
        ...

    def say(self, message: ClientMessage) -> None:
        """One message of a client."""
        ...

    def audio(self, data: bytes, *, final: bool = False) -> None:
        """Some streamed audio, Plan A or PCM16 at 16 kHz."""
        ...

    def finish(self) -> None:
        """Cut what was streamed; nothing more will come."""
        ...

    def hang_up(self) -> None:
        """End the session; what has no result is dropped."""
        ...


class Exchange(Protocol):
    """Opens sessions."""

    def dial(
        self,
        init: SessionInit,
        deliver: Callable[[ServerMessage, bool], object],
        closed: Callable[[CloseReason], object],
        *,
        address: str,
        tenant: str,
        key_id: str = "",
        answer_by: float | None = None,
    ) -> Call:
        """Open a session for a tenant."""
        ...
