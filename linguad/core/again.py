"""Streamed audio that a client sends again to another instance: what of it was cut where (resolution 49).

The first instance wrote down the byte at which each utterance ended. So nothing depends on pauses, which are
other ones when audio is sent again; what the client has an answer for is passed over.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct
from msgspec.structs import replace

from linguad.core.utterance import CutReason
from linguad.wire.resume import SessionRecord, Stretch


class Replay(Struct, frozen=True):
    """What is to be done with the audio that comes again."""

    stretches: list[Stretch]
    """What has no answer, to be cut as it was."""
    end: int
    """Bytes of the session's audio; behind it, it is cut as any audio."""
    next_index: int
    """Index of what is cut behind it."""
    answered: int
    """So many utterances behind it have an answer, although nobody wrote down that they were cut."""


def replay(record: SessionRecord, delivery: int) -> Replay:
    """For a client that has all results up to this number.

    Results that nobody wrote down are taken for those of the oldest utterances without one, since results
    leave in order. In a room there may be results of others among them: then none is, and speech may be
    heard twice rather than never.
    """
    open_ = [cut for cut in record.cut if not 0 < cut.delivery <= delivery]
    unknown = 0 if record.seat else max(0, delivery - record.delivery)
    answered = max(0, unknown - len(open_))
    todo, end, next_index = open_[unknown:], record.cut_bytes, record.next_index
    while todo and todo[-1].end == end and CutReason(todo[-1].reason).speech_continues:
        # its turn goes on in what was not cut: the same limit cuts it again
        end, next_index = todo[-1].start, todo[-1].index
        todo.pop()
    for at, cut in enumerate(todo):
        goes_on = at + 1 < len(todo) and todo[at + 1].start == cut.end
        if CutReason(cut.reason).speech_continues and not goes_on:
            # the rest of its turn has its answer, so this is the last slice now
            todo[at] = replace(cut, reason=CutReason.CLOSE.value)
    return Replay(todo, end, next_index, answered)


class Piece(Struct, frozen=True):
    """Audio of one stretch, complete with this."""

    stretch: Stretch
    data: bytes


class Rerun:
    """Mutable state: how far the audio has come again, and the beginning of the stretch that is coming."""

    def __init__(self, plan: Replay, position: int) -> None:
        """The first byte that comes again is the one at `position` of the session's audio."""
        self.position = position
        self._end = plan.end
        self._todo = deque(plan.stretches)
        self._parts: list[bytes] = []

    @property
    def is_over(self) -> bool:
        """Whether all that had been cut came again."""
        return self.position >= self._end

    @property
    def held_bytes(self) -> int:
        """Bytes that no utterance has yet."""
        return sum(map(len, self._parts))

    @property
    def start(self) -> int:
        """Where what it holds begins, or else where it stands."""
        return self.position - self.held_bytes

    def feed(self, audio: bytes) -> tuple[list[Piece], int]:
        """Whole records come; the stretches they complete, and how many of the bytes were used."""
        pieces: list[Piece] = []
        used = min(len(audio), self._end - self.position)
        at = 0
        while at < used:
            stop = used
            if self._todo:
                stretch = self._todo[0]
                if self.position < stretch.start:
                    stop = min(used, at + stretch.start - self.position)
                else:
                    stop = min(used, at + stretch.end - self.position)
                    self._parts.append(audio[at:stop])
            self.position += stop - at
            at = stop
            if self._todo and self.position == self._todo[0].end:
                pieces.append(Piece(self._todo.popleft(), b"".join(self._parts)))
                self._parts.clear()
        return pieces, used
