"""Which utterances of a stream wait for an answer: each gets one, translations in order (gateway 6.3).

Rules:
- `final`, `empty` and an `error` with an index answer it; whatever comes for it later is dropped.
- A `final` waits for all utterances before it. The core sends them in order; this makes it sure.
- Once a `final` has left, nothing with a lower index can be answered any more.
"""

from __future__ import annotations

from math import inf

from msgspec import Struct

from linguad.wire.public import Empty, Error, Final

Answer = Final | Empty | Error


class Asked(Struct):
    """An utterance without answer; mutable: times are monotonic s."""

    audio_ms: int = 0
    due_at: float = inf
    """When it is waited for no longer."""
    asked_at: float = 0.0


class Pending:
    """Mutable state: what is open, finals that wait for earlier ones, and what is answered."""

    def __init__(self) -> None:
        self._open: dict[int, Asked] = {}
        self._held: dict[int, Final] = {}
        self._done: set[int] = set()
        self.floor = 0
        """All below it are done."""

    @property
    def open(self) -> list[int]:
        """Indexes without answer, in order."""
        return sorted(self._open)

    def ask(self, index: int, asked: Asked) -> None:
        """An utterance is to be answered; without effect if it is known."""
        if not self.is_done(index):
            self._open.setdefault(index, asked)

    def asked(self, index: int) -> Asked | None:
        """What is known of an open utterance."""
        return self._open.get(index)

    def is_done(self, index: int) -> bool:
        """Whether it has had its answer, or can have none any more."""
        return index < self.floor or index in self._done

    def is_answered(self, index: int) -> bool:
        """Whether its answer is there, be it that it waits for earlier ones."""
        return self.is_done(index) or index in self._held

    def answer(self, index: int, message: Answer) -> list[Answer]:
        """What leaves now that an utterance has its answer; nothing if it had one."""
        if self.is_answered(index):
            return []
        if isinstance(message, Final) and min(self._open, default=index) < index:
            self._open.setdefault(index, Asked()).due_at = inf
            self._held[index] = message
            return []
        self._leave(index, message)
        leaving = [message]
        while self._held and (head := min(self._open)) in self._held:
            final = self._held.pop(head)
            self._leave(head, final)
            leaving.append(final)
        return leaving

    def due(self) -> float:
        """When the next one is waited for no longer."""
        return min((asked.due_at for asked in self._open.values()), default=inf)

    def overdue(self, now: float) -> list[int]:
        """Those that were waited for long enough."""
        return [index for index in self.open if self._open[index].due_at <= now]

    def _leave(self, index: int, message: Answer) -> None:
        self._open.pop(index, None)
        if isinstance(message, Final):
            self.floor = index + 1
            self._done = {done for done in self._done if done > index}
        else:
            self._done.add(index)
        while self.floor in self._done:
            self._done.remove(self.floor)
            self.floor += 1
