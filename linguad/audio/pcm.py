"""PCM16 at any rate: signed 16-bit little-endian mono without a header, two bytes per sample.

An odd last byte is ignored.
"""

from __future__ import annotations

import av
import numpy as np
from numpy.typing import NDArray

from linguad.errors import AudioError
from linguad.wire import opus

WIRE_RATE = 16_000
"""Sample rate of all speech on the wire, Hz."""

PACKET_SAMPLES = WIRE_RATE * opus.PACKET_MS // 1000
"""Samples in one Opus packet at WIRE_RATE (320)."""

MIN_RATE, MAX_RATE = 4_000, 192_000
"""Sample rates taken from a peer or a file, Hz: below is no speech, above no sound card."""

Samples = NDArray[np.int16]


class TooLongError(AudioError):
    """The audio lasts longer than is allowed; decoding stopped there."""


class EmptyError(AudioError):
    """The audio is well-formed and holds no sound."""


class Resampler:
    """One run of PCM16, fed in pieces, at `to_rate` Hz.

    However the run is cut, the same comes out of it: the filter and an odd byte are kept between the pieces.
    Together it lasts as long as what was fed, to within one sample. Raises AudioError if a rate is out of
    range. Mutable: the state of the filter.
    """

    def __init__(self, from_rate: int, to_rate: int = WIRE_RATE) -> None:
        check_rate(from_rate)
        check_rate(to_rate)
        self._from, self._to = from_rate, to_rate
        self._run = None if from_rate == to_rate else Run(to_rate)
        self._odd = b""
        self._fed = self._given = 0

    def feed(self, pcm16: bytes) -> bytes:
        """What can be told so far; the filter keeps some milliseconds back."""
        data = self._odd + pcm16
        whole = len(data) & ~1
        data, self._odd = data[:whole], data[whole:]
        if self._run is None or not data:
            return data
        self._fed += whole // 2
        given = self._run.feed(frame_of(np.frombuffer(data, "<i2"), self._from))
        self._given += len(given) // 2
        return given

    def finish(self) -> bytes:
        """The rest. Nothing may be fed afterwards."""
        if self._run is None or not self._fed:
            return b""
        return exact(self._run.finish(), max(0, round(self._fed * self._to / self._from) - self._given))


def resample(pcm: bytes, from_rate: int, to_rate: int) -> bytes:
    """PCM16 at another rate (Hz), of the same duration to within one sample.

    Raises AudioError if a rate is out of range.
    """
    resampler = Resampler(from_rate, to_rate)
    return resampler.feed(pcm) + resampler.finish()


class Run:
    """One run of frames of one rate through libswresample: mono PCM16 out."""

    def __init__(self, to_rate: int) -> None:
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=to_rate)
        self._fed = False

    def feed(self, frame: av.AudioFrame) -> bytes:
        """PCM16 of what went in, as far as the filter tells it."""
        self._fed = True
        frame.pts = None
        return _bytes(self._resampler.resample(frame))

    def finish(self) -> bytes:
        """What the filter kept back."""
        return _bytes(self._resampler.resample(None)) if self._fed else b""


def frame_of(samples: Samples, rate: int) -> av.AudioFrame:
    """A frame of mono samples at `rate` Hz."""
    frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
    frame.sample_rate = rate
    return frame


def exact(pcm: bytes, samples: int) -> bytes:
    """`pcm` cut or zero-padded to `samples`: filters give a few samples more or less than the sum says."""
    return pcm[: 2 * samples].ljust(2 * samples, b"\0")


def check_rate(rate: int) -> None:
    """Raises AudioError if a sample rate (Hz) is out of range."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(f"a sample rate of {rate} Hz is not supported ({MIN_RATE} to {MAX_RATE} Hz)")


def _bytes(frames: list[av.AudioFrame]) -> bytes:
    return b"".join(frame.to_ndarray().astype("<i2", copy=False).tobytes() for frame in frames)
