"""Sound in and out: Plan A Opus, PCM16, sound files (session-protocol 1.7, 1.8).

Every function is synchronous and works for milliseconds per second of sound: call it in a worker thread.
"PCM16" is signed 16-bit little-endian mono without a header, two bytes per sample; an odd last byte is
ignored.
"""

from __future__ import annotations

import os
import wave
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from linguad.errors import AudioError
from linguad.wire import opus

WIRE_RATE = 16_000
"""Sample rate of all speech on the wire, Hz."""

PACKET_SAMPLES = WIRE_RATE * opus.PACKET_MS // 1000
"""Samples in one Opus packet at WIRE_RATE (320)."""

OPUS_BITS_PER_SECOND = 24_000
"""What real clients and nodes encode speech with."""

MIN_RATE, MAX_RATE = 4_000, 192_000
"""Sample rates taken from a peer or a file, Hz: below is no speech, above no sound card."""

MAX_SECONDS = 1800
"""Longest Opus audio that is decoded: three bytes may stand for 20 ms, so a message
of 16 MiB could mean 31 hours."""

BLOCK_FRAMES = 1 << 16
"""Frames of a sound file read at once, so that an hour of music does not stand in memory at its own rate."""

_OPUS_RATE = 48_000
"""Opus decoders always work at this rate, Hz."""

Samples = NDArray[np.int16]


def decode_plan_a(payload: bytes) -> bytes:
    """PCM16 at 16 kHz of a Plan A payload: exactly 640 bytes (20 ms) for each packet that decodes.

    Packets that do not decode are left out, as is everything behind a malformed record.
    Raises AudioError if nothing decodes although the payload is not empty, or if it is too long.
    """
    if opus.walk(payload).packets * opus.PACKET_MS > MAX_SECONDS * 1000:
        raise AudioError(f"the audio is longer than {MAX_SECONDS // 60} minutes")
    decoder = av.CodecContext.create("opus", "r")
    decoder.sample_rate = _OPUS_RATE
    decoder.layout = "mono"
    resampler = _Resampler(_OPUS_RATE, WIRE_RATE)
    decoded = 0
    for packet in opus.packets(payload):
        with suppress(av.FFmpegError):
            if frames := decoder.decode(av.Packet(packet)):
                resampler.feed(_one_packet(frames))
                decoded += 1
    if payload and not decoded:
        raise AudioError("the audio is not a run of Opus packets with a 2-byte length before each")
    return _exact(resampler.finish(), decoded * PACKET_SAMPLES)


def encode_plan_a(pcm16: bytes, sample_rate: int) -> bytes:
    """The Plan A payload of PCM16 at `sample_rate` Hz: packets of 20 ms at 16 kHz, the last one zero-padded.

    There are ⌈samples/320⌉ packets, counted at 16 kHz. Raises AudioError if the rate is out of range.
    """
    pcm = resample(pcm16, sample_rate, WIRE_RATE)
    count = -(-len(pcm) // (2 * PACKET_SAMPLES))
    samples = np.frombuffer(pcm.ljust(count * 2 * PACKET_SAMPLES, b"\0"), "<i2")
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate = WIRE_RATE
    encoder.layout = "mono"
    encoder.format = "s16"
    encoder.bit_rate = OPUS_BITS_PER_SECOND
    encoder.time_base = Fraction(1, WIRE_RATE)
    encoder.options = {"application": "voip", "frame_duration": str(opus.PACKET_MS)}
    packets: list[bytes] = []
    for start in range(0, len(samples), PACKET_SAMPLES):
        frame = _frame(samples[start : start + PACKET_SAMPLES], WIRE_RATE)
        frame.pts = start
        packets += map(bytes, encoder.encode(frame))
    if packets:
        packets += map(bytes, encoder.encode(None))
    # The encoder's own delay makes the flush give one packet more than there is sound.
    return opus.join(packets[:count])


def to_pcm16(data: bytes, audio_format: str, sample_rate: int) -> bytes:
    """PCM16 at 16 kHz of audio as it came over the wire; `sample_rate` (Hz) counts for PCM16 only.

    Raises AudioError if the format is not `opus` or `pcm16`, the rate is out of range or nothing decodes.
    """
    if audio_format == "opus":
        return decode_plan_a(data)
    if audio_format == "pcm16":
        return resample(data, sample_rate, WIRE_RATE)
    raise _unsupported(audio_format)


def resample(pcm: bytes, from_rate: int, to_rate: int) -> bytes:
    """PCM16 at another rate (Hz), of the same duration to within one sample.

    Raises AudioError if a rate is out of range.
    """
    _check_rate(from_rate)
    _check_rate(to_rate)
    pcm = pcm[: len(pcm) & ~1]
    if from_rate == to_rate or not pcm:
        return pcm
    samples = np.frombuffer(pcm, "<i2")
    resampler = _Resampler(from_rate, to_rate)
    resampler.feed(_frame(samples, from_rate))
    return _exact(resampler.finish(), round(len(samples) * to_rate / from_rate))


def read_audio_file(source: str | os.PathLike[str] | BinaryIO) -> tuple[bytes, float]:
    """PCM16 at 16 kHz of a sound file that libsndfile reads, channels mixed, and its duration in seconds.

    Raises AudioError, in one sentence for the user, if the file is missing, broken, empty or no sound file.
    """
    name = Path(source).name if isinstance(source, str | os.PathLike) else "the audio"
    try:
        if isinstance(source, str | os.PathLike):
            with open(source, "rb") as file:
                return _read(file, name)
        return _read(source, name)
    except OSError as error:
        raise AudioError(f"{name} cannot be read: {(error.strerror or str(error)).lower()}") from error
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        raise AudioError(f"{name} is not a sound file that can be read (WAV, FLAC, Ogg, MP3 …)") from error


def write_wav(path: str | os.PathLike[str], pcm16: bytes, rate: int) -> None:
    """Write PCM16 at `rate` Hz as a WAV file. Raises OSError if the file cannot be written."""
    with wave.open(os.fspath(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm16[: len(pcm16) & ~1])


def duration_ms(data: bytes, audio_format: str, rate: int) -> float:
    """Duration in ms of audio as it came over the wire: 20 for each Opus packet, samples ÷ rate for PCM16.

    Raises AudioError if the format is not `opus` or `pcm16`, or the rate is out of range.
    """
    if audio_format == "opus":
        return float(opus.walk(data).packets * opus.PACKET_MS)
    if audio_format == "pcm16":
        _check_rate(rate)
        return len(data) // 2 * 1000 / rate
    raise _unsupported(audio_format)


class _Resampler:
    """One run of sound through libswresample: mono PCM16 out."""

    def __init__(self, from_rate: int, to_rate: int) -> None:
        self._pass = from_rate == to_rate
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=to_rate)
        self._out: list[bytes] = []

    def feed(self, frame: av.AudioFrame) -> None:
        frame.pts = None
        self._take(self._resampler.resample(frame))

    def finish(self) -> bytes:
        if self._out or not self._pass:
            self._take(self._resampler.resample(None))
        return b"".join(self._out)

    def _take(self, frames: list[av.AudioFrame]) -> None:
        self._out += (frame.to_ndarray().astype("<i2", copy=False).tobytes() for frame in frames)


def _read(file: BinaryIO, name: str) -> tuple[bytes, float]:
    with soundfile.SoundFile(file) as sound:
        rate, frames = sound.samplerate, 0
        _check_rate(rate)
        resampler = _Resampler(rate, WIRE_RATE)
        for block in _mono_blocks(sound):
            frames += len(block)
            resampler.feed(_frame(block, rate))
    if not frames:
        raise AudioError(f"{name} holds no sound")
    pcm = _exact(resampler.finish(), max(1, round(frames * WIRE_RATE / rate)))
    return pcm, frames / rate


def _mono_blocks(sound: soundfile.SoundFile) -> Iterator[Samples]:
    while len(block := sound.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
        # Float files may hold NaN, infinities and anything beyond full scale.
        mono = np.clip(np.nan_to_num(block), -1.0, 1.0).mean(axis=1)
        yield np.clip(np.rint(mono * 32768.0), -32768, 32767).astype(np.int16)


def _one_packet(frames: list[av.AudioFrame]) -> av.AudioFrame:
    """The first 20 ms of what one packet gave: foreign encoders pack more, time counts by packets."""
    samples = _OPUS_RATE * opus.PACKET_MS // 1000
    if len(frames) == 1 and frames[0].samples == samples:
        return frames[0]
    sound = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)[:, :samples]
    sound = np.pad(sound, ((0, 0), (0, samples - sound.shape[1])))
    whole = av.AudioFrame.from_ndarray(sound, format=frames[0].format.name, layout=frames[0].layout.name)
    whole.sample_rate = _OPUS_RATE
    return whole


def _frame(samples: Samples, rate: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
    frame.sample_rate = rate
    return frame


def _exact(pcm: bytes, samples: int) -> bytes:
    """`pcm` cut or zero-padded to `samples`: filters give a few samples more or less than the sum says."""
    return pcm[: 2 * samples].ljust(2 * samples, b"\0")


def _check_rate(rate: int) -> None:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(f"a sample rate of {rate} Hz is not supported ({MIN_RATE} to {MAX_RATE} Hz)")


def _unsupported(audio_format: str) -> AudioError:
    return AudioError(f"Unsupported audio format: {audio_format[:32]}")
