"""Letters on their way to one process of another instance: their order, their number, their bound. No I/O."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple


class Waiting(NamedTuple):
    """A letter that Redis has not confirmed."""

    kind: str
    body: bytes
    audio: bytes
    lane: str
    seq: int
    expires_at: float
    """Monotonic s."""

    @property
    def size(self) -> int:
        """Bytes that count against the bound; the receiver counts the same ones."""
        return len(self.body) + len(self.audio)


class Outgoing:
    """Mutable state: letters that wait to be written, and bytes written that the receiver is not done with.

    They are written in batches, one at a time, in order. A batch of which nobody knows whether it came
    through is written again with the same numbers.
    """

    def __init__(self, account: str, max_bytes: int) -> None:
        """`account` is new for each process."""
        self.account = account
        self.blocked = False
        """Redis did not take the last batch, which waits: it is out of memory, say."""
        self._max_bytes = max_bytes
        self._queue: deque[Waiting] = deque()
        self._queued_bytes = 0
        self._seq = 0
        self._written_bytes = 0
        self._done_bytes = 0

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def unacknowledged_bytes(self) -> int:
        """All that the receiver is not done with, written or not."""
        return self._queued_bytes + self.written_bytes

    @property
    def written_bytes(self) -> int:
        """What lies in its inbox."""
        return max(0, self._written_bytes - self._done_bytes)

    def put(self, kind: str, body: bytes, audio: bytes, lane: str, expires_at: float) -> bool:
        """Queue a letter; False if there is no room."""
        size = len(body) + len(audio)
        if self.blocked or self.unacknowledged_bytes + size > self._max_bytes:
            return False
        self._seq += 1
        self._queue.append(Waiting(kind, body, audio, lane, self._seq, expires_at))
        self._queued_bytes += size
        return True

    def expire(self, now: float) -> list[Waiting]:
        """Take out what has expired while it waited."""
        late = [letter for letter in self._queue if letter.expires_at <= now]
        if late:
            self._queue = deque(letter for letter in self._queue if letter.expires_at > now)
            self._queued_bytes -= sum(letter.size for letter in late)
            self.blocked = self.blocked and bool(self._queue)
        return late

    def batch(self, most: int, max_bytes: int) -> list[Waiting]:
        """The letters to write next; at least one, if one waits."""
        chosen: list[Waiting] = []
        size = 0
        for letter in self._queue:
            size += letter.size
            if chosen and (len(chosen) >= most or size > max_bytes):
                break
            chosen.append(letter)
        return chosen

    def written(self, batch: list[Waiting], done_bytes: int, before: int) -> None:
        """The batch lies in the inbox, where `before` entries lay; so many bytes it is done with ever."""
        for letter in batch:
            assert self._queue.popleft() is letter, "letters are written in order"
            self._queued_bytes -= letter.size
        self._written_bytes += sum(letter.size for letter in batch)
        self.done(done_bytes, before, sum(letter.size for letter in batch))

    def done(self, done_bytes: int, before: int, batch_bytes: int = 0) -> None:
        """What the receiver has counted. An inbox that was empty is the truth, whatever the counts say:
        they go wrong when Redis loses its data."""
        self.blocked = False
        self._done_bytes = done_bytes
        if not before:
            self._written_bytes = done_bytes + batch_bytes
