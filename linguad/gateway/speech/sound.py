"""Speech of customers made fit for the core, and speech of nodes made fit for customers (gateway 5.1).

What comes in is a whole utterance; what goes out is in the format that was asked for. Whatever takes long is
done in worker threads, a few at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import partial

import trio
from msgspec import Struct

from linguad import audio
from linguad.errors import AudioError
from linguad.octets import from_base64
from linguad.web.problems import Problem
from linguad.wire import opus

MIN_RATE, MAX_RATE = 8_000, 48_000
"""Sample rates that may be named, Hz (gateway 5.1)."""

DEFAULT_RATE = 16_000
"""Of PCM16 whose rate is not named, Hz."""

MAX_SPEECH_SECONDS = 600
"""Longest speech of nodes that is converted, 19 MB as PCM16: two minutes of audio, spoken slowly."""

THREADS = 2
"""Conversions at once. More are slower, for each holds the interpreter most of its time; two, so that one
long file does not keep every other request waiting."""

SMALL_BYTES = 256 * 1024
"""Audio up to this, 8 s of PCM16, is not given to a thread if it is only copied: that takes less than half a
millisecond, and the way to a thread and back, which needs the interpreter twice, longer on a busy machine."""

WRONG_RATE = f"must be a whole number from {MIN_RATE} to {MAX_RATE} (Hz)"
"""Why a sample rate is refused."""

WRONG_FORMAT = "use pcm16, wav or opus (Ogg or framed packets)"
"""Why a format is refused."""

_FOREIGN = {
    "FLAC": b"fLaC",
    "MP3": b"ID3",
    "WebM": b"\x1a\x45\xdf\xa3",
    "AIFF": b"FORM",
    "CAF": b"caff",
    "W64": b"riff",
    "AU": b".snd",
    "AMR": b"#!AMR",
}
"""Sound files that are told by their first bytes but not taken; as samples they would be noise."""


class AudioFormat(StrEnum):
    """Formats of audio that customers send (gateway 5.1)."""

    PCM16 = "pcm16"
    WAV = "wav"
    OPUS = "opus"


class OutputFormat(StrEnum):
    """Formats of speech that customers get ("Speech everybody can play")."""

    WAV = "wav"
    PCM16 = "pcm16"
    OGG_OPUS = "ogg_opus"
    PACKETS = "packets"
    """As the node made it: Plan A Opus, with rare exceptions."""


class Clip(Struct, frozen=True):
    """An utterance as the core takes it: PCM16 at 16 kHz, or Plan A Opus."""

    data: bytes
    audio_format: str
    """`pcm16` or `opus`."""
    duration_ms: int


class Speech(Struct, frozen=True):
    """Speech as a customer gets it."""

    data: bytes
    format: str
    """`wav`, `pcm16`, `ogg_opus`, or for packets the name the node gave, in practice `opus`."""
    sample_rate: int
    """Hz."""


class Sounds:
    """Does the work of this module, what takes long in worker threads, `THREADS` at a time in all."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(THREADS)

    async def clip(
        self, data: bytes, audio_format: str | None, sample_rate: int | None, *, max_seconds: float
    ) -> Clip:
        """As `clip_of`."""
        work = partial(clip_of, data, audio_format, sample_rate, max_seconds=max_seconds)
        if _is_clip_quick(data, audio_format, sample_rate):
            return work()
        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    async def speech(self, parts: Sequence[tuple[str, str]], output_format: str) -> Speech:
        """As `joined_speech`."""
        if _is_speech_quick(parts, output_format):
            return joined_speech(parts, output_format)
        return await trio.to_thread.run_sync(joined_speech, parts, output_format, limiter=self._limiter)


def _is_clip_quick(data: bytes, audio_format: str | None, sample_rate: int | None) -> bool:
    """Whether the bytes of a clip become its sound as they are."""
    if len(data) > SMALL_BYTES or data.startswith(b"OggS"):
        return False
    if audio.is_wav(data):
        plain = audio.plain_wav(data)
        return plain is not None and plain.rate == audio.WIRE_RATE
    return audio_format == AudioFormat.OPUS or (sample_rate or DEFAULT_RATE) == audio.WIRE_RATE


def _is_speech_quick(parts: Sequence[tuple[str, str]], output_format: str) -> bool:
    """Whether speech goes out as it came, at most with a header before it."""
    formats = {name for text, name in parts if text}
    if sum(len(text) for text, _ in parts) > SMALL_BYTES:
        return False
    if output_format == OutputFormat.PACKETS:
        return len(formats) < 2
    return formats <= {AudioFormat.PCM16} and output_format != OutputFormat.OGG_OPUS


def clip_of(data: bytes, audio_format: str | None, sample_rate: int | None, *, max_seconds: float) -> Clip:
    """The utterance in uploaded bytes; format and rate are None where the customer left them to us.

    A WAV file is told by its first bytes, whatever the default says, and so is an Ogg file. Raises Problem:
    400 `missing_audio`, 413 `audio_too_long`, 415 `unsupported_audio_format`, 422 `invalid_sample_rate`,
    422 `invalid_audio`, and 422 `invalid_field` where a field contradicts the bytes.
    """
    if audio_format is not None and audio_format not in set(AudioFormat):
        raise unsupported_format(audio_format)
    if sample_rate is not None and not MIN_RATE <= sample_rate <= MAX_RATE:
        raise Problem.wrong_field("sample_rate", WRONG_RATE, "invalid_sample_rate")
    if not data:
        raise _missing()
    if audio.is_wav(data):
        return _of_wav(data, audio_format, sample_rate, max_seconds)
    if audio_format == AudioFormat.WAV:
        raise Problem.wrong_field("audio_format", "the audio is no WAV file; leave it out or name what it is")
    if data.startswith(b"OggS") and audio_format in (None, AudioFormat.OPUS):
        return _of_file(data, max_seconds)[0]
    if audio_format == AudioFormat.OPUS:
        return _of_packets(data, max_seconds)
    if audio_format is None and (name := _foreign(data)):
        raise unsupported_format(name)
    return _of_samples(data, sample_rate or DEFAULT_RATE, max_seconds)


def speech_of(tts_audio: str, tts_format: str, output_format: str) -> Speech:
    """Speech of one result (base64, in the node's format) as `output_format`; no speech is no bytes.

    Raises AudioError if it is not base64, does not decode or is longer than MAX_SPEECH_SECONDS. Then the text
    should go out without it.
    """
    return joined_speech([(tts_audio, tts_format)], output_format)


def joined_speech(parts: Sequence[tuple[str, str]], output_format: str) -> Speech:
    """Speech of several results in their order, each base64 and its format, as one; raises as `speech_of`.

    `packets` of one format are put one behind the other; of several formats they become PCM16.
    """
    wanted = OutputFormat(output_format)
    heard = [(_bytes_of(text), name) for text, name in parts if text]
    names = {name for _, name in heard} or {"opus"}
    if wanted is OutputFormat.PACKETS and len(names) == 1:
        return Speech(b"".join(data for data, _ in heard), names.pop(), audio.WIRE_RATE)
    seconds = sum(audio.duration_ms(data, name, audio.WIRE_RATE) for data, name in heard) / 1000
    if seconds > MAX_SPEECH_SECONDS:
        raise AudioError(f"the speech is longer than {MAX_SPEECH_SECONDS} s")
    pcm16 = b"".join(audio.to_pcm16(data, name, audio.WIRE_RATE) for data, name in heard)
    if wanted is OutputFormat.PACKETS:
        wanted = OutputFormat.PCM16
    if pcm16 and wanted is OutputFormat.WAV:
        return Speech(audio.wav(pcm16, audio.WIRE_RATE), wanted.value, audio.WIRE_RATE)
    if wanted is OutputFormat.OGG_OPUS:
        return Speech(audio.ogg_opus(pcm16, audio.WIRE_RATE), wanted.value, audio.WIRE_RATE)
    return Speech(pcm16, wanted.value, audio.WIRE_RATE)


def unsupported_format(name: str) -> Problem:
    """415: audio in a format that is not taken."""
    reason = f"{name[:32]} is not supported; {WRONG_FORMAT}"
    return Problem.wrong_field("audio_format", reason, "unsupported_audio_format", 415)


def _of_wav(data: bytes, audio_format: str | None, sample_rate: int | None, max_seconds: float) -> Clip:
    if audio_format not in (None, AudioFormat.WAV):
        raise Problem.wrong_field("audio_format", "the audio is a WAV file; say wav or leave it out")
    clip, rate = _of_file(data, max_seconds)
    if sample_rate not in (None, rate):
        raise Problem.wrong_field("sample_rate", f"the WAV file says {rate} Hz; say so or leave it out")
    return clip


def _of_file(data: bytes, max_seconds: float) -> tuple[Clip, int]:
    """The sound of a file, and its sample rate in Hz."""
    try:
        sound = audio.read_sound(data, max_seconds=max_seconds)
    except audio.TooLongError:
        raise _too_long(max_seconds) from None
    except audio.EmptyError:
        raise _missing() from None
    except AudioError as error:
        raise Problem.wrong_field("audio", str(error), "invalid_audio") from None
    return Clip(sound.pcm16, AudioFormat.PCM16.value, round(sound.seconds * 1000)), sound.rate


def _of_packets(data: bytes, max_seconds: float) -> Clip:
    if not opus.looks_like_plan_a(data):
        reason = "is neither an Ogg file nor a run of Opus packets with a 2-byte length before each"
        raise Problem.wrong_field("audio", reason, "invalid_audio")
    duration_ms = opus.walk(data).packets * opus.PACKET_MS
    if duration_ms > max_seconds * 1000:
        raise _too_long(max_seconds)
    return Clip(data, AudioFormat.OPUS.value, duration_ms)


def _of_samples(data: bytes, rate: int, max_seconds: float) -> Clip:
    seconds = len(data) // 2 / rate
    if not seconds:
        raise _missing()
    if seconds > max_seconds:
        raise _too_long(max_seconds)
    # Of a single sample at a higher rate none may be left.
    pcm16 = audio.resample(data, rate, audio.WIRE_RATE) or b"\0\0"
    return Clip(pcm16, AudioFormat.PCM16.value, round(seconds * 1000))


def _foreign(data: bytes) -> str | None:
    """What kind of file that is not taken this is; None if it may be samples."""
    if data[4:8] == b"ftyp":
        return "MP4"
    return next((name for name, magic in _FOREIGN.items() if data.startswith(magic)), None)


def _bytes_of(text: str) -> bytes:
    try:
        return from_base64(text)
    except ValueError as error:
        raise AudioError("the speech is not base64") from error


def _missing() -> Problem:
    message = "audio: send one file or part named audio that holds sound."
    return Problem(
        400, "missing_audio", message, details=[{"field": "audio", "reason": "is missing or empty"}]
    )


def _too_long(max_seconds: float) -> Problem:
    reason = f"may last {max_seconds:g} s at most; send it in several requests"
    return Problem.wrong_field("audio", reason, "audio_too_long", 413)
