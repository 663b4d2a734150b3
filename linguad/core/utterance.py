"""Audio chunks in, cut utterances out (session-protocol 3.4 to 3.8, resolutions 9 and 11 to 13).

Rules:
- Audio is collected until a final, a pause, the duration or length limit or the end of the session cuts it.
- An empty final waits a short grace for the tail chunk that real web clients send just after it.
- A gap longer than the pause ends the old utterance before the chunk that follows it.
- The limits cut after the first record (PCM: sample) that reaches them, when the next one comes: a slice that
  nothing follows is the last of its turn and says so, or its node would keep it back for ever.
- All slices up to and including the next final or pause are one turn and share its id.
- What is too short to be an utterance is held and precedes the next one. Held silence is dropped when nothing
  follows; anything else goes alone soon after its final. The last slice of a longer turn is never too short.
- Finals and pauses make only so many utterances at once and per second; beyond that the audio waits, and what
  comes meanwhile is added to it.
- A chunk may carry only so much audio and complete only so many cuts; the rest of it is dropped and counted.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable
from enum import Enum

from msgspec import Struct

from linguad.core import sound
from linguad.core.bucket import Bucket
from linguad.core.held import Held, Piece
from linguad.wire import opus

_NO_LIMIT = 2**62

MAX_CUTS_OF_CHUNK = 64
"""Most cuts one chunk completes, so that what is told about them fits into the outbox of the client."""


class CutReason(Enum):
    """Why an utterance ended."""

    MANUAL = "manual"
    TIMEOUT = "timeout"
    MAX_DURATION = "max_duration"
    MAX_LENGTH = "max_length"
    CLOSE = "close"

    def __init__(self, word: str) -> None:
        self.speech_continues = word in ("max_duration", "max_length")
        """Whether the cut fell into running speech; counted as max-duration on the wire (resolution 9)."""


class CutRules(Struct, frozen=True, kw_only=True):
    """When to cut; seconds, milliseconds, bytes; 0 switches a limit off."""

    pause_s: float = 3.0
    max_duration_ms: int = 10_000
    max_bytes: int = 512_000
    max_chunk_s: float = 600.0
    final_grace_s: float = 0.04
    padding_manual_ms: int = 280
    padding_auto_ms: int = 220
    short_ms: int = 400
    """Shorter utterances are held."""
    held_ms: int = 2000
    short_release_s: float = 0.3
    silence_packet_bytes: float = 12
    silence_rms: float = 0.003
    """Of PCM; full scale is 1."""
    burst_cuts: int = 30
    cuts_per_second: float = 4.0

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
    held_ms: int = 0
    """How much of it was held before, because it was too short to be an utterance."""


class Ending(Struct, frozen=True):
    """A cut that is decided and not made yet."""

    reason: CutReason
    decided_at: float
    due: float
    tail_of: int | None
    """The number of the final whose tail may come; None if audio that comes calls the cut off."""


class UtteranceCutter:
    """Mutable state: the audio of the running utterance, its turn, what is held, and what ends it when."""

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
        self._sliced = False
        self._ending: Ending | None = None
        self._ended_nothing: Ending | None = None
        """A final without audio: its tail may come too, and is no beginning of what follows."""
        self._held = Held()
        self._bucket = Bucket(rules.burst_cuts, rules.cuts_per_second)
        self._waits = False
        self._joined_ms = 0
        self.taken_bytes = 0
        """Bytes of audio that could be used, all in all."""
        self.malformed = 0
        """Chunks whose tail was not whole records and was dropped."""
        self.overlong = 0
        """Chunks with more audio, or more cuts, than one may have; the rest was dropped."""
        self.empty_finals = 0
        """Finals that ended nothing, because their utterance had been ended before."""
        self.silence_ms = 0
        """Silence that was dropped."""

    @property
    def format(self) -> str:
        """`opus` or `pcm16`, told by the first payload of the session; `opus` before it."""
        return self._format or sound.OPUS

    @property
    def buffered_bytes(self) -> int:
        """Bytes of audio that are not cut yet."""
        return self._held.bytes + self._bytes

    @property
    def collects(self) -> bool:
        """Whether the running utterance has begun."""
        return bool(self._parts)

    @property
    def turn_id(self) -> str | None:
        """The turn that is being spoken."""
        return self._turn_id

    def usable(self, payload: bytes) -> bytes:
        """The part of a payload that is whole records, and not too long."""
        self._format = self._format or sound.format_of(payload)
        return payload[: sound.usable(self._format, payload, int(self._rules.max_chunk_s * 1000)).size]

    def again(self, data: bytes, reason: CutReason, turn_id: str, now: float) -> Cut:
        """Usable audio that was cut in this way before; what is running is left as it is."""
        packets = sound.usable(self.format, data, _NO_LIMIT).packets
        return Cut(
            audio=self._audio([data], sound.milliseconds(self.format, packets, len(data))),
            reason=reason,
            turn_id=turn_id,
            padding_ms=self._rules.padding_ms(reason),
            last_audio_at=now,
            cut_at=now,
            last_client_ms=None,
        )

    def takes(self, audio_format: str) -> bool:
        """Whether its audio is of this format; if there was none yet, it is from now on."""
        self._format = self._format or audio_format
        return self._format == audio_format

    def pause(self) -> None:
        """The connection is lost, so that silence means nothing; only a decided cut is still made."""
        self._waits = True

    def proceed(self, now: float) -> None:
        """The client is back: its pause begins now."""
        self._waits, self._last_at = False, now

    def chunk(self, payload: bytes, *, seq: int, final: bool, client_ms: int | None, now: float) -> list[Cut]:
        """Take a chunk (Plan A, or PCM16 at 16 kHz mono; may be empty) and return what it completed."""
        cuts = self._overdue(now)
        ending = self._ending or self._ended_nothing
        is_tail = bool(payload) and ending is not None and seq - 1 == ending.tail_of and now <= ending.due
        if payload and self._ending is not None and self._ending.tail_of is not None and not is_tail:
            cuts += self._end_turn(CutReason.MANUAL, now, at=now, decided_at=self._ending.decided_at)
        if payload:
            self._ended_nothing = None
            cuts += self._append(payload, client_ms, now)
        if is_tail and ending is not None:
            cuts += self._end_turn(CutReason.MANUAL, now, at=now, decided_at=ending.decided_at)
        if final and (payload or self._rules.final_grace_s == 0):
            cuts += self._end_turn(CutReason.MANUAL, now, at=now, decided_at=now)
        elif final and self._ending is None:
            ending = Ending(CutReason.MANUAL, now, now + self._rules.final_grace_s, seq)
            if self._parts:
                self._ending = ending
            else:
                self._ended_nothing = ending
                self.empty_finals += 1
        elif final:
            self.empty_finals += 1
        return cuts

    def due(self) -> float | None:
        """When `tick` has something to do, monotonic s; None while no audio waits."""
        if self._ending is not None:
            return self._ending.due
        if self._waits:
            return None
        due = None
        if self.buffered_bytes and self._rules.pause_s > 0:
            due = self._last_at + self._rules.pause_s
        release_at = self._held.release_at
        if release_at is not None and self._is_short and (due is None or release_at < due):
            return release_at
        return due

    def tick(self, now: float) -> list[Cut]:
        """Cut what passed deadlines completed."""
        cuts = self._overdue(now)
        if self.due() == now:
            cuts += self._meet_deadline(now, now)
        return cuts

    def playback(self, now: float) -> list[Cut]:
        """The client plays speech with its microphone mute, so it has said all it had to say (3.8)."""
        cuts = self.tick(now)
        if self._parts and self._ending is None:
            cuts += self._end_turn(CutReason.TIMEOUT, now, at=now, decided_at=now)
        return cuts

    def part(self, now: float) -> list[Cut]:
        """What comes next is in another language: what is held goes without it."""
        cuts = self._overdue(now)
        if self._turn_id is None and self._held.release_at is not None:
            cuts += self._release(now, now)
        return cuts

    def end_slices(self, now: float) -> list[Cut]:
        """What comes next is for others: slices that are out get the last one of their turn."""
        cuts = self._overdue(now)
        if self._sliced and self._parts:
            self._ending = None
            cuts.append(self._cut(CutReason.CLOSE, now))
        return cuts

    def close(self, now: float) -> list[Cut]:
        """Cut what is left when the session ends or its socket is lost."""
        cuts = self._overdue(now)
        if self._ending is not None:
            reason = self._ending.reason
        else:
            reason = CutReason.CLOSE if self._parts or self._held.silent else CutReason.MANUAL
        self._ending = None
        if self._is_short and self._is_silent:
            self._drop_silence()
        return [*cuts, self._cut(reason, now)] if self.buffered_bytes else cuts

    def discard(self) -> int:
        """Drop what is left, whatever it is; returns its ms."""
        dropped_ms = self._held.duration_ms + self._duration_ms
        self._ending = None
        self._held.take()
        self._clear()
        return dropped_ms

    @property
    def _duration_ms(self) -> int:
        return sound.milliseconds(self.format, self._packets, self._bytes)

    @property
    def _is_short(self) -> bool:
        """Whether the running utterance has to be held if it ends now."""
        return not self._sliced and self._duration_ms < self._rules.short_ms

    @property
    def _is_silent(self) -> bool:
        """Whether nothing is heard in all that is not cut yet."""
        return self._held.silent and self._runs_silently(b"".join(self._parts))

    def _runs_silently(self, data: bytes) -> bool:
        if self._format == sound.OPUS:
            return sound.mean_packet_bytes(data, self._packets) <= self._rules.silence_packet_bytes
        return sound.rms(data) <= self._rules.silence_rms

    def _overdue(self, now: float) -> list[Cut]:
        """Cut what deadlines completed that passed before now, each as if it had been met in time."""
        cuts: list[Cut] = []
        while (due := self.due()) is not None and due < now:
            cuts += self._meet_deadline(due, now)
        return cuts

    def _meet_deadline(self, due: float, now: float) -> list[Cut]:
        ending = self._ending
        if ending is not None:
            return self._end_turn(ending.reason, now, at=due, decided_at=ending.decided_at)
        if self._held.release_at == due:
            return self._release(now, due)
        return self._end_turn(CutReason.TIMEOUT, now, at=due, decided_at=due)

    def _append(self, payload: bytes, client_ms: int | None, now: float) -> list[Cut]:
        if not self._format:
            self._format = sound.format_of(payload)
        usable = sound.usable(self._format, payload, int(self._rules.max_chunk_s * 1000))
        end, _, overlong = usable
        self.taken_bytes += end
        if end < len(payload) and not overlong:
            self.malformed += 1
        if not end:
            return []
        if self._ending is not None and self._ending.tail_of is None:
            self._ending = None
        cuts: list[Cut] = []
        if not overlong and self._stays_below_limits(usable):
            self._packets += usable.packets
            self._add(payload[:end], client_ms, now)
            return cuts
        start, limit = self._until_limit(payload, 0, end)
        self._add(payload[:start], client_ms, now)
        while limit is not None and len(cuts) < MAX_CUTS_OF_CHUNK:
            cuts.append(self._cut(limit, now))
            stop, limit = self._until_limit(payload, start, end)
            self._add(payload[start:stop], client_ms, now)
            start = stop
        self.overlong += overlong or start < end
        return cuts

    def _add(self, payload: bytes, client_ms: int | None, now: float) -> None:
        if not payload:
            return
        if self._turn_id is None:
            self._turn_id = self._new_turn_id()
        self._parts.append(payload)
        self._bytes += len(payload)
        self._last_at = now
        if client_ms is not None:
            self._last_client_ms = client_ms

    def _stays_below_limits(self, usable: sound.Usable) -> bool:
        """Whether no limit is reached with this, as for nearly every chunk."""
        size = self.buffered_bytes + usable.size
        packets = self._held.packets + self._packets + usable.packets
        max_ms, max_bytes = self._rules.max_duration_ms or _NO_LIMIT, self._rules.max_bytes or _NO_LIMIT
        return size <= max_bytes and sound.milliseconds(self._format, packets, size) < max_ms

    def _until_limit(self, payload: bytes, start: int, stop: int) -> tuple[int, CutReason | None]:
        """How far the payload may be collected: the offset, and the limit that is reached if more follows."""
        max_ms, max_bytes = self._rules.max_duration_ms or _NO_LIMIT, self._rules.max_bytes or _NO_LIMIT
        if self._format == sound.PCM16:
            limits = (
                (max_ms * sound.BYTES_PER_MS, CutReason.MAX_DURATION),
                (max_bytes // 2 * 2 + 2, CutReason.MAX_LENGTH),
            )
            size, limit = min(limits, key=lambda limit: limit[0])
            end = start + size - self.buffered_bytes
            return (end, limit) if end < stop else (stop, None)
        position, packets, size = start, self._held.packets + self._packets, self.buffered_bytes - start
        reached = None
        while position < stop:
            if packets * opus.PACKET_MS >= max_ms:
                reached = CutReason.MAX_DURATION
                break
            if size + position > max_bytes:
                reached = CutReason.MAX_LENGTH
                break
            position += 2 + (payload[position] | payload[position + 1] << 8)
            packets += 1
        self._packets = packets - self._held.packets
        return position, reached

    def _end_turn(self, reason: CutReason, now: float, *, at: float, decided_at: float) -> list[Cut]:
        """A final or a pause ends the turn; `at` is when that was due, `decided_at` when the final came."""
        self._ending = None
        manual = reason is CutReason.MANUAL
        if manual and not self._parts:
            return []
        if self._is_short and manual:
            self._hold(decided_at)
        elif self._is_short and self._is_silent:
            self._drop_silence()
        if not self._parts and (manual or not self.buffered_bytes):
            return []
        if not self._bucket.take(at):
            self._join_held()
            self._ending = Ending(reason, decided_at, self._bucket.ready_at(at), None)
            return []
        return [self._cut(reason, now)]

    def _hold(self, final_at: float) -> None:
        """Hold the running utterance; if that is too much, all that is held becomes the running utterance."""
        assert self._turn_id is not None, "audio is never collected without a turn"
        data = b"".join(self._parts)
        piece = Piece(
            data=data,
            turn_id=self._turn_id,
            duration_ms=self._duration_ms,
            packets=self._packets,
            silent=self._runs_silently(data),
            last_audio_at=self._last_at,
            last_client_ms=self._last_client_ms,
        )
        self._held.add(piece, final_at + self._rules.short_release_s)
        self._clear()
        self.silence_ms += self._held.trim(self._rules.held_ms)
        if self._held.exceeds(self._rules.held_ms):
            self._join_held()

    def _release(self, now: float, at: float) -> list[Cut]:
        """Let what is held go, although the running utterance is still short."""
        held = self._held
        if not self._bucket.take(at):
            held.release_at = self._bucket.ready_at(at)
            return []
        last, duration_ms = held.last, sound.milliseconds(self.format, held.packets, held.bytes)
        return [
            Cut(
                audio=self._audio(held.take(), duration_ms),
                reason=CutReason.MANUAL,
                turn_id=last.turn_id,
                padding_ms=self._rules.padding_ms(CutReason.MANUAL),
                last_audio_at=last.last_audio_at,
                cut_at=now,
                last_client_ms=last.last_client_ms,
                held_ms=duration_ms,
            )
        ]

    def _join_held(self) -> None:
        """Put what is held before the running utterance."""
        if not self._held.bytes:
            return
        if self._turn_id is None:
            self._turn_id = self._new_turn_id()
        self._joined_ms += self._held.duration_ms
        self._bytes, self._packets = self.buffered_bytes, self._held.packets + self._packets
        if self._last_client_ms is None:
            self._last_client_ms = self._held.last.last_client_ms
        self._parts[:0] = self._held.take()

    def _drop_silence(self) -> None:
        self.silence_ms += self._held.duration_ms + self._duration_ms
        self._held.take()
        self._clear()

    def _clear(self, *, turn_goes_on: bool = False) -> None:
        self._parts = []
        self._bytes = self._packets = self._joined_ms = 0
        self._last_client_ms = None
        self._sliced = turn_goes_on
        if not turn_goes_on:
            self._turn_id = None

    def _cut(self, reason: CutReason, now: float) -> Cut:
        """Cut all that there is."""
        self._join_held()
        assert self._turn_id is not None, "audio is never collected without a turn"
        cut = Cut(
            audio=self._audio(self._parts, self._duration_ms),
            reason=reason,
            turn_id=self._turn_id,
            padding_ms=self._rules.padding_ms(reason),
            last_audio_at=self._last_at,
            cut_at=now,
            last_client_ms=self._last_client_ms,
            held_ms=self._joined_ms,
        )
        self._clear(turn_goes_on=reason.speech_continues)
        return cut

    def _audio(self, parts: list[bytes], duration_ms: int) -> Audio:
        return Audio(
            base64=b2a_base64(b"".join(parts), newline=False).decode("ascii"),
            format=self.format,
            sample_rate=sound.SAMPLE_RATE,
            duration_ms=duration_ms,
        )
