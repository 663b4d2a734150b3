"""What a client keeps so that it can go on after a lost connection, exactly as docs/sessions.md says."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from linguad.wire.session import AudioChunk, SessionUpdate, Utterance

from .languages import Languages


class Said(NamedTuple):
    """A chunk, or a change of languages that follows the chunk `seq`."""

    seq: int
    message: AudioChunk | SessionUpdate
    first: int
    """The packet that comes first after it began."""
    languages: Languages | None = None
    """Those that hold then, for a change."""

    def is_missing_after(self, seq: int) -> bool:
        """Whether a server that has all chunks up to `seq` may not have it."""
        return self.seq > seq or (self.seq == seq and self.languages is not None)


class Memory:
    """Mutable: the token, the results it has, and what it said that has no results yet."""

    def __init__(self, languages: Languages) -> None:
        self.token = ""
        self.delivery = 0
        """The last result it has."""
        self.acknowledged = 0
        """The last result that the server was told of."""
        self.presented = 0
        """What it said last when it came back."""
        self.settled = -1
        """The last chunk that has its results."""
        self.languages = languages
        """Those that hold before what is kept here."""
        self.said: deque[Said] = deque()
        self.utterances: dict[int, Utterance] = {}
        """Whole ones without result."""

    def began(self, token: str) -> None:
        """A new session: all that is kept is for it now."""
        self.token = token
        self.delivery = self.acknowledged = self.presented = 0
        self.settled = -1

    def say(self, said: Said) -> None:
        """Keep it until it is settled."""
        self.said.append(said)

    def settle(self, seq: int) -> list[Said]:
        """Chunks up to this one need not be sent again; returns what need not be kept for them."""
        assert seq >= self.settled, f"chunk {seq} is settled after {self.settled}"
        self.settled = seq
        dropped: list[Said] = []
        while self.said and not self.said[0].is_missing_after(seq):
            said = self.said.popleft()
            self.languages = said.languages or self.languages
            dropped.append(said)
        return dropped

    def chunks_up_to(self, seq: int) -> list[AudioChunk]:
        """Chunks that a server has, and would ignore; not settled ones."""
        chunks = [said.message for said in self.said if said.seq <= seq]
        return [message for message in chunks if isinstance(message, AudioChunk)]

    def missing_after(self, seq: int) -> list[Said]:
        """What a server that has all chunks up to this one needs again."""
        return [said for said in self.said if said.is_missing_after(seq)]
