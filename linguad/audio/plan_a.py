"""Plan A Opus to PCM16 and back (session-protocol 1.7, 1.8)."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction

import av
import numpy as np

from linguad.audio.pcm import PACKET_SAMPLES, WIRE_RATE, Run, check_rate, exact, frame_of, resample
from linguad.errors import AudioError
from linguad.wire import opus

OPUS_BITS_PER_SECOND = 24_000
"""What real clients and nodes encode speech with."""

MAX_SECONDS = 1800
"""Longest Opus audio that is decoded: three bytes may stand for 20 ms, so a message
of 16 MiB could mean 31 hours."""

_OPUS_RATE = 48_000
"""Opus decoders always work at this rate, Hz."""


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
    run = Run(WIRE_RATE)
    pieces: list[bytes] = []
    decoded = 0
    for packet in opus.packets(payload):
        with suppress(av.FFmpegError):
            if frames := decoder.decode(av.Packet(packet)):
                pieces.append(run.feed(_one_packet(frames)))
                decoded += 1
    if payload and not decoded:
        raise AudioError("the audio is not a run of Opus packets with a 2-byte length before each")
    pieces.append(run.finish())
    return exact(b"".join(pieces), decoded * PACKET_SAMPLES)


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
        frame = frame_of(samples[start : start + PACKET_SAMPLES], WIRE_RATE)
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


def duration_ms(data: bytes, audio_format: str, rate: int) -> float:
    """Duration in ms of audio as it came over the wire: 20 for each Opus packet, samples ÷ rate for PCM16.

    Raises AudioError if the format is not `opus` or `pcm16`, or the rate is out of range.
    """
    if audio_format == "opus":
        return float(opus.walk(data).packets * opus.PACKET_MS)
    if audio_format == "pcm16":
        check_rate(rate)
        return len(data) // 2 * 1000 / rate
    raise _unsupported(audio_format)


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


def _unsupported(audio_format: str) -> AudioError:
    return AudioError(f"Unsupported audio format: {audio_format[:32]}")
