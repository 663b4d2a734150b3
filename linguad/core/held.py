"""Short pieces of audio that wait for the next utterance (session-protocol 3.6, resolution 13).

Real web clients end endless pieces of 260 ms while nobody speaks; a spoken "yes" may be no longer. So what
looks like silence only waits to be the beginning of something, and all else has a time when it goes alone.
"""

from __future__ import annotations

from msgspec import Struct

MAX_PIECES = 100
"""So many are held at most, however short they are."""


class Piece(Struct, frozen=True, kw_only=True):
    """Audio of an utterance that was too short to be one."""

    data: bytes
    turn_id: str
    """The turn it was said in, and still is if it goes alone."""
    duration_ms: int
    packets: int
    """Plan A records; 0 for PCM."""
    silent: bool
    last_audio_at: float
    last_client_ms: int | None


class Held:
    """Mutable state: the pieces in order, their sums, and when they go although nothing follows."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._loud = 0
        self.release_at: float | None = None
        """When they become an utterance of their own, monotonic s; None while all of them are silent."""
        self.bytes = 0
        self.duration_ms = 0
        self.packets = 0

    @property
    def silent(self) -> bool:
        """Whether nothing but silence is held; also if nothing is."""
        return not self._loud

    @property
    def last(self) -> Piece:
        """The newest piece; there must be one."""
        return self._pieces[-1]

    def add(self, piece: Piece, release_at: float) -> None:
        """Hold one more piece; a silent one does not move the time of release."""
        self._pieces.append(piece)
        self._count(piece, 1)
        if not piece.silent:
            self.release_at = release_at

    def exceeds(self, max_ms: int) -> bool:
        """Whether more is held than may be."""
        return self.duration_ms > max_ms or len(self._pieces) > MAX_PIECES

    def trim(self, max_ms: int) -> int:
        """Drop silence, oldest first, until no more than `max_ms` are held; returns how many ms it dropped.

        More stays if the oldest piece is not silent.
        """
        dropped_ms = 0
        while self.exceeds(max_ms) and self._pieces[0].silent:
            piece = self._pieces.pop(0)
            self._count(piece, -1)
            dropped_ms += piece.duration_ms
        return dropped_ms

    def take(self) -> list[bytes]:
        """All of it, in order; nothing is held afterwards."""
        data = [piece.data for piece in self._pieces]
        self._pieces.clear()
        self._loud = self.bytes = self.duration_ms = self.packets = 0
        self.release_at = None
        return data

    def _count(self, piece: Piece, sign: int) -> None:
        self.bytes += sign * len(piece.data)
        self.duration_ms += sign * piece.duration_ms
        self.packets += sign * piece.packets
        self._loud += sign * (not piece.silent)
