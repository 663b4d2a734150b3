"""Sound files in memory and on disk, read and written by libsndfile.

Bytes of strangers are read here. So decoding stops at a limit of seconds, whatever a header claims, and no
more memory is taken than the limit and one block of frames.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile

from linguad.audio import riff
from linguad.audio.pcm import WIRE_RATE, EmptyError, Resampler, Samples, TooLongError, check_rate, resample
from linguad.errors import AudioError

BLOCK_VALUES = 1 << 17
"""Values (frames × channels) decoded at once, half a MiB: a header may claim a thousand channels."""

THE_AUDIO = "the audio"
"""How texts of errors call a file without a name."""

_OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
"""Sample rates that Opus files are made from, Hz."""


class Sound(NamedTuple):
    """A decoded sound file: PCM16 at 16 kHz, its duration in seconds, and the rate it had in Hz."""

    pcm16: bytes
    seconds: float
    rate: int


def read_audio_file(source: str | os.PathLike[str] | BinaryIO) -> tuple[bytes, float]:
    """PCM16 at 16 kHz of a sound file that libsndfile reads, channels mixed, and its duration in seconds.

    Raises AudioError, in one sentence for the user, if the file is missing, broken, empty or no sound file.
    """
    name = Path(source).name if isinstance(source, str | os.PathLike) else THE_AUDIO
    try:
        if isinstance(source, str | os.PathLike):
            with open(source, "rb") as file:
                return _read(file, name, math.inf)[:2]
        return _read(source, name, math.inf)[:2]
    except OSError as error:
        raise AudioError(f"{name} cannot be read: {(error.strerror or str(error)).lower()}") from error


def read_sound(data: bytes, *, max_seconds: float) -> Sound:
    """A whole sound file, channels mixed; lying sizes in a WAV header are put right first.

    Raises TooLongError as soon as more than `max_seconds` are decoded, EmptyError if there is no sound in it,
    AudioError if it is broken or no sound file.
    """
    data = riff.repaired(data)
    plain = riff.plain(data)
    # Nearly every recording is one, and libsndfile takes it through floats for milliseconds.
    return _read(io.BytesIO(data), THE_AUDIO, max_seconds) if plain is None else _of_plain(plain, max_seconds)


def wav(pcm16: bytes, rate: int) -> bytes:
    """A WAV file of PCM16 at `rate` Hz."""
    return riff.header(len(pcm16) & ~1, rate) + pcm16[: len(pcm16) & ~1]


def write_wav(path: str | os.PathLike[str], pcm16: bytes, rate: int) -> None:
    """Write PCM16 at `rate` Hz as a WAV file. Raises OSError if the file cannot be written."""
    Path(path).write_bytes(wav(pcm16, rate))


def ogg_opus(pcm16: bytes, rate: int) -> bytes:
    """An Ogg Opus file of PCM16 at `rate` Hz; of no sound, no bytes, for there is no empty Ogg Opus file.

    Raises AudioError if the rate is out of range.
    """
    opus_rate = next((possible for possible in _OPUS_RATES if possible >= rate), _OPUS_RATES[-1])
    pcm = resample(pcm16, rate, opus_rate)
    if not pcm:
        return b""
    file = io.BytesIO()
    soundfile.write(file, np.frombuffer(pcm, "<i2"), opus_rate, format="OGG", subtype="OPUS")
    return file.getvalue()


class _Forward(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A sound file that is read from its start to its end.

    The original seeks after every block, which is slow and restarts the decoder of a compressed file.
    """

    def seekable(self) -> bool:
        return False


def _of_plain(plain: riff.Plain, max_seconds: float) -> Sound:
    rate, pcm16 = plain
    check_rate(rate)
    frames = len(pcm16) // 2
    if not frames:
        raise EmptyError(f"{THE_AUDIO} holds no sound")
    if frames > max_seconds * rate:
        raise TooLongError(f"{THE_AUDIO} is longer than {max_seconds:g} s")
    return Sound(resample(pcm16, rate, WIRE_RATE) or b"\0\0", frames / rate, rate)


def _read(file: BinaryIO, name: str, max_seconds: float) -> Sound:
    try:
        with _Forward(file) as sound:
            rate = int(sound.samplerate)
            check_rate(rate)
            resampler, pieces, frames = Resampler(rate), [], 0
            for block in _mono_blocks(sound):
                frames += len(block)
                if frames > max_seconds * rate:
                    raise TooLongError(f"{name} is longer than {max_seconds:g} s")
                pieces.append(resampler.feed(block.tobytes()))
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        raise AudioError(f"{name} is not a sound file that can be read (WAV, FLAC, Ogg, MP3 …)") from error
    if not frames:
        raise EmptyError(f"{name} holds no sound")
    pieces.append(resampler.finish())
    return Sound(b"".join(pieces) or b"\0\0", frames / rate, rate)


def _mono_blocks(sound: soundfile.SoundFile) -> Iterator[Samples]:
    frames = max(1, BLOCK_VALUES // sound.channels)
    while len(block := sound.read(frames, dtype="float32", always_2d=True)):
        # Float files may hold NaN, infinities and anything beyond full scale.
        mono = np.clip(np.nan_to_num(block), -1.0, 1.0).mean(axis=1)
        yield np.clip(np.rint(mono * 32768.0), -32768, 32767).astype("<i2")
