"""Bytes of a RESP3 connection to replies, and each reply to the command it answers. No I/O.

Replies come in the order of the commands. Pushes come anywhere and answer nothing, with one exception: a
(un)subscribe command is answered by one push per channel, or by one error reply.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

import hiredis

Push = list[object]
"""A push notification: its kind, then its members."""

_UNFINISHED = object()


class ProtocolBroken(Exception):
    """What came is not RESP3, or more replies than commands; the connection is of no more use."""


class Pending(Protocol):
    """A command that waits for its reply."""

    confirms: int
    """Pushes that answer it, 0 for a command that is answered by a reply."""
    kind: bytes
    """Of these pushes."""

    def settle(self, reply: object) -> None:
        """Take the reply, which may be a hiredis.ReplyError."""


P = TypeVar("P", bound=Pending)


class Replies(Generic[P]):
    """Mutable state: half a reply, and the commands that wait, oldest first."""

    def __init__(self, on_push: Callable[[Push], object]) -> None:
        self.pending: deque[P] = deque()
        self._on_push = on_push
        self._reader = hiredis.Reader(notEnoughData=_UNFINISHED)

    def feed(self, data: bytes | bytearray) -> int:
        """Hand out all that is whole now and count it. Raises ProtocolBroken after what came before."""
        count = 0
        pending = self.pending
        for reply in self._parsed(data):
            count += 1
            if isinstance(reply, hiredis.PushNotification):
                self._pushed(reply)
            elif pending:
                pending.popleft().settle(reply)
            else:
                raise ProtocolBroken("a reply came that nobody asked for")
        return count

    def _pushed(self, push: Push) -> None:
        head = self.pending[0] if self.pending else None
        if head is not None and head.confirms and push[:1] == [head.kind]:
            head.confirms -= 1
            if not head.confirms:
                self.pending.popleft()
                head.settle(None)
        else:
            self._on_push(push)

    def _parsed(self, data: bytes | bytearray) -> Iterator[object]:
        try:
            self._reader.feed(bytes(data))
            while (reply := self._reader.gets()) is not _UNFINISHED:
                yield reply
        # TypeError: a map whose keys are lists; UnicodeError and others: whatever else nobody has seen yet
        except (hiredis.HiredisError, TypeError, ValueError) as error:
            raise ProtocolBroken(f"what came is not RESP3 ({type(error).__name__})") from error
