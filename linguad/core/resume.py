"""What a session keeps so that its client can go on after a lost connection (resolutions 15, 17).

Results are numbered and kept until the client acknowledges them; audio counts as settled when the client has
the results of all utterances it belongs to, so that it knows what it may forget, and what to send again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from hashlib import sha256
from hmac import compare_digest

from msgspec import Struct
from msgspec.structs import replace

from linguad.wire.resume import Stretch
from linguad.wire.session import MissingResult, ServerMessage, SessionInitAck, TranslationResult

Result = TranslationResult | MissingResult

MAX_CHUNKS = 4096
"""Chunks that are told apart while their audio is not settled: 17 minutes of speech."""


class Recovery:
    """Mutable state of one session that can be resumed; only the hash of its token is kept."""

    def __init__(self, token: str, max_results: int, max_bytes: int) -> None:
        self._token_hash = hash_of(token)
        self._max_results = max_results
        self._max_bytes = max_bytes
        self._kept: deque[Result] = deque()
        self.kept_bytes = 0
        self.delivery = 0
        """Number of the last result."""
        self.acknowledged = 0
        """Number of the last result that the client is known to have."""
        self.audio = AudioProgress()

    def opens(self, token: str) -> bool:
        """Whether this is the token of the session."""
        return compare_digest(self._token_hash, hash_of(token))

    @property
    def token_hash(self) -> str:
        """The hash of its token, hexadecimal."""
        return self._token_hash

    def go_on(self, delivery: int, seq: int, size: int) -> None:
        """It comes from another instance: its client has this result, and sends audio from here again."""
        self.delivery = self.acknowledged = delivery
        self.audio.go_on(seq, size)

    def outgoing(self, message: ServerMessage) -> ServerMessage:
        """A message as the client gets it: results have their number, and are kept."""
        if not isinstance(message, TranslationResult | MissingResult) or message.delivery is not None:
            return message
        return self.number(message)

    def welcome(self, hello: SessionInitAck, next_index: int) -> SessionInitAck:
        """The acknowledgement for a client that came back; the results it missed follow."""
        return replace(
            hello,
            message="session resumed",
            recovered=True,
            delivery=self.delivery,
            audio_seq=self.audio.received,
            last_utterance_index=next_index - 1 if next_index else None,
        )

    def number(self, result: Result) -> Result:
        """The result with its number; it is kept, and the oldest ones go if there are too many."""
        self.delivery += 1
        numbered = replace(result, delivery=self.delivery)
        self._kept.append(numbered)
        self.kept_bytes += _size(numbered)
        while self._kept and (len(self._kept) > self._max_results or self.kept_bytes > self._max_bytes):
            self._drop()
        return numbered

    def acknowledge(self, delivery: int) -> None:
        """The client has all results up to this number."""
        self.acknowledged = max(self.acknowledged, min(delivery, self.delivery))
        while self._kept and (self._kept[0].delivery or 0) <= delivery:
            self._drop()

    def spare(self, max_bytes: int) -> None:
        """Memory is short: keep no more than this, even if the client could not resume then."""
        while self.kept_bytes > max_bytes:
            self._drop()

    def can_follow(self, delivery: int) -> bool:
        """Whether everything after this number is there."""
        missed = self.delivery - delivery
        return 0 <= missed <= len(self._kept)

    def after(self, delivery: int) -> list[Result]:
        """The results after this number, as far as they are kept."""
        return [result for result in self._kept if (result.delivery or 0) > delivery]

    def _drop(self) -> None:
        self.kept_bytes -= _size(self._kept.popleft())


class AudioMark(Struct, frozen=True):
    """A place in the audio of a session: the last chunk before it, and the bytes up to it."""

    seq: int
    size: int


class AudioProgress:
    """Mutable state: chunks that are not settled, and cut utterances that have no outcome yet.

    Sizes are bytes of usable audio since the session began.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        """The `seq` of the last chunk."""
        self._chunks: deque[AudioMark] = deque()
        self._open: dict[int, Stretch] = {}
        self._sent: deque[Stretch] = deque()
        self._settled = AudioMark(-1, 0)

    def is_new(self, seq: int) -> bool:
        """Whether a chunk of this number did not come before."""
        return self.received is None or seq > self.received

    def chunk(self, seq: int, end: int) -> None:
        """A chunk came; the audio is `end` bytes long with it."""
        self.received = seq
        self._chunks.append(AudioMark(seq, end))
        if len(self._chunks) > MAX_CHUNKS:
            self._chunks.popleft()

    @property
    def settled(self) -> AudioMark:
        """The last chunk that is settled; `seq` is -1 before there is one."""
        return self._settled

    @property
    def unsettled(self) -> list[Stretch]:
        """What was cut and is not known to be answered, in order."""
        return sorted((*self._open.values(), *self._sent), key=lambda stretch: stretch.start)

    def go_on(self, seq: int, size: int) -> None:
        """Audio after this chunk comes again, which ends at this byte."""
        self._settled = AudioMark(seq, size)
        self.received = seq if seq >= 0 else None

    def cut(self, stretch: Stretch) -> None:
        """Audio became an utterance."""
        self._open[stretch.index] = stretch

    def left(self, unfinished: Container[int], delivery: int) -> None:
        """All but these utterances have left; their results are the next ones after this delivery."""
        left = sorted(index for index in self._open if index not in unfinished)
        for number, index in enumerate(left, start=delivery + 1):
            self._sent.append(replace(self._open.pop(index), delivery=number))

    def settle(self, acknowledged: int, cut_bytes: int) -> AudioMark | None:
        """The last chunk that is settled, if it is another one than was told before (resolution 49).

        The client has acknowledged so many deliveries, and audio behind `cut_bytes` is in no utterance yet.
        """
        while self._sent and self._sent[0].delivery <= acknowledged:
            self._sent.popleft()
        starts = [*(cut.start for cut in self._open.values()), *(cut.start for cut in self._sent), cut_bytes]
        before, end = self._settled, min(starts)
        while self._chunks and self._chunks[0].size <= end:
            self._settled = self._chunks.popleft()
        return self._settled if self._settled is not before else None

    def tell_again(self) -> None:
        """What was told last may have been lost with its connection."""
        if self._settled.seq >= 0:
            self._chunks.appendleft(AudioMark(self._settled.seq, self._settled.size))


def hash_of(token: str) -> str:
    """What is kept of a token, hexadecimal."""
    return sha256(token.encode()).hexdigest()


def _size(result: Result) -> int:
    if isinstance(result, MissingResult):
        return 0
    return len(result.tts_audio) + len(result.text_asr) + len(result.text_translated)
