"""Which whole utterances are taken when: in index order, each once (session-protocol 4.3, 4.4).

Rules: an utterance waits briefly for a lower index, then is taken as it is (resolution 14). What was taken is
remembered for a while, so that a repeat makes no second job; what failed may be sent again.
"""

from __future__ import annotations

from msgspec import Struct, field

from linguad.wire.session import Utterance

MAX_HELD_UTTERANCES = 64
"""Whole utterances that may wait for a lower index; one more ends the wait."""

MAX_HELD_BYTES = 32 * 1024 * 1024
"""Their audio in base64, two messages of the longest; more ends the wait as well."""

MAX_REMEMBERED = 4096
"""Utterances whose repeats are known; a person speaks fewer in the time they are remembered."""


class Waiting(Struct):
    """Utterances of one index that wait for a lower one, until a time."""

    until: float
    messages: list[Utterance] = field(default_factory=list)


class Arrivals:
    """Mutable state of one session: the next index, what waits for it, and what was taken not long ago."""

    def __init__(self, wait_s: float, remember_s: float) -> None:
        self._wait_s = wait_s
        self._remember_s = remember_s
        self._expected: int | None = None
        self._held: dict[int, Waiting] = {}
        self._held_count = 0
        self._taken: dict[tuple[int, str], tuple[float, int]] = {}
        self.held_bytes = 0
        """Bytes of audio, in base64, of the utterances that wait."""

    def arrive(self, message: Utterance, now: float) -> list[Utterance]:
        """An utterance came; what is to be taken now, in order."""
        index = message.utterance_index
        if self._expected is None or index <= self._expected:
            self._expected = max(self._expected or 0, index + 1)
            return [message, *self._next()]
        self._held.setdefault(index, Waiting(now + self._wait_s)).messages.append(message)
        self._held_count += 1
        self.held_bytes += len(message.audio)
        if self._held_count > MAX_HELD_UTTERANCES or self.held_bytes > MAX_HELD_BYTES:
            return self._wait_no_more()
        return []

    def skip(self, index: int) -> None:
        """No utterance of this index will come: streamed speech has it."""
        if self._expected == index:
            self._expected += 1

    def due(self) -> float | None:
        """When `tick` has something to do, monotonic s."""
        if not self._held:
            return None
        return min(held.until for held in self._held.values())

    def tick(self, now: float) -> list[Utterance]:
        """What has waited long enough, in order."""
        taken: list[Utterance] = []
        while any(held.until <= now for held in self._held.values()):
            taken += self._wait_no_more()
        return taken

    def discard(self) -> list[Utterance]:
        """Nothing waits any more; returns what did, in order."""
        waiting = [message for index in sorted(self._held) for message in self._held[index].messages]
        self._held.clear()
        self._held_count = self.held_bytes = 0
        return waiting

    def remember(self, index: int, tgt_lang: str, sound: int, now: float) -> None:
        """This utterance is being worked on; `sound` is a hash of its audio."""
        self._taken.pop((index, tgt_lang), None)
        self._taken[index, tgt_lang] = now + self._remember_s, sound
        if len(self._taken) > MAX_REMEMBERED:
            del self._taken[next(iter(self._taken))]

    def forget(self, index: int, tgt_lang: str | None) -> None:
        """This utterance failed and may be sent again; without a language, into whichever it was sent."""
        if tgt_lang is not None:
            self._taken.pop((index, tgt_lang), None)
            return
        for taken in [taken for taken in self._taken if taken[0] == index]:
            del self._taken[taken]

    def is_repeated(self, index: int, tgt_lang: str, now: float, sound: int | None = None) -> bool:
        """Whether this utterance is being worked on, or was not long ago; given a `sound`, with this one."""
        while self._taken:
            oldest = next(iter(self._taken))
            if self._taken[oldest][0] > now:
                break
            del self._taken[oldest]
        taken = self._taken.get((index, tgt_lang))
        return taken is not None and (sound is None or taken[1] == sound)

    def _wait_no_more(self) -> list[Utterance]:
        self._expected = min(self._held)
        return self._next()

    def _next(self) -> list[Utterance]:
        taken: list[Utterance] = []
        while self._expected in self._held:
            taken += self._held.pop(self._expected).messages
            self._expected += 1
        self._held_count -= len(taken)
        self.held_bytes -= sum(len(message.audio) for message in taken)
        return taken
