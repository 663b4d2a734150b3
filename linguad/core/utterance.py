"""Audio chunks in, cut utterances out (session-protocol 3.4 and 3.5, resolutions 9 and 12).

Rules:
- Audio is collected until a final, a pause, the duration or length limit or the end of the session cuts it.
- An empty final waits a short grace for the tail chunk that real web clients send just after it.
- A gap longer than the pause ends the old utterance before the chunk that follows it.
- The limits cut inside a chunk, at the first record (PCM: sample) that reaches them; the rest goes on.
- All slices up to and including the next final or pause are one turn and share its id.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable
from enum import Enum

from msgspec import Struct

from linguad.wire import opus

OPUS, PCM16 = "opus", "pcm16"
SAMPLE_RATE = 16000
"""Hz; the only rate of streamed audio."""

_BYTES_PER_MS = SAMPLE_RATE * 2 // 1000


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


class UtteranceCutter:
    """Mutable state: the audio of the running utterance, its turn, and when silence or the grace ends."""

    def __init__(self, rules: CutRules, new_turn_id: Callable[[], str]) -> None:
        self._rules = rules
        self._new_turn_id = new_turn_id
        self._format = ""
        self._parts: list[bytes] = []
        self._bytes = 0
        self._ms = 0
        self._last_at = 0.0
        self._last_client_ms: int | None = None
        self._turn_id: str | None = None
        self._final_at: float | None = None
        self._final_seq = 0
        self.malformed = 0
        """Chunks whose tail was not whole records and was dropped."""

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
        if self._parts and self._final_at is None and self._paused(now):
            cuts.append(self._cut(CutReason.TIMEOUT, now))
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

    def _paused(self, now: float) -> bool:
        return 0 < self._rules.pause_s < now - self._last_at

    def _append(self, payload: bytes, closing: bool, client_ms: int | None, now: float) -> list[Cut]:
        if not self._format:
            self._format = OPUS if opus.looks_like_plan_a(payload) else PCM16
        good = opus.walk(payload).good_bytes if self._format == OPUS else len(payload) & ~1
        if good < len(payload):
            self.malformed += 1
            payload = payload[:good]
        if not payload:
            return []
        self._last_at = now
        if client_ms is not None:
            self._last_client_ms = client_ms
        cuts = []
        while (split := self._limit_within(payload)) is not None:
            at, reason = split
            if closing and at == len(payload):
                break
            self._add(payload[:at])
            cuts.append(self._cut(reason, now))
            payload = payload[at:]
        if payload:
            self._add(payload)
        return cuts

    def _add(self, payload: bytes) -> None:
        if self._turn_id is None:
            self._turn_id = self._new_turn_id()
        self._parts.append(payload)
        self._bytes += len(payload)
        self._ms += self._duration_ms(payload)

    def _duration_ms(self, payload: bytes) -> int:
        if self._format == OPUS:
            return opus.walk(payload).packets * opus.PACKET_MS
        return len(payload) // _BYTES_PER_MS

    def _limit_within(self, payload: bytes) -> tuple[int, CutReason] | None:
        """Where in the payload a limit is reached, as a byte offset on a record border, or None."""
        rules = self._rules
        limits = []
        if rules.max_duration_ms > 0:
            missing_ms = rules.max_duration_ms - self._ms
            if self._format == OPUS:
                packets = max(1, -(-missing_ms // opus.PACKET_MS))
                if packets <= opus.walk(payload).packets:
                    limits.append((opus.offset_of(payload, packets), CutReason.MAX_DURATION))
            elif (at := max(2, missing_ms * _BYTES_PER_MS)) <= len(payload):
                limits.append((at, CutReason.MAX_DURATION))
        if 0 < rules.max_bytes < self._bytes + len(payload):
            limits.append(
                (self._first_border_past(payload, rules.max_bytes - self._bytes), CutReason.MAX_LENGTH)
            )
        return min(limits, key=lambda limit: limit[0]) if limits else None

    def _first_border_past(self, payload: bytes, room: int) -> int:
        if self._format != OPUS:
            return max(2, (room + 2) & ~1)
        position = 0
        while position <= room and position < len(payload):
            position += 2 + (payload[position] | payload[position + 1] << 8)
        return position

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
                duration_ms=self._ms,
            ),
            reason=reason,
            turn_id=self._turn_id,
            padding_ms=self._rules.padding_ms(reason),
            last_audio_at=self._last_at,
            cut_at=now,
            last_client_ms=self._last_client_ms,
        )
        self._parts = []
        self._bytes = self._ms = 0
        self._last_client_ms = None
        if not reason.speech_continues:
            self._turn_id = None
        return cut
