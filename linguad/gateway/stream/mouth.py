"""What a socket says to the core: in order, and at the one rate that the core takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import trio

from linguad.audio import Resampler
from linguad.core.sound import PCM16, SAMPLE_RATE
from linguad.gateway.speech.talk import Talk
from linguad.gateway.stream.opening import Terms
from linguad.net.bell import Bell

SLICE_MS = 100
"""So much is resampled at once, in about 0.2 ms; then others have their turn."""


class _Word(NamedTuple):
    audio: bytes = b""
    whole: bool = False
    """An utterance of its own."""
    final: bool = False
    last: bool = False
    """The end of all audio."""


class Mouth:
    """Mutable: what waits to be said, because it has another rate, and the filter between the rates."""

    def __init__(self, talk: Talk, terms: Terms, spoke: Callable[[], object] = lambda: None) -> None:
        """`spoke` is called whenever less waits."""
        self._talk = talk
        self._spoke = spoke
        self.waiting_bytes = 0
        """Audio that waits to be said."""
        self._rate = terms.sample_rate if terms.audio_format == PCM16 else SAMPLE_RATE
        self._slice = self._rate * 2 * SLICE_MS // 1000
        self._waiting: deque[_Word] = deque()
        self._more = Bell()
        self._resampler: Resampler | None = None

    def utter(self, audio: bytes) -> None:
        """Say a whole utterance."""
        self._put(_Word(audio, whole=True))

    def stream(self, audio: bytes, *, final: bool) -> None:
        """Say the next piece of a stream; with `final` its utterance ends."""
        self._put(_Word(audio, final=final))

    def hang_up(self) -> None:
        """Say no more."""
        self._put(_Word(last=True))

    async def run(self) -> None:
        """Say what has another rate, for ever."""
        while True:
            while self._waiting:
                word = self._waiting.popleft()
                self._say(word._replace(audio=await self._resampled(word)))
                self.waiting_bytes -= len(word.audio)
                self._spoke()
            await self._more.wait()

    def _put(self, word: _Word) -> None:
        if self._rate == SAMPLE_RATE:
            self._say(word)
        else:
            self._waiting.append(word)
            self.waiting_bytes += len(word.audio)
            self._more.ring()

    def _say(self, word: _Word) -> None:
        if word.whole:
            self._talk.utterance(word.audio)
        elif word.audio or not word.last:
            self._talk.chunk(word.audio, final=word.final)
        if word.last:
            self._talk.hang_up()

    async def _resampled(self, word: _Word) -> bytes:
        """The audio at the core's rate; at the end of an utterance with what the filter kept back."""
        resampler = self._resampler = self._resampler or Resampler(self._rate)
        parts = []
        for start in range(0, len(word.audio), self._slice):
            parts.append(resampler.feed(word.audio[start : start + self._slice]))
            await trio.lowlevel.checkpoint()
        if word.whole or word.final or word.last:
            parts.append(resampler.finish())
            self._resampler = None
        return b"".join(parts)
