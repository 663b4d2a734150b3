"""What comes of rooms for the sessions that are in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from linguad import log
from linguad.core.outputs import Check, Output
from linguad.core.room import Claim, Post, Release, Renumber, RoomOutput, Seek, TakeOver, Tell
from linguad.sessions.registry import Entry, Registry
from linguad.wire.room import RoomCreateAck, RoomMembers
from linguad.wire.session import ServerMessage

logger = log.get(__name__)


class Mail(Protocol):
    """The way to rooms of other instances."""

    def post(self, post: Post) -> None:
        """Send a letter."""
        ...

    def ask(self, question: Claim | Seek | TakeOver | Release) -> None:
        """Ask Redis; the rooms are told the answer."""
        ...


class Meetings:
    """Carries out what the rooms decide."""

    def __init__(
        self,
        sessions: Registry,
        tell: Callable[[Entry, ServerMessage, bool], None],
        perform: Callable[[Entry, list[Output]], None],
    ) -> None:
        self._sessions = sessions
        self._tell = tell
        self._perform = perform
        self.mail: Mail | None = None
        """None without other instances."""

    def perform_all(self, outputs: list[RoomOutput]) -> None:
        """All of it, in order."""
        for output in outputs:
            self.perform(output)

    def perform(self, output: RoomOutput) -> None:
        """What concerns a session, of which there may be none any more, or other instances."""
        match output:
            case Tell() | Renumber():
                entry = self._sessions.get(output.session_id)
                if entry is not None:
                    self._perform_one(entry, output)
            case Post():
                assert self.mail is not None, "there are others"
                self.mail.post(output)
            case Claim() | Seek() | TakeOver() | Release():
                assert self.mail is not None, "there are others"
                self.mail.ask(output)

    def _perform_one(self, entry: Entry, output: Tell | Renumber) -> None:
        if isinstance(output, Renumber):
            entry.session.number_from(output.next_index)
            self._perform(entry, [Check()])
            return
        if isinstance(output.message, RoomCreateAck):
            logger.info("room_entered", session=output.session_id, room=output.message.room_id)
        self._tell(entry, output.message, output.optional)
        if isinstance(output.message, RoomMembers):
            self._perform(entry, [Check()])
