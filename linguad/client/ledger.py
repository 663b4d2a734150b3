"""What waits to be sent, and what is kept because it may have to be sent again (docs/sessions.md).

Rules:
- Everything goes in the order in which it was added, on whichever connection.
- Kept are audio until `audio_ack` names it, whole utterances until they are answered, and changes of
  languages until all that was said before them is settled: the next session begins with the languages of the
  oldest speech that it will hear.
- If too much is kept, the oldest that was sent is dropped, and counted as lost once it would be sent again.
  What was not sent yet is never dropped; then there is no room for more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import merge
from itertools import islice

from msgspec import Struct
from msgspec.structs import replace

from linguad.wire.session import ClientMessage, SessionInit, SessionUpdate, Utterance

KEPT_BYTES = 16 * 2**20
"""What is kept at most: more than an hour of Opus, or eight minutes of PCM16."""

ENTRY_BYTES = 256
"""What an entry takes beside its audio, about; empty finals need memory too."""

GIVEN_UP = "cancelled"
"""Reason of a missing result that answers nothing: the server stops, and the next one gets the utterance."""

ONE_WAY, TWO_WAY = "one_way", "two_way_auto"


class Chunk(Struct, frozen=True):
    """Some audio of the running utterance, as it is sent on any connection."""

    seq: int
    audio: bytes
    is_final: bool
    client_timestamp_ms: int
    """Epoch ms at which it was recorded."""


class Entry(Struct, eq=False):
    """Something to be sent."""

    number: int
    """Its place in the order."""
    what: Chunk | ClientMessage
    kept: bool
    """Whether it is sent again if the connection is lost; else it is for one connection."""
    sent: bool = False
    """Whether this connection has it."""
    answered: bool = False
    """Of a change of languages: whether the server acknowledged it."""

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        match self.what:
            case Chunk(audio=audio) | Utterance(audio=audio):
                return ENTRY_BYTES + len(audio)
        return ENTRY_BYTES


class Ledger:
    """Mutable state of one client, over all its connections and sessions."""

    def __init__(self, init: SessionInit, *, keeps: bool, limit: int) -> None:
        """Without `keeps` nothing is kept once it was sent; `limit` is in bytes."""
        self.init = init
        """What the next session is to begin with."""
        self.speaking = False
        """Whether the utterance that was sent last is not complete yet."""
        self._keeps = keeps
        self._limit = limit
        self._number = 0
        self._queue: deque[Entry] = deque()
        self._chunks: deque[Entry] = deque()
        self._utterances: dict[tuple[int, str], Entry] = {}
        self._updates: deque[Entry] = deque()
        self._bytes = 0
        self._lost_chunks = 0
        self._lost_up_to = -1
        self._lost_utterances: set[tuple[int, str]] = set()

    @property
    def next(self) -> Entry | None:
        """What is to be sent next."""
        return self._queue[0] if self._queue else None

    @property
    def has_room(self) -> bool:
        """Whether more audio may be added."""
        return self._bytes < self._limit

    @property
    def settled(self) -> bool:
        """Whether all that was said is settled."""
        return not self._chunks and not self._utterances

    def add(self, what: Chunk | ClientMessage) -> Entry:
        """Something is to be sent after all that was added before."""
        entry = Entry(self._number, what, self._keeps and isinstance(what, Chunk | Utterance | SessionUpdate))
        self._number += 1
        self._queue.append(entry)
        if entry.kept:
            self._keep(entry)
        return entry

    def mark_sent(self, entry: Entry) -> None:
        """The connection has it."""
        if self._queue and self._queue[0] is entry:
            self._queue.popleft()
        entry.sent = True
        if isinstance(entry.what, Chunk):
            self.speaking = not entry.what.is_final
        self._trim()

    def audio_settled(self, seq: int) -> None:
        """Audio up to this number has its results."""
        while self._chunks and _seq(self._chunks[0]) <= seq:
            self._bytes -= self._chunks.popleft().size
        if seq >= self._lost_up_to:
            self._lost_chunks = 0
        self._fold()

    def answered(self, index: int, reason: str | None = None) -> None:
        """A whole utterance has its result, or the `reason` why there is none."""
        if reason == GIVEN_UP:
            return
        self._lost_utterances -= {key for key in self._lost_utterances if key[0] == index}
        key = next((key for key in self._utterances if key[0] == index), None)
        if key is None:
            return
        entry = self._utterances.pop(key)
        self._bytes -= entry.size
        if not entry.sent:
            self._queue.remove(entry)
            entry.sent = True
        self._fold()

    def updated(self) -> None:
        """The server acknowledged a change of languages."""
        waiting = next((entry for entry in self._updates if not entry.answered), None)
        if waiting is not None:
            waiting.answered = True
            self._fold()

    def go_on(self, received: int | None) -> int:
        """The session goes on, on another connection; its server has the audio up to `received`.

        Returns how much is lost: what would be sent again, but was not kept.
        """
        got = -1 if received is None else received
        number = max((entry.number for entry in self._chunks if _seq(entry) <= got), default=-1)
        for entry in self._updates:
            # What came before audio that arrived has arrived as well, only its acknowledgement is lost.
            entry.answered = entry.answered or (entry.sent and entry.number < number)
        again: list[Entry] = []
        for entry in self._in_order():
            has_it = entry.what.seq <= got if isinstance(entry.what, Chunk) else entry.answered
            if not has_it:
                again.append(entry)
            # Audio may have arrived although the connection broke before we knew.
            entry.sent = has_it
        self._requeue(again)
        lost = self._lost_chunks if self._lost_up_to > got else 0
        self._trim()
        return lost

    def begin_anew(self) -> int:
        """A new session begins with `init`; all that is kept goes to it. Returns how much is lost."""
        lost = self._lost_chunks + len(self._lost_utterances)
        self._lost_chunks = 0
        self._lost_utterances.clear()
        self.speaking = False
        for entry in self._updates:
            entry.answered = False
        again = list(self._in_order())
        for entry in again:
            entry.sent = False
        self._requeue(again)
        return lost

    def _keep(self, entry: Entry) -> None:
        match entry.what:
            case Chunk():
                self._chunks.append(entry)
            case Utterance(utterance_index=index, tgt_lang=tgt_lang):
                before = self._utterances.pop((index, tgt_lang), None)
                self._bytes -= before.size if before is not None else 0
                self._utterances[index, tgt_lang] = entry
            case _:
                self._updates.append(entry)
        self._bytes += entry.size

    def _in_order(self) -> Iterator[Entry]:
        """All that is kept."""
        return merge(self._chunks, self._utterances.values(), self._updates, key=_number)

    def _requeue(self, again: list[Entry]) -> None:
        """Send these, and what only waited for a connection."""
        others = [entry for entry in self._queue if not entry.kept]
        self._queue = deque(merge(again, others, key=_number))

    def _trim(self) -> None:
        """Drop the oldest that was sent, if too much is kept."""
        while not self.has_room:
            oldest = [*islice(self._chunks, 1), *islice(self._utterances.values(), 1)]
            entry = min((entry for entry in oldest if entry.sent), key=_number, default=None)
            if entry is None:
                return
            self._bytes -= entry.size
            if isinstance(entry.what, Chunk):
                self._chunks.popleft()
                self._lost_chunks += 1
                self._lost_up_to = entry.what.seq
            else:
                key = next(iter(self._utterances))
                del self._utterances[key]
                self._lost_utterances.add(key)

    def _fold(self) -> None:
        """Changes of languages that nothing was said before are those that the next session begins with."""
        first = next(merge(self._chunks, self._utterances.values(), key=_number), None)
        while self._updates and self._updates[0].answered:
            if first is not None and first.number < self._updates[0].number:
                return
            update = self._updates.popleft().what
            assert isinstance(update, SessionUpdate), "nothing else is kept there"
            self.init = changed(self.init, update)


def changed(init: SessionInit, update: SessionUpdate) -> SessionInit:
    """What a session begins with that is to be as another is after this change; as servers understand it.

    A pair means two-way mode; a source or target alone ends it.
    """
    init = replace(init, dialect=update.dialect or init.dialect, features=update.features or init.features)
    if update.lang_a and update.lang_b:
        return replace(
            init,
            src_lang=update.src_lang or "auto",
            tgt_lang=update.tgt_lang or update.lang_b,
            mode=update.mode or TWO_WAY,
            lang_a=update.lang_a,
            lang_b=update.lang_b,
            auto_langs=update.auto_langs or [update.lang_a, update.lang_b],
        )
    if update.src_lang or update.tgt_lang:
        return replace(
            init,
            src_lang=update.src_lang or init.src_lang,
            tgt_lang=update.tgt_lang or init.tgt_lang,
            mode=update.mode or ONE_WAY,
            lang_a=None,
            lang_b=None,
            auto_langs=update.auto_langs,
        )
    return replace(init, mode=update.mode or init.mode, auto_langs=update.auto_langs or init.auto_langs)


def _number(entry: Entry) -> int:
    return entry.number


def _seq(entry: Entry) -> int:
    assert isinstance(entry.what, Chunk), "only these have a number"
    return entry.what.seq
