"""Sound in and out: Plan A Opus, PCM16, sound files (session-protocol 1.7, 1.8).

Every function is synchronous and works for milliseconds per second of sound: call it in a worker thread.
"PCM16" is signed 16-bit little-endian mono without a header, two bytes per sample; an odd last byte is
ignored.
"""

from __future__ import annotations

from linguad.audio.files import Sound, ogg_opus, read_audio_file, read_sound, wav, write_wav
from linguad.audio.pcm import (
    MAX_RATE,
    MIN_RATE,
    PACKET_SAMPLES,
    WIRE_RATE,
    EmptyError,
    Resampler,
    TooLongError,
    resample,
)
from linguad.audio.plan_a import (
    MAX_SECONDS,
    OPUS_BITS_PER_SECOND,
    decode_plan_a,
    duration_ms,
    encode_plan_a,
    to_pcm16,
)
from linguad.audio.riff import is_wav
from linguad.audio.riff import plain as plain_wav

__all__ = [
    "MAX_RATE",
    "MAX_SECONDS",
    "MIN_RATE",
    "OPUS_BITS_PER_SECOND",
    "PACKET_SAMPLES",
    "WIRE_RATE",
    "EmptyError",
    "Resampler",
    "Sound",
    "TooLongError",
    "decode_plan_a",
    "duration_ms",
    "encode_plan_a",
    "is_wav",
    "ogg_opus",
    "plain_wav",
    "read_audio_file",
    "read_sound",
    "resample",
    "to_pcm16",
    "wav",
    "write_wav",
]
