"""Audio chunks in, cut utterances out (session-protocol 3.4 and 3.5, resolutions 9 and 12).

Rules:
- Audio is collected until a final, a pause, the duration or length limit or the end of the session cuts it.
- An empty final waits a short grace for the tail chunk that real web clients send just after it.
- A gap longer than the pause ends the old utterance before the chunk that follows it.
- The limits cut inside a chunk, at the first record (PCM: sample) that reaches them; the rest goes on.
- All slices up to and including the next final or pause are one turn and share its id.
- A chunk may carry only so much audio and complete only so many cuts; the rest of it is dropped and counted.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Iterator
from enum import Enum
from itertools import islice

from msgspec import Struct

from linguad.wire import opus

OPUS, PCM16 = "opus", "pcm16"
SAMPLE_RATE = 16000
"""Hz; the only rate of streamed audio."""

_BYTES_PER_MS = SAMPLE_RATE * 2 // 1000
_NO_LIMIT = 2**62

MAX_CUTS_OF_CHUNK = 64
"""Most cuts one chunk completes, so that what is told about them fits into the outbox of the client."""

_SNIFFED_BYTES = 64 * 1024
"""So much of a first payload tells its format: no PCM passes for records over that length."""


class CutReason(Enum):
    """Why an utterance ended."""

    MANUAL = "manual"
    TIMEOUT = "timeout"
    MAX_DURATION = "max_duration"
    MAX_LENGTH = "max_length"
    CLOSE = "close"

    @property
    def speech_continues(self) -> bool:
        """Whether the cut fell into running speech; counted as max-duration on the wire (resolution 9)."""
        return self in (CutReason.MAX_DURATION, CutReason.MAX_LENGTH)


class CutRules(Struct, frozen=True, kw_only=True):
    """When to cut; seconds, bytes; 0 switches a limit off."""

    pause_s: float = 3.0
    max_duration_ms: int = 10_000
    max_bytes: int = 512_000
    max_chunk_s: float = 600.0
    final_grace_s: float = 0.04
    padding_manual_ms: int = 280
    padding_auto_ms: int = 220

    def padding_ms(self, reason: CutReason) -> int:
        """Trailing silence the node is asked to append (session-protocol 3.4)."""
        if reason is CutReason.MANUAL:
            return self.padding_manual_ms
        return 0 if reason is CutReason.MAX_LENGTH else self.padding_auto_ms


class Audio(Struct, frozen=True):
    """The sound of one utterance, encoded once and shared by all its jobs and attempts."""

    base64: str
    format: str
    sample_rate: int
    duration_ms: int

    @property
    def seconds(self) -> float:
        """Duration in s."""
        return self.duration_ms / 1000


class Cut(Struct, frozen=True, kw_only=True):
    """A finished slice of audio."""

    audio: Audio
    reason: CutReason
    turn_id: str
    padding_ms: int
    last_audio_at: float
    cut_at: float
    last_client_ms: int | None


def record_ends(payload: bytes) -> Iterator[int]:
    """Where each whole Plan A record ends, up to the first malformed one, as far as it is asked."""
    position, size = 0, len(payload)
    while position + 2 <= size:
        length = payload[position] | payload[position + 1] << 8
        position += 2 + length
        if not 0 < length <= opus.MAX_PACKET_BYTES or position > size:
            return
        yield position


def _is_plan_a(payload: bytes) -> bool:
    if len(payload) <= _SNIFFED_BYTES:
        return opus.looks_like_plan_a(payload)
    good = opus.walk(payload[:_SNIFFED_BYTES], opus.MAX_LEGAL_PACKET_BYTES).good_bytes
    return good >= _SNIFFED_BYTES - opus.MAX_LEGAL_PACKET_BYTES - 2


class UtteranceCutter:
    """Mutable state: the audio of the running utterance, its turn, and when silence or the grace ends."""

    def __init__(self, rules: CutRules, new_turn_id: Callable[[], str]) -> None:
        self._rules = rules
        self._new_turn_id = new_turn_id
        self._format = ""
        self._parts: list[bytes] = []
        self._bytes = 0
        self._packets = 0
        self._last_at = 0.0
        self._last_client_ms: int | None = None
        self._turn_id: str | None = None
        self._final_at: float | None = None
        self._final_seq = 0
        self.malformed = 0
        """Chunks whose tail was not whole records and was dropped."""
        self.overlong = 0
        """Chunks with more audio, or more cuts, than one may have; the rest was dropped."""

    @property
    def format(self) -> str:
        """`opus` or `pcm16`, told by the first payload of the session; `opus` before it."""
        return self._format or OPUS

    @property
    def buffered_bytes(self) -> int:
        """Bytes of audio that are not cut yet."""
        return self._bytes

    def chunk(self, payload: bytes, *, seq: int, final: bool, client_ms: int | None, now: float) -> list[Cut]:
        """Take a chunk (Plan A, or PCM16 at 16 kHz mono; may be empty) and return what it completed."""
        cuts: list[Cut] = []
        if self._final_at is None and self._paused(now):
            cuts.extend(self._end_turn(CutReason.TIMEOUT, now))
        if self._final_at is not None and payload:
            is_tail = seq == self._final_seq + 1 and now <= self._final_at + self._rules.final_grace_s
            if not is_tail:
                cuts.extend(self._end_turn(CutReason.MANUAL, now))
        if payload:
            cuts.extend(self._append(payload, final or self._final_at is not None, client_ms, now))
        if self._final_at is not None and payload:
            cuts.extend(self._end_turn(CutReason.MANUAL, now))
        if final:
            if self._parts and not payload and self._rules.final_grace_s > 0:
                if self._final_at is None:
                    self._final_at, self._final_seq = now, seq
            else:
                cuts.extend(self._end_turn(CutReason.MANUAL, now))
        return cuts

    def due(self) -> float | None:
        """When `tick` has something to do, monotonic s; None while no audio waits."""
        if not self._parts:
            return None
        if self._final_at is not None:
            return self._final_at + self._rules.final_grace_s
        return self._last_at + self._rules.pause_s if self._rules.pause_s > 0 else None

    def tick(self, now: float) -> list[Cut]:
        """Cut what a passed deadline completed."""
        due = self.due()
        if due is None or now < due:
            return []
        return self._end_turn(CutReason.TIMEOUT if self._final_at is None else CutReason.MANUAL, now)

    def close(self, now: float) -> list[Cut]:
        """Cut what is left when the session ends or its socket is lost."""
        return self._end_turn(CutReason.CLOSE if self._final_at is None else CutReason.MANUAL, now)

    @property
    def _duration_ms(self) -> int:
        return self._packets * opus.PACKET_MS if self._format == OPUS else self._bytes // _BYTES_PER_MS

    def _paused(self, now: float) -> bool:
        return 0 < self._rules.pause_s < now - self._last_at

    def _append(self, payload: bytes, closing: bool, client_ms: int | None, now: float) -> list[Cut]:
        if not self._format:
            self._format = OPUS if _is_plan_a(payload) else PCM16
        end, overlong = self._usable(payload)
        if not end:
            return []
        self._last_at = now
        cuts: list[Cut] = []
        start = 0
        while start < end and len(cuts) < MAX_CUTS_OF_CHUNK:
            stop, limit = self._until_limit(payload, start, end)
            self._add(payload[start:stop], client_ms)
            start = stop
            if limit is not None and not (closing and stop == end):
                cuts.append(self._cut(limit, now))
        self.overlong += overlong or start < end
        return cuts

    def _usable(self, payload: bytes) -> tuple[int, bool]:
        """Bytes at its start that can be used, and whether there is more than a chunk may carry."""
        max_ms = int(self._rules.max_chunk_s * 1000)
        if self._format == OPUS:
            ends = list(islice(record_ends(payload), max_ms // opus.PACKET_MS))
            good = ends[-1] if ends else 0
            overlong = len(ends) == max_ms // opus.PACKET_MS and good < len(payload)
        else:
            good = min(len(payload) & ~1, max_ms * _BYTES_PER_MS)
            overlong = len(payload) - good > 1
        if good < len(payload) and not overlong:
            self.malformed += 1
        return good, overlong

    def _add(self, payload: bytes, client_ms: int | None) -> None:
        if self._turn_id is None:
            self._turn_id = self._new_turn_id()
        self._parts.append(payload)
        self._bytes += len(payload)
        if client_ms is not None:
            self._last_client_ms = client_ms

    def _until_limit(self, payload: bytes, start: int, stop: int) -> tuple[int, CutReason | None]:
        """How far the payload may be collected: the offset, and the limit that is reached there if one is."""
        max_ms, max_bytes = self._rules.max_duration_ms or _NO_LIMIT, self._rules.max_bytes or _NO_LIMIT
        if self._format == PCM16:
            limits = (
                (max_ms * _BYTES_PER_MS, CutReason.MAX_DURATION),
                (max_bytes // 2 * 2 + 2, CutReason.MAX_LENGTH),
            )
            size, limit = min(limits, key=lambda limit: limit[0])
            end = start + size - self._bytes
            return (end, limit) if end <= stop else (stop, None)
        position = start
        while position < stop:
            position += 2 + (payload[position] | payload[position + 1] << 8)
            self._packets += 1
            if self._packets * opus.PACKET_MS >= max_ms:
                return position, CutReason.MAX_DURATION
            if self._bytes + position - start > max_bytes:
                return position, CutReason.MAX_LENGTH
        return position, None

    def _end_turn(self, reason: CutReason, now: float) -> list[Cut]:
        cuts = [self._cut(reason, now)] if self._parts else []
        self._turn_id = None
        self._final_at = None
        return cuts

    def _cut(self, reason: CutReason, now: float) -> Cut:
        assert self._turn_id is not None, "audio is never collected without a turn"
        cut = Cut(
            audio=Audio(
                base64=b2a_base64(b"".join(self._parts), newline=False).decode("ascii"),
                format=self.format,
                sample_rate=SAMPLE_RATE,
                duration_ms=self._duration_ms,
            ),
            reason=reason,
            turn_id=self._turn_id,
            padding_ms=self._rules.padding_ms(reason),
            last_audio_at=self._last_at,
            cut_at=now,
            last_client_ms=self._last_client_ms,
        )
        self._parts = []
        self._bytes = self._packets = 0
        self._last_client_ms = None
        if not reason.speech_continues:
            self._turn_id = None
        return cut
