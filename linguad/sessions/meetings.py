"""What comes of rooms for the sessions that are in them."""

from __future__ import annotations

from collections.abc import Callable

from linguad import log
from linguad.core.outputs import Check, Output
from linguad.core.rooms import Renumber, RoomOutput
from linguad.sessions.registry import Entry, Registry
from linguad.wire.room import RoomCreateAck, RoomMembers
from linguad.wire.session import ServerMessage

logger = log.get(__name__)


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

    def perform(self, output: RoomOutput) -> None:
        """What concerns a session; there may be none any more."""
        entry = self._sessions.get(output.session_id)
        if entry is None:
            return
        if isinstance(output, Renumber):
            entry.session.number_from(output.next_index)
            self._perform(entry, [Check()])
            return
        if isinstance(output.message, RoomCreateAck):
            logger.info("room_entered", session=output.session_id, room=output.message.room_id)
        self._tell(entry, output.message, output.optional)
        if isinstance(output.message, RoomMembers):
            self._perform(entry, [Check()])
